//! Finds the hot copies of rows that are in segments by now, a bounded number at a time.
//!
//! Owns which keys those are, and the record that says that some are left. Never removes one:
//! [`CommitEntry::Forget`](super::CommitEntry::Forget) does. Readers pass them by, so nothing waits for it.

use std::ops::Bound;
use std::sync::Arc;

use fjall::UserKey;

use super::keys;
use super::records::{RecordKind, RecordWrite};
use super::row_block;
use super::store::{Store, storage_error};
use crate::error::{Error, Result};
use crate::model::{Owner, PartitionKey, PkBytes, Seq, TableId};

/// Some of a partition's keys that tell of flushed rows.
#[derive(Debug, Clone)]
pub struct FlushedKeys {
    pub(super) key: PartitionKey,
    pub(super) up_to: Seq,
    pub(super) rows: Vec<UserKey>,
    /// The first and the last entry of the key index that did so when they were found: those between are read once more
    /// when they are removed, in one go.
    pub(super) pk: Option<(UserKey, UserKey)>,
    /// The walk has ended: nothing is left.
    pub(super) is_last: bool,
}

impl FlushedKeys {
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.pk.is_none()
    }

    pub fn is_last(&self) -> bool {
        self.is_last
    }
}

/// Where to look for them.
#[derive(Debug, Clone)]
pub struct FlushedRange {
    /// Nothing is left up to here.
    pub from: Seq,
    pub up_to: Seq,
    /// The least and the greatest key; `None`: any.
    pub keys: Option<(PkBytes, PkBytes)>,
}

impl FlushedRange {
    /// Everything up to there.
    pub fn all(up_to: Seq) -> Self {
        Self { from: Seq::ZERO, up_to, keys: None }
    }
}

/// A walk over them.
pub struct FlushedWalk {
    store: Arc<Store>,
    key: PartitionKey,
    up_to: Seq,
    /// Of the key index: where the walk is, and its end. `None`: it is through.
    pk: Option<Bound<Vec<u8>>>,
    pk_end: Bound<Vec<u8>>,
    rows: Bound<Vec<u8>>,
}

impl FlushedWalk {
    /// A walk within bounds does not pass by what earlier ones took away, of which the store keeps the marks for a while.
    pub(super) fn new(store: Arc<Store>, key: PartitionKey, range: FlushedRange) -> Self {
        let FlushedRange { from, up_to, keys } = range;
        let prefix = keys::partition_prefix(&key);
        let (pk, pk_end) = match keys {
            Some((least, greatest)) => {
                (Bound::Included(keys::pk(&key, &least)), Bound::Included(keys::pk(&key, &greatest)))
            }
            None => (Bound::Included(prefix.clone()), keys::prefix_end(&prefix)),
        };
        let rows = match from {
            Seq::ZERO => Bound::Included(prefix),
            from => Bound::Excluded(keys::gone(&key, from)),
        };
        Self { store, key, up_to, pk: Some(pk), pk_end, rows }
    }

    /// The next keys: at most `limit`, among as many that are looked at.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where a key is damaged.
    pub fn next_keys(&mut self, limit: usize) -> Result<FlushedKeys> {
        let mut found =
            FlushedKeys { key: self.key.clone(), up_to: self.up_to, rows: Vec::new(), pk: None, is_last: false };
        match self.pk.take() {
            Some(from) => self.walk_pk(from, limit, &mut found)?,
            None => self.walk_rows(limit, &mut found)?,
        }
        Ok(found)
    }

    fn walk_pk(&mut self, from: Bound<Vec<u8>>, limit: usize, found: &mut FlushedKeys) -> Result<()> {
        let mut last = None;
        let mut seen = 0;
        for guard in self.store.keyspaces().pk.range::<Vec<u8>, _>((from, self.pk_end.clone())).take(limit) {
            let (key, value) = guard.into_inner().map_err(storage_error)?;
            seen += 1;
            if row_block::parse_pk_value(&value)?.0 <= self.up_to {
                let first = found.pk.take().map_or_else(|| key.clone(), |(first, _)| first);
                found.pk = Some((first, key.clone()));
            }
            last = Some(key);
        }
        if let Some(last) = last.filter(|_| seen == limit) {
            self.pk = Some(Bound::Excluded(last.to_vec()));
        }
        Ok(())
    }

    fn walk_rows(&mut self, limit: usize, found: &mut FlushedKeys) -> Result<()> {
        let end = Bound::Included(keys::gone(&self.key, self.up_to));
        for guard in self.store.keyspaces().rows.range::<Vec<u8>, _>((self.rows.clone(), end)).take(limit) {
            found.rows.push(guard.key().map_err(storage_error)?);
        }
        match found.rows.last() {
            Some(last) => self.rows = Bound::Excluded(last.to_vec()),
            None => found.is_last = true,
        }
        Ok(())
    }
}

/// The name of the record that says that a partition has such keys.
pub(super) fn record_name(key: &PartitionKey) -> String {
    format!("{}:{}", key.table, key.owner.as_str())
}

impl Store {
    /// A walk over a partition's hot keys within `range`, which ends at most where it is flushed to.
    pub fn flushed_walk(self: &Arc<Self>, key: PartitionKey, range: FlushedRange) -> FlushedWalk {
        FlushedWalk::new(self.clone(), key, range)
    }

    /// Removes the records of all partitions of a table that goes.
    ///
    /// # Errors
    /// As [`Store::flushed_partitions`].
    pub fn forget_flushes(&self, table: TableId) -> Result<Vec<RecordWrite>> {
        let record = |(key, _): &(PartitionKey, Seq)| RecordWrite {
            kind: RecordKind::Flushed,
            key: record_name(key),
            value: None,
        };
        Ok(self.flushed_partitions(table)?.iter().map(record).collect())
    }

    /// Removes the record of what has expired of a table that goes.
    pub fn forget_expiry(&self, table: TableId) -> RecordWrite {
        RecordWrite { kind: RecordKind::Expired, key: table.to_string(), value: None }
    }

    /// Partitions of a table with hot copies of flushed rows, and up to where.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn flushed_partitions(&self, table: TableId) -> Result<Vec<(PartitionKey, Seq)>> {
        let mut found = Vec::new();
        for (name, value) in self.records(RecordKind::Flushed)? {
            let parsed = || {
                let (of, owner) = name.split_once(':')?;
                let key = PartitionKey { table: TableId(of.parse().ok()?), owner: Owner::from_stored(owner)? };
                Some((key, Seq::new(i64::from_be_bytes(value.as_slice().try_into().ok()?))?))
            };
            let (key, up_to) = parsed().ok_or_else(|| Error::internal("a damaged record of a flush"))?;
            if key.table == table {
                found.push((key, up_to));
            }
        }
        Ok(found)
    }
}
