//! From any reader to any writer, value by value, without a tree between them.

use std::cell::RefCell;
use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Error as _, Serialize, SerializeMap, SerializeSeq, Serializer};

/// Writes what is read.
pub(super) fn transcode<'de, D: Deserializer<'de>, S: Serializer>(
    from: D,
    to: S,
) -> Result<S::Ok, D::Error> {
    from.deserialize_any(Through(to))
}

struct Through<S>(S);

/// Methods for what is written as it is read.
macro_rules! through {
    ($($method:ident($($value:ident: $kind:ty)?) => $write:ident;)*) => {
        $(fn $method<E: de::Error>(self, $($value: $kind)?) -> Result<S::Ok, E> {
            self.0.$write($($value)?).map_err(E::custom)
        })*
    };
}

impl<'de, S: Serializer> Visitor<'de> for Through<S> {
    type Value = S::Ok;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    through! {
        visit_unit() => serialize_unit;
        visit_none() => serialize_unit;
        visit_bool(value: bool) => serialize_bool;
        visit_i64(value: i64) => serialize_i64;
        visit_u64(value: u64) => serialize_u64;
        visit_f64(value: f64) => serialize_f64;
        visit_str(value: &str) => serialize_str;
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<S::Ok, A::Error> {
        let mut to = self.0.serialize_seq(from.size_hint()).map_err(custom)?;
        while from.next_element_seed(Item(&mut to))?.is_some() {}
        to.end().map_err(custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<S::Ok, A::Error> {
        let mut to = self.0.serialize_map(from.size_hint()).map_err(custom)?;
        while from.next_key_seed(Key(&mut to))?.is_some() {
            from.next_value_seed(Entry(&mut to))?;
        }
        to.end().map_err(custom)
    }
}

/// The next place in a writer's array.
struct Item<'a, S>(&'a mut S);
/// The next key in a writer's map.
struct Key<'a, S>(&'a mut S);
/// The place of that key's value.
struct Entry<'a, S>(&'a mut S);

macro_rules! places {
    ($($place:ident: $shape:ident, $write:ident;)*) => {
        $(impl<'de, S: $shape> DeserializeSeed<'de> for $place<'_, S> {
            type Value = ();

            fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
                self.0.$write(&Once::new(from)).map_err(custom)
            }
        })*
    };
}

places! {
    Item: SerializeSeq, serialize_element;
    Key: SerializeMap, serialize_key;
    Entry: SerializeMap, serialize_value;
}

/// A reader in the form in which writers take values. It is read once.
struct Once<D>(RefCell<Option<D>>);

impl<D> Once<D> {
    fn new(from: D) -> Self {
        Self(RefCell::new(Some(from)))
    }
}

impl<'de, D: Deserializer<'de>> Serialize for Once<D> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let from = self.0.borrow_mut().take();
        let from = from.ok_or_else(|| S::Error::custom("a value was asked for twice"))?;
        transcode(from, to).map_err(S::Error::custom)
    }
}

fn custom<E: de::Error>(what: impl fmt::Display) -> E {
    E::custom(what)
}
