//! The JSON form of a message: the same map, for those who would rather not read MessagePack. It knows no message's
//! fields, so that fields of later versions come through.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::envelope::{DecodeError, Kind, NESTING_MAX};
use crate::signing::to_hex;

/// The AMQP property `content_type` of a message in its JSON form.
pub const CONTENT_TYPE: &str = "application/json";

/// The JSON form of `body`, a message of the kind `kind`. Binary is written as hexadecimal digits, and what is not a
/// number (NaN, infinities) as `null`; numbers keep all their digits.
///
/// # Errors
/// When the body is over its bound, nested too deep, not one MessagePack map, or longer than it.
pub fn from_body(kind: Kind, body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    if body.len() > kind.body_bytes_max() {
        return Err(DecodeError::TooLarge {
            kind,
            bytes: body.len(),
        });
    }
    let refused = |why: String| DecodeError::Body { kind, why };
    let mut decoder = rmp_serde::Deserializer::new(std::io::Cursor::new(body));
    decoder.set_max_depth(NESTING_MAX);
    let Plain(value) =
        Plain::deserialize(&mut decoder).map_err(|error| refused(error.to_string()))?;
    let read = usize::try_from(decoder.position()).unwrap_or(usize::MAX);
    match body.len().saturating_sub(read) {
        0 if value.is_object() => {
            serde_json::to_vec(&value).map_err(|error| refused(error.to_string()))
        }
        0 => Err(refused("not a map".to_owned())),
        rest => Err(refused(format!("{rest} more bytes follow it"))),
    }
}

/// Any value at all.
struct Plain(Value);

impl<'de> Deserialize<'de> for Plain {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PlainVisitor).map(Self)
    }
}

struct PlainVisitor;

impl<'de> Visitor<'de> for PlainVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_bytes<E>(self, value: &[u8]) -> Result<Value, E> {
        Ok(to_hex(value).into())
    }

    fn visit_some<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, inner: D) -> Result<Value, D::Error> {
        inner.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Plain(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((Plain(key), Plain(value))) = entries.next_entry()? {
            let key = match key {
                Value::String(text) => text,
                other => other.to_string(),
            };
            map.insert(key, value);
        }
        Ok(map.into())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use proptest::prelude::*;
    use serde::Serialize;
    use serde_json::json;

    use super::*;

    fn body(value: &impl Serialize) -> Vec<u8> {
        rmp_serde::to_vec_named(value).unwrap()
    }

    fn back(body: &[u8]) -> Value {
        serde_json::from_slice(&from_body(Kind::Event, body).unwrap()).unwrap()
    }

    #[test]
    fn the_same_map_comes_out_with_every_digit() {
        let value = json!({
            "text": "naïve \"q\"\n", "most": u64::MAX, "least": i64::MIN, "part": 0.1, "none": null,
            "list": [true, [], {}, { "deep": [1] }], "later": { "unknown": -1 },
        });
        assert_eq!(back(&body(&value)), value);
    }

    #[test]
    fn what_json_lacks_has_a_stated_form() {
        #[derive(Serialize)]
        struct Odd {
            #[serde(with = "serde_bytes")]
            bytes: Vec<u8>,
            nan: f64,
            single: f32,
            numbered: std::collections::BTreeMap<i32, bool>,
        }
        let odd = Odd {
            bytes: vec![0, 255],
            nan: f64::NAN,
            single: 0.5,
            numbered: [(-3, true)].into(),
        };
        let want =
            json!({ "bytes": "00ff", "nan": null, "single": 0.5, "numbered": { "-3": true } });
        assert_eq!(back(&body(&odd)), want);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let mut deep = vec![0x91; NESTING_MAX + 2];
        deep.push(0xc0);
        let long = vec![0; Kind::Event.body_bytes_max() + 1];
        let followed = [body(&json!({})), vec![0xc0]].concat();
        for (name, body) in [
            ("nothing", vec![]),
            ("no map", body(&json!([1]))),
            ("too deep", deep),
            ("too long", long),
            ("followed", followed),
            ("cut off", vec![0x81, 0xa1, b'a']),
        ] {
            assert!(from_body(Kind::Event, &body).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(json) = from_body(Kind::Event, &body) {
                let value: Value = serde_json::from_slice(&json).unwrap();
                prop_assert!(value.is_object());
            }
        }
    }
}
