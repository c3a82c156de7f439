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
use crate::model::{WriteAck, WriteCommand};
use crate::sql::bind::{self, BindContext, BoundChange, BoundInsert, ComputedChange};
use crate::sql::statement::Insert;

/// Times that a computed UPDATE or DELETE is computed anew when its rows changed in between, before `CONFLICT`.
const ATTEMPTS: usize = 8;

impl Database {
    pub(super) async fn insert(&self, scope: &Scope<'_>, insert: &Insert) -> Result<Outcome> {
        let catalog = self.catalog.current();
        let ctx = self.bind_context(scope, &catalog);
        let command = match bind::bind_insert(&ctx, insert)? {
            BoundInsert::Rows(command) => command,
            BoundInsert::FromQuery { table, columns, query } => {
                let batches = self.collect(scope, *query).await?;
                bind::bind_rows(&ctx, &table, &columns, &batches)?
            }
        };
        let ack = self.append(scope, command).await?;
        Ok(done("Inserted", ack))
    }

    pub(super) async fn update(&self, scope: &Scope<'_>, update: &ast::Update) -> Result<Outcome> {
        let ack = self.change(scope, |ctx| bind::bind_update(ctx, update)).await?;
        Ok(done("Updated", ack))
    }

    pub(super) async fn delete(&self, scope: &Scope<'_>, delete: &ast::Delete) -> Result<Outcome> {
        let ack = self.change(scope, |ctx| bind::bind_delete(ctx, delete)).await?;
        Ok(done("Deleted", ack))
    }

    async fn change(
        &self,
        scope: &Scope<'_>,
        bind: impl Fn(&BindContext<'_>) -> Result<BoundChange>,
    ) -> Result<WriteAck> {
        let catalog = self.catalog.current();
        let ctx = self.bind_context(scope, &catalog);
        let computed = match bind(&ctx)? {
            BoundChange::ByKey(command) => return self.append(scope, command).await,
            BoundChange::ByQuery(computed) => computed,
        };
        let mut attempt = 1;
        loop {
            match self.compute_and_append(scope, &ctx, &computed).await {
                // Someone changed a row between our reading and our writing it: read again.
                Err(Error::Conflict(_)) if attempt < ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn compute_and_append(
        &self,
        scope: &Scope<'_>,
        ctx: &BindContext<'_>,
        computed: &ComputedChange,
    ) -> Result<WriteAck> {
        let batches = self.collect(scope, (*computed.select).clone()).await?;
        let command = bind::bind_computed(ctx, computed, &batches)?;
        self.append(scope, command).await
    }

    async fn append(&self, scope: &Scope<'_>, command: WriteCommand) -> Result<WriteAck> {
        if scope.impersonates {
            self.policy.may_write_as(&command.table)?;
        }
        if scope.all_owners {
            return Err(Error::Unsupported(
                "EXECUTE AS USER '*' reads; write as one user at a time: EXECUTE AS USER 'name' (…)".to_owned(),
            ));
        }
        let authorized = self.policy.authorize_write(&scope.principal, command)?;
        self.router.append(authorized).await
    }

    /// All rows of a query, within `limits.max_result_bytes`.
    async fn collect(&self, scope: &Scope<'_>, query: ast::Query) -> Result<Vec<RecordBatch>> {
        let output = self.plan_and_run(scope, &ast::Statement::Query(Box::new(query))).await?;
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

    pub(super) fn bind_context<'a>(
        &'a self,
        scope: &'a Scope<'_>,
        catalog: &'a Arc<crate::model::Catalog>,
    ) -> BindContext<'a> {
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
