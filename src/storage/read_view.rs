//! One moment of the store: what a statement reads.

use std::ops::RangeInclusive;

use crate::error::Result;
use crate::model::{Owner, PartitionKey, PkBytes, Seq, StoredRow, TableId};

/// In which `_seq` order a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    Ascending,
    Descending,
}

/// A consistent snapshot of all rows. Cheap to make and to clone. Its reads block on the disk when blocks are cold.
#[derive(Clone)]
pub struct ReadView {}

impl ReadView {
    /// The live row with this key, if there is one.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn get(&self, key: &PartitionKey, pk: &PkBytes) -> Result<Option<StoredRow>> {
        let _ = (key, pk);
        todo!()
    }

    /// The stored rows of a partition with `_seq` in `range`, tombstones included.
    pub fn scan(
        &self,
        key: &PartitionKey,
        range: RangeInclusive<Seq>,
        order: Order,
    ) -> Box<dyn Iterator<Item = Result<StoredRow>> + Send> {
        let _ = (key, range, order);
        todo!()
    }

    /// The stored rows of all owners of a table with `_seq` in `range`, tombstones included, in `_seq` order.
    pub fn feed(
        &self,
        table: TableId,
        range: RangeInclusive<Seq>,
        order: Order,
    ) -> Box<dyn Iterator<Item = Result<(Owner, StoredRow)>> + Send> {
        let _ = (table, range, order);
        todo!()
    }

    /// Position of the last change in a partition: [`Seq::ZERO`] where there is none.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn head(&self, key: &PartitionKey) -> Result<Seq> {
        let _ = key;
        todo!()
    }

    /// Position of the last change in a table, over all owners.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn feed_head(&self, table: TableId) -> Result<Seq> {
        let _ = table;
        todo!()
    }
}
