//! The config file as it is written, key by key with its default, and the one step from there to [`Config`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use jiff::SignedDuration;
use muster_link::BrokerConfig;
use muster_proto::id::HostId;
use serde::{Deserialize, Deserializer, de};

use super::error::{ConfigError, Source};
use super::values::{AbsolutePath, Bounded, Count, Size};
use super::{Config, HttpSection};
use crate::action::{LogGlobs, ScriptSection, Scripts, Services};
use crate::collect::{self, HostRoots};
use crate::job::{Access, JobsSection, KeySection, PolicySection};
use crate::state::{
    OUTBOX_AGE_MAX_MS_DEFAULT, OUTBOX_BYTES_MAX_DEFAULT, OUTBOX_BYTES_MAX_LEAST, OutboxSection,
};
use crate::tail::rules::{RuleError, Step};
use crate::tail::{self, journal::JournalSection};

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;

/// Labels and facts together must fit a presence of 64 KiB.
const LABELS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 256;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawConfig {
    host: Option<HostId>,
    state_dir: AbsolutePath,
    log: String,
    clock_tolerance: Bounded<0, { 10 * MINUTE }>,
    presence_interval: Bounded<SECOND, { 60 * MINUTE }>,
    labels: BTreeMap<String, String>,
    broker: BrokerConfig,
    http: RawHttp,
    keys: Vec<KeySection>,
    policy: Vec<PolicySection>,
    outbox: RawOutbox,
    jobs: RawJobs,
    collect: BTreeMap<String, toml::Table>,
    services: RawServices,
    scripts: BTreeMap<String, RawScript>,
    tail: Vec<toml::Table>,
    logs: RawLogs,
    inventory: RawInventory,
    roots: RawRoots,
}

