//! CREATE TABLE to a checked table.

use crate::error::Result;
use crate::model::{Principal, TableId, TableMeta, TableName};
use crate::sql::statement::CreateTable;

/// The table that `create` describes.
///
/// # Errors
/// `INVALID_SQL`, `INVALID_NAME`, or a conversion error where a default is no value of its column's type.
pub fn define_table(
    create: &CreateTable,
    name: TableName,
    id: TableId,
    caller: &Principal,
    now_us: i64,
) -> Result<TableMeta> {
    let _ = (create, name, id, caller, now_us);
    todo!()
}
