//! DDL: namespaces and tables.
//!
//! Owns the sentences that DDL answers. A dropped table is gone at once for everyone; a job removes its keys.

use std::sync::Arc;

use super::Database;
use super::catalog::{DroppedNamespace, DroppedTable};
use super::execute::Scope;
use super::jobs::{cleanup_of, is_about};
use super::request::Outcome;
use super::views::with_views;
use crate::error::{Error, Result};
use crate::model::{NamespaceName, Role, TableId, TableKind, TableMeta, TableName};
use crate::sql::define;
use crate::sql::statement::{CreateTable, TableRef};

impl Database {
    pub(super) async fn create_namespace(&self, name: &NamespaceName, if_not_exists: bool) -> Result<Outcome> {
        let name = NamespaceName::parse_new(name.as_str())?;
        if self.catalog.create_namespace(name.clone(), self.clock.now_us()).await? {
            return Ok(said(format!("Namespace '{name}' created successfully")));
        }
        if if_not_exists {
            Ok(said(format!("Namespace '{name}' already exists")))
        } else {
            Err(Error::NamespaceExists(name))
        }
    }

    pub(super) async fn alter_namespace(&self, name: &NamespaceName, options: &[(String, String)]) -> Result<Outcome> {
        self.catalog.alter_namespace(name, options).await?;
        Ok(said(format!("Namespace '{name}' altered successfully")))
    }

    pub(super) async fn drop_namespace(&self, name: &NamespaceName, if_exists: bool, cascade: bool) -> Result<Outcome> {
        let name = NamespaceName::parse_new(name.as_str())?;
        self.policy.may_drop_namespace(&name)?;
        match self.catalog.drop_namespace(&name, cascade).await? {
            Some(DroppedNamespace { tables, views, topics }) => {
                let with = with_these(&[("table", tables.len()), ("view", views.len()), ("topic", topics.len())]);
                for table in tables {
                    self.retire(&table).await;
                }
                // Behind the tables: their writes have ended, and nothing is appended any more. Tables of other namespaces
                // forget their routes into these.
                for topic in topics {
                    self.drop_routes_into(&topic).await;
                    self.retire_topic(&topic).await;
                }
                self.live.namespace_dropped(&name);
                self.live.cursors().namespace_dropped(&name);
                Ok(said(format!("Namespace '{name}' dropped successfully{with}")))
            }
            None if if_exists => Ok(said(format!("Namespace '{name}' does not exist"))),
            None => Err(Error::NamespaceNotFound(name)),
        }
    }

    pub(super) async fn create_table(&self, scope: &Scope<'_>, create: &CreateTable) -> Result<Outcome> {
        let name = self.table_name(scope, &create.name)?;
        let kind = create.kind.unwrap_or_else(|| default_kind(scope, &name));
        self.policy.may_create_table(&scope.principal, kind, name.namespace())?;
        if kind == TableKind::Stream {
            let options = create.options.iter().find(|(name, _)| name == "TTL_SECONDS");
            // What is no number is refused below.
            if let Some(seconds) = options.and_then(|(_, value)| value.parse().ok()) {
                self.make_buckets_of(seconds).await?;
            }
        }
        if let Some(query) = &create.query {
            return self.create_table_as(scope, create, (&name, kind), query).await;
        }
        match self.make_table(scope, create, &name).await? {
            Some(table) => {
                let kind = table.kind.as_str().to_ascii_uppercase();
                Ok(said(format!("CREATE TABLE: {kind} table {name} created with {} column(s)", table.columns.len())))
            }
            None if create.if_not_exists => Ok(said(format!("CREATE TABLE: table {name} already exists"))),
            None => Err(Error::TableExists(name)),
        }
    }

    /// `None`: there is one of this name.
    pub(super) async fn make_table(
        &self,
        scope: &Scope<'_>,
        create: &CreateTable,
        name: &TableName,
    ) -> Result<Option<Arc<TableMeta>>> {
        let define = |id| define::define_table(create, name.clone(), id, &scope.principal, scope.now_us);
        let trial = Arc::new(define(TableId(0))?);
        if !trial.checks.is_empty() {
            self.compile_checks(&trial).await?;
        }
        let made = self.catalog.create_table(name, define).await?;
        if made.is_some() {
            self.live.table_made(name);
        }
        Ok(made)
    }

    pub(super) async fn drop_table(
        &self,
        scope: &Scope<'_>,
        kind: Option<TableKind>,
        name: &TableRef,
        (if_exists, cascade): (bool, bool),
    ) -> Result<Outcome> {
        let name = self.table_name(scope, name)?;
        self.policy.may_redefine(&name)?;
        let (namespace, table) = (name.namespace().as_str(), name.table());
        if let Some(found) = self.catalog.current().find(namespace, table) {
            check_kind("DROP", kind, found)?;
        }
        match self.catalog.drop_table(&name, cascade).await? {
            Some((table, views)) => {
                self.retire(&table).await;
                Ok(said(format!("Table {name} dropped successfully{}", with_views(&views))))
            }
            None if self.catalog.current().views.contains_key(&name) => {
                Err(Error::WrongObject(format!("{name} is a view; use DROP VIEW")))
            }
            None if if_exists => Ok(said(format!("Table {name} does not exist"))),
            None => Err(Error::TableNotFound(name.to_string())),
        }
    }

    /// The table is out of the catalog: its writers and subscribers are told, its keys removed behind.
    async fn retire(&self, table: &Arc<TableMeta>) {
        self.router.drop_table(table).await;
        self.live.cursors().table_dropped(table.id);
        let reason = format!("table {} was dropped", table.name);
        self.jobs.call_off(|work| is_about(work, table.id), &reason).await;
        self.jobs.submit_owed(cleanup_of(&DroppedTable::of(table))).await;
    }

    /// A table's full name, with the request's namespace where the statement names none.
    pub(super) fn table_name(&self, scope: &Scope<'_>, name: &TableRef) -> Result<TableName> {
        let namespace = name.namespace.as_deref().unwrap_or(scope.namespace);
        TableName::new(NamespaceName::parse(namespace)?, &name.table)
    }
}

/// SHARED, except in a user's own namespace.
fn default_kind(scope: &Scope<'_>, name: &TableName) -> TableKind {
    let own = name.namespace().as_str().eq_ignore_ascii_case(scope.principal.user.as_str());
    if own && scope.principal.role <= Role::Service { TableKind::User } else { TableKind::Shared }
}

/// # Errors
/// `INVALID_SQL` where the statement names another kind of table.
pub(super) fn check_kind(verb: &str, named: Option<TableKind>, table: &TableMeta) -> Result<()> {
    if named.is_none_or(|named| named == table.kind) {
        return Ok(());
    }
    let kind = table.kind.as_str().to_ascii_uppercase();
    Err(Error::InvalidSql(format!("{} is a {kind} table; say {verb} {kind} TABLE, or {verb} TABLE", table.name)))
}

/// ` with 2 table(s) and 1 topic(s)`: of what there is any.
fn with_these(counts: &[(&str, usize)]) -> String {
    let there = counts.iter().filter(|(_, count)| *count > 0);
    let parts: Vec<String> = there.map(|(what, count)| format!("{count} {what}(s)")).collect();
    match parts.split_last() {
        None => String::new(),
        Some((last, [])) => format!(" with {last}"),
        Some((last, before)) => format!(" with {} and {last}", before.join(", ")),
    }
}

pub(super) fn said(message: String) -> Outcome {
    Outcome::Done { rows: 0, message }
}
