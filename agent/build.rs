//! How the agent is linked, by what the C library of this machine can do. It must not make any file.

use std::env::var;
use std::process::Command;

/// The first C library that takes packed relocations.
const PACKED_SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // The list of addresses that are put in at the start is read once, and stays in memory: 10 KiB so, instead of 350.
    if var("HOST") == var("TARGET") && libc_version().is_some_and(|it| it >= PACKED_SINCE) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of glibc; none where there is another.
fn libc_version() -> Option<(u32, u32)> {
    let asked = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let said = String::from_utf8(asked.ok()?.stdout).ok()?;
    let (major, minor) = said.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
