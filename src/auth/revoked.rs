//! Sessions that were logged out: their tokens are refused until they would have expired anyway.
//!
//! Owns which they are, in memory. Never stores them itself: see [`Accounts`](super::accounts::Accounts).

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use super::token::SessionId;

/// Expired entries that one logout takes along: the list shrinks faster than it grows, and a logout stays short.
const FORGOTTEN_AT_ONCE: usize = 100;

#[derive(Debug, Default)]
pub(crate) struct RevokedSessions(RwLock<HashMap<SessionId, i64>>);

impl RevokedSessions {
    pub(crate) fn contains(&self, sid: SessionId) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(&sid)
    }

    pub(crate) fn revoke(&self, sid: SessionId, expires_s: i64) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(sid, expires_s);
    }

    pub(crate) fn forget(&self, sid: SessionId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&sid);
    }

    /// Some of those whose tokens have all expired.
    pub(crate) fn expired(&self, now_s: i64) -> Vec<SessionId> {
        let sessions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let expired = sessions.iter().filter(|(_, expires_s)| **expires_s < now_s).map(|(sid, _)| *sid);
        expired.take(FORGOTTEN_AT_ONCE).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_refused_until_its_tokens_are_worthless() {
        let revoked = RevokedSessions::default();
        let (old, new) = (SessionId::random(), SessionId::random());
        revoked.revoke(old, 100);
        revoked.revoke(new, 200);
        assert!(revoked.contains(old) && revoked.contains(new));
        assert_eq!(revoked.expired(100), vec![]);
        assert_eq!(revoked.expired(101), vec![old]);
        revoked.forget(old);
        assert!(!revoked.contains(old) && revoked.contains(new));
    }
}
