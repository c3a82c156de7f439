//! The stored rows of one partition, in `_seq` order or against it.
//!
//! Owns how blocks and the marks behind them become rows. A mark sorts behind its block and before whatever follows it:
//! going up, a block's marks come next; going down, they came before.

use std::ops::RangeInclusive;

use bytes::Bytes;

use super::keys::{self, RowKey};
use super::row_block::{self, RowValue};
use super::store::storage_error;
use crate::error::{Error, Result};
use crate::model::{PartitionKey, Seq, StoredRow};

/// In which `_seq` order a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

pub(super) type Guards = Box<dyn Iterator<Item = fjall::Guard> + Send>;

pub(super) fn ordered(iter: fjall::Iter, order: Order) -> Guards {
    match order {
        Order::Ascending => Box::new(iter),
        Order::Descending => Box::new(iter.rev()),
    }
}

/// Rows of one partition. See [`super::ReadView::scan`].
pub struct RowScan {
    key: PartitionKey,
    range: RangeInclusive<Seq>,
    order: Order,
    entries: Guards,
    /// An entry that was read while looking for a block's marks.
    ahead: Option<Entry>,
    /// Rows of the block that the scan is in, the next one last.
    block: Vec<StoredRow>,
    /// Marks that were passed and whose block was not.
    gone: Vec<Seq>,
}

enum Entry {
    At(Seq, Bytes),
    Gone(Seq),
}

impl RowScan {
    /// `entries`: from the beginning of the block that holds the range's start to the last mark within the range.
    pub(super) fn new(key: PartitionKey, range: RangeInclusive<Seq>, order: Order, entries: fjall::Iter) -> Self {
        let entries = ordered(entries, order);
        Self { key, range, order, entries, ahead: None, block: Vec::new(), gone: Vec::new() }
    }

    fn entry(&mut self) -> Option<Result<Entry>> {
        if let Some(entry) = self.ahead.take() {
            return Some(Ok(entry));
        }
        let guard = self.entries.next()?;
        Some(guard.into_inner().map_err(storage_error).and_then(|(key, value)| {
            match keys::parse_row_key(&self.key, &key) {
                Some(RowKey::At(seq)) => Ok(Entry::At(seq, value.into())),
                Some(RowKey::Gone(seq)) => Ok(Entry::Gone(seq)),
                None => Err(Error::internal("a rows key without a position")),
            }
        }))
    }

    /// The next row, unless the entry held none within the range.
    fn take(&mut self, seq: Seq, value: Bytes) -> Result<Option<StoredRow>> {
        let block = match row_block::parse(seq, value)? {
            RowValue::One(row) => return Ok(Some(row).filter(|row| self.range.contains(&row.seq))),
            RowValue::Block(block) => block,
        };
        if self.order == Order::Ascending {
            self.gather_marks()?;
        }
        let mut rows = block.rows()?;
        rows.retain(|row| self.range.contains(&row.seq) && !self.gone.contains(&row.seq));
        self.gone.clear();
        if self.order == Order::Ascending {
            rows.reverse();
        }
        self.block = rows;
        Ok(self.block.pop())
    }

    fn gather_marks(&mut self) -> Result<()> {
        while let Some(entry) = self.entry() {
            match entry? {
                Entry::Gone(seq) => self.gone.push(seq),
                next @ Entry::At(..) => {
                    self.ahead = Some(next);
                    break;
                }
            }
        }
        Ok(())
    }
}

impl Iterator for RowScan {
    type Item = Result<StoredRow>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(row) = self.block.pop() {
                return Some(Ok(row));
            }
            match self.entry()? {
                Ok(Entry::Gone(seq)) => self.gone.push(seq),
                Ok(Entry::At(seq, value)) => match self.take(seq, value).transpose() {
                    Some(row) => return Some(row),
                    None => continue,
                },
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
