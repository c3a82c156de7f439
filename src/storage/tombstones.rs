//! Finds hot tombstones that have expired, a bounded number at a time.
//!
//! Owns which they are. Never removes one: the partition's actor has it done, with the position that tells who missed
//! them ([`ColdCommit`](super::ColdCommit)).

use super::read_view::ReadView;
use super::row_scan::Order;
use crate::error::Result;
use crate::model::{PartitionKey, Seq};

/// Some hot tombstones of a partition that are to go, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExpiredTombstones {
    pub seqs: Vec<Seq>,
    /// Of their rows.
    pub bytes: u64,
    /// The first hot tombstone that stays; [`Seq::ZERO`]: none does.
    pub next: Seq,
}

impl ReadView {
    /// The oldest of a partition's hot tombstones that `has_expired` says have: at most `limit`.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn expired_tombstones(
        &self,
        key: &PartitionKey,
        limit: usize,
        has_expired: impl Fn(Seq) -> bool,
    ) -> Result<ExpiredTombstones> {
        let mut found = ExpiredTombstones::default();
        let flushed = self.flushed_up_to(key)?;
        for row in self.hot_scan(key, flushed, flushed.after()..=Seq::MAX, Order::Ascending) {
            let row = row?;
            if !row.deleted {
                continue;
            }
            if found.seqs.len() == limit || !has_expired(row.seq) {
                found.next = row.seq;
                break;
            }
            found.seqs.push(row.seq);
            found.bytes += row.row.0.len() as u64;
        }
        Ok(found)
    }
}
