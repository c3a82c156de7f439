//! CREATE VIEW, DROP VIEW and COMMENT ON.
//!
//! Owns the order of a view's change: held, planned as whoever makes it, the views that read it planned as they would be,
//! durable, visible. And what an ALTER TABLE may not take from the views above.
//! Never reads a row of a table.

use std::sync::Arc;

use super::Database;
use super::catalog::{list_views, readers_to_drop};
use super::define::said;
use super::execute::Scope;
use super::request::{CallerGone, Outcome};
use crate::auth::AdminAction;
use crate::error::{Error, Result};
use crate::model::{Catalog, Principal, Role, TableMeta, TableName, UserId, ViewColumn, ViewMeta};
use crate::sql::statement::{CommentOn, CreateView, TableRef};
use crate::sql::view::{QueryShape, query_of, view_columns};

/// The longest comment.
const COMMENT_BYTES_MAX: usize = 4_096;

impl Database {
    pub(super) async fn create_view(&self, scope: &Scope<'_>, create: &CreateView) -> Result<Outcome> {
        let name = self.table_name(scope, &create.name)?;
        let alteration = self.catalog.begin_alteration().await;
        let catalog = self.catalog.current();
        if !catalog.namespaces.contains_key(name.namespace()) {
            return Err(Error::NamespaceNotFound(name.namespace().clone()));
        }
        if catalog.find(name.namespace().as_str(), name.table()).is_some() {
            return Err(Error::TableExists(name));
        }
        let before = catalog.views.get(&name).cloned();
        if before.is_some() && create.if_not_exists {
            return Ok(said(format!("CREATE VIEW: view {name} already exists")));
        }
        if before.is_some() && !create.or_replace {
            return Err(Error::ViewExists(name));
        }
        let shape = self.shape_for_view(scope, &catalog, create).await?;
        let above = catalog.readers_of(std::slice::from_ref(&name));
        if shape.reads.iter().any(|read| *read == name || above.iter().any(|view| view.name == *read)) {
            return Err(Error::InvalidSql(format!("View {name} would read itself")));
        }
        let mut view = ViewMeta {
            columns: view_columns(&shape, &create.columns)?,
            name,
            query: create.text.clone(),
            namespace: scope.namespace.to_owned(),
            reads: shape.reads,
            reads_system: shape.reads_system,
            created_by: scope.principal.user.clone(),
            created_at: scope.now_us,
            updated_at: scope.now_us,
            comment: None,
        };
        if let Some(before) = &before {
            view.created_at = before.created_at;
            view.comment.clone_from(&before.comment);
            keep_comments(&before.columns, &mut view.columns);
        }
        if !above.is_empty() {
            let mut candidate = Catalog::clone(&catalog);
            candidate.views.insert(view.name.clone(), Arc::new(view.clone()));
            self.check_readers(candidate, &view.name, || format!("replace view {}", view.name)).await?;
        }
        let done = if before.is_some() { "replaced" } else { "created" };
        let message = format!("View {} {done} with {} column(s)", view.name, view.columns.len());
        // A task of its own: who asked may go away, but a change that is durable must become visible.
        let committed = actix::spawn(async move { alteration.commit_view(view).await });
        committed.await.unwrap_or(Err(Error::Aborted))?;
        Ok(said(message))
    }

    async fn shape_for_view(
        &self,
        scope: &Scope<'_>,
        catalog: &Arc<Catalog>,
        create: &CreateView,
    ) -> Result<QueryShape> {
        let mut ctx = self.query_context_in(scope, self.store.read_view(), catalog.clone());
        ctx.params = Arc::new([]);
        match self.engine.shape_of(ctx, &create.query).await {
            Err(Error::InvalidParameter { .. }) => {
                Err(Error::InvalidSql("a view takes no parameters; write the value into its query".to_owned()))
            }
            shape => shape,
        }
    }

    pub(super) async fn drop_view(
        &self,
        scope: &Scope<'_>,
        name: &TableRef,
        if_exists: bool,
        cascade: bool,
    ) -> Result<Outcome> {
        let name = self.table_name(scope, name)?;
        let alteration = self.catalog.begin_alteration().await;
        let catalog = self.catalog.current();
        let Some(view) = catalog.views.get(&name).cloned() else {
            if catalog.find(name.namespace().as_str(), name.table()).is_some() {
                return Err(Error::WrongObject(format!("{name} is a table; use DROP TABLE")));
            }
            return match if_exists {
                true => Ok(said(format!("View {name} does not exist"))),
                false => Err(Error::TableNotFound(name.to_string())),
            };
        };
        let mut gone = readers_to_drop(&catalog, std::slice::from_ref(&name), cascade, || format!("drop view {name}"))?;
        let with = with_views(&gone);
        gone.push(view);
        let committed = actix::spawn(async move { alteration.drop_views(&gone).await });
        committed.await.unwrap_or(Err(Error::Aborted))?;
        Ok(said(format!("View {name} dropped successfully{with}")))
    }

