//! Text to statements.

use crate::error::Result;
use crate::sql::statement::ParsedStatement;

/// The statements of a request, in order.
///
/// # Errors
/// `EMPTY_SQL`; `INVALID_SQL` with line and column where the text is no SQL, without where it is SQL that we refuse.
pub fn parse(sql: &str) -> Result<Vec<ParsedStatement>> {
    let _ = sql;
    todo!()
}
