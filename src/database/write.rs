//! INSERT, UPDATE and DELETE: bound, authorised, appended.
//!
//! Owns the retry of a computed change that another statement overtook, and that a statement with RETURNING answers what was
//! written, without reading it again.
//! Never plans a write that needs no query.

use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::sql::sqlparser::ast;
use futures_util::{TryStreamExt, stream};

use super::Database;
use super::execute::Scope;
use super::read::DIRECT_ROWS_MAX;
use super::request::{Outcome, RowStream};
use crate::error::{Error, Result};
use crate::model::{Catalog, OnConflict, Returning, TableMeta, WriteAck, WriteCommand};
use crate::sql::bind::{
    self, BindContext, BoundChange, BoundConflict, BoundInsert, BoundReturning, BoundStatement, ComputedChange,
    ComputedWrite, InsertRows, ReturnedRows, ReturningSpec,
};
use crate::sql::engine::RowExprs;
use crate::sql::statement::Insert;

/// Times that a statement is computed anew when what it read changed in between, before `CONFLICT`.
const ATTEMPTS: usize = 8;

impl Database {
    pub(super) async fn insert(&self, scope: &Scope<'_>, insert: &Insert) -> Result<Outcome> {
        let done = self.write(async |catalog| {
            let ctx = self.bind_context(scope, &catalog);
            let BoundInsert { rows, conflict, returning } = bind::bind_insert(&ctx, insert)?;
            let returned = self.returned_rows(scope, &catalog, returning).await?;
            let command = match rows {
                InsertRows::Rows(command) => command,
                InsertRows::Query { table, columns, query } => {
                    let batches = self.collect(scope, &catalog, &table, *query).await?;
                    bind::bind_rows(&ctx, &table, &columns, &batches)?
                }
            };
            let on_conflict = self.on_conflict(scope, &catalog, conflict).await?;
            let command = WriteCommand { on_conflict, ..command };
            Ok((self.append_returning(scope, command, returned.as_ref()).await?, returned))
        });
        self.done("Inserted", done.await?).await
    }

    pub(super) async fn update(&self, scope: &Scope<'_>, update: &ast::Update) -> Result<Outcome> {
        let done = self.change(scope, |ctx| bind::bind_update(ctx, update)).await?;
        self.done("Updated", done).await
    }

    pub(super) async fn delete(&self, scope: &Scope<'_>, delete: &ast::Delete) -> Result<Outcome> {
        let done = self.change(scope, |ctx| bind::bind_delete(ctx, delete)).await?;
        self.done("Deleted", done).await
    }