impl Default for RawConfig {
    fn default() -> Self {
        Self {
            host: None,
            state_dir: AbsolutePath(PathBuf::from("/var/lib/muster")),
            log: "info".to_owned(),
            clock_tolerance: Bounded::ms(30 * SECOND),
            presence_interval: Bounded::ms(30 * SECOND),
            labels: BTreeMap::new(),
            broker: BrokerConfig::default(),
            http: RawHttp::default(),
            keys: Vec::new(),
            policy: Vec::new(),
            outbox: RawOutbox::default(),
            jobs: RawJobs::default(),
            collect: BTreeMap::new(),
            services: RawServices::default(),
            scripts: BTreeMap::new(),
            tail: Vec::new(),
            logs: RawLogs::default(),
            inventory: RawInventory::default(),
            roots: RawRoots::default(),
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawHttp {
    #[serde(deserialize_with = "listen")]
    listen: Option<SocketAddr>,
    node_paths: bool,
    metrics_snapshots: bool,
    token_file: Option<AbsolutePath>,
}

impl Default for RawHttp {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9418))),
            node_paths: false,
            metrics_snapshots: true,
            token_file: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawOutbox {
    bytes_max: Size<OUTBOX_BYTES_MAX_LEAST, { 64 << 30 }>,
    age_max: Bounded<MINUTE, { 365 * DAY }>,
}

impl Default for RawOutbox {
    fn default() -> Self {
        Self {
            bytes_max: Size(OUTBOX_BYTES_MAX_DEFAULT),
            age_max: Bounded::ms(OUTBOX_AGE_MAX_MS_DEFAULT),
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawJobs {
    concurrency: Count<1, 1000>,
    queue_max: Count<0, 10_000>,
}

impl Default for RawJobs {
    fn default() -> Self {
        let JobsSection {
            concurrency,
            queue_max,
        } = JobsSection::default();
        let count = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            concurrency: Count(count(concurrency)),
            queue_max: Count(count(queue_max)),
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawServices {
    units: Vec<String>,
    bus: String,
    settle: Bounded<0, MINUTE>,
}

impl Default for RawServices {
    fn default() -> Self {
        Self {
            units: Vec::new(),
            bus: String::new(),
            settle: Bounded::ms(SECOND),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawScript {
    path: AbsolutePath,
    sha256: String,
    run_limit: Option<Bounded<SECOND, DAY>>,
    user: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawLogs {
    search: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawInventory {
    file: Option<AbsolutePath>,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawRoots {
    proc: AbsolutePath,
    sys: AbsolutePath,
    root: AbsolutePath,
}

impl Default for RawRoots {
    fn default() -> Self {
        let HostRoots { proc, sys, root } = HostRoots::default();
        Self {
            proc: AbsolutePath(proc),
            sys: AbsolutePath(sys),
            root: AbsolutePath(root),
        }
    }
}

impl RawConfig {
    /// What no single value can tell: names that refer to each other, and the sections of the collectors.
    pub(super) fn check(self, source: &Source<'_>) -> Result<Config, ConfigError> {
        let host = match self.host {
            Some(host) => host,
            None => own_name().map_err(|why| source.wrong(&[], why))?,
        };
        labels(&self.labels).map_err(|(name, what)| source.wrong(&["labels", &name], what))?;
        let access = Access::parse(&self.keys, &self.policy)
            .map_err(|error| source.wrong_item(error.section, error.number, error.to_string()))?;
        let http = self
            .http
            .check()
            .map_err(|what| source.wrong(&["http", "listen"], what))?;
        let roots = HostRoots {
            proc: self.roots.proc.0,
            sys: self.roots.sys.0,
            root: self.roots.root.0,
        };
        collect::build_all(&roots, self.collect.clone()).map_err(|error| {
            let path = [
                "collect",
                error.section.as_str(),
                error.key.as_deref().unwrap_or_default(),
            ];
            source.wrong(&path, error.to_string())
        })?;
        let mut scripts = Scripts::new();
        for (name, script) in self.scripts {
            let checked = script.section().parse(&name);
            let checked = checked.map_err(|what| source.wrong(&["scripts", &name], what))?;
            scripts.insert(name, checked);
        }
        let logs = LogGlobs::parse(&self.logs.search)
            .map_err(|what| source.wrong(&["logs", "search"], format!("search: {what}")))?;
        let (tail, journals) =
            tail(self.tail).map_err(|(at, error)| source.wrong_rule("tail", at, error))?;
        Ok(Config {
            broker: self.broker.or_user(host.as_str()),
            host,
            state_dir: self.state_dir.0,
            log: self.log,
            clock_tolerance: self.clock_tolerance.0,
            presence_interval: self.presence_interval.0,
            labels: self.labels,
            http,
            access,
            outbox: self.outbox.section(),
            jobs: self.jobs.section(),
            collect: self.collect,
            services: self.services.check(),
            scripts,
            tail,
            journals,
            logs,
            inventory: self.inventory.file.map(|file| file.0),
            roots,
        })
    }
}

impl RawHttp {
    fn check(self) -> Result<HttpSection, String> {
        let open = self.listen.filter(|listen| !listen.ip().is_loopback());
        if let (Some(listen), None) = (open, &self.token_file) {
            return Err(format!(
                "listen: others than this host reach {listen}, so it needs a token: name its file in token_file, or \
                 listen on 127.0.0.1"
            ));
        }
        Ok(HttpSection {
            listen: self.listen,
            node_paths: self.node_paths,
            metrics_snapshots: self.metrics_snapshots,
            token_file: self.token_file.map(|path| path.0),
        })
    }
}

impl RawJobs {
    fn section(&self) -> JobsSection {
        let count = |number| usize::try_from(number).unwrap_or(usize::MAX);
        JobsSection {
            concurrency: count(self.concurrency.0),
            queue_max: count(self.queue_max.0),
        }
    }
}

impl RawServices {
    fn check(self) -> Services {
        let bus = (!self.bus.is_empty()).then_some(self.bus);
        Services {
            units: self.units,
            bus,
            settle: self.settle.0,
        }
    }
}

impl RawScript {
    fn section(self) -> ScriptSection {
        ScriptSection {
            path: self.path.0,
            sha256: self.sha256,
            run_limit: self.run_limit.map(|limit| signed(limit.0)),
            user: self.user,
        }
    }
}

impl RawOutbox {
    fn section(&self) -> OutboxSection {
        OutboxSection {
            bytes_max: ByteSize(self.bytes_max.0),
            age_max: signed(self.age_max.0),
        }
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// The machine's own name, as a host's.
fn own_name() -> Result<HostId, String> {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    name.parse().map_err(|error| {
        format!("the machine's own name can't be used ({error}); set the key `host`")
    })
}

/// The sections of files and those of journals.
type Logs = (Vec<tail::Section>, Vec<JournalSection>);

/// The sections; what is wrong with which, counted from 0.
fn tail(tables: Vec<toml::Table>) -> Result<Logs, (usize, RuleError)> {
    let (mut files, mut journals) = (Vec::new(), Vec::new());
    let mut names = BTreeSet::new();
    for (at, mut table) in tables.into_iter().enumerate() {
        let wrong = |error: RuleError| (at, error);
        let name = match JournalSection::take(&mut table).map_err(wrong)? {
            Some(section) => {
                let name = section.name.clone();
                journals.push(section);
                name
            }
            None => {
                let section = tail::section(table).map_err(wrong)?;
                let name = section.name.clone();
                files.push(section);
                name
            }
        };
        if let Some(name) = names.replace(name) {
            return Err(wrong(RuleError {
                path: vec![Step::Key("name".to_owned())],
                offset: None,
                what: format!("there are two sections {name:?}; each needs its own"),
            }));
        }
    }
    Ok((files, journals))
}

fn labels(labels: &BTreeMap<String, String>) -> Result<(), (String, String)> {
    for (at, (name, value)) in labels.iter().enumerate() {
        let wrong = |what: &str| Err((name.clone(), format!("label {name:?}: {what}")));
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        if name.is_empty() || !name.bytes().all(plain) {
            return wrong("a name of letters, digits, '.', '-' and '_' is wanted");
        }
        if name == "host" {
            return wrong("this name is the host's own in targets; choose another");
        }
        if name.len() > LABEL_BYTES_MAX || value.len() > LABEL_BYTES_MAX {
            return wrong("names and values of at most 256 bytes are wanted");
        }
        if at >= LABELS_MAX {
            return wrong("at most 64 labels are wanted");
        }
    }
    Ok(())
}

fn listen<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    let wanted = "expected an address and a port such as \"127.0.0.1:9418\", or \"\" for none";
    text.parse()
        .map(Some)
        .map_err(|_| de::Error::custom(format!("{wanted}, found {text:?}")))
}
