//! Linux Virtual Server on a real kernel: what the agent says of it, what it notices, and what it does to it.

mod actions;
mod drain;
mod equal;
mod events;
mod ipvsadm;
pub(crate) mod site;
mod snapshot;
