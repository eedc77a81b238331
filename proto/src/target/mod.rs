//! Target expressions: which hosts a job is for.
//!
//! ```text
//! role=lb and dc in (gz, sz) and not host~"^old"
//! lb1, lb2, web?[0-9]*          host names and globs; a comma means or
//! os.name=debian* and cpu.count >= 8
//! *                             every host (also: all)
//! ```
//!
//! | written | holds when |
//! |---|---|
//! | `lb*`, `lb1, "lb2"` | the host's name is one of these |
//! | `key=value`, `key!=value` | the value is equal, or not; an unquoted value may be a glob |
//! | `key in (a, b)`, `key not in (a, b)` | one of the values is equal, or none |
//! | `key~"regex"`, `key!~"regex"` | the pattern is found anywhere in the value, or not |
//! | `key<8`, `<=`, `>`, `>=` | both sides are numbers and compare so |
//! | `not x`, `x and y`, `x or y`, `(x)` | `not` binds closest, then `and`, then `or` |
//!
//! `key` is the name of a label or a fact; `host` is always the host's name. Where a key is missing, `=`, `in`, `~` and
//! the comparisons are false, and `!=`, `not in` and `!~` are true: each is the exact opposite of its partner.
//! Values are compared letter by letter; host names and keywords may be written in any (ASCII) case.
//!
//! Globs have `*`, `?` and classes such as `[a-f0-9]` or `[!x]`. Quoted text is literal, with the escapes `\\`, `\"`,
//! `\'`, `\n` and `\t`. A regular expression is taken as it stands between its quotes, so `"\d+"` needs no second
//! backslash. It is ASCII by default (`.` is one byte, `\w` and `(?i)` know ASCII letters); `(?u)` turns Unicode on.
//!
//! The controller chooses hosts and the agent checks that it is meant with this one evaluator. It must not know where
//! labels and facts come from. Parsing and matching are bounded by the constants below, for any input.

mod error;
mod eval;
mod parse;
mod pattern;
#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests;
mod token;

use std::borrow::Cow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

pub use error::TargetError;

/// The longest expression, in bytes. It travels in every signed job, so it is small beside the envelope; a list of
/// about 400 host names of ten letters fits.
pub const SOURCE_BYTES_MAX: usize = 4096;

/// How deep parentheses and `not` may nest: far more than a person writes, and little stack on either end.
pub const DEPTH_MAX: usize = 32;

/// How many tests an expression may have; a list of values or host names counts as one.
pub const TERMS_MAX: usize = 256;

/// How many regular expressions an expression may have: with [`REGEX_BYTES_MAX`], at most 2 MiB of compiled programs.
pub const REGEXES_MAX: usize = 32;

/// The largest compiled program of one regular expression, in bytes. Matching costs at most this times the value's
/// length; a pattern of a few hundred characters stays far below it.
pub const REGEX_BYTES_MAX: usize = 64 * 1024;

/// How deep groups may nest within one regular expression; the regex parser recurses.
pub const REGEX_DEPTH_MAX: u32 = 32;

/// The key that always means the host's name, whatever labels there are.
pub const HOST_KEY: &str = "host";

/// What an expression is evaluated over: one host with its labels and facts.
pub trait Subject {
    /// The host's name, in lower case as in [`HostId`](crate::id::HostId).
    fn host(&self) -> &str;

    /// The value of the label or fact `key`, as text; `None` if the host has none. Never called for [`HOST_KEY`].
    fn value(&self, key: &str) -> Option<Cow<'_, str>>;
}

/// A parsed target expression. It is written, compared and sent as its source text.
#[derive(Clone)]
pub struct Target {
    source: String,
    expr: eval::Expr,
}

impl Target {
    /// Parses an expression.
    ///
    /// # Errors
    /// [`TargetError`] names the place and what was expected there. An empty expression is an error: it never means
    /// every host.
    pub fn parse(text: &str) -> Result<Self, TargetError> {
        Ok(Self {
            expr: parse::parse(text)?,
            source: text.to_owned(),
        })
    }

    /// The expression as it was written.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Whether the host is meant. Pure; the cost grows with the lengths of the expression and of the values.
    #[must_use]
    pub fn matches(&self, subject: &dyn Subject) -> bool {
        self.expr.holds(subject)
    }

    /// The hosts' names, in lower case, each once and in order, if the expression is nothing but a list of exact names: `lb1, lb2`,
    /// `lb1 or host=lb2`, `host in (lb1, lb2)`. So the controller can name hosts that it does not know.
    #[must_use]
    pub fn named_hosts(&self) -> Option<Vec<&str>> {
        self.expr.named_hosts()
    }

    /// The labels and facts that the expression asks for, each once and in order, without `host`. A key that no host
    /// has is most likely misspelt, and `rool!=lb` would then mean every host: callers can warn.
    #[must_use]
    pub fn keys(&self) -> Vec<&str> {
        self.expr.keys()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source)
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Target").field(&self.source).finish()
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

// The source decides the expression, so the source is compared.
impl PartialEq for Target {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Target {}

impl Hash for Target {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}

impl Serialize for Target {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.source)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl de::Visitor<'_> for Text {
            type Value = Target;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a target expression")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Target, E> {
                Target::parse(text).map_err(E::custom)
            }
        }

        deserializer.deserialize_str(Text)
    }
}

impl schemars::JsonSchema for Target {
    fn schema_name() -> Cow<'static, str> {
        "Target".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A target expression, such as `role=lb and dc in (gz, sz)`; `*` is every host.",
            "minLength": 1,
            "maxLength": SOURCE_BYTES_MAX,
        })
    }
}
