//! What happens when the process must not go on: the store is poisoned, or an actor that holds order has died.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends the process, once. Cheap to clone.
#[derive(Clone)]
pub struct Fatal {
    told: Arc<AtomicBool>,
    end: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Fatal {
    /// `end` is called with the reason, at most once; it must not return to business: the composition root exits.
    pub fn new(end: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self { told: Arc::new(AtomicBool::new(false)), end: Arc::new(end) }
    }

    /// Has it been raised? Then nothing is written any more.
    pub fn is_raised(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    pub fn raise(&self, reason: &str) {
        if !self.told.swap(true, Ordering::AcqRel) {
            tracing::error!(reason, "fatal: the process stops; recovery runs at the next start");
            (self.end)(reason);
        }
    }
}

/// Raises [`Fatal`] when it is dropped by a panic: held by actors whose death nobody may survive.
pub(super) struct PanicGuard {
    pub fatal: Fatal,
    pub what: &'static str,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fatal.raise(self.what);
        }
    }
}
