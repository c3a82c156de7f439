//! ALTER TABLE: the table held, its rows asked where they decide, the change made.
//!
//! Owns the order: 1. no other change is under way; 2. writes under way end, those that come wait; 3. live rows are asked
//! for NULLs, where the change leaves no room for them; 4. the new definition is durable; 5. it is visible; 6. whoever was
//! compiled against the old one is told; 7. writes go on, bound anew. A crash before 4 leaves the old table, after it the
//! new one; rows are not touched by any of it.
//! Never decides what may be altered: `sql::define` does.

use std::sync::Arc;

use datafusion::sql::sqlparser::ast;
use futures_util::TryStreamExt as _;

use super::Database;
use super::define::{check_kind, said};
use super::execute::Scope;
use super::request::Outcome;
use crate::error::{Error, Result, SubscriptionFault};
use crate::failpoint;
use crate::model::{Catalog, TableMeta};
use crate::sql::define::{self, Alteration};
use crate::sql::parse;
use crate::sql::statement::{AlterTable, Statement};

impl Database {
    pub(super) async fn alter_table(&self, scope: &Scope<'_>, alter: &AlterTable) -> Result<Outcome> {
        let name = self.table_name(scope, &alter.name)?;
        let alteration = self.catalog.begin_alteration().await;
        let catalog = self.catalog.current();
        let Some(table) = catalog.find(name.namespace().as_str(), name.table()) else {
            return match alter.if_exists {
                true => Ok(said(format!("Table {name} does not exist"))),
                false => Err(Error::TableNotFound(name.to_string())),
            };
        };
        check_kind("ALTER", alter.kind, table)?;
        self.policy.may_alter_table(&scope.principal, table)?;
        let altered = match define::alter_table(&self.bind_context(scope, &catalog), table, &alter.operation)? {
            Alteration::Altered(altered) => *altered,
            Alteration::Unchanged(why) => {
                return Ok(said(format!("Table {name} unchanged: {why} (version {})", table.schema_version)));
            }
        };
        let mut gate = self.router.close_gate(table).await?;
        failpoint::pass("alter_held");
        if let Some(column) = &altered.without_nulls {
            self.check_no_nulls(scope, &catalog, table, column).await?;
        }

        // A task of its own: who asked may go away, but a change that is durable must become visible.
        let (router, live, policy) = (self.router.clone(), self.live.clone(), self.policy);
        let done = actix::spawn(async move {
            let table = alteration.commit(altered.table).await?;
            failpoint::pass("alter_committed");
            router.altered(&mut gate, &table, altered.columns_changed);
            let revoked = SubscriptionFault::RightRevoked.into();
            live.end(|s| s.table.id == table.id && policy.may_subscribe(&s.reader, &table).is_err(), &revoked);
            Ok(table.schema_version)
        });
        let version = done.await.unwrap_or(Err(Error::Aborted))?;
        Ok(said(format!("Table {name} altered successfully: {} (version {version})", altered.what)))
    }

    /// Looks for a live row, of whatever owner, that holds NULL in the column: on the engine's threads, within
    /// `limits.statement_timeout`, while the table's gate is closed.
    async fn check_no_nulls(
        &self,
        scope: &Scope<'_>,
        catalog: &Arc<Catalog>,
        table: &TableMeta,
        column: &str,
    ) -> Result<()> {
        let (namespace, name) = (table.name.namespace(), table.name.table());
        let sql = format!(r#"SELECT 1 FROM "{namespace}"."{name}" WHERE "{column}" IS NULL LIMIT 1"#);
        let Some(Statement::Query(query)) = parse::parse(&sql)?.pop().map(|parsed| parsed.statement) else {
            return Err(Error::internal("the query for NULLs is no query"));
        };
        let all = Scope {
            principal: scope.principal.clone(),
            impersonates: false,
            all_owners: true,
            params: &[],
            durability: None,
            ..*scope
        };
        let ctx = self.query_context_in(&all, self.store.read_view(), catalog.clone());
        let mut rows = self.engine.query(ctx, &ast::Statement::Query(query)).await?.stream;
        while let Some(batch) = rows.try_next().await? {
            // Which row it is would tell of another user's.
            if batch.num_rows() > 0 {
                return Err(Error::NullsStored { column: column.to_owned(), table: table.name.clone() });
            }
        }
        Ok(())
    }
}
