//! STORAGE FLUSH and STORAGE COMPACT: a job for each table that has something to do.

use std::sync::Arc;

use super::Database;
use super::execute::Scope;
use super::jobs::{MergeWish, compaction_of, flush_of, next_merge_of, retention_of};
use super::request::Outcome;
use crate::error::{Error, Result};
use crate::jobs::JobParams;
use crate::model::{NamespaceName, PartitionKey, TableMeta};
use crate::sql::statement::{ColdScope, ColdWork};

/// How answers call it, and what they say where there is nothing to do.
fn words(work: ColdWork) -> (&'static str, &'static str) {
    match work {
        ColdWork::Flush => ("flush", "no pending writes"),
        ColdWork::Compact => ("compaction", "no segments to merge or clean"),
    }
}

fn job_of(work: ColdWork, table: &TableMeta) -> JobParams {
    match work {
        ColdWork::Flush => flush_of(table, true, None),
        ColdWork::Compact => compaction_of(table),
    }
}

impl Database {
    pub(super) async fn maintain_storage(
        &self,
        scope: &Scope<'_>,
        work: ColdWork,
        what: &ColdScope,
    ) -> Result<Outcome> {
        let message = match what {
            ColdScope::Table(name) => {
                let name = self.table_name(scope, name)?;
                let table = self.catalog.current().table(name.namespace().as_str(), name.table())?.clone();
                self.maintain_one(work, &table).await?
            }
            ColdScope::Namespace(None) => self.maintain_all(work, &NamespaceName::parse(scope.namespace)?).await?,
            ColdScope::Namespace(Some(namespace)) => self.maintain_all(work, namespace).await?,
        };
        Ok(Outcome::Done { rows: 0, message })
    }

    async fn maintain_one(&self, work: ColdWork, table: &Arc<TableMeta>) -> Result<String> {
        let (name, params, (noun, nothing)) = (&table.name, job_of(work, table), words(work));
        if table.is_stream() {
            let text = format!("Storage {noun} is for USER and SHARED tables: rows of STREAM table '{name}' expire");
            return Err(Error::InvalidInput(text));
        }
        if let Some(job) = self.jobs.unfinished(&params) {
            return Ok(format!("Storage {noun} of table '{name}' is queued or running already. Job ID: {job}"));
        }
        if !self.has_work(work, table).await? {
            return Ok(format!("Storage {noun} skipped: {nothing} for table '{name}'"));
        }
        let job = self.jobs.submit(params).await?;
        Ok(format!("Storage {noun} started for table '{name}'. Job ID: {job}"))
    }

    async fn maintain_all(&self, work: ColdWork, namespace: &NamespaceName) -> Result<String> {
        let (noun, nothing) = words(work);
        let catalog = self.catalog.current();
        if !catalog.namespaces.contains_key(namespace) {
            return Err(Error::NamespaceNotFound(namespace.clone()));
        }
        let mut jobs = Vec::new();
        for table in catalog.tables_in(namespace) {
            if !table.is_stream() && self.has_work(work, &table).await? {
                jobs.push(self.jobs.submit(job_of(work, &table)).await?.to_string());
            }
        }
        if jobs.is_empty() {
            return Ok(format!("Storage {noun} skipped: {nothing} in namespace '{namespace}'"));
        }
        let (count, jobs) = (jobs.len(), jobs.join(", "));
        Ok(format!("Storage {noun} started for {count} table(s) in namespace '{namespace}'. Job IDs: [{jobs}]"))
    }

    async fn has_work(&self, work: ColdWork, table: &Arc<TableMeta>) -> Result<bool> {
        let (store, id) = (self.store.clone(), table.id);
        let retention = retention_of(table, &self.options.retention, self.clock.now_ms());
        self.engine
            .blocking(move || match work {
                ColdWork::Flush => {
                    let mut partitions = store.hot_partitions(id);
                    let hot = partitions.find(|found| found.as_ref().map_or(true, |(_, stats)| stats.rows > 0));
                    Ok(hot.transpose()?.is_some())
                }
                ColdWork::Compact => {
                    let view = store.read_view();
                    let wish = MergeWish { forced: true, retention };
                    for owner in store.owners_of(id)? {
                        if next_merge_of(&view, &PartitionKey { table: id, owner }, &wish)?.is_some() {
                            return Ok(true);
                        }
                    }
                    Ok(false)
                }
            })
            .await
    }
}
