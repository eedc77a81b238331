//! End-to-end cases, one module per capability. `tests/run NAME` runs the module NAME alone.

mod architecture;
mod cli;
mod harness;
mod link;
