//! What each kind of broker user may do, as RabbitMQ's regular expressions.

use super::{EVENTS, JOBS, METRICS, REPLIES, SUBSCRIBER_QUEUE_PREFIX};
use crate::id::HostId;

/// What a broker user may do in the vhost: regular expressions, as RabbitMQ takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permissions {
    /// What it may declare and delete.
    pub configure: String,
    /// What it may publish to and bind queues of.
    pub write: String,
    /// What it may consume from and bind to.
    pub read: String,
    /// Routing keys it may write and read, per topic exchange.
    pub topics: Vec<TopicPermission>,
}

/// Which routing keys a user may write to, and bind from, one topic exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPermission {
    /// The exchange.
    pub exchange: &'static str,
    /// Keys that may be published.
    pub write: String,
    /// Keys that may be bound.
    pub read: String,
}

/// An agent: its own queue bound to `all` and `host.<itself>` alone, and keys that end in its own name.
#[must_use]
pub fn agent_permissions(host: &HostId) -> Permissions {
    let name = escaped(host.as_str());
    let own_queue = format!(r"muster\.agent\.{name}");
    let nothing = "^$".to_owned();
    let uuid = "[0-9a-f-]{36}";
    let words = r"([a-z0-9_-]+\.)+";
    let writes = |exchange, keys: String| TopicPermission {
        exchange,
        write: keys,
        read: nothing.clone(),
    };
    Permissions {
        configure: format!("^{own_queue}$"),
        write: format!(r"^({own_queue}|muster\.(jobs|replies|answers|events|metrics))$"),
        read: format!(r"^({own_queue}|muster\.jobs)$"),
        topics: vec![
            // It may write to its own queue, to prove to itself that the queue still reaches it.
            TopicPermission {
                exchange: JOBS,
                write: format!(r"^host\.{name}$"),
                read: format!(r"^(all|host\.{name})$"),
            },
            writes(REPLIES, format!(r"^(ack|result|output)\.{uuid}\.{name}$")),
            writes(EVENTS, format!("^{words}{name}$")),
            writes(METRICS, format!("^{words}{name}$")),
        ],
    }
}

/// An operator or another controller: everything of Muster's but the agents' queues.
#[must_use]
pub fn controller_permissions() -> Permissions {
    Permissions {
        configure: r"^muster\.(ctl|bridge)\.".to_owned(),
        write: r"^muster\.((ctl|bridge)\..*|reactions|republish|jobs|heard|events|metrics|json)$".to_owned(),
        read: r"^muster\.((ctl|bridge)\..*|reactions|republish|lead|ledger|history|presence|jobs|replies|answers|events|metrics|dead|json)$"
            .to_owned(),
        topics: Vec::new(),
    }
}

/// Another service that reads along: queues of its own, bound to what the fleet tells. It can publish nothing.
///
/// `name` has no dot, see [`is_subscriber`]: a subscriber `a` would get the queues of one called `a.b`.
#[must_use]
pub fn subscriber_permissions(name: &str) -> Permissions {
    let own = format!(r"{}{}\.", escaped(SUBSCRIBER_QUEUE_PREFIX), escaped(name));
    Permissions {
        configure: format!("^{own}"),
        write: format!("^{own}"),
        read: format!(r"^({own}.*|muster\.(events|metrics|json|history))$"),
        topics: Vec::new(),
    }
}

/// Whether a subscriber may be called `name`: small letters, digits, `-` and `_`, at most 64.
#[must_use]
pub fn is_subscriber(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn escaped(name: &str) -> String {
    name.replace('.', r"\.")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::super::{ALL_KEY, host_key, presence_key, result_key, topic_key};
    use super::*;
    use crate::id::JobId;

    #[test]
    fn an_agent_may_write_only_keys_that_end_in_its_name() {
        let host: HostId = "lb1.example.com".parse().unwrap();
        let permissions = agent_permissions(&host);
        let job = JobId::from_parts(1, [0; 10]);
        let may = |exchange: &str, key: &str| {
            let topic = permissions
                .topics
                .iter()
                .find(|topic| topic.exchange == exchange)
                .unwrap();
            regex::Regex::new(&topic.write).unwrap().is_match(key)
        };
        assert!(may(REPLIES, &result_key(job, &host)));
        assert!(may(EVENTS, &topic_key("host.interface.down", &host)));
        assert!(may(METRICS, &presence_key(&host)));
        assert!(may(JOBS, &host_key(&host)));
        let other: HostId = "lb2.example.com".parse().unwrap();
        let longer: HostId = "a.lb1.example.com".parse().unwrap();
        for key in [
            result_key(job, &other),
            result_key(job, &longer),
            "result.x.lb1.example.com".into(),
        ] {
            assert!(!may(REPLIES, &key), "{key}");
        }
        assert!(!may(JOBS, ALL_KEY));
        assert!(!may(EVENTS, "a.lb1xexample.com"));
    }

    #[test]
    fn a_subscriber_has_its_own_queues_and_reads_what_is_meant_for_it() {
        let permissions = subscriber_permissions("billing");
        let may = |pattern: &str, name: &str| regex::Regex::new(pattern).unwrap().is_match(name);
        for queue in ["sub.billing.events", "sub.billing.x.y"] {
            for pattern in [
                &permissions.configure,
                &permissions.write,
                &permissions.read,
            ] {
                assert!(may(pattern, queue), "{pattern} {queue}");
            }
        }
        for exchange in [
            "muster.events",
            "muster.metrics",
            "muster.json",
            "muster.history",
        ] {
            assert!(may(&permissions.read, exchange), "{exchange}");
            assert!(!may(&permissions.write, exchange), "{exchange}");
            assert!(!may(&permissions.configure, exchange), "{exchange}");
        }
        for other in [
            "sub.billing2.events",
            "sub.bill.events",
            "muster.jobs",
            "muster.replies",
            "muster.ledger",
            "muster.agent.lb1",
            "muster.bridge.json",
            "amq.default",
            "",
        ] {
            for pattern in [
                &permissions.configure,
                &permissions.write,
                &permissions.read,
            ] {
                assert!(!may(pattern, other), "{pattern} {other}");
            }
        }
        assert!(is_subscriber("billing-2") && is_subscriber("a"));
        for name in ["", "a.b", "A", "a b", "*"] {
            assert!(!is_subscriber(name), "{name}");
        }
    }
}
