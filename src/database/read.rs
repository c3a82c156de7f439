//! SELECT: straight from the store where the shape of the query allows it, through the engine otherwise.
//!
//! Owns the one moment (view and catalog) that a statement reads.
//! Never lets a direct read answer anything that the engine would answer otherwise.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast;
use futures_util::{StreamExt, stream};

use super::Database;
use super::execute::Scope;
use super::request::RowStream;
use crate::error::Result;
use crate::model::{Catalog, Owner, ResultSchema, Seq};
use crate::sql::direct::{self, DirectRead, PointSelect};
use crate::sql::engine::{OwnerScope, QueryContext};
use crate::sql::live_query::namespace;
use crate::storage::{BatchBuilder, Found, ReadView};

/// A direct read of more rows than this goes to the engine: it would hold up an HTTP worker.
pub(super) const DIRECT_ROWS_MAX: usize = 1_000;

impl Database {
    pub(super) async fn query(&self, scope: &Scope<'_>, query: &ast::Query) -> Result<RowStream> {
        let rows = self.all_rows(scope, query).await?;
        Ok(match self.options.row_limits.of(query) {
            Some(limit) => at_most(rows, limit),
            None => rows,
        })
    }

    async fn all_rows(&self, scope: &Scope<'_>, query: &ast::Query) -> Result<RowStream> {
        if !scope.all_owners {
            // The view first, as in `query_context`.
            let view = self.store.read_view();
            let catalog = self.catalog.current();
            if let Some(select) = direct::point_select(&self.bind_context(scope, &catalog), query)?
                && direct_rows(&select) <= DIRECT_ROWS_MAX
            {
                return self.read_directly(scope, &view, select).await;
            }
        }
        let mut query = Box::new(query.clone());
        if scope.all_owners {
            namespace::name_table(&mut query, scope.namespace);
        }
        self.plan_and_run(scope, &ast::Statement::Query(query)).await
    }

    async fn read_directly(&self, scope: &Scope<'_>, view: &ReadView, select: PointSelect) -> Result<RowStream> {
        self.policy.may_read(&scope.principal, &select.table)?;
        let owner = select.table.owner_of(&scope.principal);
        self.auth.check_holder(&scope.principal)?;
        let batch = read(view, &owner, &select).await?;
        self.metrics.rows_read.add(&select.table.name.to_string(), batch.num_rows() as u64);
        let schema = ResultSchema::of_table_projection(&select.table, &select.projection, &select.names);
        Ok(RowStream { schema, batches: Box::pin(stream::once(std::future::ready(Ok(batch)))) })
    }

    /// Through the engine.
    pub(super) async fn plan_and_run(&self, scope: &Scope<'_>, statement: &ast::Statement) -> Result<RowStream> {
        self.run_query(self.query_context(scope)?, statement).await
    }

    pub(super) async fn run_query(&self, ctx: QueryContext, statement: &ast::Statement) -> Result<RowStream> {
        let output = self.engine.query(ctx, statement).await?;
        Ok(RowStream { schema: output.schema, batches: Box::pin(output.stream) })
    }

    pub(super) fn query_context(&self, scope: &Scope<'_>) -> Result<QueryContext> {
        // The view is taken first: a table that the catalog still shows has its rows in it, no row is newer than the
        // definition that the catalog has of its table, and they are of a time when the caller's name was the caller's.
        let view = self.store.read_view();
        self.auth.check_holder(&scope.principal)?;
        Ok(self.query_context_in(scope, view, self.catalog.current()))
    }

    pub(super) fn query_context_in(&self, scope: &Scope<'_>, view: ReadView, catalog: Arc<Catalog>) -> QueryContext {
        let owner = if scope.all_owners { OwnerScope::All } else { OwnerScope::One(scope.principal.user.clone()) };
        QueryContext {
            principal: scope.principal.clone(),
            scope: owner,
            namespace: scope.namespace.to_owned(),
            params: scope.params.into(),
            view,
            catalog,
            system: self.system.clone(),
            now_us: scope.now_us,
            ids: self.ids.clone(),
            caller: scope.caller.clone(),
        }
    }
}

/// How many rows a SELECT may answer. Both are 0, no limit, unless an operator sets them (A1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowLimits {
    /// Of a query without a LIMIT of its own.
    pub default: u64,
    /// Of every query.
    pub max: u64,
}

impl RowLimits {
    fn of(self, query: &ast::Query) -> Option<u64> {
        let default = if query.limit_clause.is_none() && query.fetch.is_none() { self.default } else { 0 };
        [default, self.max].into_iter().filter(|limit| *limit > 0).min()
    }
}

/// The first `limit` rows; the query is stopped behind them.
fn at_most(rows: RowStream, limit: u64) -> RowStream {
    let batches = rows.batches.scan(limit, |left, batch| {
        let batch = match batch {
            _ if *left == 0 => return std::future::ready(None),
            Ok(batch) => {
                let rows = usize::try_from(*left).unwrap_or(usize::MAX).min(batch.num_rows());
                *left -= rows as u64;
                Ok(batch.slice(0, rows))
            }
            Err(error) => Err(error),
        };
        std::future::ready(Some(batch))
    });
    RowStream { schema: rows.schema, batches: Box::pin(batches) }
}

fn direct_rows(select: &PointSelect) -> usize {
    match select.read {
        DirectRead::Key(_) => 1,
        DirectRead::Seq { limit, .. } => limit,
    }
}

async fn read(view: &ReadView, owner: &Owner, select: &PointSelect) -> Result<RecordBatch> {
    let mut batch = BatchBuilder::new(select.table.clone(), Some(&select.projection));
    match &select.read {
        DirectRead::Key(pk) => {
            let row = match view.find(&select.table, owner, pk)? {
                Found::Row(row) => Some(row),
                Found::Absent => None,
                Found::Cold(lookup) => lookup.row().await?,
            };
            if let Some(row) = row {
                batch.push(owner, &row)?;
            }
        }
        DirectRead::Seq { after, order, limit } => {
            let from = after.map_or(Seq::ZERO, Seq::after);
            let mut rows = view.rows(&select.table, owner, from..=Seq::MAX, *order)?;
            while batch.len() < *limit
                && let Some(rows) = rows.next(*limit - batch.len()).await?
            {
                let left = *limit - batch.len();
                for row in rows.iter().filter(|row| !row.deleted).take(left) {
                    batch.push(owner, row)?;
                }
            }
        }
    }
    batch.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(sql: &str) -> ast::Query {
        match crate::sql::parse::parse(sql).unwrap().remove(0).statement {
            crate::sql::statement::Statement::Query(query) => *query,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn limits_are_off_until_they_are_set() {
        let cases = [
            (RowLimits { default: 0, max: 0 }, "SELECT 1", None),
            (RowLimits { default: 50, max: 0 }, "SELECT 1", Some(50)),
            (RowLimits { default: 50, max: 0 }, "SELECT 1 LIMIT 70", None),
            (RowLimits { default: 50, max: 20 }, "SELECT 1", Some(20)),
            (RowLimits { default: 50, max: 60 }, "SELECT 1 LIMIT 70", Some(60)),
        ];
        for (limits, sql, expected) in cases {
            assert_eq!(limits.of(&query(sql)), expected, "{limits:?} {sql}");
        }
    }
}
