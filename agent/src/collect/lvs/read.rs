//! Reads the table: netlink, `/proc`, or `ipvsadm`. The thin side of the collector; what the bytes mean is decided in
//! the parsers.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::HostRoots;
use super::super::files::Files;
use super::command;
use super::config::{Config, Wanted};
use super::ipvsadm::{self, Outputs};
use super::proc;
use super::seen::{Knows, Seen};
use crate::ipvs::{Ipvs, IpvsError, Stats};

/// Time for one call of `ipvsadm`; there are seven of them in a run of eight seconds.
const CALL_WAIT: Duration = Duration::from_secs(1);

/// Settings that change what is counted or where connections go; a kernel has some of them.
const SYSCTLS: &[&str] = &[
    "backup_only",
    "conn_reuse_mode",
    "conntrack",
    "drop_entry",
    "drop_packet",
    "est_cpulist",
    "est_nice",
    "expire_nodest_conn",
    "expire_quiescent_template",
    "ignore_tunneled",
    "run_estimation",
    "schedule_icmp",
    "secure_tcp",
    "sloppy_sctp",
    "sloppy_tcp",
    "snat_reroute",
    "sync_persist_mode",
    "sync_ports",
    "sync_version",
];

/// Reads, and keeps what one run leaves for the next.
pub(super) struct Reader {
    proc: PathBuf,
    files: Files,
    wanted: Wanted,
    ipvsadm: Vec<String>,
    ipvs: Option<Ipvs>,
}

impl Reader {
    pub(super) fn new(roots: &HostRoots, config: &Config) -> Self {
        Self {
            proc: roots.proc.clone(),
            files: Files::default(),
            wanted: config.source,
            ipvsadm: config.ipvsadm.clone(),
            ipvs: None,
        }
    }

    /// Whether the kernel has IPVS at all. Nothing else is asked where it has not: asking makes kernels load it.
    pub(super) fn is_present(&self) -> bool {
        self.table_path().exists()
    }

    /// One look, from the configured source.
    pub(super) fn look(&mut self) -> Result<Seen, String> {
        match self.wanted {
            Wanted::Netlink => self.netlink().map_err(|error| error.to_string()),
            Wanted::Proc => self.proc(),
            Wanted::Ipvsadm => self.ipvsadm(),
            Wanted::Auto => self.netlink().or_else(|error| {
                let mut seen = self.proc().map_err(|proc| format!("{error}; {proc}"))?;
                seen.notes
                    .push(format!("{error}; read from /proc, which knows less"));
                Ok(seen)
            }),
        }
    }

    /// Counters of the whole load balancer; none where the kernel does not tell.
    pub(super) fn totals(&mut self) -> Result<Option<Stats>, String> {
        let path = self.proc.join("net/ip_vs_stats");
        match self.files.text(&path) {
            Ok(text) => proc::parse_stats(&text)
                .map(Some)
                .map_err(|error| format!("parse {}: {error}", path.display())),
            Err(error) if error.is_absent() => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// The settings that this kernel has.
    pub(super) fn sysctls(&mut self) -> impl Iterator<Item = (String, String)> + '_ {
        let folder = self.proc.join("sys/net/ipv4/vs");
        SYSCTLS.iter().filter_map(move |name| {
            let text = self.files.text(&folder.join(name)).ok()?;
            Some(((*name).to_owned(), text.trim().replace('\t', " ")))
        })
    }

    fn table_path(&self) -> PathBuf {
        self.proc.join("net/ip_vs")
    }

    fn netlink(&mut self) -> Result<Seen, IpvsError> {
        let mut ipvs = match self.ipvs.take() {
            Some(ipvs) => ipvs,
            None => Ipvs::open_at(&self.proc)?,
        };
        let seen = ask(&mut ipvs)?;
        self.ipvs = Some(ipvs); // after an error another socket is opened
        Ok(seen)
    }

    fn proc(&mut self) -> Result<Seen, String> {
        let path = self.table_path();
        let failed = |path: &Path, error: &dyn std::fmt::Display| {
            format!("parse {}: {error}", path.display())
        };
        let text = self.files.text(&path).map_err(|error| error.to_string())?;
        proc::parse(&text).map_err(|error| failed(&path, &error))
    }

    fn ipvsadm(&self) -> Result<Seen, String> {
        let call = |arguments: &[&str]| command::output(&self.ipvsadm, arguments, CALL_WAIT);
        let outputs = Outputs {
            list: call(&["-Ln"])?,
            stats: call(&["-Ln", "--stats", "--exact"])?,
            rates: call(&["-Ln", "--rate", "--exact"])?,
            thresholds: call(&["-Ln", "--thresholds"])?,
            templates: call(&["-Ln", "--persistent-conn"])?,
            timeouts: call(&["-L", "--timeout"])?,
            daemons: call(&["-L", "--daemon"])?,
        };
        ipvsadm::parse(&outputs).map_err(|error| format!("parse the output of ipvsadm: {error}"))
    }
}

fn ask(ipvs: &mut Ipvs) -> Result<Seen, IpvsError> {
    let table = ipvs.table()?;
    let mut notes = Vec::new();
    notes.extend(table.skipped_why);
    // What is beside the table is worth a note where it fails, and no more.
    let mut optional = |error: IpvsError| notes.push(error.to_string());
    let info = ipvs.info().map_err(&mut optional).ok();
    let timeouts = ipvs.timeouts().map_err(&mut optional).ok();
    let daemons = ipvs.daemons().map_err(&mut optional).ok();
    Ok(Seen {
        source: "netlink",
        knows: Knows::ALL,
        entries: table.entries,
        skipped: table.skipped,
        info,
        timeouts,
        daemons,
        notes,
    })
}
