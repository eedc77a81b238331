//! What is said on the bus: the calls that we make, and how answers and signals are read. Pure: bytes and values, no
//! connection.
//!
//! Source: org.freedesktop.systemd1(5), the D-Bus specification.

use std::collections::HashMap;

use zbus::message::{Body, Message};
use zbus::wire::ObjectPath;
use zbus::{Result, Variant};

use super::facts::Facts;
use crate::systemd::{DESTINATION, MANAGER, MANAGER_PATH, UNIT, unit_name, unit_path};

/// The bus itself.
pub(super) const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// What we want to hear: the units' changes, the manager's signals, and whether it comes and goes.
pub(super) const RULES: [&str; 3] = [
    "type='signal',sender='org.freedesktop.systemd1',path_namespace='/org/freedesktop/systemd1/unit',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
    "type='signal',sender='org.freedesktop.systemd1',path='/org/freedesktop/systemd1',interface='org.freedesktop.systemd1.Manager'",
    "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='org.freedesktop.systemd1'",
];

/// One method call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// Whose signals to believe.
    Owner,
    /// Wish to hear what matches.
    Match(&'static str),
    /// Without it the service manager sends no signals.
    Subscribe,
    Version,
    /// The units that are loaded.
    List,
    /// The unit of this name, loaded if it is not.
    Load(String),
    /// All properties of a unit that one interface has.
    Properties(String, &'static str),
    /// One property of a unit, since its changes are not told.
    ControlGroup(String, &'static str),
}

impl Call {
    /// As a message.
    pub(super) fn message(&self) -> Result<Message> {
        let to = |destination: &'static str, path: String, interface: &'static str, method| {
            Message::method_call(path, method)
                .interface(interface)
                .destination(destination)
        };
        let bus = |method| to(BUS, BUS_PATH.to_owned(), BUS, method);
        let manager = |method| to(DESTINATION, MANAGER_PATH.to_owned(), MANAGER, method);
        let properties = |path, method| to(DESTINATION, path, PROPERTIES, method);
        match self {
            Self::Owner => bus("GetNameOwner").build(&DESTINATION),
            Self::Match(rule) => bus("AddMatch").build(rule),
            Self::Subscribe => manager("Subscribe").build(&()),
            Self::Version => {
                properties(MANAGER_PATH.to_owned(), "Get").build(&(MANAGER, "Version"))
            }
            Self::List => manager("ListUnits").build(&()),
            Self::Load(name) => manager("LoadUnit").build(&name.as_str()),
            Self::Properties(name, interface) => {
                properties(unit_path(name), "GetAll").build(interface)
            }
            Self::ControlGroup(name, interface) => {
                properties(unit_path(name), "Get").build(&(*interface, "ControlGroup"))
            }
        }
    }
}

/// The interface of a unit's type that knows its control group; none where such units have no processes.
pub(super) fn group_interface(name: &str) -> Option<&'static str> {
    let (_, suffix) = name.rsplit_once('.')?;
    Some(match suffix {
        "service" => crate::systemd::SERVICE,
        "socket" => "org.freedesktop.systemd1.Socket",
        "mount" => "org.freedesktop.systemd1.Mount",
        "swap" => "org.freedesktop.systemd1.Swap",
        "scope" => "org.freedesktop.systemd1.Scope",
        "slice" => "org.freedesktop.systemd1.Slice",
        _ => return None,
    })
}

/// A signal, as far as it matters here.
#[derive(Debug, PartialEq)]
pub(super) enum Signal {
    /// A unit's properties; the unit's own interface comes last of a change.
    Changed { name: String, last: bool },
    /// A unit is no longer loaded.
    Removed { name: String },
    /// A job has ended that worked on a unit.
    JobRemoved { name: String },
    /// All units are about to be read anew.
    Reloading,
    /// They were, or files of theirs were enabled or disabled.
    Reloaded,
    /// The service manager's new name on the bus; none while it has none.
    Owner(Option<String>),
    /// Nothing to us.
    Other,
}

impl Signal {
    /// Reads a signal's head and what is short of its body. `owner` is whose signals are believed: anybody on the bus
    /// can send us some.
    pub(super) fn read(message: &Message, owner: &str) -> Result<Self> {
        let header = message.header();
        let sender = header.sender().map_or("", |sender| sender.as_str());
        let member = header.member().map_or("", |member| member.as_str());
        let path = header.path().map_or("", |path| path.as_str());
        let body = message.body();
        if sender == BUS {
            if member != "NameOwnerChanged" {
                return Ok(Self::Other);
            }
            let (name, _, new): (&str, &str, &str) = body.deserialize()?;
            let new = (!new.is_empty()).then(|| new.to_owned());
            return Ok(if name == DESTINATION {
                Self::Owner(new)
            } else {
                Self::Other
            });
        }
        if sender != owner {
            return Ok(Self::Other);
        }
        Ok(match member {
            "PropertiesChanged" => {
                let Some(name) = unit_name(path) else {
                    return Ok(Self::Other);
                };
                let (interface, ..): Changed<'_> = body.deserialize()?;
                Self::Changed {
                    name,
                    last: interface == UNIT,
                }
            }
            "UnitRemoved" => {
                let (name, _): (&str, ObjectPath<'_>) = body.deserialize()?;
                Self::Removed {
                    name: name.to_owned(),
                }
            }
            "JobRemoved" => {
                let (_, _, name, _): (u32, ObjectPath<'_>, &str, &str) = body.deserialize()?;
                Self::JobRemoved {
                    name: name.to_owned(),
                }
            }
            "UnitFilesChanged" => Self::Reloaded,
            "Reloading" => {
                let begins: bool = body.deserialize()?;
                if begins {
                    Self::Reloading
                } else {
                    Self::Reloaded
                }
            }
            _ => Self::Other,
        })
    }
}

type Changed<'a> = (&'a str, HashMap<&'a str, Variant<'a>>, Vec<&'a str>);

/// Takes over the properties that a signal brings.
pub(super) fn take_changed(body: &Body, facts: &mut Facts) -> Result<()> {
    let (_, properties, _): Changed<'_> = body.deserialize()?;
    take(&properties, facts);
    Ok(())
}

/// Takes over the properties that an answer brings.
pub(super) fn take_all(body: &Body, facts: &mut Facts) -> Result<()> {
    let properties: HashMap<&str, Variant<'_>> = body.deserialize()?;
    take(&properties, facts);
    Ok(())
}

fn take(properties: &HashMap<&str, Variant<'_>>, facts: &mut Facts) {
    for (name, value) in properties {
        facts.apply(name, value);
    }
}

/// The text of one property.
pub(super) fn text(body: &Body) -> Result<String> {
    match body.deserialize()? {
        Variant::Str(text) => Ok(text.as_str().to_owned()),
        _ => Err(zbus::Error::IncorrectType),
    }
}

/// The name of the unit whose path an answer brings.
pub(super) fn loaded(body: &Body) -> Result<Option<String>> {
    let path: ObjectPath<'_> = body.deserialize()?;
    Ok(unit_name(path.as_str()))
}

/// Names of the units that are loaded and have a file, or need none.
pub(super) fn listed(body: &Body) -> Result<Vec<String>> {
    type Unit<'a> = (
        &'a str,
        &'a str,
        &'a str,
        &'a str,
        &'a str,
        &'a str,
        ObjectPath<'a>,
        u32,
        &'a str,
        ObjectPath<'a>,
    );
    let units: Vec<Unit<'_>> = body.deserialize()?;
    let names = units
        .iter()
        .filter(|(_, _, load_state, ..)| *load_state != "not-found")
        .map(|(name, ..)| (*name).to_owned());
    Ok(names.collect())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    const OWNER: &str = ":1.5";

    fn signal<B: serde::Serialize + zbus::wire::DynamicType>(
        sender: &str,
        path: &str,
        member: &str,
        body: &B,
    ) -> Message {
        let interface = if member == "PropertiesChanged" {
            PROPERTIES
        } else {
            MANAGER
        };
        Message::signal(path, interface, member)
            .unwrap_sender(sender)
            .build(body)
            .unwrap()
    }

    trait Sender {
        fn unwrap_sender(self, sender: &str) -> Self;
    }

    impl Sender for zbus::message::Builder<'_> {
        fn unwrap_sender(self, sender: &str) -> Self {
            self.sender(sender.to_owned())
        }
    }

    #[test]
    fn every_call_is_a_message() {
        for call in [
            Call::Owner,
            Call::Match(RULES[0]),
            Call::Subscribe,
            Call::Version,
            Call::List,
            Call::Load("a.service".to_owned()),
            Call::Properties("a.service".to_owned(), UNIT),
            Call::ControlGroup("a.service".to_owned(), crate::systemd::SERVICE),
        ] {
            assert!(call.message().is_ok(), "{call:?}");
        }
        for rule in RULES {
            assert!(zbus::MatchRule::try_from(rule).is_ok(), "{rule}");
        }
    }

    #[test]
    fn changes_are_believed_of_the_manager_alone() {
        let properties: HashMap<&str, Variant<'_>> = [
            ("ActiveState", Variant::new("active")),
            ("MainPID", Variant::new(7_u32)),
        ]
        .into();
        let body = (UNIT, properties, vec!["Conditions"]);
        let path = unit_path("a.service");
        let message = signal(OWNER, &path, "PropertiesChanged", &body);
        let want = Signal::Changed {
            name: "a.service".to_owned(),
            last: true,
        };
        assert_eq!(Signal::read(&message, OWNER).unwrap(), want);
        let mut facts = Facts::default();
        take_changed(&message.body(), &mut facts).unwrap();
        assert_eq!((facts.active_state.as_str(), facts.main_pid), ("active", 7));
        let forged = signal(":1.66", &path, "PropertiesChanged", &body);
        assert_eq!(Signal::read(&forged, OWNER).unwrap(), Signal::Other);
        let elsewhere = signal(
            OWNER,
            "/org/freedesktop/systemd1/job/3",
            "PropertiesChanged",
            &body,
        );
        assert_eq!(Signal::read(&elsewhere, OWNER).unwrap(), Signal::Other);
    }

    #[test]
    fn signals_of_the_manager() {
        let path = ObjectPath::try_from("/org/freedesktop/systemd1/unit/a_2eservice").unwrap();
        let name = "a.service".to_owned();
        for (member, message, want) in [
            (
                "UnitRemoved",
                signal(OWNER, MANAGER_PATH, "UnitRemoved", &("a.service", &path)),
                Signal::Removed { name: name.clone() },
            ),
            (
                "JobRemoved",
                signal(
                    OWNER,
                    MANAGER_PATH,
                    "JobRemoved",
                    &(4_u32, &path, "a.service", "done"),
                ),
                Signal::JobRemoved { name },
            ),
            (
                "Reloading",
                signal(OWNER, MANAGER_PATH, "Reloading", &false),
                Signal::Reloaded,
            ),
            (
                "Reloading",
                signal(OWNER, MANAGER_PATH, "Reloading", &true),
                Signal::Reloading,
            ),
            (
                "UnitNew",
                signal(OWNER, MANAGER_PATH, "UnitNew", &("a.service", &path)),
                Signal::Other,
            ),
        ] {
            assert_eq!(Signal::read(&message, OWNER).unwrap(), want, "{member}");
        }
        let odd = signal(OWNER, MANAGER_PATH, "UnitRemoved", &7_u32);
        assert!(Signal::read(&odd, OWNER).is_err());
    }
}
