//! End-to-end cases, one module per capability. `tests/run NAME` runs the module NAME alone.

#![expect(
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::print_stdout,
    reason = "a case that panics has failed and says where; tables of cases are long"
)]

mod agent;
mod architecture;
mod bridges;
mod chaos;
mod cli;
mod harness;
mod jobs;
mod keepalived;
mod link;
mod lvs;
mod node_api;
mod outage;
mod reactions;
mod serve;
mod services;
mod subscribers;
mod tail;
