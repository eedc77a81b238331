//! How many events a rule has sent of late, and how many it held back. In memory only.

/// The rate limits of one section's rules.
#[derive(Debug, Clone, Default)]
pub struct RateLimits {
    suppressed: u64,
}

impl RateLimits {
    /// Whether a summary is due some time: [`tick`](super::Matcher::tick) is then called at least once a second.
    #[must_use]
    pub fn pending(&self) -> bool {
        self.suppressed > 0
    }
}
