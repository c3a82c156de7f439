//! INSERT, UPDATE and DELETE: bound, authorised, appended.
//!
//! Owns the retry of a computed change that another statement overtook.
//! Never plans a write that needs no query.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast;
use futures_util::TryStreamExt;

use super::Database;
use super::execute::Scope;
use super::request::Outcome;
use crate::error::{Error, Result};
use crate::model::{Catalog, TableMeta, WriteAck, WriteCommand};
use crate::sql::bind::{self, BindContext, BoundChange, BoundInsert, ComputedChange};
use crate::sql::statement::Insert;

/// Times that a statement is computed anew when what it read changed in between, before `CONFLICT`.
const ATTEMPTS: usize = 8;

impl Database {
    pub(super) async fn insert(&self, scope: &Scope<'_>, insert: &Insert) -> Result<Outcome> {
        let ack = self.write(async |catalog| {
            let ctx = self.bind_context(scope, &catalog);
            let command = match bind::bind_insert(&ctx, insert)? {
                BoundInsert::Rows(command) => command,
                BoundInsert::FromQuery { table, columns, query } => {
                    let batches = self.collect(scope, &catalog, &table, *query).await?;
                    bind::bind_rows(&ctx, &table, &columns, &batches)?
                }
            };
            self.append(scope, command).await
        });
        Ok(done("Inserted", ack.await?))
    }

    pub(super) async fn update(&self, scope: &Scope<'_>, update: &ast::Update) -> Result<Outcome> {
        let ack = self.change(scope, |ctx| bind::bind_update(ctx, update)).await?;
        Ok(done("Updated", ack))
    }

    pub(super) async fn delete(&self, scope: &Scope<'_>, delete: &ast::Delete) -> Result<Outcome> {
        let ack = self.change(scope, |ctx| bind::bind_delete(ctx, delete)).await?;
        Ok(done("Deleted", ack))
    }

    pub(super) async fn change(
        &self,
        scope: &Scope<'_>,
        bind: impl Fn(&BindContext<'_>) -> Result<BoundChange>,
    ) -> Result<WriteAck> {
        let ack = self.write(async |catalog| {
            let ctx = self.bind_context(scope, &catalog);
            let computed = match bind(&ctx)? {
                BoundChange::ByKey(command) => return self.append(scope, command).await,
                BoundChange::ByQuery(computed) => computed,
            };
            let mut attempt = 1;
            loop {
                match self.compute_and_append(scope, &catalog, &ctx, &computed).await {
                    // Someone changed a row between our reading and our writing it: read again.
                    Err(Error::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                    outcome => return outcome,
                }
            }
        });
        ack.await
    }

    /// Runs a statement that is bound against the catalog of this moment; once more where a table that it was bound
    /// against was altered before it was done.
    pub(super) async fn write<T>(&self, statement: impl AsyncFn(Arc<Catalog>) -> Result<T>) -> Result<T> {
        let mut outcome = statement(self.catalog.current()).await;
        if !matches!(outcome, Err(Error::TableAltered(_))) {
            return outcome;
        }
        // The ALTER under way is waited for, and no further one can come between.
        let _unaltered = self.catalog.unaltered().await;
        for _ in 1..ATTEMPTS {
            outcome = statement(self.catalog.current()).await;
            // Again only where a query was bound and another table made or dropped before it was read.
            if !matches!(outcome, Err(Error::TableAltered(_))) {
                break;
            }
        }
        outcome
    }

    async fn compute_and_append(
        &self,
        scope: &Scope<'_>,
        catalog: &Arc<Catalog>,
        ctx: &BindContext<'_>,
        computed: &ComputedChange,
    ) -> Result<WriteAck> {
        let batches = self.collect(scope, catalog, &computed.table, (*computed.select).clone()).await?;
        let command = bind::bind_computed(ctx, computed, &batches)?;
        self.append(scope, command).await
    }

    pub(super) async fn append(&self, scope: &Scope<'_>, command: WriteCommand) -> Result<WriteAck> {
        if scope.impersonates {
            self.policy.may_write_as(&command.table)?;
        }
        if scope.all_owners {
            return Err(Error::Unsupported(
                "EXECUTE AS USER '*' reads; write as one user at a time: EXECUTE AS USER 'name' (…)".to_owned(),
            ));
        }
        let authorized = self.policy.authorize_write(&scope.principal, command)?;
        self.check_rows(authorized.command()).await?;
        self.router.append(authorized).await
    }

    /// All rows of a query that was bound with a write to `table`, within `limits.max_result_bytes`.
    async fn collect(
        &self,
        scope: &Scope<'_>,
        catalog: &Arc<Catalog>,
        table: &TableMeta,
        query: ast::Query,
    ) -> Result<Vec<RecordBatch>> {
        let view = self.store.read_view();
        // Here the view comes second: it is that of the catalog only if the catalog is still the same.
        if self.catalog.current().version != catalog.version {
            return Err(Error::TableAltered(table.name.clone()));
        }
        self.auth.check_holder(&scope.principal)?;
        let ctx = self.query_context_in(scope, view, catalog.clone());
        let output = self.run_query(ctx, &ast::Statement::Query(Box::new(query))).await?;
        self.within_limit(output).await.map(|(_, batches)| batches)
    }

    /// Gathers a row stream within `limits.max_result_bytes`.
    pub(super) async fn within_limit(
        &self,
        mut rows: super::request::RowStream,
    ) -> Result<(crate::model::ResultSchema, Vec<RecordBatch>)> {
        let max_bytes = self.options.max_result_bytes;
        let mut batches = Vec::new();
        let mut bytes = 0u64;
        while let Some(batch) = rows.batches.try_next().await? {
            bytes += batch.get_array_memory_size() as u64;
            if max_bytes > 0 && bytes > max_bytes {
                return Err(Error::ResultTooLarge { max_bytes });
            }
            batches.push(batch);
        }
        Ok((rows.schema, batches))
    }

    pub(super) fn bind_context<'a>(&'a self, scope: &'a Scope<'_>, catalog: &'a Arc<Catalog>) -> BindContext<'a> {
        BindContext {
            catalog,
            namespace: scope.namespace,
            user: &scope.principal.user,
            params: scope.params,
            now_us: scope.now_us,
            ids: &self.ids,
            durability: self.options.durability,
            request_durability: scope.durability,
        }
    }
}

fn done(verb: &str, ack: WriteAck) -> Outcome {
    Outcome::Done { rows: ack.rows, message: format!("{verb} {} row(s)", ack.rows) }
}
