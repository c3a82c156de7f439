//! ALTER TABLE: the table held, its rows asked where they decide, the change made.
//!
//! Owns the order: 1. no other change is under way; 2. writes under way end, those that come wait; 3. live rows are asked
//! for NULLs, where the change leaves no room for them; 4. the new definition is durable; 5. it is visible; 6. whoever was
//! compiled against the old one is told; 7. writes go on, bound anew. A crash before 4 leaves the old table, after it the
//! new one; rows are not touched by any of it. Where cold ones are to lie elsewhere, a record of it is durable with 4, and
//! a job moves them.
//! Never decides what may be altered: `sql::define` does.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use futures_util::TryStreamExt as _;

use super::Database;
use super::catalog::{owe_move, owed_moves};
use super::define::{check_kind, said};
use super::execute::Scope;
use super::jobs::move_of;
use super::request::Outcome;
use crate::error::{Error, Result, SubscriptionFault};
use crate::failpoint;
use crate::model::{Catalog, TableMeta};
use crate::sql::define::{self, Alteration, AlteredTable};
use crate::sql::parse;
use crate::sql::statement::{AlterTable, Statement};
use crate::storage::RecordWrite;

impl Database {
    pub(super) async fn alter_table(&self, scope: &Scope<'_>, alter: &AlterTable) -> Result<Outcome> {
        let name = self.table_name(scope, &alter.name)?;
        let alteration = self.catalog.begin_alteration().await;
        let catalog = self.catalog.current();
        if let Some(view) = catalog.views.get(&name) {
            return Err(Error::WrongObject(format!("{} is a view; use CREATE OR REPLACE VIEW", view.name)));
        }
        let Some(table) = catalog.find(name.namespace().as_str(), name.table()) else {
            return match alter.if_exists {
                true => Ok(said(format!("Table {name} does not exist"))),
                false => Err(Error::TableNotFound(name.to_string())),
            };
        };
        check_kind("ALTER", alter.kind, table)?;
        self.policy.may_alter_table(&scope.principal, table)?;
        self.policy.may_redefine(&name)?;
        let mut altered = match define::alter_table(&self.bind_context(scope, &catalog), table, &alter.operation)? {
            Alteration::Altered(altered) => *altered,
            Alteration::Unchanged(why) => {
                let again = self.move_again(table).await?;
                return Ok(said(format!("Table {name} unchanged: {why} (version {}){again}", table.schema_version)));
            }
        };
        catalog.storage(&altered.table.storage)?;
        self.check_what_depends(&catalog, table, &altered).await?;
        let routes = self.routes_of_altered(&catalog, &altered.table).await?;
        let owed = self.owed_move(table, &altered.table)?;
        let moves = owed.is_some();
        let mut gate = self.router.close_gate(table).await?;
        failpoint::pass("alter_held");
        if let Some(seconds) = altered.ttl_seconds {
            self.change_ttl(table, &mut altered.table, seconds).await?;
        }
        if let Some(column) = &altered.without_nulls {
            // Which row it is would tell of another user's.
            if self.any_row(scope, &catalog, table, &format!("\"{column}\" IS NULL")).await? {
                return Err(Error::NullsStored { column: column.clone(), table: name });
            }
        }
        if !altered.without_failing.is_empty() {
            // Read as what they are about to be: a condition may be about a column that is added.
            let after = Arc::new(with_table(&catalog, &altered.table));
            for check in &altered.without_failing {
                if self.any_row(scope, &after, table, &format!("({}) IS FALSE", check.condition)).await? {
                    return Err(Error::CheckFailsStored { constraint: check.name.clone(), table: name });
                }
            }
        }

        // A task of its own: who asked may go away, but a change that is durable must become visible.
        let (router, live, policy) = (self.router.clone(), self.live.clone(), self.policy);
        let done = actix::spawn(async move {
            let table = alteration.commit(altered.table, owed).await?;
            failpoint::pass("alter_committed");
            router.altered(&mut gate, &table, altered.columns_changed);
            if let Some(routes) = routes {
                router.set_routes(&mut gate, &table, routes);
            }
            let revoked = SubscriptionFault::RightRevoked.into();
            live.end(|s| s.follows.is_table(table.id) && policy.may_subscribe(&s.reader, &table).is_err(), &revoked);
            Ok(table)
        });
        let table = done.await.unwrap_or(Err(Error::Aborted))?;
        let job = if moves { self.move_again(&table).await? } else { String::new() };
        let version = table.schema_version;
        Ok(said(format!("Table {name} altered successfully: {} (version {version}){job}", altered.what)))
    }

