//! The catalog's views: made, replaced and dropped, durable first.

use std::sync::Arc;

use super::{CatalogStore, TableAlteration, record, removal};
use crate::error::{Error, Result};
use crate::model::{Catalog, TableName, ViewMeta};
use crate::storage::{RecordKind, RecordWrite, Store};

impl CatalogStore {
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where a record is damaged.
    pub(super) fn read_views(store: &Store, catalog: &mut Catalog) -> Result<()> {
        for (_, json) in store.records(RecordKind::View)? {
            let view: Arc<ViewMeta> = Arc::new(serde_json::from_slice(&json).map_err(Error::internal)?);
            catalog.views.insert(view.name.clone(), view);
        }
        Ok(())
    }
}

impl TableAlteration {
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(in crate::database) async fn commit_view(&self, view: ViewMeta) -> Result<()> {
        let view = Arc::new(view);
        let write = record(RecordKind::View, &view.name.to_string(), &*view)?;
        self.catalog
            .commit(vec![write], |catalog| {
                catalog.views.insert(view.name.clone(), view);
            })
            .await
    }

    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(in crate::database) async fn drop_views(&self, views: &[Arc<ViewMeta>]) -> Result<()> {
        self.catalog.commit(removals(views), |catalog| forget(catalog, views)).await
    }
}

/// The views that go when these tables and views do; a refusal where there are any and `cascade` was not said.
///
/// # Errors
/// `NEEDED_BY_VIEWS`.
pub(in crate::database) fn readers_to_drop(
    catalog: &Catalog,
    names: &[TableName],
    cascade: bool,
    what: impl FnOnce() -> String,
) -> Result<Vec<Arc<ViewMeta>>> {
    let readers = catalog.readers_of(names);
    if readers.is_empty() || cascade {
        return Ok(readers);
    }
    Err(Error::NeededByViews { what: what(), views: list(&readers), remedy: "drop them first, or say CASCADE" })
}

/// `view a.v`, or `views a.v, a.w`.
pub(in crate::database) fn list(views: &[Arc<ViewMeta>]) -> String {
    let names: Vec<String> = views.iter().map(|view| view.name.to_string()).collect();
    format!("view{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
}

/// What is durable of views that go.
pub(super) fn removals(views: &[Arc<ViewMeta>]) -> Vec<RecordWrite> {
    views.iter().map(|view| removal(RecordKind::View, &view.name.to_string())).collect()
}

/// What is visible of it.
pub(super) fn forget(catalog: &mut Catalog, views: &[Arc<ViewMeta>]) {
    for view in views {
        catalog.views.remove(&view.name);
    }
}