    /// Would the views above `name` show what they show now, were the catalog this one?
    ///
    /// # Errors
    /// `NEEDED_BY_VIEWS`, naming those that would not.
    pub(super) async fn check_readers(
        &self,
        candidate: Catalog,
        name: &TableName,
        what: impl FnOnce() -> String,
    ) -> Result<()> {
        let readers = candidate.readers_of(std::slice::from_ref(name));
        let candidate = Arc::new(candidate);
        let mut broken = Vec::new();
        for view in readers {
            let scope = Scope {
                // As nobody whom a table could be kept from.
                principal: Principal { user: UserId::root(), role: Role::System, generation: 0 },
                impersonates: false,
                all_owners: false,
                namespace: &view.namespace,
                params: &[],
                durability: None,
                base_url: None,
                caller: CallerGone::default(),
                now_us: self.clock.now_us(),
            };
            let ctx = self.query_context_in(&scope, self.store.read_view(), candidate.clone());
            match self.engine.shape_of(ctx, &*query_of(&view)?).await {
                Ok(shape) if shows_the_same(&view, &shape) => {}
                Err(error) if error.code().retryable() => return Err(error),
                Ok(_) | Err(_) => broken.push(view),
            }
        }
        if broken.is_empty() {
            return Ok(());
        }
        Err(Error::NeededByViews { what: what(), views: list_views(&broken), remedy: "replace or drop them first" })
    }

    pub(super) async fn comment_on(&self, scope: &Scope<'_>, on: &CommentOn, text: Option<&str>) -> Result<Outcome> {
        if text.is_some_and(|text| text.len() > COMMENT_BYTES_MAX) {
            return Err(Error::InvalidInput(format!("A comment has at most {COMMENT_BYTES_MAX} bytes")));
        }
        let (CommentOn::Table(name) | CommentOn::View(name) | CommentOn::Column(name, _)) = on;
        let name = self.table_name(scope, name)?;
        let alteration = self.catalog.begin_alteration().await;
        let catalog = self.catalog.current();
        if let Some(view) = catalog.views.get(&name) {
            self.policy.may_administer(&scope.principal, AdminAction::ManageViews)?;
            let view = commented_view(view, on, text)?;
            let committed = actix::spawn(async move { alteration.commit_view(view).await });
            committed.await.unwrap_or(Err(Error::Aborted))?;
        } else {
            let table = catalog.table(name.namespace().as_str(), name.table())?;
            self.policy.may_alter_table(&scope.principal, table)?;
            let table = commented_table(table, on, text)?;
            let committed = actix::spawn(async move { alteration.commit(table, None).await.map(|_| ()) });
            committed.await.unwrap_or(Err(Error::Aborted))?;
        }
        let (CommentOn::Table(_) | CommentOn::View(_)) = on else {
            return Ok(said(format!("Comment on a column of {name} {}", set_or_removed(text))));
        };
        Ok(said(format!("Comment on {name} {}", set_or_removed(text))))
    }
}

/// ` with 2 view(s)`, or nothing.
pub(super) fn with_views(views: &[Arc<ViewMeta>]) -> String {
    if views.is_empty() { String::new() } else { format!(" with {} view(s)", views.len()) }
}

fn set_or_removed(text: Option<&str>) -> &'static str {
    if text.is_some() { "set" } else { "removed" }
}

fn commented_view(view: &ViewMeta, on: &CommentOn, text: Option<&str>) -> Result<ViewMeta> {
    let mut view = view.clone();
    let text = text.map(ToOwned::to_owned);
    match on {
        CommentOn::Table(_) => {
            return Err(Error::WrongObject(format!("{} is a view; use COMMENT ON VIEW", view.name)));
        }
        CommentOn::View(_) => view.comment = text,
        CommentOn::Column(_, column) => {
            let found = view.columns.iter_mut().find(|own| own.name.eq_ignore_ascii_case(column));
            let Some(found) = found else {
                let table = view.name.to_string();
                return Err(Error::ColumnNotFound { column: column.clone(), table, suggestion: None });
            };
            found.comment = text;
        }
    }
    Ok(view)
}

/// Comments are of no version: rows and what was bound do not change by them.
fn commented_table(table: &TableMeta, on: &CommentOn, text: Option<&str>) -> Result<TableMeta> {
    let mut table = table.clone();
    match (on, text) {
        (CommentOn::View(_), _) => {
            return Err(Error::WrongObject(format!("{} is a table; use COMMENT ON TABLE", table.name)));
        }
        (CommentOn::Table(_), text) => table.comments.table = text.map(ToOwned::to_owned),
        (CommentOn::Column(_, column), text) => {
            let id = table.columns[crate::sql::bind::column_named(&table, column)?].id;
            match text {
                Some(text) => table.comments.columns.insert(id, text.to_owned()),
                None => table.comments.columns.remove(&id),
            };
        }
    }
    Ok(table)
}

/// A column that keeps its name keeps what was said of it.
fn keep_comments(before: &[ViewColumn], after: &mut [ViewColumn]) {
    for column in after {
        let same = before.iter().find(|before| before.name == column.name);
        column.comment = same.and_then(|before| before.comment.clone());
    }
}

fn shows_the_same(view: &ViewMeta, shape: &QueryShape) -> bool {
    view.columns.iter().all(|column| {
        let mut named = shape.schema.columns().iter().filter(|shown| shown.name == column.source());
        matches!((named.next(), named.next()), (Some(shown), None) if shown.data_type == column.data_type)
    })
}
