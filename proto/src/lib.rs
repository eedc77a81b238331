//! Muster's contract: message types, identities, job states, target expressions and the broker's topology.
//!
//! This crate is pure. It knows no clock, no file, no network and no async runtime: whoever needs the
//! time or randomness passes it in. `muster-link` carries these messages over RabbitMQ; the agent and
//! the controller give them meaning.

pub mod action;
pub mod asyncapi;
pub mod channel;
pub mod definitions;
pub mod envelope;
pub mod event;
pub mod id;
pub mod job;
pub mod json;
pub mod metric;
pub mod packed;
pub mod presence;
pub mod schema;
pub mod signing;
pub mod snapshot;
pub mod target;
pub mod topics;
pub mod topology;
