//! Leaves writers and readers their turn while a job works through many rows.
//!
//! A scheduler gives a busy thread whole milliseconds before it lets another one in. So a job that is at work for hours has all
//! requests wait for these, now and then; one that stops by itself after a millisecond does not. It takes twice as long by it, of
//! which nobody notices anything.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Work between two pauses, at least.
const WORK: Duration = Duration::from_millis(1);
/// How many rows are written between two looks at the clock.
const ROWS: usize = 32;

/// For threads that may block.
pub(super) struct Pace {
    /// What the thread had worked when it last rested.
    began: Duration,
    rows: usize,
}

impl Pace {
    pub(super) fn begin() -> Self {
        Self { began: worked_so_far(), rows: 0 }
    }

    /// Behind each row.
    pub(super) fn row(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS) {
            self.pause();
        }
    }

    fn pause(&mut self) {
        let worked = worked_so_far().saturating_sub(self.began);
        if worked >= WORK {
            #[expect(clippy::disallowed_methods, reason = "it waits for nothing: it rests")]
            std::thread::sleep(worked);
            self.began += worked;
        }
    }
}

/// The processor's time of this thread: on a busy machine most of the other time is spent waiting, after which nobody needs a rest.
fn worked_so_far() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
