//! CREATE TABLE … AS SELECT, and TRUNCATE.
//!
//! Owns the order: the query is run; the table is made; its rows are written as one statement. Where they can not be, the table
//! is taken away again. A crash behind the second step leaves the table without rows.

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast;

use super::Database;
use super::define::said;
use super::execute::Scope;
use super::request::Outcome;
use crate::error::{Error, Result};
use crate::model::{TableId, TableKind, TableMeta, TableName};
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
        let Some(table) = self.make_table(scope, &as_columns.create, name).await? else {
            return Err(Error::TableExists(name.clone()));
        };
        match self.fill(scope, &table, &batches).await {
            Ok(count) => {
                let kind = kind.as_str().to_ascii_uppercase();
                let columns = table.columns.len();
                let message =
                    format!("CREATE TABLE: {kind} table {name} created with {columns} column(s) and {count} row(s)");
                Ok(Outcome::Done { rows: count, message })
            }
            Err(error) => {
                self.take_away(&table).await;
                Err(error)
            }
        }
    }

    async fn fill(&self, scope: &Scope<'_>, table: &TableMeta, batches: &[RecordBatch]) -> Result<u64> {
        if batches.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(0);
        }
        let ack = self.write(async |catalog| {
            let table = catalog.table(table.name.namespace().as_str(), table.name.table())?;
            let given = batches.first().map_or(0, RecordBatch::num_columns);
            // A key that the query does not give stands first.
            let columns: Vec<usize> = (table.columns.len() - given..table.columns.len()).collect();
            let command = bind::bind_rows(&self.bind_context(scope, &catalog), table, &columns, batches)?;
            self.append(scope, command).await
        });
        Ok(ack.await?.rows)
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
