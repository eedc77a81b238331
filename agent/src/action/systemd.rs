//! What the actions need of the service manager. It must not know jobs, nor which units may be touched.
//!
//! Source: org.freedesktop.systemd1(5).

use futures_util::StreamExt;
use serde::Serialize;
use zbus::proxy::CacheProperties;
use zbus::wire::OwnedObjectPath;

use crate::systemd::proxies::{JobRemovedStream, ManagerProxy, ServiceProxy, UnitProxy};
use crate::systemd::{SYSTEM_BUS, bus};

/// What to do with a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verb {
    Start,
    Stop,
    Restart,
    Reload,
}

/// A unit's state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct UnitState {
    pub(super) load_state: String,
    pub(super) active_state: String,
    pub(super) sub_state: String,
    /// `success`, `exit-code`, `signal`, `timeout` …; empty where the unit is no service.
    pub(super) result: String,
    /// 0 where there is no process.
    pub(super) main_pid: u32,
    /// Automatic restarts since the last start by hand.
    pub(super) n_restarts: u32,
    /// When the state was last changed, in milliseconds since 1970; `None` where it never was.
    pub(super) since_ms: Option<u64>,
    /// How the main process ended: a `CLD_…` code of waitid(2); 1 is an exit, 2 a signal.
    pub(super) exit_code: i32,
    /// Its exit status or signal.
    pub(super) exit_status: i32,
    /// `simple`, `oneshot`, `notify` …; empty where the unit is no service.
    #[serde(skip)]
    pub(super) kind: String,
}

/// Why the service manager did not do as asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum SystemdError {
    #[error(
        "could not reach the service manager at {bus}: {why}; is systemd the init of this host, and may the agent use its bus?"
    )]
    Unreachable { bus: String, why: String },
    #[error("there is no unit {0}: no unit file of this name is found (systemctl list-unit-files)")]
    NotFound(String),
    #[error("the unit {0} is masked; `systemctl unmask {0}` would allow it again")]
    Masked(String),
    #[error("the unit file of {unit} does not load ({state}); see `systemctl status {unit}`")]
    NotLoaded { unit: String, state: String },
    #[error(
        "the service manager does not allow the agent to {what}: {why}; run the agent as root or give its user a polkit rule for org.freedesktop.systemd1.manage-units"
    )]
    Denied { what: String, why: String },
    #[error("{what}: {why}")]
    Call { what: String, why: String },
}

/// A connection to the service manager. Held for one action only: an idle agent keeps none.
pub(super) struct Systemd {
    connection: zbus::Connection,
    manager: ManagerProxy<'static>,
}

/// A job of the service manager that was begun and is to be waited for.
pub(super) struct UnitJob {
    path: OwnedObjectPath,
    removed: JobRemovedStream,
}

/// A unit that is loaded, in whatever state.
pub(super) struct LoadedUnit {
    name: String,
    path: OwnedObjectPath,
}

impl Verb {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
            Self::Reload => "reload",
        }
    }
}

impl Systemd {
    /// Connects to the bus at `address`, or to the system's.
    pub(super) async fn connect(address: Option<&str>) -> Result<Self, SystemdError> {
        let unreachable = |error: zbus::Error| SystemdError::Unreachable {
            bus: address.unwrap_or(SYSTEM_BUS).to_owned(),
            why: error.to_string(),
        };
        let connection = bus(address).build().await.map_err(unreachable)?;
        let manager = ManagerProxy::builder(&connection)
            .cache_properties(CacheProperties::No)
            .build()
            .await
            .map_err(unreachable)?;
        Ok(Self {
            connection,
            manager,
        })
    }

    /// Loads a unit's file, if there is one.
    pub(super) async fn load(&self, name: &str) -> Result<LoadedUnit, SystemdError> {
        let path = self
            .manager
            .load_unit(name)
            .await
            .map_err(|error| refused(&error, name, format!("load the unit {name}")))?;
        Ok(LoadedUnit {
            name: name.to_owned(),
            path,
        })
    }

    /// The unit's state now.
    pub(super) async fn state(&self, unit: &LoadedUnit) -> Result<UnitState, SystemdError> {
        self.read_state(unit).await.map_err(|error| {
            refused(
                &error,
                &unit.name,
                format!("read the state of {}", unit.name),
            )
        })
    }

