//! Primary keys of rows that are Arrow columns.

use arrow::array::Array;

use crate::error::{Error, Result};
use crate::model::{DataType, TableMeta};
use crate::storage::keys;
use crate::storage::row_codec::ArrowCells;

/// Encodes the primary keys of a batch's rows.
pub(super) struct KeyColumns<'a> {
    columns: Vec<(DataType, ArrowCells<'a>)>,
    key: Vec<u8>,
}

impl<'a> KeyColumns<'a> {
    /// `array_of`: the array of a column, by its position in the table.
    ///
    /// # Errors
    /// `INTERNAL` where an array is of another type.
    pub fn new(table: &TableMeta, array_of: impl Fn(usize) -> &'a dyn Array) -> Result<Self> {
        let mut columns = Vec::with_capacity(table.primary_key.len());
        for position in &table.primary_key {
            let column = &table.columns[*position];
            let cells = ArrowCells::new(column.data_type, array_of(*position));
            let cells = cells.ok_or_else(|| Error::internal(format!("key column {} has another type", column.name)))?;
            columns.push((column.data_type, cells));
        }
        Ok(Self { columns, key: Vec::new() })
    }

    pub fn encode(&mut self, row: usize) -> &[u8] {
        self.key.clear();
        for (ty, cells) in &self.columns {
            keys::encode_key_cell(&mut self.key, *ty, cells.get(row));
        }
        &self.key
    }
}
