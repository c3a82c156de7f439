//! Where the values of SNOWFLAKE_ID(), UUID_V7() and ULID() come from.
//!
//! Owns their order: each kind strictly increases within the process, whatever the clock does.
//! Never reads a clock: time comes in.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use uuid::{ContextV7, Timestamp, Uuid};

use crate::model::{Seq, SeqGenerator};

/// Shared by all statements of the server.
pub struct IdSource {
    snowflakes: Mutex<SeqGenerator>,
    uuids: Mutex<ContextV7>,
    ulids: Mutex<ulid::Generator>,
}

impl IdSource {
    /// `last`: an id below which none is given out again, or [`Seq::ZERO`].
    pub fn new(node: u16, last: Seq) -> Self {
        Self {
            snowflakes: Mutex::new(SeqGenerator::new(node, last)),
            uuids: Mutex::new(ContextV7::new()),
            ulids: Mutex::new(ulid::Generator::new()),
        }
    }

    pub fn snowflake(&self, now_us: i64) -> i64 {
        lock(&self.snowflakes).next(now_us.div_euclid(1_000)).get()
    }

    pub fn uuid_v7(&self, now_us: i64) -> Uuid {
        let since_epoch = since_epoch(now_us);
        let context = lock(&self.uuids);
        Uuid::new_v7(Timestamp::from_unix(&*context, since_epoch.as_secs(), since_epoch.subsec_nanos()))
    }

    pub fn ulid(&self, now_us: i64) -> String {
        let now = SystemTime::UNIX_EPOCH + since_epoch(now_us);
        let mut generator = lock(&self.ulids);
        // 2^80 ids in one millisecond do not happen by counting, but a random start may lie just below the end.
        generator.generate_from_datetime(now).unwrap_or_else(|full| full.commit_overflow_increment()).to_string()
    }
}

fn since_epoch(now_us: i64) -> Duration {
    Duration::from_micros(u64::try_from(now_us).unwrap_or(0))
}

/// A generator stays good when another thread panicked beside it: each call leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_increase_when_the_clock_stands_still_or_steps_back() {
        let ids = IdSource::new(1, Seq::ZERO);
        let now = 1_750_000_000_000_000;
        let mut uuids = Vec::new();
        let mut ulids = Vec::new();
        let mut snowflakes = Vec::new();
        for i in 0..2_000 {
            let now = now - i % 3 * 5_000;
            uuids.push(ids.uuid_v7(now));
            ulids.push(ids.ulid(now));
            snowflakes.push(ids.snowflake(now));
        }
        assert!(uuids.is_sorted() && ulids.is_sorted() && snowflakes.is_sorted());
        assert_eq!(uuids.iter().collect::<BTreeSet<_>>().len(), 2_000);
        assert_eq!(ulids.iter().collect::<BTreeSet<_>>().len(), 2_000);
        assert_eq!(snowflakes.iter().collect::<BTreeSet<_>>().len(), 2_000);
    }
}
