//! Identities: hosts, jobs, messages, signing keys. Parsing is the only way to get one, so a held id is a good id.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// Longest host name in bytes: `result.<job>.<host>` has to fit AMQP's 255-byte routing key.
pub const HOST_BYTES_MAX: usize = 200;

/// Longest key id or issuer name in bytes.
pub const NAME_BYTES_MAX: usize = 64;

/// Why a text is not an id of the wanted kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {text:?} is not valid: {why}")]
pub struct IdError {
    what: &'static str,
    text: String,
    why: &'static str,
}

impl IdError {
    fn new(what: &'static str, text: &str, why: &'static str) -> Self {
        let text = text.chars().take(80).collect();
        Self { what, text, why }
    }
}

/// A host's name: lower-case letters, digits, `.`, `-`, `_`; at most [`HOST_BYTES_MAX`] bytes.
///
/// It is the broker user of the host's agent, the last part of its routing keys, and the end of its queue's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostId(Box<str>);

impl HostId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = |why| Err(IdError::new("host name", text, why));
        if text.is_empty() {
            return bad("it is empty");
        }
        if text.len() > HOST_BYTES_MAX {
            return bad("it is longer than 200 bytes");
        }
        let name = text.to_ascii_lowercase();
        if !name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-_".contains(&b))
        {
            return bad("only letters, digits, '.', '-' and '_' are allowed");
        }
        if name.starts_with(['.', '-']) || name.ends_with('.') || name.contains("..") {
            return bad("it has an empty part or starts with '.' or '-'");
        }
        Ok(Self(name.into_boxed_str()))
    }
}

/// A short name of a person, program or key: letters, digits, `.`, `-`, `_`, `@`; at most [`NAME_BYTES_MAX`] bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(Box<str>);

impl KeyId {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KeyId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let bad = |why| Err(IdError::new("name", text, why));
        if text.is_empty() {
            return bad("it is empty");
        }
        if text.len() > NAME_BYTES_MAX {
            return bad("it is longer than 64 bytes");
        }
        if !text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b".-_@".contains(&b))
        {
            return bad("only letters, digits, '.', '-', '_' and '@' are allowed");
        }
        Ok(Self(text.into()))
    }
}

/// A job's id: a UUID version 7, so that ids sort by the time at which jobs were made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(Uuid);

/// A message's id: a UUID version 7, the same at every resend, by which readers drop duplicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(Uuid);

macro_rules! uuid_id {
    ($name:ident, $what:literal) => {
        impl $name {
            /// The id of a thing made at `unix_ms`, with ten random bytes.
            #[must_use]
            pub fn from_parts(unix_ms: u64, random: [u8; 10]) -> Self {
                Self(uuid::Builder::from_unix_timestamp_millis(unix_ms, &random).into_uuid())
            }

            /// The id's sixteen bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                self.0.as_bytes()
            }

            /// An id read back from its sixteen bytes.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }

            /// When the thing was made, in milliseconds since 1970; zero where the id does not say.
            #[must_use]
            pub fn unix_ms(&self) -> u64 {
                self.0.get_timestamp().map_or(0, |at| {
                    let (seconds, nanos) = at.to_unix();
                    seconds
                        .saturating_mul(1000)
                        .saturating_add(u64::from(nanos) / 1_000_000)
                })
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let id = Uuid::try_parse(text)
                    .map_err(|_| IdError::new($what, text, "it is not a UUID"))?;
                Ok(Self(id))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        text_serde!($name, $what, "uuid");
    };
}

macro_rules! text_serde {
    ($name:ident, $what:literal, $format:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "title": $what })
            }
        }
    };
}

uuid_id!(JobId, "job id");
uuid_id!(MessageId, "message id");
text_serde!(HostId, "host name", "hostname");
text_serde!(KeyId, "name", "name");

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn host_names_are_checked_and_lower_cased() {
        for (text, want) in [
            ("lb1", Some("lb1")),
            ("LB1.Example.com", Some("lb1.example.com")),
            ("a_b-c.d", Some("a_b-c.d")),
            ("", None),
            (".a", None),
            ("-a", None),
            ("a..b", None),
            ("a.", None),
            ("a b", None),
            ("a*", None),
            ("a#", None),
            ("é", None),
        ] {
            let got = HostId::from_str(text).ok();
            assert_eq!(got.as_ref().map(HostId::as_str), want, "{text:?}");
        }
        assert!(HostId::from_str(&"a".repeat(HOST_BYTES_MAX)).is_ok());
        assert!(HostId::from_str(&"a".repeat(HOST_BYTES_MAX + 1)).is_err());
    }

    #[test]
    fn uuids_carry_their_time_and_travel_as_text() {
        let id = JobId::from_parts(1_700_000_000_123, [7; 10]);
        assert_eq!(id.unix_ms(), 1_700_000_000_123);
        assert_eq!(id.to_string().parse::<JobId>().unwrap(), id);
        let bytes = rmp_serde::to_vec_named(&id).unwrap();
        assert_eq!(
            rmp_serde::from_slice::<String>(&bytes).unwrap(),
            id.to_string()
        );
        assert_eq!(rmp_serde::from_slice::<JobId>(&bytes).unwrap(), id);
    }
}
