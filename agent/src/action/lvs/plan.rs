//! What is to be done to the weights of a real server: pure. It must not know how the table is read or written.

use std::collections::BTreeMap;

use super::name::{RealName, VirtualName};
use crate::ipvs::{DestinationKey, ServiceKey};

/// A virtual server and what is behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct VirtualServer {
    /// Its name.
    pub(super) key: ServiceKey,
    /// Its real servers.
    pub(super) reals: Vec<RealServer>,
}

/// A real server within a virtual one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RealServer {
    /// Its address; port 0 in a virtual server by firewall mark.
    pub(super) key: DestinationKey,
    /// Its weight; 0 gives it no new connections.
    pub(super) weight: u32,
    /// Its connections.
    pub(super) load: Load,
}

/// Connections of a real server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Load {
    /// Established ones.
    pub(super) active: u64,
    /// Others: half open, closing.
    pub(super) inactive: u64,
    /// Persistent clients that it is kept for.
    pub(super) persistent: u64,
}

/// Weights that real servers had before they were set to 0, by virtual and real server.
pub(super) type Former = BTreeMap<(ServiceKey, DestinationKey), u32>;

/// What is wanted.
#[derive(Debug, Clone)]
pub(super) struct Wish {
    pub(super) real: RealName,
    /// In all virtual servers, where none is named.
    pub(super) virtual_server: Option<VirtualName>,
    pub(super) to: To,
    /// Even where it leaves a virtual server without any.
    pub(super) force: bool,
}

/// Which weight.
#[derive(Debug, Clone)]
pub(super) enum To {
    /// This one.
    Weight(u32),
    /// The one that it had, for those that have 0 now.
    Former(Former),
}

/// A real server that the wish is about, in one virtual server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) virtual_server: ServiceKey,
    pub(super) real: DestinationKey,
    pub(super) before: u32,
    /// None where the former weight is wanted and not known.
    pub(super) after: Option<u32>,
    pub(super) load: Load,
}

/// Virtual servers that would be left without a real server of a weight above 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LastOne(pub(super) Vec<ServiceKey>);

impl Change {
    pub(super) fn key(&self) -> (ServiceKey, DestinationKey) {
        (self.virtual_server, self.real)
    }

    /// The weight to set, where it is another than it has.
    pub(super) fn to_set(self) -> Option<u32> {
        self.after.filter(|after| *after != self.before)
    }
}

/// Every place of the table that `wish` is about, with the weight that it is to have. None where it has none.
///
/// # Errors
/// Where that would take the last real server of a virtual one away, and the wish does not say that it may.
pub(super) fn plan(table: &[VirtualServer], wish: &Wish) -> Result<Vec<Change>, LastOne> {
    let mut changes = Vec::new();
    let mut emptied = Vec::new();
    let named = table.iter().filter(|server| {
        wish.virtual_server
            .is_none_or(|name| name.means(&server.key))
    });
    for server in named {
        let (mut up_before, mut up_after) = (false, false);
        for real in &server.reals {
            let mut after = real.weight;
            if wish.real.means(&real.key) {
                let change = change(server.key, real, &wish.to);
                after = change.after.unwrap_or(after);
                changes.push(change);
            }
            up_before |= real.weight > 0;
            up_after |= after > 0;
        }
        if up_before && !up_after {
            emptied.push(server.key);
        }
    }
    if emptied.is_empty() || wish.force {
        Ok(changes)
    } else {
        Err(LastOne(emptied))
    }
}

