//! CREATE TABLE … AS SELECT, and TRUNCATE.
//!
//! Owns the order: the query is run; the table's id is given out; its rows are written as one statement; then the table is there,
//! with all of them. Where they can not be written, and after a crash before the last step, there is no table
//! (`catalog/unfinished.rs`).

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast;

use super::Database;
use super::catalog::DroppedTable;
use super::define::said;
use super::execute::Scope;
use super::jobs::cleanup_of;
use super::request::Outcome;
use crate::auth::policy::Authorized;
use crate::error::{Error, Result};
use crate::failpoint;
use crate::model::{TableId, TableKind, TableMeta, TableName, WriteCommand};
use crate::sql::bind;
use crate::sql::define;
use crate::sql::parse;
use crate::sql::statement::{CreateTable, Statement, TableRef};

impl Database {
    pub(super) async fn create_table_as(
        &self,
        scope: &Scope<'_>,
        create: &CreateTable,
        (name, kind): (&TableName, TableKind),
        query: &ast::Query,
    ) -> Result<Outcome> {
        if scope.all_owners {
            let message = "CREATE TABLE … AS inside EXECUTE AS USER '*' is not supported: the new rows need one owner";
            return Err(Error::Unsupported(message.to_owned()));
        }
        let catalog = self.catalog.current();
        if create.if_not_exists && catalog.find(name.namespace().as_str(), name.table()).is_some() {
            return Ok(said(format!("CREATE TABLE: table {name} already exists")));
        }
        let rows = self.plan_and_run(scope, &ast::Statement::Query(Box::new(query.clone()))).await?;
        let as_columns = define::columns_of_query(create, kind, &rows.schema)?;
        let trial = define::define_table(&as_columns.create, name.clone(), TableId(0), &scope.principal, scope.now_us)?;
        if scope.impersonates {
            self.policy.may_write_as(&trial)?;
        }
        let (_, batches) = self.within_limit(rows).await?;
        let batches = chosen(batches, &as_columns.positions)?;
        let columns = trial.columns.len();
        let count = if batches.iter().all(|batch| batch.num_rows() == 0) {
            let made = self.make_table(scope, &as_columns.create, name).await?;
            made.map(|_| 0)
        } else {
            if !trial.checks.is_empty() {
                self.compile_checks(&Arc::new(trial)).await?;
            }
            self.make_filled(scope, &as_columns.create, name, &batches).await?
        };
        let count = count.ok_or_else(|| Error::TableExists(name.clone()))?;
        let kind = kind.as_str().to_ascii_uppercase();
        let message = format!("CREATE TABLE: {kind} table {name} created with {columns} column(s) and {count} row(s)");
        Ok(Outcome::Done { rows: count, message })
    }

    /// How many rows the table has now; `None`: there is one of this name.
    async fn make_filled(
        &self,
        scope: &Scope<'_>,
        create: &CreateTable,
        name: &TableName,
        batches: &[RecordBatch],
    ) -> Result<Option<u64>> {
        let define = |id| define::define_table(create, name.clone(), id, &scope.principal, scope.now_us);
        let Some(unfinished) = self.catalog.begin_table(name, define).await? else { return Ok(None) };
        failpoint::pass("create_as_begun");
        let table = unfinished.table().clone();
        let first_rows = self.first_rows(scope, &table, batches).await;
        let (router, live, jobs) = (self.router.clone(), self.live.clone(), self.jobs.clone());
        // A task of its own: who asked may go away, but what is written has to become visible, or go.
        let filled = actix::spawn(async move {
            let filled = async {
                let ack = router.append(first_rows?).await?;
                failpoint::pass("create_as_filled");
                unfinished.finish().await?;
                Ok(ack.rows)
            };
            let filled = filled.await;
            match &filled {
                Ok(_) => live.table_made(&table.name),
                Err(_) => {
                    router.drop_table(&table).await;
                    drop(unfinished);
                    jobs.submit_owed(cleanup_of(&DroppedTable::of(&table))).await;
                }
            }
            filled
        });
        match filled.await.unwrap_or(Err(Error::Aborted)) {
            Ok(count) => Ok(Some(count)),
            Err(Error::TableExists(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn first_rows(
        &self,
        scope: &Scope<'_>,
        table: &Arc<TableMeta>,
        batches: &[RecordBatch],
    ) -> Result<Authorized<WriteCommand>> {
        let catalog = self.catalog.current();
        let given = batches.first().map_or(0, RecordBatch::num_columns);
        // A key that the query does not give stands first.
        let columns: Vec<usize> = (table.columns.len() - given..table.columns.len()).collect();
        let command = bind::bind_rows(&self.bind_context(scope, &catalog), table, &columns, batches)?;
        self.with_checks(self.policy.authorize_write(&scope.principal, command)?).await
    }

    /// Deletes each row, as DELETE does: one statement, whose subscribers see each delete.
    pub(super) async fn truncate(&self, scope: &Scope<'_>, name: &TableRef) -> Result<Outcome> {
        let name = self.table_name(scope, name)?;
        let sql = format!(r#"DELETE FROM "{}"."{}" WHERE TRUE"#, name.namespace(), name.table());
        let Some(Statement::Delete(delete)) = parse::parse(&sql)?.pop().map(|parsed| parsed.statement) else {
            return Err(Error::internal("the DELETE of all rows is none"));
        };
        let (ack, _) = self.change(scope, |ctx| bind::bind_delete(ctx, &delete)).await?;
        Ok(Outcome::Done { rows: ack.rows, message: format!("Table {name} truncated: {} row(s) deleted", ack.rows) })
    }
}

fn chosen(batches: Vec<RecordBatch>, positions: &[usize]) -> Result<Vec<RecordBatch>> {
    batches.into_iter().map(|batch| batch.project(positions).map_err(Error::internal)).collect()
}
