//! Actions: what jobs can do on this host, one row of [`ACTIONS`] and one file each.
//!
//! An action gets checked arguments and gives data or a failure. It must not know the broker, the state file, who
//! signed the job, or the whole configuration: only what [`ActionContext`] hands it.

mod collect;
mod desk;
mod facts;
mod job_cancel;
mod job_status;
mod keepalived;
mod log_search;
mod lvs;
mod output;
mod ping;
mod process;
mod script_config;
mod script_run;
mod service;
mod systemd;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use muster_proto::action::ActionSpec;
use muster_proto::id::{HostId, JobId, KeyId};
use muster_proto::job::{Args, Reason, ReasonCode};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::collect::keepalived::Control;

pub(crate) use desk::Question;
pub use desk::{DeskWindow, JobDesk, JobWhere, desk};
pub use log_search::LogGlobs;
pub use lvs::Lvs;
pub use output::{OutputPiece, OutputSink};
pub use script_config::{ScriptSection, Scripts};
pub use script_run::check as check_script;
pub use service::{Services, check as check_services};

/// How long an action has to end by itself once its `stop` is cancelled: TERM, this long, then KILL.
pub const TERM_GRACE: Duration = Duration::from_secs(5);

/// A row of the table.
pub struct Row {
    /// The action's name, as declared in `muster_proto::action`.
    pub name: &'static str,
    /// Which places it takes.
    pub lane: Lane,
    /// Makes the action.
    pub build: fn(&ActionContext) -> Box<dyn Action>,
}

/// Which places a job takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// It waits for one of the configured places.
    Work,
    /// It starts at once, since it is done at once and must not wait behind what it asks after or is to end.
    Desk,
}

/// Every action of this agent, by name: the same as are declared.
pub static ACTIONS: &[Row] = &[
    Row {
        name: "collect",
        lane: Lane::Work,
        build: collect::build,
    },
    Row {
        name: "facts",
        lane: Lane::Desk,
        build: facts::build,
    },
    Row {
        name: "job.cancel",
        lane: Lane::Desk,
        build: job_cancel::build,
    },
    Row {
        name: "job.status",
        lane: Lane::Desk,
        build: job_status::build,
    },
    Row {
        name: "keepalived.check",
        lane: Lane::Work,
        build: keepalived::check,
    },
    Row {
        name: "keepalived.reload",
        lane: Lane::Work,
        build: keepalived::reload,
    },
    Row {
        name: "log.search",
        lane: Lane::Work,
        build: log_search::build,
    },
    Row {
        name: "lvs.connections",
        lane: Lane::Work,
        build: lvs::connections,
    },
    Row {
        name: "lvs.drain",
        lane: Lane::Work,
        build: lvs::drain,
    },
    Row {
        name: "lvs.restore",
        lane: Lane::Work,
        build: lvs::restore,
    },
    Row {
        name: "lvs.weight",
        lane: Lane::Work,
        build: lvs::weight,
    },
    Row {
        name: "ping",
        lane: Lane::Desk,
        build: ping::build,
    },
    Row {
        name: "script.run",
        lane: Lane::Work,
        build: script_run::build,
    },
    Row {
        name: "service.reload",
        lane: Lane::Work,
        build: service::reload,
    },
    Row {
        name: "service.restart",
        lane: Lane::Work,
        build: service::restart,
    },
    Row {
        name: "service.start",
        lane: Lane::Work,
        build: service::start,
    },
    Row {
        name: "service.status",
        lane: Lane::Work,
        build: service::status,
    },
    Row {
        name: "service.stop",
        lane: Lane::Work,
        build: service::stop,
    },
];

/// What an action can do.
pub trait Action: Send + Sync {
    /// Whether this host's config lets jobs ask this of the action; asked before the job is recorded.
    ///
    /// # Errors
    /// Why the job is refused.
    fn admit(&self, _args: &Args) -> Result<(), Reason> {
        Ok(())
    }

    /// Carries a job out. The runner ends it: past the run limit, on cancel or at the agent's stop it cancels
    /// `call.stop`, and drops the future [`TERM_GRACE`] and a moment later, so everything it holds must end with it.
    fn run(&self, call: Call) -> BoxFuture<'_, Result<Value, Failure>>;
}

