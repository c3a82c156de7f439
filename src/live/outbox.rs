//! What waits for one session: events and endings, from writers on any thread to the session's actor.
//!
//! Owns the bound on what may wait (LQ-5) and the one wake-up that any number of pushes make.
//! Never blocks a writer beyond a short lock, never drops an event from the middle: at the bound everything that waits is
//! given up at once, and the session is told to close with SLOW_CONSUMER.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use super::LiveEvent;
use super::budget::{OutboxBudget, Share};
use crate::error::Error;
use crate::model::{TableId, TableName};

/// A subscription's number: never given twice by one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubscriptionKey(pub u64);

/// Something for the session's actor, in the order it happened.
#[derive(Debug, Clone)]
pub enum Delivery {
    Event(SubscriptionKey, Arc<LiveEvent>),
    /// The subscription is over.
    Ended(SubscriptionKey, Error),
    /// One of several tables of the subscription is gone, or another.
    TableEnded(SubscriptionKey, TableId, Error),
    /// There is a new table in the subscription's namespace.
    TableMade(SubscriptionKey, TableName),
    /// The whole session is over.
    Closed(Error),
}

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    pub events: usize,
    pub bytes: usize,
}

/// What waits for a session, and how much may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    pub events: usize,
    pub bytes: usize,
    pub max_bytes: usize,
}

/// The session can not keep up, or is gone: the subscriber must be detached and hears no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overflow;

/// One session's bounded queue. Many writers, one reader.
#[derive(Debug)]
pub struct Outbox {
    queue: Mutex<Queue>,
    reader: AtomicWaker,
    share: Share,
}

#[derive(Debug)]
struct Queue {
    limits: OutboxLimits,
    waiting: VecDeque<Delivery>,
    bytes: usize,
    /// What the session itself keeps: taken, and not gone out.
    held: usize,
    state: State,
    /// Why the session is to be closed, where that was told.
    closed: Option<Error>,
}

/// What ends a session, however much waits for it.
#[derive(Debug, Clone)]
pub enum Ending {
    Overflow,
    Closed(Error),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    /// At the bound once: takes no more events, and the reader has to hear of it.
    Overflowed,
    /// The session is gone.
    Closed,
}

/// What a [`Outbox::take`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// Nothing is left waiting.
    All,
    /// There is more.
    Some,
    /// Events were given up: nothing may be delivered any more.
    Overflowed,
}

/// A queue that once grew beyond this gives its memory back when it is empty.
const KEEP_CAPACITY: usize = 64;

impl Outbox {
    /// One with a bound of its own only.
    pub fn new(limits: OutboxLimits) -> Arc<Self> {
        Self::within(limits, &Arc::default())
    }

    /// One that shares a bound with others.
    pub fn within(limits: OutboxLimits, budget: &Arc<OutboxBudget>) -> Arc<Self> {
        let queue = Queue { limits, waiting: VecDeque::new(), bytes: 0, held: 0, state: State::Open, closed: None };
        Arc::new_cyclic(|outbox| Self {
            queue: Mutex::new(queue),
            reader: AtomicWaker::new(),
            share: budget.share(outbox),
        })
    }

    /// The session keeps so many bytes beside what waits here.
    pub fn hold(&self, bytes: usize) {
        let mut queue = self.lock();
        if queue.state != State::Open || queue.held == bytes {
            return;
        }
        queue.held = bytes;
        self.share.set(queue.bytes + queue.held);
        drop(queue);
        self.share.settle();
    }

    /// Everything that waits is given up: the session is told to close with SLOW_CONSUMER.
    pub(super) fn give_up(&self) {
        let mut queue = self.lock();
        if queue.state != State::Open {
            return;
        }
        queue.state = State::Overflowed;
        queue.clear();
        self.share.set(0);
        drop(queue);
        self.reader.wake();
    }

    pub(super) fn share_bytes(&self) -> usize {
        self.share.bytes()
    }

