//! What may wait for all sockets together.
//!
//! Owns the sum of what waits in all outboxes and is held by their sessions, and who has to go at the bound: the one for
//! which most waits, as a whole, so that the others are told everything.
//! Never makes a writer wait: whoever passes the bound looks for the largest and gives it up, which takes a look at each.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::outbox::Outbox;

#[derive(Debug)]
pub struct OutboxBudget {
    max: AtomicUsize,
    used: AtomicUsize,
    last: AtomicU64,
    outboxes: Mutex<HashMap<u64, Weak<Outbox>>>,
}

impl Default for OutboxBudget {
    /// No bound.
    fn default() -> Self {
        let (used, last, outboxes) = Default::default();
        Self { max: AtomicUsize::new(usize::MAX), used, last, outboxes }
    }
}

/// An outbox's share of the budget.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<OutboxBudget>,
    number: u64,
    bytes: AtomicUsize,
}

impl OutboxBudget {
    pub fn set_max(&self, bytes: usize) {
        self.max.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that wait for all sockets.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    pub(super) fn share(self: &Arc<Self>, outbox: &Weak<Outbox>) -> Share {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        self.lock().insert(number, outbox.clone());
        Share { budget: self.clone(), number, bytes: AtomicUsize::new(0) }
    }

    /// Gives up the largest until the rest fits. One that has all there is stays within its own bound.
    fn relieve(&self) {
        while self.used() > self.max.load(Ordering::Relaxed) {
            let all: Vec<Arc<Outbox>> = self.lock().values().filter_map(Weak::upgrade).collect();
            let Some(largest) = all.iter().max_by_key(|outbox| outbox.share_bytes()) else { return };
            let bytes = largest.share_bytes();
            if bytes == 0 || bytes >= self.used() {
                return;
            }
            largest.give_up();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Weak<Outbox>>> {
        self.outboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What waits is so much now. Called with the outbox's lock held: so the figures do not cross.
    pub(super) fn set(&self, bytes: usize) {
        let before = self.bytes.swap(bytes, Ordering::Relaxed);
        if bytes >= before {
            self.budget.used.fetch_add(bytes - before, Ordering::Relaxed);
        } else {
            self.budget.used.fetch_sub(before - bytes, Ordering::Relaxed);
        }
    }

    /// Sees to the bound. Called without any lock.
    pub(super) fn settle(&self) {
        if self.budget.used() > self.budget.max.load(Ordering::Relaxed) {
            self.budget.relieve();
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
        self.budget.lock().remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::live::outbox::{OutboxLimits, SubscriptionKey, Taken};
    use crate::live::testing::some_event;

    const KEY: SubscriptionKey = SubscriptionKey(1);

    #[test]
    fn the_largest_goes_and_the_others_stay() {
        let budget = Arc::<OutboxBudget>::default();
        let limits = OutboxLimits { events: 1_000, bytes: 1 << 20 };
        let outboxes: Vec<_> = (0..3).map(|_| Outbox::within(limits, &budget)).collect();
        let weight = some_event(1).weight();
        budget.set_max(weight * 10);
        for at in 1..=6 {
            outboxes[1].push(KEY, &[some_event(at)]).unwrap();
        }
        outboxes[2].hold(weight * 3);
        assert_eq!(budget.used(), weight * 9);
        outboxes[0].push(KEY, &[some_event(1)]).unwrap();
        outboxes[0].push(KEY, &[some_event(2)]).unwrap();
        let taken = |outbox: &Outbox| {
            let mut into = VecDeque::new();
            (outbox.take(100, &mut into), into.len())
        };
        assert_eq!(taken(&outboxes[1]), (Taken::Overflowed, 0), "most waited for it");
        assert_eq!(budget.used(), weight * 5);
        assert_eq!(taken(&outboxes[0]), (Taken::All, 2));
        assert_eq!(budget.used(), weight * 3, "what a session holds counts");
        // What has been given up counts no more.
        outboxes[1].hold(weight * 100);
        assert_eq!(budget.used(), weight * 3);
        drop(outboxes);
        assert_eq!(budget.used(), 0);
        assert!(budget.lock().is_empty());
    }

    #[test]
    fn one_that_has_all_there_is_stays_within_its_own_bound() {
        let budget = Arc::<OutboxBudget>::default();
        let outbox = Outbox::within(OutboxLimits { events: 100, bytes: 1 << 20 }, &budget);
        budget.set_max(1);
        outbox.push(KEY, &[some_event(1)]).unwrap();
        outbox.push(KEY, &[some_event(2)]).unwrap();
        let mut into = VecDeque::new();
        assert_eq!((outbox.take(9, &mut into), into.len()), (Taken::All, 2));
    }
}
