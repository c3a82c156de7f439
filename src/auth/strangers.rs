//! Names that nobody has, guessed at: they count and lock like those that somebody has, so that neither the text nor the
//! number of an answer says who exists.
//!
//! Owns how often each was tried, in memory. Bounded: at [`NAMES_MAX`] the least tried one is forgotten.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;

use super::users::{AuthType, Lockout, UserRecord};
use crate::error::Result;
use crate::model::{Role, UserId};

/// About 3 MB.
const NAMES_MAX: u64 = 10_000;
/// How long a name that is not tried any more is remembered: longer than a lock.
const IDLE_LOCKS: u32 = 4;

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Strangers {
    tried: Cache<UserId, Arc<UserRecord>>,
}

impl Strangers {
    pub(crate) fn new(lock: Duration) -> Self {
        Self { tried: Cache::builder().max_capacity(NAMES_MAX).time_to_idle(lock.saturating_mul(IDLE_LOCKS)).build() }
    }

    /// # Errors
    /// `ACCOUNT_LOCKED`, as of a user who exists.
    pub(crate) fn check_open(&self, name: &str, now_us: i64) -> Result<()> {
        let tried = UserId::parse(name).ok().and_then(|name| self.tried.get(&name));
        tried.map_or(Ok(()), |record| record.check_open(now_us))
    }

    /// A password was tried, which was wrong. A name that no user can have is not worth remembering. Is the name locked now?
    pub(crate) fn note_failed_login(&self, name: &str, lockout: Lockout, now_us: i64) -> bool {
        let Ok(name) = UserId::parse(name) else { return false };
        let tried = self.tried.get(&name);
        let record = tried
            .unwrap_or_else(|| Arc::new(UserRecord::new(name.clone(), Role::Anonymous, AuthType::Internal, now_us)));
        if record.check_open(now_us).is_err() {
            return false;
        }
        let record = record.after_failed_login(lockout, now_us);
        let locked = record.locked_until.is_some();
        self.tried.insert(name, Arc::new(record));
        locked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_name_that_nobody_has_locks_like_any_other() {
        let lockout = Lockout { attempts: 3, duration: Duration::from_secs(60) };
        let strangers = Strangers::new(lockout.duration);
        for attempt in 1..=3 {
            strangers.check_open("nobody", 0).unwrap();
            assert_eq!(strangers.note_failed_login("nobody", lockout, 0), attempt == 3);
        }
        assert!(!strangers.note_failed_login("nobody", lockout, 1));
        assert!(matches!(strangers.check_open("nobody", 1), Err(Error::AccountLocked { .. })));
        strangers.check_open("nobody", 60_000_000).unwrap();
        strangers.check_open("someone", 0).unwrap();
        assert!(!strangers.note_failed_login("../x", lockout, 0));
        strangers.check_open("../x", 0).unwrap();
    }
}
