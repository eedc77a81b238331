//! Rules: which lines of a log matter, and which events they are. A rule set is compiled once from the rules of a
//! section, of its files and of ready-made packs; what it does afterwards depends on the line, on the alert states and on
//! the limits that are handed in, and on nothing else. It must not know where lines come from or where events go.

mod block;
mod literal;
mod place;
mod rule;
mod section;
mod set;
mod template;

pub use place::locate;
pub(crate) use section::{Keys, refused, wrong};
pub use section::{RuleError, Step};
pub use set::{RuleSet, Seen};

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]
mod tests;
