//! The Rust program of `deploy/subscribe.md`, as it is printed there; see `build.rs`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it is there to print"
)]

include!(concat!(env!("OUT_DIR"), "/subscribe.rs"));
