//! Waiting for a state of the world, with the last status in the failure. Must not know what is waited for.

use std::fmt::{Debug, Display};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How long [`eventually`] waits: far longer than anything takes on a loaded machine, since only failures wait it out.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Time between two probes.
const PAUSE: Duration = Duration::from_millis(50);

/// Probes until the answer is `Ok`, for up to [`PATIENCE`], and returns what the probe gave.
///
/// `Err` of the probe means "not yet", and its text is the status. The error names `what` was waited for, for how
/// long, and the last status.
pub async fn eventually<T, S: Display>(
    what: &str,
    probe: impl AsyncFnMut() -> Result<T, S>,
) -> Result<T> {
    eventually_within(what, PATIENCE, probe).await
}

/// As [`eventually`], with a limit of the caller's. The probe itself is held to the limit too.
pub async fn eventually_within<T, S: Display>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> Result<T, S>,
) -> Result<T> {
    let began = Instant::now();
    let mut last = String::from("the first probe did not end");
    loop {
        let left = limit.saturating_sub(began.elapsed());
        match tokio::time::timeout(left, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(status)) => last = status.to_string(),
            // The probe itself hangs: what it said before is the status.
            Err(_elapsed) => {}
        }
        if began.elapsed() >= limit {
            return Err(anyhow!("waited {limit:?} for: {what}; last status: {last}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// The status of a value that should equal another: `Ok` when it does, else both.
///
/// # Errors
/// A text that shows what there is and what is wanted.
pub fn want<T: PartialEq + Debug>(got: T, wanted: T) -> Result<(), String> {
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{got:?}, wanted {wanted:?}"))
    }
}