    pub(super) async fn change(
        &self,
        scope: &Scope<'_>,
        bind: impl Fn(&BindContext<'_>) -> Result<BoundStatement>,
    ) -> Result<(WriteAck, Option<ReturnedRows>)> {
        let done = self.write(async |catalog| {
            let ctx = self.bind_context(scope, &catalog);
            let BoundStatement { change, returning } = bind(&ctx)?;
            let returned = self.returned_rows(scope, &catalog, returning).await?;
            let computed = match change {
                BoundChange::ByKey(command) => {
                    return Ok((self.append_returning(scope, command, returned.as_ref()).await?, returned));
                }
                BoundChange::ByQuery(computed) => computed,
            };
            let mut attempt = 1;
            loop {
                match self.compute_and_append(scope, &catalog, &computed, returned.as_ref()).await {
                    // Someone changed a row between our reading and our writing it: read again.
                    Err(Error::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                    outcome => return outcome,
                }
            }
        });
        done.await
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
        computed: &ComputedChange,
        returned: Option<&ReturnedRows>,
    ) -> Result<(WriteAck, Option<ReturnedRows>)> {
        let others = returned.and_then(ReturnedRows::exprs).map_or(&[][..], RowExprs::others);
        let select = computed.select(others.iter().map(|column| column.expr.clone()));
        let batches = self.collect(scope, catalog, &computed.table, select).await?;
        let ComputedWrite { command, beside } =
            bind::bind_computed(&self.bind_context(scope, catalog), computed, &batches)?;
        let returned = returned.map(|returned| returned.beside(beside));
        Ok((self.append_returning(scope, command, returned.as_ref()).await?, returned))
    }

    /// What ON CONFLICT does, its expressions compiled as the caller.
    async fn on_conflict(
        &self,
        scope: &Scope<'_>,
        catalog: &Arc<Catalog>,
        conflict: BoundConflict,
    ) -> Result<OnConflict> {
        let spec = match conflict {
            BoundConflict::Done(on_conflict) => return Ok(on_conflict),
            BoundConflict::Computed(spec) => spec,
        };
        let exprs = self.compile_rows(scope, catalog, &spec.table, (*spec.select).clone()).await?;
        spec.merge(exprs)
    }

    /// What RETURNING answers, its expressions compiled as the caller, who must be one that may read the table.
    async fn returned_rows(
        &self,
        scope: &Scope<'_>,
        catalog: &Arc<Catalog>,
        returning: Option<BoundReturning>,
    ) -> Result<Option<ReturnedRows>> {
        let returned = match returning {
            None => return Ok(None),
            Some(BoundReturning::Columns(returned)) => returned,
            Some(BoundReturning::Computed(ReturningSpec { table, select })) => {
                let exprs = self.compile_rows(scope, catalog, &table, *select).await?;
                ReturnedRows::computed(table, exprs)
            }
        };
        self.policy.may_read(&scope.principal, returned.table())?;
        Ok(Some(returned))
    }

    async fn compile_rows(
        &self,
        scope: &Scope<'_>,
        catalog: &Arc<Catalog>,
        table: &TableMeta,
        select: ast::Query,
    ) -> Result<RowExprs> {
        check_one_owner(scope)?;
        let ctx = self.query_context_in(scope, self.store.read_view(), catalog.clone());
        self.engine.compile_rows(ctx, select, table.shown_schema(false).fields().len()).await
    }

    async fn append_returning(
        &self,
        scope: &Scope<'_>,
        command: WriteCommand,
        returned: Option<&ReturnedRows>,
    ) -> Result<WriteAck> {
        let returning = returned.map(|returned| Arc::new(returned.clone()) as Arc<dyn Returning>);
        self.append(scope, WriteCommand { returning, ..command }).await
    }

    pub(super) async fn append(&self, scope: &Scope<'_>, command: WriteCommand) -> Result<WriteAck> {
        if scope.impersonates {
            self.policy.may_write_as(&command.table)?;
        }
        check_one_owner(scope)?;
        let authorized = self.policy.authorize_write(&scope.principal, command)?;
        self.router.append(self.with_checks(authorized).await?).await
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

    /// A count, or the rows themselves.
    async fn done(&self, verb: &str, (ack, returned): (WriteAck, Option<ReturnedRows>)) -> Result<Outcome> {
        let Some(returned) = returned else {
            return Ok(Outcome::Done { rows: ack.rows, message: format!("{verb} {} row(s)", ack.rows) });
        };
        let schema = returned.schema().clone();
        let batch = match ack.written.len() {
            0 => return Ok(Outcome::Rows(RowStream { schema, batches: Box::pin(stream::empty()) })),
            1..=DIRECT_ROWS_MAX => returned.answer(&ack.written)?,
            // It would hold up an HTTP worker.
            _ => self.engine.blocking(move || returned.answer(&ack.written)).await?,
        };
        Ok(Outcome::Rows(RowStream { schema, batches: Box::pin(stream::once(std::future::ready(Ok(batch)))) }))
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

fn check_one_owner(scope: &Scope<'_>) -> Result<()> {
    if scope.all_owners {
        return Err(Error::Unsupported(
            "EXECUTE AS USER '*' reads; write as one user at a time: EXECUTE AS USER 'name' (…)".to_owned(),
        ));
    }
    Ok(())
}
