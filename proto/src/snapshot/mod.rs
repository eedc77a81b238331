//! Typed snapshots: what one run of a collector saw.
//!
//! These types are the contract with every reader of `muster.metrics`, of the local HTTP interface and of
//! `muster stats`. They know nothing of where the figures come from at run time: no files, no clock.
//!
//! Three rules hold for all of them. Units stand last in the field names. A field that is not there reads as its
//! default, and a field that is not known is ignored, so that old and new versions understand each other. `None`
//! says "this host does not tell", which is not the same as zero.

pub mod fields;
pub mod host;
pub mod keepalived;
pub mod lvs;
pub mod processes;
pub mod services;
