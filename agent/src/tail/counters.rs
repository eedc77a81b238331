//! What is counted of each section, for `/metrics`.

use std::sync::atomic::AtomicU64;

/// The counts of one section.
#[derive(Debug, Default)]
pub struct SectionCounters {
    /// The section.
    pub name: String,
    /// Bytes read.
    pub bytes: AtomicU64,
    /// Lines in them.
    pub lines: AtomicU64,
    /// Lines that were looked at more closely.
    pub hits: AtomicU64,
    /// Events that came of them.
    pub events: AtomicU64,
    /// Lines that were longer than may be.
    pub truncated: AtomicU64,
    /// Bytes known to be lost: gone before they were read.
    pub lost_bytes: AtomicU64,
    /// Bytes that are there and not read; a gauge.
    pub lag_bytes: AtomicU64,
    /// Files followed; a gauge.
    pub files: AtomicU64,
}
