//! The stored rows of all owners of a table, in `_seq` order or against it.
//!
//! Owns the way from the feed's entries, one a statement, to the rows: hot ones are looked up, cold ones come out of a
//! cursor that stays open from one entry of an owner to the next, so that a segment's pages are read once.
//! A feed over many owners whose statements alternate keeps at most [`CURSORS`] of them open.

use std::collections::{HashMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use fjall::Keyspace;

use super::keys;
use super::partition_rows::{PartitionRows, RowsPart};
use super::read_view::ReadView;
use super::row_scan::{Guards, Order};
use super::store::storage_error;
use crate::error::{Error, Result};
use crate::model::{Owner, PartitionKey, Seq, SeqRange, StoredRow, TableMeta};

/// Owners whose cold rows are open at once: each may hold a batch of decoded rows.
const CURSORS: usize = 64;

/// Owners of whom is remembered how far their rows gave way.
const OWNERS: usize = 4_096;

/// Rows of all owners. See [`ReadView::feed`].
pub struct FeedScan {
    view: ReadView,
    table: Arc<TableMeta>,
    range: RangeInclusive<Seq>,
    order: Order,
    /// In the scan's order.
    sources: VecDeque<FeedSource>,
    /// The owner's rows that are being told.
    current: Option<(Owner, PartitionRows)>,
    cold: HashMap<Owner, Cursor>,
    /// Owners of `cold`, the one opened first in front.
    opened: VecDeque<Owner>,
    /// Of a STREAM table: how far owners' rows gave way.
    trimmed: HashMap<Owner, Seq>,
}

/// Entries of the feed, and where the hot rows lie that they tell of.
pub(super) struct FeedSource {
    pub rows: Keyspace,
    pub entries: Guards,
}

/// Where a scan of one owner's cold rows is.
struct Cursor {
    rows: PartitionRows,
    ready: VecDeque<StoredRow>,
    ended: bool,
}

impl FeedScan {
    pub(super) fn new(
        view: ReadView,
        table: Arc<TableMeta>,
        range: RangeInclusive<Seq>,
        order: Order,
        sources: VecDeque<FeedSource>,
    ) -> Self {
        Self {
            view,
            table,
            range,
            order,
            sources,
            current: None,
            cold: HashMap::new(),
            opened: VecDeque::new(),
            trimmed: HashMap::new(),
        }
    }

    /// The next rows of one owner, tombstones included; `None` at the end.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `SEGMENT_DAMAGED`, `COLD_STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub async fn next(&mut self) -> Result<Option<(Owner, Vec<StoredRow>)>> {
        loop {
            if let Some((owner, rows)) = &mut self.current {
                if let Some(rows) = rows.next(usize::MAX).await? {
                    return Ok(Some((owner.clone(), rows)));
                }
                self.current = None;
            }
            let Some(source) = self.sources.front_mut() else { return Ok(None) };
            let rows = source.rows.clone();
            let Some(entry) = source.entries.next() else {
                self.sources.pop_front();
                continue;
            };
            let (key, value) = entry.into_inner().map_err(storage_error)?;
            let (range, owner) =
                keys::parse_feed(&key, &value).ok_or_else(|| Error::internal("a damaged feed entry"))?;
            if self.view.hides(&owner) {
                continue;
            }
            let trimmed = self.trimmed_up_to(&owner)?.after();
            let first = range.first.max(*self.range.start()).max(trimmed);
            let last = range.last.min(*self.range.end());
            if first > last {
                continue;
            }
            let key = PartitionKey { table: self.table.id, owner: owner.clone() };
            if !self.table.is_stream() && range.last <= self.view.flushed_up_to(&key)? {
                let rows = self.cold_rows(&owner, SeqRange { first, last }).await?;
                if !rows.is_empty() {
                    return Ok(Some((owner, rows)));
                }
                continue;
            }
            // A statement is flushed as a whole or not at all.
            let rows = self.view.scan_from(&rows, &key, range.first, (first..=last, self.order));
            self.current = Some((owner, PartitionRows::new([RowsPart::Hot(rows)].into())));
        }
    }

    fn trimmed_up_to(&mut self, owner: &Owner) -> Result<Seq> {
        if !self.table.is_stream() {
            return Ok(Seq::ZERO);
        }
        if let Some(trimmed) = self.trimmed.get(owner) {
            return Ok(*trimmed);
        }
        if self.trimmed.len() == OWNERS {
            self.trimmed.clear();
        }
        let trimmed = self.view.trimmed_up_to(&self.table, owner)?;
        self.trimmed.insert(owner.clone(), trimmed);
        Ok(trimmed)
    }

    /// What is left of one statement's rows.
    async fn cold_rows(&mut self, owner: &Owner, wanted: SeqRange) -> Result<Vec<StoredRow>> {
        let mut cursor = match self.cold.remove(owner) {
            Some(cursor) => cursor,
            None => self.open(owner, wanted)?,
        };
        let mut rows = Vec::new();
        loop {
            let beyond = |row: &StoredRow| match self.order {
                Order::Ascending => row.seq > wanted.last,
                Order::Descending => row.seq < wanted.first,
            };
            while let Some(row) = cursor.ready.pop_front_if(|row| !beyond(row)) {
                if (wanted.first..=wanted.last).contains(&row.seq) {
                    rows.push(row);
                }
            }
            if cursor.ended || !cursor.ready.is_empty() {
                break;
            }
            match cursor.rows.next(usize::MAX).await? {
                Some(next) => cursor.ready.extend(next),
                None => cursor.ended = true,
            }
        }
        if cursor.ended {
            self.opened.retain(|opened| opened != owner);
        } else {
            self.cold.insert(owner.clone(), cursor);
        }
        Ok(rows)
    }

    fn open(&mut self, owner: &Owner, wanted: SeqRange) -> Result<Cursor> {
        if self.opened.len() == CURSORS
            && let Some(first) = self.opened.pop_front()
        {
            self.cold.remove(&first);
        }
        self.opened.push_back(owner.clone());
        let range = match self.order {
            Order::Ascending => wanted.first..=*self.range.end(),
            Order::Descending => *self.range.start()..=wanted.last,
        };
        let rows = self.view.rows(&self.table, owner, range, self.order)?;
        Ok(Cursor { rows, ready: VecDeque::new(), ended: false })
    }
}
