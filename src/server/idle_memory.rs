//! Memory that a burst needed and nobody needs any more.
//!
//! Owns the one call into the allocator. A password hash takes 19 MiB for a few milliseconds; the allocator gives such
//! pages back only when it is called again, which in an idle server nobody does.

use std::time::Duration;

/// Long enough that a busy server keeps what it uses, short enough that an idle one is small soon.
const ROUND: Duration = Duration::from_secs(5);

/// Gives freed memory back to the system once after each burst of work, for as long as it is polled. Never while there is
/// work: it takes tens of milliseconds, and whatever allocates meanwhile waits.
pub(super) async fn give_back() {
    let mut rounds = tokio::time::interval(ROUND);
    let mut used_before = Duration::ZERO;
    let mut worked = false;
    loop {
        rounds.tick().await;
        let used = processor_time();
        if used.saturating_sub(used_before) > ROUND / 100 {
            worked = true;
        } else if std::mem::take(&mut worked) {
            collect();
        }
        used_before = processor_time();
    }
}

/// Of all threads of this process since its start.
fn processor_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

#[expect(unsafe_code, reason = "the allocator has no safe call for it")]
fn collect() {
    // SAFETY: takes no pointer and may be called on any thread at any time; without mimalloc as the program's allocator
    // there is nothing to collect.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