/// One job for an action.
#[derive(Debug)]
pub struct Call {
    /// The job.
    pub job: JobId,
    /// Who asked.
    pub issuer: KeyId,
    /// Its arguments, checked against the declaration.
    pub args: Args,
    /// Only say what would be done.
    pub dry_run: bool,
    /// How long it may run. The runner sees to it; it is here for actions that pass it on.
    pub run_limit: Duration,
    /// Cancelled when it has to end.
    pub stop: CancellationToken,
    /// Takes output while it runs.
    pub output: OutputSink,
}

/// How an action failed.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// What there is to know nevertheless, in the shape of the action's data.
    pub data: Value,
}

impl Failure {
    /// A failure of the action itself, in `message`'s words, without data.
    pub fn new(message: impl Into<String>) -> Self {
        Self::of(ReasonCode::ActionFailed, message)
    }

    /// A failure with its own code.
    pub fn of(code: ReasonCode, message: impl Into<String>) -> Self {
        Self {
            reason: Reason::new(code, message),
            data: Value::Null,
        }
    }

    /// With data.
    #[must_use]
    pub fn with(mut self, data: Value) -> Self {
        self.data = data;
        self
    }
}

impl From<Reason> for Failure {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            data: Value::Null,
        }
    }
}

/// What is known of this host: what targets are evaluated over, and what the action `facts` gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Its name.
    pub host: HostId,
    /// The operator's labels.
    pub labels: BTreeMap<String, String>,
    /// What the agent found out.
    pub facts: BTreeMap<String, String>,
    /// The agent's version.
    pub version: String,
}

impl muster_proto::target::Subject for HostFacts {
    fn host(&self) -> &str {
        self.host.as_str()
    }

    fn value(&self, key: &str) -> Option<std::borrow::Cow<'_, str>> {
        self.labels
            .get(key)
            .or_else(|| self.facts.get(key))
            .map(|value| value.as_str().into())
    }
}

/// Snapshots on demand; the collectors' scheduler gives it.
pub trait SnapshotSource: Send + Sync {
    /// The names of the collectors that this host runs.
    fn names(&self) -> Vec<String>;

    /// Runs these collectors now, each under its own deadline. Names are from [`SnapshotSource::names`].
    fn collect_now(&self, names: Vec<String>) -> BoxFuture<'_, Snapshots>;
}

/// What collectors gave.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snapshots {
    /// Snapshots by collector.
    pub snapshots: BTreeMap<String, Value>,
    /// Why there is none, by collector.
    pub errors: BTreeMap<String, String>,
}

/// What actions are built from.
pub struct ActionContext {
    /// What is known of the host.
    pub facts: watch::Receiver<Arc<HostFacts>>,
    /// Snapshots on demand.
    pub snapshots: Arc<dyn SnapshotSource>,
    /// Other jobs.
    pub desk: JobDesk,
    /// The scripts that may be run.
    pub scripts: Scripts,
    /// The services that may be acted upon.
    pub services: Services,
    /// The logs that may be searched.
    pub logs: LogGlobs,
    /// The host's keepalived.
    pub keepalived: Control,
    /// The load balancer in the kernel.
    pub lvs: Lvs,
    /// A directory of the agent's own, for the copies of scripts that are running.
    pub run_dir: PathBuf,
}

/// An action that was set up.
pub struct Built {
    /// Its declaration.
    pub spec: &'static ActionSpec,
    /// Which places it takes.
    pub lane: Lane,
    /// Itself.
    pub action: Arc<dyn Action>,
}

/// Builds every action of the table.
#[must_use]
pub fn build_all(context: &ActionContext) -> Vec<Built> {
    ACTIONS
        .iter()
        .filter_map(|row| {
            let spec = muster_proto::action::find(row.name)?;
            Some(Built {
                spec,
                lane: row.lane,
                action: (row.build)(context).into(),
            })
        })
        .collect()
}

/// The actions that need nothing but the desk, for tests of the runner.
#[cfg(test)]
pub(crate) fn desk_actions(desk: &JobDesk) -> Vec<(&'static str, Arc<dyn Action>)> {
    vec![
        ("ping", Arc::new(ping::Ping)),
        ("job.status", Arc::new(job_status::JobStatus(desk.clone()))),
        ("job.cancel", Arc::new(job_cancel::JobCancel(desk.clone()))),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_declared_one() {
        let declared: Vec<_> = muster_proto::action::ACTIONS
            .iter()
            .map(|spec| spec.name)
            .collect();
        let here: Vec<_> = ACTIONS.iter().map(|row| row.name).collect();
        assert_eq!(here, declared);
    }
}
