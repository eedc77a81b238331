//! Takes the Rust program out of `deploy/subscribe.md`, so that what is compiled and tested is what is printed there.

use std::error::Error;
use std::path::Path;

const DOCUMENT: &str = "../deploy/subscribe.md";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={DOCUMENT}");
    let text = std::fs::read_to_string(DOCUMENT)?;
    let (_, rest) = text
        .split_once("\n```rust\n")
        .ok_or("no Rust program in the document")?;
    let (program, _) = rest.split_once("\n```\n").ok_or("it has no end")?;
    let folder = std::env::var("OUT_DIR")?;
    std::fs::write(Path::new(&folder).join("subscribe.rs"), program)?;
    Ok(())
}
