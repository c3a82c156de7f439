//! CHECK constraints at work: compiled once for each definition of a table, asked of each row that is to be written.
//!
//! Owns the cache of compiled constraints. Never decides what a condition means: `sql::check` does.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use moka::sync::Cache;

use super::Database;
use super::execute::Scope;
use super::request::CallerGone;
use crate::auth::policy::Authorized;
use crate::error::{Error, Result};
use crate::model::{
    Catalog, KeyConflict, OnConflict, Owner, Principal, Role, RowBytes, RowMerge, RowPlace, Seq, StoredRow, TableId,
    TableMeta, UserId, WriteCommand, WriteOp,
};
use crate::sql::check::{self, Checks};
use crate::storage::BatchBuilder;

/// Tables whose constraints are kept compiled; others are compiled at each write.
const CACHED_TABLES: u64 = 1_024;

/// By table and version.
pub(super) struct CheckCache(Cache<(TableId, u32), Arc<Checks>>);

impl CheckCache {
    pub(super) fn new() -> Self {
        Self(Cache::new(CACHED_TABLES))
    }
}

impl Database {
    /// Do all rows that are written fulfil the constraints of their table? Those that it makes in the partition, of a live row
    /// and a new one, are asked there.
    ///
    /// # Errors
    /// `CHECK_VIOLATED`; `EXECUTION` where a condition can not be computed on a row.
    pub(super) async fn with_checks(&self, write: Authorized<WriteCommand>) -> Result<Authorized<WriteCommand>> {
        let command = write.command();
        let table = &command.table;
        if table.checks.is_empty() {
            return Ok(write);
        }
        let key = (table.id, table.schema_version);
        let checks = match self.checks.0.get(&key) {
            Some(checks) => checks,
            None => {
                let checks = Arc::new(self.compile_checks(table).await?);
                self.checks.0.insert(key, checks.clone());
                checks
            }
        };
        let mut rows = Vec::with_capacity(command.ops.len());
        for op in &command.ops {
            match op {
                WriteOp::Insert { row, .. } | WriteOp::Append { row } | WriteOp::Replace { row, .. } => rows.push(row),
                WriteOp::Delete { .. } => {}
                // Binding makes none for a table with constraints: the row that it makes is not known here.
                WriteOp::Patch { .. } => return Err(Error::internal("a row that no CHECK was asked of")),
            }
        }
        ask(&checks, table, &command.owner, rows)?;
        let OnConflict::Update(merge) = &command.on_conflict else { return Ok(write) };
        let (table, owner, merge) = (table.clone(), command.owner.clone(), merge.clone());
        Ok(write.on_conflict(OnConflict::Update(Arc::new(CheckedMerge { table, owner, checks, merge }))))
    }

    /// # Errors
    /// `INVALID_SQL` where a condition is none, or does not depend on the row alone.
    pub(super) async fn compile_checks(&self, table: &Arc<TableMeta>) -> Result<Checks> {
        // A catalog of this table alone: nothing else can be named.
        let mut catalog = Catalog::default();
        catalog.insert_table(table.clone());
        let catalog = Arc::new(catalog);
        let scope = Scope {
            principal: Principal { user: UserId::root(), role: Role::System, generation: 0 },
            impersonates: false,
            all_owners: false,
            namespace: table.name.namespace().as_str(),
            params: &[],
            durability: None,
            base_url: None,
            caller: CallerGone::default(),
            now_us: self.clock.now_us(),
        };
        let mut failing = Vec::with_capacity(table.checks.len());
        for constraint in &table.checks {
            let query = ast::Statement::Query(check::failing_rows(table, constraint)?);
            let ctx = self.query_context_in(&scope, self.store.read_view(), catalog.clone());
            let compiled = self.engine.compile_live(ctx, &query).await.map_err(|error| match error {
                Error::InvalidParameter { .. } => Error::InvalidSql(format!(
                    "CHECK '{}' takes no parameters; write the value into it",
                    constraint.name
                )),
                Error::Unsupported(_) => Error::Unsupported(format!(
                    "CHECK '{}' must depend on the row alone: no sub-query, and no function that gives another value each time",
                    constraint.name
                )),
                Error::InvalidSql(text) => Error::InvalidSql(format!("CHECK '{}': {text}", constraint.name)),
                other => other,
            })?;
            failing.push((constraint.name.clone(), compiled));
        }
        Ok(Checks::new(failing))
    }
}

/// DO UPDATE of a table with constraints.
#[derive(Debug)]
struct CheckedMerge {
    table: Arc<TableMeta>,
    owner: Owner,
    checks: Arc<Checks>,
    merge: Arc<dyn RowMerge>,
}

impl RowMerge for CheckedMerge {
    fn computes(&self) -> bool {
        true
    }

    fn merge(&self, conflicts: &[KeyConflict<'_>]) -> Result<Vec<Option<RowBytes>>> {
        let rows = self.merge.merge(conflicts)?;
        ask(&self.checks, &self.table, &self.owner, rows.iter().flatten())?;
        Ok(rows)
    }
}

fn ask<'a>(
    checks: &Checks,
    table: &Arc<TableMeta>,
    owner: &Owner,
    rows: impl IntoIterator<Item = &'a RowBytes>,
) -> Result<()> {
    let mut batch = BatchBuilder::new(table.clone(), None);
    for row in rows {
        batch.push(owner, &unwritten(row.clone()))?;
    }
    match checks.first_failing(&batch.finish()?)? {
        None => Ok(()),
        Some((row, constraint)) => {
            Err(Error::CheckViolated { constraint: constraint.to_owned(), table: table.name.clone(), row: row + 1 })
        }
    }
}

fn unwritten(row: RowBytes) -> StoredRow {
    StoredRow { seq: Seq::ZERO, created: Seq::ZERO, deleted: false, row, place: RowPlace::Own }
}
