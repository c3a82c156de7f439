//! Tables that come with rows: nobody sees one before all of them are durable.
//!
//! Owns the order: 1. the table's id is given out, with the record of a dropped table: its keys are to be removed; 2. its
//! rows are written, under an id that no name leads to; 3. in one commit the record goes, and the table is there. A crash
//! before 3 leaves a dropped table like any other.

use std::sync::{Arc, PoisonError};

use super::{CatalogStore, DroppedTable, drop_record, dropped_tables, next_table, record, removal};
use crate::error::{Error, Result};
use crate::model::{TableId, TableMeta, TableName};
use crate::storage::{RecordKind, Store};

/// A table between 1 and 3. While it lives, nobody removes its keys.
pub(in crate::database) struct UnfinishedTable {
    catalog: Arc<CatalogStore>,
    table: Arc<TableMeta>,
}

impl UnfinishedTable {
    pub(in crate::database) fn table(&self) -> &Arc<TableMeta> {
        &self.table
    }

    /// Its rows are written: now it is there.
    ///
    /// # Errors
    /// `ALREADY_EXISTS` where another got the name meanwhile, `NAMESPACE_NOT_FOUND`, `NOT_FOUND` (the storage),
    /// `STORAGE_UNAVAILABLE`.
    pub(in crate::database) async fn finish(&self) -> Result<()> {
        let _changing = self.catalog.changing.lock().await;
        if !self.catalog.is_free(&self.table.name)? {
            return Err(Error::TableExists(self.table.name.clone()));
        }
        self.catalog.current().storage(&self.table.storage)?;
        let id = self.table.id.to_string();
        let writes = vec![removal(RecordKind::DroppedTable, &id), record(RecordKind::Table, &id, &*self.table)?];
        let made = self.table.clone();
        self.catalog.commit(writes, |catalog| catalog.insert_table(made)).await
    }
}

impl Drop for UnfinishedTable {
    fn drop(&mut self) {
        self.catalog.unfinished.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.table.id);
    }
}

impl CatalogStore {
    /// Begins a table that `define` describes, given its id. `None`: a table of this name is there.
    ///
    /// # Errors
    /// As [`CatalogStore::create_table`].
    pub(in crate::database) async fn begin_table(
        self: &Arc<Self>,
        name: &TableName,
        define: impl FnOnce(TableId) -> Result<TableMeta>,
    ) -> Result<Option<UnfinishedTable>> {
        let mut next_id = self.changing.lock().await;
        if !self.is_free(name)? {
            return Ok(None);
        }
        let id = TableId(*next_id);
        let table = Arc::new(define(id)?);
        self.current().storage(&table.storage)?;
        // Before its record is: who looks for dropped tables holds the lock that this does.
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        let unfinished = UnfinishedTable { catalog: self.clone(), table };
        self.commit(vec![drop_record(&unfinished.table)?, next_table(id)?], |_| {}).await?;
        *next_id = id.0 + 1;
        Ok(Some(unfinished))
    }

    /// Dropped tables whose keys may be removed.
    ///
    /// # Errors
    /// As [`dropped_tables`].
    pub(in crate::database) async fn tables_to_erase(&self, store: &Store) -> Result<Vec<DroppedTable>> {
        let _changing = self.changing.lock().await;
        let unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let dropped = dropped_tables(store)?;
        Ok(dropped.into_iter().filter(|table| !unfinished.contains(&table.id)).collect())
    }
}
