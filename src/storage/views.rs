//! Which views are open: a file that no manifest names any more may still be read by an older one.
//!
//! Owns moments: each view belongs to the one in which it was opened, and a moment has ended when its views are gone.

use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

/// Held by the views that were opened in it.
#[derive(Debug)]
pub(super) struct Moment;

#[derive(Debug)]
pub(super) struct Views {
    current: RwLock<Arc<Moment>>,
    /// Ended for new views, numbered, the oldest first.
    past: Mutex<Past>,
}

#[derive(Debug, Default)]
struct Past {
    next: u64,
    moments: Vec<(u64, Weak<Moment>)>,
}

/// Views up to some moment.
#[derive(Debug, Clone, Copy)]
pub struct OlderViews(u64);

impl Default for Views {
    fn default() -> Self {
        Self { current: RwLock::new(Arc::new(Moment)), past: Mutex::default() }
    }
}

impl Views {
    /// The moment for a view that is opened behind this call.
    pub(super) fn enter(&self) -> Arc<Moment> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// All views there are, and none that is opened later.
    pub(super) fn until_now(&self) -> OlderViews {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        let number = past.next;
        past.next += 1;
        past.moments.push((number, Arc::downgrade(&current)));
        *current = Arc::new(Moment);
        OlderViews(number)
    }

    /// Are they all closed?
    pub(super) fn are_closed(&self, older: OlderViews) -> bool {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.moments.retain(|(_, moment)| moment.strong_count() > 0);
        past.moments.first().is_none_or(|(number, _)| *number > older.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn older_views_are_closed_when_the_last_of_them_is() {
        let views = Views::default();
        let first = views.enter();
        let one = views.until_now();
        let (second, again) = (views.enter(), first.clone());
        let two = views.until_now();
        let third = views.enter();
        drop(first);
        assert_eq!([one, two].map(|older| views.are_closed(older)), [false, false]);
        drop(again);
        assert_eq!([one, two].map(|older| views.are_closed(older)), [true, false]);
        drop(second);
        assert_eq!([one, two].map(|older| views.are_closed(older)), [true, true], "later ones do not count");
        drop(third);
    }
}
