//! The one row encoding: a row's cells to bytes and back, to values and to Arrow.

use std::sync::Arc;

use arrow::array::RecordBatch;

use crate::error::Result;
use crate::model::{Owner, RowBytes, StoredRow, TableMeta, Value};

/// Encodes one row: `values` are one per column of `table`, in order, each of which [`Value::fits`] its column.
pub fn encode(table: &TableMeta, values: &[Value]) -> RowBytes {
    let _ = (table, values);
    todo!()
}

/// # Errors
/// `INTERNAL` where the bytes are no row of `table`.
pub fn decode(table: &TableMeta, row: &RowBytes) -> Result<Vec<Value>> {
    let _ = (table, row);
    todo!()
}

/// Collects stored rows into a record batch whose full schema is [`TableMeta::arrow_schema`], or
/// [`TableMeta::arrow_schema_all_owners`] when made with [`BatchBuilder::all_owners`].
pub struct BatchBuilder {}

impl BatchBuilder {
    /// `projection`: positions in the full schema, in output order; `None` is all of them.
    pub fn new(table: Arc<TableMeta>, projection: Option<&[usize]>) -> Self {
        let _ = (table, projection);
        todo!()
    }

    pub fn all_owners(table: Arc<TableMeta>, projection: Option<&[usize]>) -> Self {
        let _ = (table, projection);
        todo!()
    }

    /// Appends a row. `owner` is read only for the all-owners schema.
    ///
    /// # Errors
    /// `INTERNAL` where the bytes are no row of the table.
    pub fn push(&mut self, owner: &Owner, stored: &StoredRow) -> Result<()> {
        let _ = (owner, stored);
        todo!()
    }

    pub fn len(&self) -> usize {
        todo!()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The rows pushed since the last call, and starts anew.
    pub fn finish(&mut self) -> RecordBatch {
        todo!()
    }
}
