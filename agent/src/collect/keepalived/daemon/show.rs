//! What a keepalived is shown as: what it told, with what was heard since.

use muster_proto::snapshot::keepalived::{Daemon, Dumps, RealServer, VirtualServer};

use super::super::dump::{CheckDump, join};
use super::super::table;
use super::{Run, Watched};

/// Real servers up to which the checkers of those that are well are shown, too.
const CHECKERS_SHOWN_MAX: usize = 200;

impl Watched {
    pub(super) fn show(&self, run: &Run<'_>) -> Daemon {
        let mut daemon = Daemon {
            name: self.name.clone(),
            running: self.parent.is_some(),
            version: self.version.clone(),
            processes: self.family.clone(),
            respawns: self.respawns,
            dumps: Dumps {
                vrrp_at_ms: self.vrrp.as_ref().map(|known| known.1),
                checker_at_ms: self.check.as_ref().map(|known| known.1),
                counters_at_ms: self.counted.as_ref().map(|known| known.1),
                late: self.late,
            },
            ..Daemon::default()
        };
        let Some(parent) = &self.parent else {
            return daemon;
        };
        daemon.config_file = Some(parent.config().to_owned());
        if let Some((vrrp, _)) = &self.vrrp {
            daemon.router_id.clone_from(&vrrp.router_id);
        }
        self.show_vrrp(&mut daemon);
        if let Some((check, _)) = &self.check {
            daemon.router_id = daemon.router_id.or(check.router_id.clone());
            let path = run.processes.path(parent.pid, "net/ip_vs");
            let text = std::fs::read_to_string(path).ok();
            let table = text.as_deref().and_then(table::parse);
            daemon.virtual_servers = Some(self.show_servers(check, table.as_ref()));
        }
        daemon
    }

    fn show_vrrp(&self, daemon: &mut Daemon) {
        let mut instances = self.vrrp.as_ref().map(|(vrrp, _)| vrrp.instances.clone());
        if let Some((counted, _)) = &self.counted {
            join(instances.get_or_insert_default(), counted.clone());
        }
        if let Some(instances) = &mut instances {
            for instance in instances.iter_mut() {
                if let Some(known) = self.book.instances.get(&instance.name)
                    && known.value != instance.state
                {
                    instance.state = known.value;
                    instance.since_ms = known.since_ms;
                }
            }
        }
        daemon.vrrp = instances;
        let Some((vrrp, _)) = &self.vrrp else { return };
        let mut groups = vrrp.groups.clone();
        for group in &mut groups {
            if let Some(known) = self.book.groups.get(&group.name) {
                group.state = known.value;
                group.since_ms = known.since_ms;
            }
        }
        daemon.groups = Some(groups);
        let mut scripts = vrrp.scripts.clone();
        for script in &mut scripts {
            script.since_ms = self
                .book
                .scripts
                .get(&script.name)
                .and_then(|known| known.since_ms);
        }
        daemon.scripts = Some(scripts);
    }

    fn show_servers(&self, check: &CheckDump, table: Option<&table::Table>) -> Vec<VirtualServer> {
        let mut servers = check.virtual_servers.clone();
        let all: usize = servers.iter().map(|server| server.real_servers.len()).sum();
        for server in &mut servers {
            if let Some(known) = self.book.quorums.get(&server.name) {
                server.quorum_up = Some(known.value);
                server.since_ms = known.since_ms;
            }
            if server.sorry_server.is_some() {
                server.sorry_active = server.quorum_up.map(|up| !up);
            }
            let name = server.name.clone();
            for real in &mut server.real_servers {
                self.show_real(&name, real, all);
            }
            let told = server.real_servers.iter().any(|real| real.alive.is_some());
            let alive = server
                .real_servers
                .iter()
                .filter(|real| real.alive == Some(true))
                .count();
            server.alive = told.then(|| alive.try_into().unwrap_or(u32::MAX));
            if let Some(table) = table {
                table.join(server);
            }
        }
        servers
    }

    fn show_real(&self, server: &str, real: &mut RealServer, all: usize) {
        let key = (server.to_owned(), real.name.clone());
        if let Some(known) = self.book.backends.get(&key) {
            real.alive = Some(known.value);
            real.since_ms = known.since_ms;
        }
        if real.alive == Some(true) {
            real.reason = None;
            if all > CHECKERS_SHOWN_MAX {
                real.checkers.clear();
            }
        }
    }
}