    /// Gives a STREAM table another TTL, where nothing is written meanwhile: rows up to its last position keep theirs if it is
    /// shorter.
    async fn change_ttl(&self, before: &TableMeta, after: &mut TableMeta, seconds: u64) -> Result<()> {
        let Some(ttl) = &before.ttl else { return Ok(()) };
        self.make_buckets_of(seconds).await?;
        let head = self.store.read_view().last_position(before)?;
        let changed = ttl.changed(seconds, head, self.store.streams().now_ms());
        after.ttl = Some(changed.ok_or_else(|| {
            Error::InvalidInput(format!(
                "rows of {} have 16 different TTLs by now; alter it again when the oldest of them have expired",
                before.name
            ))
        })?);
        Ok(())
    }

    /// Where rows are to lie elsewhere behind an alteration: the record that says so.
    fn owed_move(&self, before: &TableMeta, after: &TableMeta) -> Result<Option<RecordWrite>> {
        if before.storage == after.storage && before.use_user_storage == after.use_user_storage {
            return Ok(None);
        }
        let from = [before.storage.clone()];
        owe_move(&self.store, (before.id, None), from, self.clock.now_us()).map(Some)
    }

    /// Has a table moved, if that is owed; says by which job.
    async fn move_again(&self, table: &TableMeta) -> Result<String> {
        let owed = owed_moves(&self.store)?.into_iter().filter(|owed| owed.table == table.id);
        let Some(turn) = owed.map(|owed| owed.turn).max() else { return Ok(String::new()) };
        let job = self.jobs.submit(move_of(table, turn)).await?;
        Ok(format!(". Files are moved by job {job}"))
    }

    /// What the table's constraints and the views above it mean has to be the same behind the alteration.
    async fn check_what_depends(&self, catalog: &Catalog, table: &TableMeta, altered: &AlteredTable) -> Result<()> {
        let after = Arc::new(altered.table.clone());
        if !after.checks.is_empty() && (altered.columns_changed || !altered.without_failing.is_empty()) {
            self.compile_checks(&after).await?;
        }
        if !altered.columns_changed || catalog.readers_of(std::slice::from_ref(&table.name)).is_empty() {
            return Ok(());
        }
        let candidate = with_table(catalog, &after);
        self.check_readers(candidate, &table.name, || format!("alter table {}", table.name)).await
    }

    /// Is there a live row, of whatever owner, for which the condition is true? Looked for on the engine's threads, within
    /// `limits.statement_timeout`, while the table's gate is closed.
    async fn any_row(
        &self,
        scope: &Scope<'_>,
        catalog: &Arc<Catalog>,
        table: &TableMeta,
        condition: &str,
    ) -> Result<bool> {
        let (namespace, name) = (table.name.namespace(), table.name.table());
        let sql = format!(r#"SELECT 1 FROM "{namespace}"."{name}" WHERE {condition} LIMIT 1"#);
        let Some(Statement::Query(query)) = parse::parse(&sql)?.pop().map(|parsed| parsed.statement) else {
            return Err(Error::internal("the query for rows is no query"));
        };
        let all = Scope {
            principal: scope.principal.clone(),
            impersonates: false,
            all_owners: true,
            params: &[],
            durability: None,
            caller: scope.caller.clone(),
            ..*scope
        };
        let ctx = self.query_context_in(&all, self.store.read_view(), catalog.clone());
        let mut rows = self.engine.query(ctx, &ast::Statement::Query(query)).await?.stream;
        while let Some(batch) = rows.try_next().await? {
            if batch.num_rows() > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// A catalog that nobody else sees: no plan made over it is kept for the one that it was made of.
fn with_table(catalog: &Catalog, table: &TableMeta) -> Catalog {
    let mut candidate = catalog.clone();
    candidate.insert_table(Arc::new(table.clone()));
    candidate.is_trial = true;
    candidate
}
