//! Blocks of free TCP ports on 127.0.0.1, kept for as long as somebody may want to listen on them again.
//!
//! A broker must come back on the ports it had, so a port may not be lent to anyone in between. The blocks lie below
//! the kernel's ephemeral range (no outgoing connection takes one) and each is held by a file lock, which the
//! kernel drops with the process.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};

use anyhow::{Context, Result, bail};

/// Ports in a block.
pub const BLOCK_PORTS: u16 = 8;
const FIRST: u16 = 10_240;
const BLOCKS: u16 = 2_800;
const TRIES_MAX: u16 = 500;

/// Eight neighbouring ports that are ours until this is dropped.
#[derive(Debug)]
pub struct PortBlock {
    first: u16,
    _lock: File,
}

impl PortBlock {
    /// Finds a block on which nothing listens and nobody else has a claim.
    ///
    /// # Errors
    /// When the lock directory can't be written, or none was free in 500 tries.
    pub fn reserve() -> Result<Self> {
        let locks = std::env::temp_dir().join("muster-test-ports");
        fs::create_dir_all(&locks)
            .with_context(|| format!("create the lock directory {}", locks.display()))?;
        for _ in 0..TRIES_MAX {
            let first = FIRST + BLOCK_PORTS * random_below(BLOCKS);
            let path = locks.join(first.to_string());
            let lock = File::options()
                .create(true)
                .append(true)
                .open(&path)
                .with_context(|| format!("open the lock file {}", path.display()))?;
            if lock.try_lock().is_ok() && (0..BLOCK_PORTS).all(|offset| is_free(first + offset)) {
                return Ok(Self { first, _lock: lock });
            }
        }
        bail!("found no {BLOCK_PORTS} free neighbouring ports on 127.0.0.1 in {TRIES_MAX} tries")
    }

    /// The port at `offset` (0 to 7) in the block.
    pub fn port(&self, offset: u16) -> u16 {
        self.first + offset % BLOCK_PORTS
    }
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

fn random_below(limit: u16) -> u16 {
    let bits = uuid::Uuid::now_v7().as_u128() % u128::from(limit);
    u16::try_from(bits).unwrap_or_default()
}
