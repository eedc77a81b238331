//! The inventory: who owns which virtual server, from a file that operators keep. Pure but for the reading of that file:
//! from text to inventory, and from an event's fields to the same fields with the owner's. It must not know who sends
//! events.

mod handle;

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde_json::Value;

pub use handle::InventoryFile;

/// Largest file.
const BYTES_MAX: u64 = 16 << 20;

/// What the file says, ready to be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory {
    cluster_id: String,
    area: String,
    admins: Vec<String>,
    groups: Vec<Group>,
    /// Group by address and port; port 0 stands for all of an address.
    by_endpoint: BTreeMap<(IpAddr, u16), usize>,
    /// Group by its name.
    by_name: BTreeMap<String, usize>,
}

/// A group of virtual servers with one owner.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Group {
    name: String,
    description: String,
    owners: Vec<String>,
    mailto: Vec<String>,
}

#[derive(Deserialize)]
struct RawInventory {
    #[serde(default, deserialize_with = "word")]
    cluster_id: String,
    #[serde(default, deserialize_with = "word")]
    area: String,
    #[serde(default, deserialize_with = "words")]
    admin_mail_group: Vec<String>,
    #[serde(default)]
    server: Vec<RawGroup>,
}

#[derive(Deserialize)]
struct RawGroup {
    #[serde(default, deserialize_with = "word")]
    vip_instance: String,
    #[serde(default, alias = "description", deserialize_with = "word")]
    descript: String,
    #[serde(default, deserialize_with = "words")]
    owners: Vec<String>,
    #[serde(default, deserialize_with = "words")]
    mailto: Vec<String>,
    #[serde(default)]
    vip_group: Vec<RawVip>,
}

#[derive(Deserialize)]
struct RawVip {
    #[serde(deserialize_with = "word")]
    vip: String,
    #[serde(default, deserialize_with = "word")]
    port: String,
}

impl Inventory {
    /// Reads the text of an inventory file (YAML).
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: RawInventory =
            serde_saphyr::from_str(text).map_err(|error| one_line(&error.to_string()))?;
        let mut inventory = Self {
            cluster_id: raw.cluster_id,
            area: raw.area,
            admins: raw.admin_mail_group,
            ..Self::default()
        };
        for (at, raw) in raw.server.into_iter().enumerate() {
            let wrong = |what: String| format!("server {} ({}): {what}", at + 1, raw.vip_instance);
            for vip in &raw.vip_group {
                let address = vip.vip.trim_matches(['[', ']']).parse::<IpAddr>();
                let address = address
                    .map_err(|_| wrong(format!("vip: expected an address, found {:?}", vip.vip)))?;
                let port = match vip.port.as_str() {
                    "" => 0,
                    port => port.parse().map_err(|_| {
                        wrong(format!(
                            "port: expected a number from 0 to 65535, found {port:?}"
                        ))
                    })?,
                };
                inventory.by_endpoint.insert((address, port), at);
            }
            if !raw.vip_instance.is_empty() {
                inventory.by_name.insert(raw.vip_instance.clone(), at);
            }
            inventory.groups.push(Group {
                name: raw.vip_instance,
                description: raw.descript,
                owners: raw.owners,
                mailto: raw.mailto,
            });
        }
        Ok(inventory)
    }

    /// Adds to the fields of an event what is known of the load balancer and, where they name a virtual server, of its
    /// group. Fields that are there stay as they are.
    pub fn enrich(&self, topic: &str, fields: &mut BTreeMap<String, Value>) {
        let balancer = ["lvs.", "keepalived.", "haproxy.", "kernel.ipvs."]
            .iter()
            .any(|family| topic.starts_with(family));
        let group = self.group(fields);
        if !balancer && group.is_none() {
            return;
        }
        let mut add = |name: &str, value: Value| {
            let empty = value.as_str() == Some("") || value.as_array().is_some_and(Vec::is_empty);
            if !empty {
                fields.entry(name.to_owned()).or_insert(value);
            }
        };
        add("cluster_id", self.cluster_id.as_str().into());
        add("area", self.area.as_str().into());
        add("admin_mail_group", self.admins.clone().into());
        let Some(group) = group else { return };
        add("vip_instance", group.name.as_str().into());
        add("description", group.description.as_str().into());
        add("owners", group.owners.clone().into());
        add("mailto", group.mailto.clone().into());
    }

    fn group(&self, fields: &BTreeMap<String, Value>) -> Option<&Group> {
        let text = |name: &str| fields.get(name).and_then(Value::as_str);
        let named = ["virtual_server", "service", "vip", "virtual_address"]
            .iter()
            .find_map(|name| text(name))?;
        let (address, port) = match endpoint(named) {
            Some((address, port)) => (address, port.or_else(|| port_of(fields)).unwrap_or(0)),
            None => {
                // A group of virtual servers is written by its name: `[VSG1]:0`.
                let name = named
                    .strip_prefix('[')
                    .and_then(|rest| rest.split(']').next());
                return self.groups.get(*self.by_name.get(name.unwrap_or(named))?);
            }
        };
        let at = self.by_endpoint.get(&(address, port));
        let at = at.or_else(|| self.by_endpoint.get(&(address, 0)));
        self.groups.get(*at?)
    }
}

fn port_of(fields: &BTreeMap<String, Value>) -> Option<u16> {
    fields.get("port")?.as_u64()?.try_into().ok()
}

/// Address and port in any of the ways in which virtual servers are written: `[192.0.2.1]:tcp:80`, `192.0.2.1:80`,
/// `TCP 192.0.2.1:80`, `tcp/[2001:db8::1]:80`, `192.0.2.1`.
fn endpoint(text: &str) -> Option<(IpAddr, Option<u16>)> {
    let text = text.rsplit([' ', '/']).next()?;
    let (address, rest) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None => match text.parse::<IpAddr>() {
            Ok(address) => return Some((address, None)),
            Err(_) => {
                let at = text.find(':').unwrap_or(text.len());
                text.split_at(at)
            }
        },
    };
    let port = rest.rsplit(':').next().and_then(|port| port.parse().ok());
    Some((address.parse().ok()?, port))
}

/// A text, also where YAML has read a number.
fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let mut words = deserializer.deserialize_any(Words)?;
    if words.len() > 1 {
        return Err(de::Error::custom("expected one text, found a list"));
    }
    Ok(words.pop().unwrap_or_default())
}

/// A list of texts; a text with commas is one as well.
fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let words = deserializer.deserialize_any(Words)?;
    let parts = words.iter().flat_map(|word| word.split([',', ';']));
    Ok(parts
        .map(|word| word.trim().to_owned())
        .filter(|word| !word.is_empty())
        .collect())
}

struct Words;

impl<'de> Visitor<'de> for Words {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a text or a list of texts")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![text.to_owned()])
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(vec![flag.to_string()])
    }

    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_none<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        struct Item(String);
        impl<'de> Deserialize<'de> for Item {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                word(deserializer).map(Self)
            }
        }
        let mut words = Vec::new();
        while let Some(Item(word)) = items.next_element()? {
            words.push(word);
        }
        Ok(words)
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
