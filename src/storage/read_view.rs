//! One moment of the store: what a statement reads.
//!
//! Owns how rows are found: by key, by partition in `_seq` order, by table in `_seq` order.
//! Never writes. Its reads block on the disk when blocks are cold: long ones belong on the engine's runtime.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use fjall::{Readable, Snapshot};

use super::keys;
use super::store::{Keyspaces, storage_error};
use crate::error::{Error, Result};
use crate::model::{Owner, PartitionKey, PkBytes, RowBytes, Seq, StoredRow, TableId, UserId};

/// In which `_seq` order a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// A consistent snapshot of all rows. Cheap to make and to clone; while it lives, what it sees is kept on disk.
#[derive(Clone)]
pub struct ReadView {
    snapshot: Snapshot,
    keyspaces: Arc<Keyspaces>,
    hidden: Arc<HashSet<UserId>>,
}

impl std::fmt::Debug for ReadView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadView").field("seqno", &self.snapshot.seqno()).finish()
    }
}

impl ReadView {
    /// The feed leaves out the rows of `hidden` owners.
    pub(super) fn new(snapshot: Snapshot, keyspaces: Arc<Keyspaces>, hidden: Arc<HashSet<UserId>>) -> Self {
        Self { snapshot, keyspaces, hidden }
    }

    /// The live row with this key, if there is one.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn get(&self, key: &PartitionKey, pk: &PkBytes) -> Result<Option<StoredRow>> {
        let Some(seq) = self.snapshot.get(&self.keyspaces.pk, keys::pk(key, pk)).map_err(storage_error)? else {
            return Ok(None);
        };
        let seq = parse_pk_value(&seq)?;
        let row = self.snapshot.get(&self.keyspaces.rows, keys::row(key, seq)).map_err(storage_error)?;
        row.map(|value| parse_row(seq, value.into())).transpose()?.map_or_else(
            || Err(Error::internal(format!("key index of {key} names a row at {seq} that is missing"))),
            |r| Ok(Some(r)),
        )
    }

    /// The stored rows of a partition with `_seq` in `range`, tombstones included.
    pub fn scan(&self, key: &PartitionKey, range: RangeInclusive<Seq>, order: Order) -> RowScan {
        RowScan { iter: ordered(self.rows(key, range), order) }
    }

    /// The stored rows of all owners of a table with `_seq` in `range`, tombstones included, in `_seq` order. Those of
    /// dropped users are left out.
    pub fn feed(&self, table: TableId, range: RangeInclusive<Seq>, order: Order) -> FeedScan {
        // An entry is keyed by its first position and may reach into the range from before it.
        let from = self.feed_entry_before(table, *range.start());
        let entries =
            self.snapshot.range(&self.keyspaces.feed, keys::feed(table, from)..=keys::feed(table, *range.end()));
        FeedScan { view: self.clone(), table, range, order, entries: ordered(entries, order), current: None }
    }

    fn feed_entry_before(&self, table: TableId, start: Seq) -> Seq {
        let before = self
            .snapshot
            .range(&self.keyspaces.feed, keys::feed(table, Seq::ZERO)..=keys::feed(table, start))
            .next_back()
            .and_then(|guard| guard.into_inner().ok())
            .and_then(|(key, value)| keys::parse_feed(&key, &value));
        before.map_or(start, |(range, _)| range.first)
    }

    /// Position of the last change in a partition: [`Seq::ZERO`] where there is none.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn head(&self, key: &PartitionKey) -> Result<Seq> {
        match self.rows(key, Seq::ZERO..=Seq::MAX).next_back() {
            None => Ok(Seq::ZERO),
            Some(guard) => {
                let key_bytes = guard.key().map_err(storage_error)?;
                keys::seq_of_row(&key_bytes).ok_or_else(|| Error::internal("a rows key without a position"))
            }
        }
    }

    /// Position of the last change in a table, over all owners.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn feed_head(&self, table: TableId) -> Result<Seq> {
        let all = keys::feed(table, Seq::ZERO)..=keys::feed(table, Seq::MAX);
        match self.snapshot.range(&self.keyspaces.feed, all).next_back() {
            None => Ok(Seq::ZERO),
            Some(guard) => {
                let (key, value) = guard.into_inner().map_err(storage_error)?;
                let (range, _) =
                    keys::parse_feed(&key, &value).ok_or_else(|| Error::internal("a damaged feed entry"))?;
                Ok(range.last)
            }
        }
    }

    fn rows(&self, key: &PartitionKey, range: RangeInclusive<Seq>) -> fjall::Iter {
        self.snapshot.range(&self.keyspaces.rows, keys::row(key, *range.start())..=keys::row(key, *range.end()))
    }
}

