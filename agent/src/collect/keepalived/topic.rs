//! The topics of keepalived's events. One state, one topic, so that who subscribes says which states matter.

use muster_proto::event::Severity;
use muster_proto::snapshot::keepalived::VrrpState;

/// A topic and how bad its events are.
pub(super) type Topic = (&'static str, Severity);

/// The topic for an instance that is in `state` now; none for a state without a name.
pub(super) fn vrrp(state: VrrpState) -> Option<Topic> {
    Some(match state {
        VrrpState::Master => ("keepalived.vrrp.master", Severity::Notice),
        VrrpState::Backup => ("keepalived.vrrp.backup", Severity::Notice),
        VrrpState::Fault => ("keepalived.vrrp.fault", Severity::Error),
        VrrpState::Stop => ("keepalived.vrrp.stop", Severity::Warning),
        VrrpState::Deleted => ("keepalived.vrrp.deleted", Severity::Notice),
        VrrpState::Init => ("keepalived.vrrp.init", Severity::Notice),
        VrrpState::Unknown => return None,
    })
}

/// The same for a sync group.
pub(super) fn group(state: VrrpState) -> Option<Topic> {
    Some(match state {
        VrrpState::Master => ("keepalived.group.master", Severity::Notice),
        VrrpState::Backup => ("keepalived.group.backup", Severity::Notice),
        VrrpState::Fault => ("keepalived.group.fault", Severity::Error),
        VrrpState::Stop => ("keepalived.group.stop", Severity::Warning),
        VrrpState::Deleted => ("keepalived.group.deleted", Severity::Notice),
        VrrpState::Init => ("keepalived.group.init", Severity::Notice),
        VrrpState::Unknown => return None,
    })
}

pub(super) const PRIORITY: Topic = ("keepalived.vrrp.priority", Severity::Notice);
pub(super) const BACKEND_ADDED: Topic = ("keepalived.backend.added", Severity::Notice);
pub(super) const BACKEND_REMOVED: Topic = ("keepalived.backend.removed", Severity::Notice);
pub(super) const BACKEND_WEIGHT: Topic = ("keepalived.backend.weight", Severity::Notice);
pub(super) const SERVICE_ADDED: Topic = ("keepalived.service.added", Severity::Notice);
pub(super) const SERVICE_REMOVED: Topic = ("keepalived.service.removed", Severity::Notice);
pub(super) const STARTED: Topic = ("keepalived.process.started", Severity::Notice);
pub(super) const STOPPED: Topic = ("keepalived.process.stopped", Severity::Critical);
pub(super) const RESPAWNED: Topic = ("keepalived.process.respawned", Severity::Error);

pub(super) fn script(good: bool) -> Topic {
    match good {
        true => ("keepalived.script.succeeded", Severity::Notice),
        false => ("keepalived.script.failed", Severity::Warning),
    }
}

pub(super) fn backend(up: bool) -> Topic {
    match up {
        true => ("keepalived.backend.up", Severity::Notice),
        false => ("keepalived.backend.down", Severity::Error),
    }
}

pub(super) fn quorum(there: bool) -> Topic {
    match there {
        true => ("keepalived.quorum.gained", Severity::Notice),
        false => ("keepalived.quorum.lost", Severity::Critical),
    }
}

pub(super) fn service(up: bool) -> Topic {
    match up {
        true => ("keepalived.service.up", Severity::Notice),
        false => ("keepalived.service.down", Severity::Critical),
    }
}

pub(super) fn sorry(active: bool) -> Topic {
    match active {
        true => ("keepalived.sorry.added", Severity::Warning),
        false => ("keepalived.sorry.removed", Severity::Notice),
    }
}
