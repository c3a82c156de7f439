//! Points at which a test has the process die, as kill -9 would have it: between two steps of a job or a change.
//!
//! `FAILPOINT=name:2` in the environment dies at the second pass of a point. Only debug builds read it; in others a point does
//! nothing.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Signal, getpid, kill_process};

struct Armed {
    point: String,
    /// Passes that are survived.
    left: AtomicU32,
}

static ARMED: OnceLock<Armed> = OnceLock::new();

/// `words`: what the environment says of it.
pub fn arm(words: &str) {
    let (point, nth) = words.split_once(':').unwrap_or((words, "1"));
    let left = AtomicU32::new(nth.parse::<u32>().unwrap_or(1).saturating_sub(1));
    if cfg!(debug_assertions) {
        ARMED.get_or_init(|| Armed { point: point.to_owned(), left });
    }
}

/// The process dies here, if the point is armed.
pub(crate) fn pass(point: &str) {
    let Some(armed) = ARMED.get().filter(|armed| armed.point == point) else { return };
    if armed.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_err() {
        // No destructor, no flush of a buffer: what is not with the system by now is lost.
        let _ = kill_process(getpid(), Signal::KILL);
    }
}
