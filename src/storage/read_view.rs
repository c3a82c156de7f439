//! One moment of the store: what a statement reads.
//!
//! Owns how rows are found: by key, by partition in `_seq` order, by table in `_seq` order.
//! Never writes. Its reads block on the disk when blocks are cold: long ones belong on the engine's runtime.

use std::collections::HashSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use fjall::{Readable, Snapshot};

use super::keys::{self, RowKey};
use super::row_block::{self, RowValue};
use super::row_scan::{Guards, Order, RowScan, ordered};
use super::store::{Keyspaces, storage_error};
use crate::error::{Error, Result};
use crate::model::{Owner, PartitionKey, PkBytes, RowPlace, Seq, StoredRow, TableId, UserId};

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
        live_row(&self.snapshot, &self.keyspaces, key, pk)
    }

    /// The stored rows of a partition with `_seq` in `range`, tombstones included.
    pub fn scan(&self, key: &PartitionKey, range: RangeInclusive<Seq>, order: Order) -> RowScan {
        let from = self.block_begin(key, *range.start());
        self.scan_from(key, from, range, order)
    }

    /// Like [`ReadView::scan`], where a block that holds the range's start begins at `from`, or none does.
    fn scan_from(&self, key: &PartitionKey, from: Seq, range: RangeInclusive<Seq>, order: Order) -> RowScan {
        let entries = self.snapshot.range(&self.keyspaces.rows, keys::row(key, from)..=keys::gone(key, *range.end()));
        RowScan::new(key.clone(), range, order, entries)
    }

    /// Where the block begins that holds `start`, if one does; else anything from there to `start`.
    fn block_begin(&self, key: &PartitionKey, start: Seq) -> Seq {
        if start == Seq::ZERO {
            return start;
        }
        let mut before = self.snapshot.range(&self.keyspaces.rows, keys::row(key, Seq::ZERO)..=keys::row(key, start));
        // An error shows again when the scan meets it.
        let Some((entry, value)) = before.next_back().and_then(|guard| guard.into_inner().ok()) else { return start };
        match keys::parse_row_key(key, &entry) {
            Some(RowKey::At(seq)) => seq,
            Some(RowKey::Gone(_)) => row_block::parse_gone(&value).unwrap_or(start),
            None => start,
        }
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
        let range = keys::row(key, Seq::ZERO)..=keys::gone(key, Seq::MAX);
        let Some(last) = self.snapshot.range(&self.keyspaces.rows, range).next_back() else { return Ok(Seq::ZERO) };
        let (entry, value) = last.into_inner().map_err(storage_error)?;
        let (first, value) = match keys::parse_row_key(key, &entry) {
            Some(RowKey::At(seq)) => (seq, value),
            Some(RowKey::Gone(gone)) => {
                let first = row_block::parse_gone(&value)?;
                let block = self.snapshot.get(&self.keyspaces.rows, keys::row(key, first)).map_err(storage_error)?;
                // An erasure under way takes blocks before their marks.
                let Some(block) = block else { return Ok(gone) };
                (first, block)
            }
            None => return Err(Error::internal("a rows key without a position")),
        };
        match row_block::parse(first, value.into())? {
            RowValue::One(row) => Ok(row.seq),
            RowValue::Block(block) => block.last(),
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
}

/// The live row with this key in one moment of the store.
pub(super) fn live_row(
    moment: &impl Readable,
    keyspaces: &Keyspaces,
    key: &PartitionKey,
    pk: &PkBytes,
) -> Result<Option<StoredRow>> {
    let Some(index) = moment.get(&keyspaces.pk, keys::pk(key, pk)).map_err(storage_error)? else { return Ok(None) };
    let (seq, place) = row_block::parse_pk_value(&index)?;
    let at = match place {
        RowPlace::Own => seq,
        RowPlace::Block(first) => first,
    };
    let value = moment.get(&keyspaces.rows, keys::row(key, at)).map_err(storage_error)?;
    let row = value.map(|value| row_block::parse(at, value.into())).transpose()?;
    let row = row.map(|value| row_block::pick(value, seq)).transpose()?.flatten();
    let missing = || Error::internal(format!("key index of {key} names a row at {seq} that is missing"));
    row.map(Some).ok_or_else(missing)
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
                self.current = Some((owner, self.view.scan_from(&key, range.first, first..=last, self.order)));
            }
        }
    }
}
