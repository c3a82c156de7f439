//! STORAGE FLUSH: a job for each table that has something hot.

use std::sync::Arc;

use super::Database;
use super::execute::Scope;
use super::jobs::flush_of;
use super::request::Outcome;
use crate::error::{Error, Result};
use crate::model::{NamespaceName, TableMeta};
use crate::sql::statement::FlushScope;

impl Database {
    pub(super) async fn storage_flush(&self, scope: &Scope<'_>, what: &FlushScope) -> Result<Outcome> {
        let message = match what {
            FlushScope::Table(name) => {
                let name = self.table_name(scope, name)?;
                let table = self.catalog.current().table(name.namespace().as_str(), name.table())?.clone();
                self.flush_one(&table).await?
            }
            FlushScope::Namespace(None) => self.flush_all(&NamespaceName::parse(scope.namespace)?).await?,
            FlushScope::Namespace(Some(namespace)) => self.flush_all(namespace).await?,
        };
        Ok(Outcome::Done { rows: 0, message })
    }

    async fn flush_one(&self, table: &Arc<TableMeta>) -> Result<String> {
        let name = &table.name;
        let params = flush_of(table, true);
        if let Some(job) = self.jobs.unfinished(&params) {
            return Ok(format!("Storage flush of table '{name}' is queued or running already. Job ID: {job}"));
        }
        if !self.has_hot_rows(table).await? {
            return Ok(format!("Storage flush skipped: no pending writes for table '{name}'"));
        }
        let job = self.jobs.submit(params).await?;
        Ok(format!("Storage flush started for table '{name}'. Job ID: {job}"))
    }

    async fn flush_all(&self, namespace: &NamespaceName) -> Result<String> {
        let catalog = self.catalog.current();
        if !catalog.namespaces.contains_key(namespace) {
            return Err(Error::NamespaceNotFound(namespace.clone()));
        }
        let mut jobs = Vec::new();
        for table in catalog.tables_in(namespace) {
            if self.has_hot_rows(&table).await? {
                jobs.push(self.jobs.submit(flush_of(&table, true)).await?.to_string());
            }
        }
        if jobs.is_empty() {
            return Ok(format!("Storage flush skipped: no pending writes in namespace '{namespace}'"));
        }
        let (count, jobs) = (jobs.len(), jobs.join(", "));
        Ok(format!("Storage flush started for {count} table(s) in namespace '{namespace}'. Job IDs: [{jobs}]"))
    }

    async fn has_hot_rows(&self, table: &Arc<TableMeta>) -> Result<bool> {
        let (store, id) = (self.store.clone(), table.id);
        self.engine
            .blocking(move || {
                let hot =
                    store.hot_partitions(id).find(|found| found.as_ref().map_or(true, |(_, stats)| stats.rows > 0));
                Ok(hot.transpose()?.is_some())
            })
            .await
    }
}
