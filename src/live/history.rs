//! Subscriptions that are over, and why: the last [`KEPT`] of them, for EXPLAIN LIVE.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;
use crate::model::UserId;

/// The oldest is forgotten when there is one more.
pub const KEPT: usize = 1_000;

/// One that is over.
#[derive(Debug, Clone)]
pub struct ClosedSubscription {
    pub live_id: String,
    pub subscription_id: String,
    pub user: UserId,
    pub query: String,
    pub changes: u64,
    /// Microseconds since the Unix epoch.
    pub created_at: i64,
    pub closed_at: i64,
    pub end: End,
}

/// Why: an error's code on the socket, or a word of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    pub code: &'static str,
    pub message: String,
}

impl End {
    pub fn of(error: &Error) -> Self {
        Self { code: error.code().live_wire(), message: error.to_string() }
    }

    pub fn unsubscribed() -> Self {
        Self { code: "UNSUBSCRIBED", message: "the client unsubscribed".into() }
    }

    pub fn closed_by_peer() -> Self {
        Self { code: "CLOSED", message: "the client closed the connection".into() }
    }

    pub fn lost() -> Self {
        Self { code: "CONNECTION_LOST", message: "the connection ended without a word".into() }
    }
}

#[derive(Debug, Default)]
pub struct History {
    closed: Mutex<VecDeque<Arc<ClosedSubscription>>>,
}

impl History {
    pub(crate) fn push(&self, closed: ClosedSubscription) {
        let mut all = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() == KEPT {
            all.pop_front();
        }
        all.push_back(Arc::new(closed));
    }

    /// The last one that `which` chooses.
    pub fn last(&self, which: impl Fn(&ClosedSubscription) -> bool) -> Option<Arc<ClosedSubscription>> {
        let all = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().rev().find(|closed| which(closed)).cloned()
    }
}

/// The most there were at one time, since the start.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct LivePeaks {
    pub connections: usize,
    pub subscriptions: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_is_forgotten_and_the_last_found() {
        let history = History::default();
        for at in 0..KEPT + 2 {
            history.push(ClosedSubscription {
                live_id: format!("c1-{at}"),
                subscription_id: "s".into(),
                user: UserId::root(),
                query: "SELECT".into(),
                changes: 0,
                created_at: 0,
                closed_at: 1,
                end: End::lost(),
            });
        }
        assert!(history.last(|closed| closed.live_id == "c1-1").is_none());
        assert!(history.last(|closed| closed.live_id == "c1-2").is_some());
        let last = history.last(|closed| closed.subscription_id == "s").unwrap();
        assert_eq!(last.live_id, format!("c1-{}", KEPT + 1));
    }
}