    async fn read_state(&self, unit: &LoadedUnit) -> zbus::Result<UnitState> {
        let properties = UnitProxy::builder(&self.connection)
            .path(&unit.path)
            .cache_properties(CacheProperties::No)
            .build()
            .await?;
        let changed_us = properties.state_change_timestamp().await?;
        let mut state = UnitState {
            load_state: properties.load_state().await?,
            active_state: properties.active_state().await?,
            sub_state: properties.sub_state().await?,
            result: String::new(),
            main_pid: 0,
            n_restarts: 0,
            since_ms: (changed_us > 0).then_some(changed_us / 1000),
            exit_code: 0,
            exit_status: 0,
            kind: String::new(),
        };
        if unit.name.ends_with(".service") && state.load_state == "loaded" {
            let service = ServiceProxy::builder(&self.connection)
                .path(&unit.path)
                .cache_properties(CacheProperties::No)
                .build()
                .await?;
            state.kind = service.kind().await?;
            state.result = service.result().await?;
            state.main_pid = service.main_pid().await?;
            state.n_restarts = service.n_restarts().await.unwrap_or_default(); // since systemd 235
            state.exit_code = service.exec_main_code().await?;
            state.exit_status = service.exec_main_status().await?;
        }
        Ok(state)
    }

    /// Begins to do `verb`. Its end can't be missed: the signal is subscribed to before.
    pub(super) async fn begin(
        &self,
        unit: &LoadedUnit,
        verb: Verb,
    ) -> Result<UnitJob, SystemdError> {
        let what = format!("{} {}", verb.name(), unit.name);
        let refused = |error: &zbus::Error| refused(error, &unit.name, what.clone());
        let removed = self
            .manager
            .receive_job_removed()
            .await
            .map_err(|error| refused(&error))?;
        self.manager
            .subscribe()
            .await
            .map_err(|error| refused(&error))?;
        let (name, mode) = (unit.name.as_str(), "replace");
        let path = match verb {
            Verb::Start => self.manager.start_unit(name, mode).await,
            Verb::Stop => self.manager.stop_unit(name, mode).await,
            Verb::Restart => self.manager.restart_unit(name, mode).await,
            Verb::Reload => self.manager.reload_unit(name, mode).await,
        };
        Ok(UnitJob {
            path: path.map_err(|error| refused(&error))?,
            removed,
        })
    }

    /// Takes a job back that has not come to its end. What it has done already stays done.
    pub(super) async fn cancel(&self, job: &UnitJob) -> Result<(), SystemdError> {
        let Some(id) = job
            .path
            .as_str()
            .rsplit('/')
            .next()
            .and_then(|id| id.parse().ok())
        else {
            return Ok(());
        };
        let refused = |error| refused(&error, "", format!("cancel the service manager's job {id}"));
        self.manager.cancel_job(id).await.map_err(refused)
    }
}

impl UnitJob {
    /// Its end: `done`, `failed`, `canceled`, `timeout`, `dependency`, `skipped` …
    pub(super) async fn ended(&mut self) -> Result<String, SystemdError> {
        while let Some(signal) = self.removed.next().await {
            let Ok(args) = signal.args() else { continue };
            if *args.job() == *self.path {
                return Ok((*args.result()).to_owned());
            }
        }
        let what = "wait for the service manager's job".to_owned();
        Err(SystemdError::Call {
            what,
            why: "the connection to the bus has ended".to_owned(),
        })
    }
}

impl UnitState {
    /// Whether a unit in this state can be acted upon.
    pub(super) fn check_loaded(&self, unit: &str) -> Result<(), SystemdError> {
        let unit = unit.to_owned();
        match self.load_state.as_str() {
            "loaded" => Ok(()),
            "not-found" => Err(SystemdError::NotFound(unit)),
            "masked" => Err(SystemdError::Masked(unit)),
            state => Err(SystemdError::NotLoaded {
                unit,
                state: state.to_owned(),
            }),
        }
    }
}

/// A bus error in our words: the ones that people can do something about by themselves.
fn refused(error: &zbus::Error, unit: &str, what: String) -> SystemdError {
    let (name, why) = match error {
        zbus::Error::MethodError(name, detail, _) => (
            name.to_string(),
            detail.clone().unwrap_or_else(|| name.to_string()),
        ),
        zbus::Error::FDO(error) => {
            let denied = matches!(
                **error,
                zbus::fdo::Error::AccessDenied(_)
                    | zbus::fdo::Error::AuthFailed(_)
                    | zbus::fdo::Error::InteractiveAuthorizationRequired(_)
            );
            (
                if denied {
                    "AccessDenied".to_owned()
                } else {
                    String::new()
                },
                error.to_string(),
            )
        }
        other => (String::new(), other.to_string()),
    };
    match name.rsplit('.').next() {
        Some("AccessDenied" | "InteractiveAuthorizationRequired") => {
            SystemdError::Denied { what, why }
        }
        Some("NoSuchUnit") => SystemdError::NotFound(unit.to_owned()),
        Some("UnitMasked") => SystemdError::Masked(unit.to_owned()),
        _ => SystemdError::Call {
            what: format!("could not {what}"),
            why,
        },
    }
}
