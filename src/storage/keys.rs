//! Keys: typed, order-preserving, built here and nowhere else.

use crate::error::Result;
use crate::model::{PkBytes, TableMeta, Value};

/// The order-preserving encoding of the primary key among `values` (one value per column of `table`, in order).
///
/// # Errors
/// `NOT_NULL` where a key column is NULL (as row `row`, from 1), `INVALID_INPUT` where the key is longer than 1 KiB.
pub fn encode_pk(table: &TableMeta, values: &[Value], row: usize) -> Result<PkBytes> {
    let _ = (table, values, row);
    todo!()
}

/// The key columns' values that [`encode_pk`] encoded, in `table.primary_key` order; `None` where the bytes are no key.
pub fn decode_pk(table: &TableMeta, pk: &PkBytes) -> Option<Vec<Value>> {
    let _ = (table, pk);
    todo!()
}