type Guards = Box<dyn Iterator<Item = fjall::Guard> + Send>;

fn ordered(iter: fjall::Iter, order: Order) -> Guards {
    match order {
        Order::Ascending => Box::new(iter),
        Order::Descending => Box::new(iter.rev()),
    }
}

/// Rows of one partition. See [`ReadView::scan`].
pub struct RowScan {
    iter: Guards,
}

impl Iterator for RowScan {
    type Item = Result<StoredRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let guard = self.iter.next()?;
        Some(guard.into_inner().map_err(storage_error).and_then(|(key, value)| {
            let seq = keys::seq_of_row(&key).ok_or_else(|| Error::internal("a rows key without a position"))?;
            parse_row(seq, value.into())
        }))
    }
}

/// Rows of all owners. See [`ReadView::feed`].
pub struct FeedScan {
    view: ReadView,
    table: TableId,
    range: RangeInclusive<Seq>,
    order: Order,
    entries: Guards,
    current: Option<(Owner, RowScan)>,
}

impl Iterator for FeedScan {
    type Item = Result<(Owner, StoredRow)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some((owner, rows)) = &mut self.current {
                if let Some(row) = rows.next() {
                    return Some(row.map(|row| (owner.clone(), row)));
                }
                self.current = None;
            }
            let entry = self.entries.next()?.into_inner().map_err(storage_error).and_then(|(key, value)| {
                keys::parse_feed(&key, &value).ok_or_else(|| Error::internal("a damaged feed entry"))
            });
            let (range, owner) = match entry {
                Ok(entry) => entry,
                Err(e) => return Some(Err(e)),
            };
            if matches!(&owner, Owner::User(user) if self.view.hidden.contains(user)) {
                continue;
            }
            let (first, last) = (range.first.max(*self.range.start()), range.last.min(*self.range.end()));
            if first <= last {
                let key = PartitionKey { table: self.table, owner: owner.clone() };
                self.current = Some((owner, self.view.scan(&key, first..=last, self.order)));
            }
        }
    }
}

/// The value of a `pk` entry: the position of the live row.
pub(super) fn parse_pk_value(value: &[u8]) -> Result<Seq> {
    let raw = value.try_into().map(i64::from_be_bytes).map_err(|_| Error::internal("a damaged key index entry"))?;
    Seq::new(raw).ok_or_else(|| Error::internal("a damaged key index entry"))
}

const DELETED: u8 = 1;
const CREATED_BEFORE: u8 = 2;

/// The value of a `rows` entry: flags, the position of the row's insert where it is another, the row.
pub(super) fn row_value(seq: Seq, created: Seq, deleted: bool, row: &RowBytes) -> Vec<u8> {
    let mut value = Vec::with_capacity(9 + row.0.len());
    let before = if created == seq { 0 } else { CREATED_BEFORE };
    value.push(before | if deleted { DELETED } else { 0 });
    if created != seq {
        value.extend_from_slice(&created.get().to_be_bytes());
    }
    value.extend_from_slice(&row.0);
    value
}

pub(super) fn parse_row(seq: Seq, value: bytes::Bytes) -> Result<StoredRow> {
    let damaged = || Error::internal(format!("the row stored at {seq} is damaged"));
    let flags = *value.first().ok_or_else(damaged)?;
    let mut body = 1;
    let mut created = seq;
    if flags & CREATED_BEFORE != 0 {
        let raw = value.get(1..9).and_then(|b| b.try_into().ok()).ok_or_else(damaged)?;
        created = Seq::new(i64::from_be_bytes(raw)).ok_or_else(damaged)?;
        body = 9;
    }
    Ok(StoredRow { seq, created, deleted: flags & DELETED != 0, row: RowBytes(value.slice(body..)) })
}