    /// Puts all of `events` behind what waits, or none of them.
    ///
    /// # Errors
    /// [`Overflow`] where they do not fit, now or earlier, or the session is gone.
    pub fn push(&self, key: SubscriptionKey, events: &[Arc<LiveEvent>]) -> Result<(), Overflow> {
        let mut queue = self.lock();
        if queue.state != State::Open {
            return Err(Overflow);
        }
        let bytes = queue.bytes + events.iter().map(|event| event.weight()).sum::<usize>();
        let count = queue.waiting.len() + events.len();
        // A single commit larger than the bound passes while nothing waits: else it could never be told.
        let fits = count <= queue.limits.events && bytes <= queue.limits.bytes;
        let was_empty = queue.waiting.is_empty();
        if !fits && !was_empty {
            drop(queue);
            self.give_up();
            return Err(Overflow);
        }
        queue.bytes = bytes;
        queue.waiting.extend(events.iter().map(|event| Delivery::Event(key, event.clone())));
        self.share.set(queue.bytes + queue.held);
        drop(queue);
        self.share.settle();
        // Whoever finds the queue empty wakes the reader; it reads until it finds the queue empty itself.
        if was_empty && !events.is_empty() {
            self.reader.wake();
        }
        Ok(())
    }

    /// Tells that a subscription or the session is over. Has no bound: there is at most one per subscription.
    pub fn tell(&self, delivery: Delivery) {
        let mut queue = self.lock();
        if queue.state == State::Closed {
            return;
        }
        if let Delivery::Closed(error) = &delivery {
            queue.closed.get_or_insert_with(|| error.clone());
        }
        queue.waiting.push_back(delivery);
        drop(queue);
        self.reader.wake();
    }

    /// Ready when there is something to [`Outbox::take`]; else the task of `cx` is woken once there is.
    pub fn poll_waiting(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_waiting() {
            return Poll::Ready(());
        }
        self.reader.register(cx.waker());
        // Again: a writer may have come between the look and the registration.
        if self.has_waiting() { Poll::Ready(()) } else { Poll::Pending }
    }

    /// What waits for the session now.
    pub fn waiting(&self) -> Waiting {
        let queue = self.lock();
        let bytes = queue.bytes + queue.held;
        Waiting { events: queue.waiting.len(), bytes, max_bytes: queue.limits.bytes }
    }

    /// For a reader that can not take anything now: ready when the session is over all the same.
    pub fn poll_ending(&self, cx: &mut Context<'_>) -> Poll<Ending> {
        self.reader.register(cx.waker());
        let queue = self.lock();
        match (&queue.closed, queue.state) {
            (Some(error), _) => Poll::Ready(Ending::Closed(error.clone())),
            (None, State::Overflowed) => Poll::Ready(Ending::Overflow),
            (None, State::Open | State::Closed) => Poll::Pending,
        }
    }

    /// Moves up to `max` deliveries behind `into`.
    pub fn take(&self, max: usize, into: &mut VecDeque<Delivery>) -> Taken {
        let mut queue = self.lock();
        if queue.state == State::Overflowed {
            return Taken::Overflowed;
        }
        let count = max.min(queue.waiting.len());
        let mut bytes = 0;
        for delivery in queue.waiting.drain(..count) {
            if let Delivery::Event(_, event) = &delivery {
                bytes += event.weight();
            }
            into.push_back(delivery);
        }
        queue.bytes -= bytes;
        self.share.set(queue.bytes + queue.held);
        if !queue.waiting.is_empty() {
            return Taken::Some;
        }
        if queue.waiting.capacity() > KEEP_CAPACITY {
            queue.waiting = VecDeque::new();
        }
        Taken::All
    }

    /// The session is gone: what waits goes, and writers are turned away.
    pub fn close(&self) {
        let mut queue = self.lock();
        queue.state = State::Closed;
        queue.clear();
        self.share.set(0);
    }

