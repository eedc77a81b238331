//! A value held as the bytes that it has in a message: one piece of memory where a tree of JSON values is a million.
//!
//! It must not know what the values mean.

mod transcode;

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Serialize, Serializer, ser};
use serde_json::Value;

/// A value in its MessagePack form. Cheap to clone. It is serialized as what it holds, from the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Packed(Arc<Vec<u8>>);

/// A value that has no packed form, or says so itself.
#[derive(Debug, thiserror::Error)]
#[error("pack a value: {0}")]
pub struct PackError(#[from] rmp_serde::encode::Error);

/// Packed bytes that are not what is wanted of them.
#[derive(Debug, thiserror::Error)]
#[error("read a packed value: {0}")]
pub struct UnpackError(#[from] rmp_serde::decode::Error);

impl Packed {
    /// Packs `value`: structs are maps by field name. Keys of maps have to be text, as in JSON.
    ///
    /// # Errors
    /// Where it says so itself.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Result<Self, PackError> {
        Self::of_about(value, 0)
    }

    /// The same, where it is known how many `bytes` it will be, more or less: memory is asked for once instead of again
    /// and again while it grows.
    ///
    /// # Errors
    /// As [`Packed::of`].
    pub fn of_about<T: Serialize + ?Sized>(value: &T, bytes: usize) -> Result<Self, PackError> {
        let mut packed = Vec::with_capacity(bytes);
        rmp_serde::encode::write_named(&mut packed, value)?;
        packed.shrink_to_fit();
        Ok(Self(Arc::new(packed)))
    }

    /// The bytes: one MessagePack value.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The value, as a `T`.
    ///
    /// # Errors
    /// When it is no `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, UnpackError> {
        Ok(rmp_serde::from_slice(&self.0)?)
    }

    /// The value as a tree, for whoever looks into it without knowing its type. Takes many times the memory of the bytes.
    ///
    /// # Errors
    /// Where it is nested more than a thousand levels deep.
    pub fn value(&self) -> Result<Value, UnpackError> {
        self.read()
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut bytes = rmp_serde::Deserializer::from_read_ref(self.bytes());
        transcode::transcode(&mut bytes, serializer).map_err(ser::Error::custom)
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.value() {
            Ok(value) => write!(f, "Packed({value})"),
            Err(error) => write!(f, "Packed({error})"),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
