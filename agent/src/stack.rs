//! Work that is done once and takes much of the stack. It must not know what work.

use std::panic::resume_unwind;
use std::thread;

use tokio::runtime::Handle;

/// Does `work` on a thread of its own, whose stack goes back to the system: the main thread would hold for ever what it
/// has taken once.
pub(crate) fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let runtime = Handle::try_current().ok();
    let done = thread::scope(|scope| {
        let there = scope.spawn(|| {
            let _entered = runtime.as_ref().map(Handle::enter);
            work()
        });
        there.join()
    });
    done.unwrap_or_else(|panic| resume_unwind(panic))
}
