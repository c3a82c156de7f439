//! The clock: the one place that reads it, so that everything else can be told what time it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Tells the wall-clock time. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Clock(Option<Arc<AtomicI64>>);

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(None)
    }

    /// A clock that stands at `now_us` until [`Clock::set_us`] moves it: for tests and the simulator.
    pub fn manual(now_us: i64) -> Self {
        Self(Some(Arc::new(AtomicI64::new(now_us))))
    }

    /// Microseconds since the Unix epoch.
    pub fn now_us(&self) -> i64 {
        match &self.0 {
            Some(manual) => manual.load(Ordering::SeqCst),
            None => {
                #[expect(clippy::disallowed_methods, reason = "this is its one home")]
                let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                i64::try_from(elapsed.as_micros()).unwrap_or(i64::MAX)
            }
        }
    }

    /// Milliseconds since the Unix epoch.
    pub fn now_ms(&self) -> i64 {
        self.now_us() / 1_000
    }

    /// Moves a manual clock; the system's clock stays as it is.
    pub fn set_us(&self, now_us: i64) {
        if let Some(manual) = &self.0 {
            manual.store(now_us, Ordering::SeqCst);
        }
    }
}
