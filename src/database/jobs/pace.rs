//! Leaves writers and readers their turn while a job works through many rows.
//!
//! A scheduler gives a busy thread whole milliseconds before it lets another one in. So a job that is at work for hours has all
//! requests wait for these, now and then; one that stops by itself after a millisecond does not. It takes twice as long by it, of
//! which nobody notices anything.

use std::time::{Duration, Instant};

/// Work between two pauses, at least.
const WORK: Duration = Duration::from_millis(1);
/// How many rows are written between two looks at the clock.
const ROWS: usize = 32;

/// For threads that may block.
pub(super) struct Pace {
    began: Instant,
    rows: usize,
}

impl Pace {
    pub(super) fn begin() -> Self {
        Self { began: Instant::now(), rows: 0 }
    }

    /// Behind each row.
    pub(super) fn row(&mut self) {
        self.rows += 1;
        if self.rows.is_multiple_of(ROWS) {
            self.pause();
        }
    }

    fn pause(&mut self) {
        let worked = self.began.elapsed();
        if worked >= WORK {
            #[expect(clippy::disallowed_methods, reason = "it waits for nothing: it rests")]
            std::thread::sleep(worked);
            self.began = Instant::now();
        }
    }
}
