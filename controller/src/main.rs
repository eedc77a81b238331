//! The program `muster`: hands its arguments to the library and its exit code to the system.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster_controller::main(std::env::args_os())
}