    fn has_waiting(&self) -> bool {
        let queue = self.lock();
        !queue.waiting.is_empty() || queue.state == State::Overflowed
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // A panic elsewhere can not leave the queue half changed: no step of a push or take panics in between.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn clear(&mut self) {
        self.waiting = VecDeque::new();
        self.bytes = 0;
        self.held = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use super::*;
    use crate::live::testing::some_event;

    const KEY: SubscriptionKey = SubscriptionKey(1);

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn outbox(events: usize, bytes: usize) -> Arc<Outbox> {
        Outbox::new(OutboxLimits { events, bytes })
    }

    fn seqs(taken: &VecDeque<Delivery>) -> Vec<i64> {
        taken
            .iter()
            .map(|delivery| if let Delivery::Event(_, event) = delivery { event.seq.get() } else { 0 })
            .collect()
    }

    fn take(outbox: &Outbox, max: usize) -> (Vec<i64>, Taken) {
        let mut into = VecDeque::new();
        let taken = outbox.take(max, &mut into);
        (seqs(&into), taken)
    }

    #[test]
    fn gives_what_was_put_in_order() {
        let outbox = outbox(10, 100_000);
        outbox.push(KEY, &[some_event(1), some_event(2)]).unwrap();
        outbox.push(KEY, &[some_event(3)]).unwrap();
        assert_eq!(take(&outbox, 2), (vec![1, 2], Taken::Some));
        assert_eq!(take(&outbox, 2), (vec![3], Taken::All));
        assert_eq!(take(&outbox, 2), (vec![], Taken::All));
    }

    #[test]
    fn many_pushes_make_one_wake_up() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        let outbox = outbox(100, 1_000_000);
        assert!(outbox.poll_waiting(&mut cx).is_pending());
        for seq in 1..=20 {
            outbox.push(KEY, &[some_event(seq)]).unwrap();
        }
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert!(outbox.poll_waiting(&mut cx).is_ready());
        take(&outbox, 5);
        outbox.push(KEY, &[some_event(21)]).unwrap();
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1, "the reader still has to read");
        take(&outbox, 100);
        assert!(outbox.poll_waiting(&mut cx).is_pending());
        outbox.tell(Delivery::Closed(Error::ShuttingDown));
        assert_eq!(wakes.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn at_the_bound_everything_is_given_up_at_once() {
        let weight = some_event(1).weight();
        let cases: &[(usize, usize)] = &[(2, 1_000_000), (100, 2 * weight)];
        for (events, bytes) in cases {
            let outbox = outbox(*events, *bytes);
            outbox.push(KEY, &[some_event(1)]).unwrap();
            outbox.push(KEY, &[some_event(2)]).unwrap();
            assert_eq!(outbox.push(KEY, &[some_event(3)]), Err(Overflow));
            assert_eq!(outbox.push(KEY, &[some_event(4)]), Err(Overflow), "and stays so");
            assert_eq!(take(&outbox, 10), (vec![], Taken::Overflowed));
        }
    }

    #[test]
    fn a_reader_that_is_stuck_hears_of_the_end() {
        let wakes = Arc::new(Wakes::default());
        let waker = Waker::from(wakes.clone());
        let mut cx = Context::from_waker(&waker);
        let outbox = outbox(2, 1_000_000);
        outbox.push(KEY, &[some_event(1)]).unwrap();
        assert!(outbox.poll_ending(&mut cx).is_pending(), "that something waits is no end");
        outbox.push(KEY, &[some_event(2), some_event(3)]).unwrap_err();
        assert_eq!(wakes.0.load(Ordering::SeqCst), 1);
        assert!(matches!(outbox.poll_ending(&mut cx), Poll::Ready(Ending::Overflow)));
        outbox.tell(Delivery::Closed(Error::ShuttingDown));
        assert!(matches!(outbox.poll_ending(&mut cx), Poll::Ready(Ending::Closed(Error::ShuttingDown))));
    }

    #[test]
    fn room_comes_back_with_taking() {
        let weight = some_event(1).weight();
        let outbox = outbox(100, 2 * weight);
        for seq in 1..=50 {
            outbox.push(KEY, &[some_event(seq)]).unwrap();
            assert_eq!(take(&outbox, 1), (vec![seq], Taken::All));
        }
    }

    #[test]
    fn one_commit_larger_than_the_bound_passes_an_empty_outbox() {
        let outbox = outbox(2, 1_000_000);
        let events: Vec<_> = (1..=5).map(some_event).collect();
        outbox.push(KEY, &events).unwrap();
        assert_eq!(outbox.push(KEY, &events), Err(Overflow));
    }

    #[test]
    fn a_closed_outbox_turns_writers_away() {
        let outbox = outbox(10, 1_000);
        outbox.close();
        assert_eq!(outbox.push(KEY, &[some_event(1)]), Err(Overflow));
        outbox.tell(Delivery::Closed(Error::ShuttingDown));
        assert_eq!(take(&outbox, 10), (vec![], Taken::All));
    }
}
