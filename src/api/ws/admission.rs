//! How many subscriptions are opened at a time: ten thousand clients that come back at once are served in their order,
//! and none of them costs the others more than its turn.
//!
//! Owns the turns, how many may wait for one, and the word when to come back that the next are told.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result, SubscriptionFault};
use crate::live::limits::SessionLimits;
use crate::time::Clock;

/// Nobody is asked to come back sooner, or later.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// One opening's share of the mean, as a power of two.
const MEAN_SHIFT: u32 = 4;

pub struct Admission {
    turns: Arc<Semaphore>,
    at_a_time: usize,
    waiting: AtomicUsize,
    max_waiting: usize,
    /// How long an opening takes, in microseconds.
    mean_us: AtomicU64,
    clock: Clock,
}

/// One opening's turn: the next one's begins when it is dropped.
pub struct Turn<'a> {
    admission: &'a Admission,
    began_us: i64,
    _permit: OwnedSemaphorePermit,
}

/// Counted as long as it waits, also where the socket goes meanwhile.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    pub fn new(limits: &SessionLimits, clock: Clock) -> Self {
        Self {
            turns: Arc::new(Semaphore::new(limits.max_concurrent_opens)),
            at_a_time: limits.max_concurrent_opens,
            waiting: AtomicUsize::new(0),
            max_waiting: limits.max_waiting_opens,
            mean_us: AtomicU64::new(1_000),
            clock,
        }
    }

    /// Waits for a turn, in the order of asking.
    ///
    /// # Errors
    /// `SUBSCRIBE_BUSY` where too many wait already.
    pub async fn turn(&self) -> Result<Turn<'_>> {
        let permit = match self.turns.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => {
                let before = self.waiting.fetch_add(1, Ordering::Relaxed);
                let _counted = Waiting(&self.waiting);
                if before >= self.max_waiting {
                    return Err(SubscriptionFault::TooManyOpening { retry_after: self.retry_after(before) }.into());
                }
                // Never closed.
                self.turns.clone().acquire_owned().await.map_err(|_| Error::ShuttingDown)?
            }
        };
        Ok(Turn { admission: self, began_us: self.clock.now_us(), _permit: permit })
    }

    /// When those who wait will have had their turns.
    fn retry_after(&self, waiting: usize) -> Duration {
        let each = self.mean_us.load(Ordering::Relaxed) / self.at_a_time.max(1) as u64;
        Duration::from_micros(each.saturating_mul(waiting as u64)).clamp(RETRY_MIN, RETRY_MAX)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let took = u64::try_from(self.admission.clock.now_us() - self.began_us).unwrap_or(0);
        let mean = self.admission.mean_us.load(Ordering::Relaxed);
        // Two that end at once may lose one of the two: it is a mean.
        let next = mean - (mean >> MEAN_SHIFT) + (took >> MEAN_SHIFT);
        self.admission.mean_us.store(next, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn who_comes_first_is_first_and_the_last_are_told_when_to_come_back() {
        let limits = SessionLimits { max_concurrent_opens: 1, max_waiting_opens: 2, ..SessionLimits::default() };
        let admission = Admission::new(&limits, Clock::system());
        let first = admission.turn().now_or_never().unwrap().unwrap();
        let mut second = Box::pin(admission.turn());
        let mut third = Box::pin(admission.turn());
        assert!((&mut second).now_or_never().is_none() && (&mut third).now_or_never().is_none());
        let refused = admission.turn().now_or_never().unwrap().err().unwrap();
        let Error::Subscription(SubscriptionFault::TooManyOpening { retry_after }) = refused else { panic!() };
        assert!((RETRY_MIN..=RETRY_MAX).contains(&retry_after));
        // One who goes makes room for another.
        drop(third);
        let mut fourth = Box::pin(admission.turn());
        assert!((&mut fourth).now_or_never().is_none());
        drop(first);
        assert!((&mut fourth).now_or_never().is_none(), "the second is first");
        let second = (&mut second).now_or_never().unwrap().unwrap();
        drop(second);
        assert!(fourth.now_or_never().is_some());
    }
}