fn change(key: ServiceKey, real: &RealServer, to: &To) -> Change {
    let after = match to {
        To::Weight(weight) => Some(*weight),
        // Somebody has given it a weight since: that is newer than what is remembered.
        To::Former(_) if real.weight > 0 => Some(real.weight),
        To::Former(former) => former.get(&(key, real.key)).copied(),
    };
    Change {
        virtual_server: key,
        real: real.key,
        before: real.weight,
        after,
        load: real.load,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::action::lvs) fn id(text: &str) -> ServiceKey {
        text.parse().unwrap()
    }

    pub(in crate::action::lvs) fn server(text: &str, reals: &[(&str, u32)]) -> VirtualServer {
        let real = |(at, weight): &(&str, u32)| RealServer {
            key: at.parse().unwrap(),
            weight: *weight,
            load: Load::default(),
        };
        VirtualServer {
            key: id(text),
            reals: reals.iter().map(real).collect(),
        }
    }

    pub(in crate::action::lvs) fn wish(real: &str, to: To) -> Wish {
        Wish {
            real: real.parse().unwrap(),
            virtual_server: None,
            to,
            force: false,
        }
    }

    fn table() -> Vec<VirtualServer> {
        vec![
            server(
                "tcp/192.0.2.10:80",
                &[
                    ("10.1.0.1:8080", 100),
                    ("10.1.0.2:8080", 50),
                    ("10.1.0.3:8080", 0),
                ],
            ),
            server(
                "tcp/192.0.2.10:443",
                &[("10.1.0.1:443", 1), ("10.1.0.2:443", 1)],
            ),
            server("fwmark/7", &[("10.1.0.1:0", 1), ("10.1.0.2:0", 0)]),
            server("udp/192.0.2.10:53", &[]),
            server("tcp/192.0.2.10:81", &[("10.1.0.3:8080", 0)]),
        ]
    }

    fn shown(planned: Result<Vec<Change>, LastOne>) -> String {
        match planned {
            Ok(changes) => {
                let lines = changes.iter().map(|change| {
                    let after = change
                        .after
                        .map_or("?".to_owned(), |after| after.to_string());
                    format!(
                        "{} {} {}>{after}",
                        change.virtual_server, change.real, change.before
                    )
                });
                lines.collect::<Vec<_>>().join(", ")
            }
            Err(LastOne(emptied)) => {
                let emptied: Vec<_> = emptied.iter().map(ToString::to_string).collect();
                format!("last of {}", emptied.join(" and "))
            }
        }
    }

    #[test]
    fn the_plan_is_about_what_is_named_and_nothing_else() {
        for (real, virtual_server, weight, force, want) in [
            (
                "10.1.0.2:8080",
                "",
                0,
                false,
                "tcp/192.0.2.10:80 10.1.0.2:8080 50>0",
            ),
            (
                "10.1.0.2",
                "",
                0,
                false,
                "tcp/192.0.2.10:80 10.1.0.2:8080 50>0, tcp/192.0.2.10:443 10.1.0.2:443 1>0, fwmark/7 10.1.0.2:0 0>0",
            ),
            ("10.1.0.1", "", 0, false, "last of fwmark/7"),
            (
                "10.1.0.1",
                "192.0.2.10",
                0,
                false,
                "tcp/192.0.2.10:80 10.1.0.1:8080 100>0, tcp/192.0.2.10:443 10.1.0.1:443 1>0",
            ),
            ("10.1.0.1", "fwmark/7", 0, true, "fwmark/7 10.1.0.1:0 1>0"),
            (
                "10.1.0.3:8080",
                "",
                0,
                false,
                "tcp/192.0.2.10:80 10.1.0.3:8080 0>0, tcp/192.0.2.10:81 10.1.0.3:8080 0>0",
            ),
            (
                "10.1.0.3",
                "",
                5,
                false,
                "tcp/192.0.2.10:80 10.1.0.3:8080 0>5, tcp/192.0.2.10:81 10.1.0.3:8080 0>5",
            ),
            ("10.1.0.9", "", 0, false, ""),
        ] {
            let wish = Wish {
                virtual_server: (!virtual_server.is_empty())
                    .then(|| virtual_server.parse().unwrap()),
                force,
                ..wish(real, To::Weight(weight))
            };
            assert_eq!(
                shown(plan(&table(), &wish)),
                want,
                "{real} {virtual_server} {weight}"
            );
        }
    }

    #[test]
    fn the_former_weight_is_for_those_that_have_none() {
        let former = Former::from([
            (
                (id("tcp/192.0.2.10:80"), "10.1.0.3:8080".parse().unwrap()),
                30,
            ),
            (
                (id("tcp/192.0.2.10:80"), "10.1.0.1:8080".parse().unwrap()),
                7,
            ),
        ]);
        for (real, want) in [
            (
                "10.1.0.3",
                "tcp/192.0.2.10:80 10.1.0.3:8080 0>30, tcp/192.0.2.10:81 10.1.0.3:8080 0>?",
            ),
            ("10.1.0.1:8080", "tcp/192.0.2.10:80 10.1.0.1:8080 100>100"),
        ] {
            assert_eq!(
                shown(plan(&table(), &wish(real, To::Former(former.clone())))),
                want
            );
        }
    }

    /// By mark or not, the last byte of the address, and last byte, port and weight of each real server.
    type Drawn = (bool, u8, Vec<(u8, u16, u32)>);

    fn tables() -> impl Strategy<Value = Vec<VirtualServer>> {
        let real = (
            0..4_u8,
            0..3_u16,
            prop_oneof![2 => Just(0_u32), 3 => 1..200_u32],
        );
        let reals = prop::collection::vec(real, 0..6);
        prop::collection::vec((any::<bool>(), 0..3_u8, reals), 0..6).prop_map(|servers| {
            let server = |(at, (mark, vip, reals)): (usize, Drawn)| {
                VirtualServer {
                    key: if mark {
                        id(&format!("fwmark/{}", at + 1))
                    } else {
                        id(&format!("tcp/192.0.2.{vip}:{at}"))
                    },
                    // No two have the same name.
                    reals: reals
                        .into_iter()
                        .map(|(last, port, weight)| ((last, port), weight))
                        .collect::<BTreeMap<_, _>>()
                        .into_iter()
                        .map(|((last, port), weight)| RealServer {
                            key: format!("10.1.0.{last}:{port}").parse().unwrap(),
                            weight,
                            load: Load::default(),
                        })
                        .collect(),
                }
            };
            servers.into_iter().enumerate().map(server).collect()
        })
    }

    fn wishes() -> impl Strategy<Value = Wish> {
        let real = (0..4_u8, prop::option::of(0..3_u16)).prop_map(|(last, port)| match port {
            Some(port) => format!("10.1.0.{last}:{port}"),
            None => format!("10.1.0.{last}"),
        });
        let virtual_server = prop::option::of((0..3_u8).prop_map(|last| format!("192.0.2.{last}")));
        let to = prop_oneof![
            3 => Just(None),
            1 => (0..100_u32).prop_map(Some),
        ];
        (real, virtual_server, to, any::<bool>()).prop_map(|(real, virtual_server, to, force)| {
            Wish {
                virtual_server: virtual_server.map(|name| name.parse().unwrap()),
                force,
                ..wish(&real, To::Weight(to.unwrap_or(0)))
            }
        })
    }

    /// The table after the plan was carried out.
    fn carried_out(table: &[VirtualServer], changes: &[Change]) -> Vec<VirtualServer> {
        let mut table = table.to_vec();
        for server in &mut table {
            for real in &mut server.reals {
                let own = changes
                    .iter()
                    .find(|change| change.key() == (server.key, real.key));
                real.weight = own.and_then(|own| own.to_set()).unwrap_or(real.weight);
            }
        }
        table
    }

    fn up(server: &VirtualServer) -> usize {
        server.reals.iter().filter(|real| real.weight > 0).count()
    }

    proptest! {
        #[test]
        fn the_last_one_is_never_taken_away_unless_forced(table in tables(), wish in wishes()) {
            match plan(&table, &wish) {
                Err(LastOne(emptied)) => {
                    prop_assert!(!wish.force && !emptied.is_empty());
                    let forced = plan(&table, &Wish { force: true, ..wish }).unwrap();
                    let after = carried_out(&table, &forced);
                    for (before, after) in table.iter().zip(&after) {
                        let lost = up(before) > 0 && up(after) == 0;
                        prop_assert_eq!(lost, emptied.contains(&before.key));
                    }
                }
                Ok(changes) => {
                    let after = carried_out(&table, &changes);
                    for (before, after) in table.iter().zip(&after) {
                        prop_assert!(wish.force || up(before) == 0 || up(after) > 0);
                        let named = wish.virtual_server.is_none_or(|name| name.means(&before.key));
                        for (was, is) in before.reals.iter().zip(&after.reals) {
                            prop_assert!(was.weight == is.weight || (named && wish.real.means(&was.key)));
                        }
                    }
                    // Once more: there is nothing left to do.
                    let again = plan(&after, &Wish { force: true, ..wish }).unwrap();
                    prop_assert!(again.iter().all(|change| change.to_set().is_none()));
                }
            }
        }
    }
}
