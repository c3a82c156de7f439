//! Queries that need no planner: a row by its key, the newest rows.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;

use crate::error::Result;
use crate::model::{PkBytes, Seq, TableMeta};
use crate::sql::bind::BindContext;
use crate::storage::Order;

/// A query that one read of the store answers.
pub struct PointSelect {
    pub table: Arc<TableMeta>,
    /// Positions in [`TableMeta::arrow_schema`], in output order.
    pub projection: Vec<usize>,
    /// Output names, one per position.
    pub names: Vec<String>,
    pub read: DirectRead,
}

pub enum DirectRead {
    Key(PkBytes),
    /// Live rows with `_seq` above `after`.
    Seq {
        after: Option<Seq>,
        order: Order,
        limit: usize,
    },
}

/// The direct read that answers `query`; `None` where it takes the engine.
pub fn point_select(ctx: &BindContext<'_>, query: &ast::Query) -> Result<Option<PointSelect>> {
    let _ = (ctx, query);
    todo!()
}
