//! Memory that a burst needed and nobody needs any more.
//!
//! Owns the one call into the allocator. A password hash takes 19 MiB for a few milliseconds; the allocator gives such
//! pages back only when it is called again, which in an idle server nobody does.

use std::time::Duration;

/// Long enough that a busy server keeps what it uses, short enough that an idle one is small soon.
const ROUND: Duration = Duration::from_secs(5);

/// Gives freed memory back to the system, now and then, for as long as it is polled.
pub(super) async fn give_back() {
    let mut rounds = tokio::time::interval(ROUND);
    loop {
        rounds.tick().await;
        collect();
    }
}

#[expect(unsafe_code, reason = "the allocator has no safe call for it")]
fn collect() {
    // SAFETY: takes no pointer and may be called on any thread at any time; without mimalloc as the program's allocator
    // there is nothing to collect.
    unsafe { libmimalloc_sys::mi_collect(true) }
}
