//! End-to-end cases, one module per capability. `tests/run NAME` runs the module NAME alone.

mod cli;
mod harness;
