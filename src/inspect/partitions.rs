//! Table by table, partition by partition: counted, and each segment checked as it is met.
//!
//! Owns what is asked of each. Holds one partition's manifest at a time, so memory does not grow with the folder.

use std::sync::Arc;

use super::catalog::Catalog;
use super::files::{Files, Standing, in_storage};
use super::findings::{Count, Findings, PartitionFinding, TableFinding};
use super::report::Progress;
use crate::error::Result;
use crate::model::{Owner, PartitionKey, TableMeta};
use crate::storage::segment::SegmentEntry;
use crate::storage::{PartitionManifest, Store};

const UNNAMED: &str = "no manifest names it: left by a flush that was cut off, which the partition's next one removes, or its manifest is lost";

pub(super) struct Inspection {
    pub store: Arc<Store>,
    pub catalog: Catalog,
    pub files: Files,
    pub found: Findings,
    pub progress: Progress,
    pub with_owners: bool,
}

impl Inspection {
    pub async fn table(&mut self, table: &Arc<TableMeta>) {
        self.progress.at(&table.name);
        let owners = self.store.partitions(table.id).unwrap_or_else(|error| {
            self.found.fault_of(format!("hot, partitions of {}", table.name), &error);
            Vec::new()
        });
        let mut finding = TableFinding {
            table: table.name.to_string(),
            id: table.id.0,
            kind: table.kind.as_str(),
            storage: table.storage.to_string(),
            partitions: owners.len(),
            count: Count::default(),
            owners: self.with_owners.then(Vec::new),
        };
        for owner in owners {
            let count = self.partition(table, &owner).await;
            finding.count.add(&count);
            if let Some(owners) = &mut finding.owners {
                let owner = match &owner {
                    Owner::Shared => None,
                    Owner::User(user) => Some(user.to_string()),
                };
                owners.push(PartitionFinding { owner, count });
            }
        }
        self.found.tables.push(finding);
    }

    async fn partition(&mut self, table: &Arc<TableMeta>, owner: &Owner) -> Count {
        let mut count = Count::default();
        let key = PartitionKey { table: table.id, owner: owner.clone() };
        let what = format!("{} of {owner}", table.name);
        let leaving = self.catalog.leaving.contains(owner.as_str());
        let manifest = match self.store.read_view().manifest(&key) {
            Ok(manifest) => manifest,
            Err(_) if leaving => return count,
            Err(error) => {
                self.found.fault_of(format!("hot, manifest of {what}"), &error);
                return count;
            }
        };
        let hot = match table.is_stream() {
            true => self.store.stream_rows(table, owner),
            false => self.store.hot_rows(&key, manifest.as_deref()),
        };
        match hot {
            Ok(hot) => (count.hot_rows, count.hot_tombstones) = (hot.rows, hot.tombstones),
            Err(error) => self.found.fault_of(format!("hot, rows of {what}"), &error),
        }
        for segment in manifest.as_deref().map_or(&[][..], PartitionManifest::segments) {
            count.segments += 1;
            count.cold_rows += u64::from(segment.meta.rows);
            count.cold_tombstones += u64::from(segment.meta.tombstones);
            count.bytes += segment.meta.bytes;
            match self.store.deleted_rows(table.id, segment) {
                Ok(deleted) => count.deleted_rows += deleted,
                Err(error) => self.found.fault_of(format!("hot, deletions of {what}"), &error),
            }
            let at = segment.meta.storage(table).as_str();
            if let Some(storage) = self.found.storages.iter_mut().find(|storage| storage.id == at) {
                storage.segments += 1;
                storage.bytes += segment.meta.bytes;
            }
            let standing = self.files.take(segment.meta.storage(table), &segment.meta);
            if !leaving {
                self.segment(table, owner, segment, standing).await;
            }
        }
        count
    }

    async fn segment(&mut self, table: &Arc<TableMeta>, owner: &Owner, segment: &Arc<SegmentEntry>, file: Standing) {
        let shown = in_storage(segment.meta.storage(table), &segment.meta.path);
        match file {
            Standing::Unknown => return,
            Standing::Fault(reason) => {
                self.found.fault(shown, reason);
                return;
            }
            Standing::AsNamed => {}
        }
        if self.found.verified.is_none() {
            return;
        }
        match self.verify(table, owner, segment).await {
            Ok(()) => {
                if let Some(verified) = &mut self.found.verified {
                    verified.segments += 1;
                    verified.rows += u64::from(segment.meta.rows);
                    verified.bytes += segment.meta.bytes;
                }
            }
            Err(error) => self.found.fault_of(shown, &error),
        }
        self.progress.done(segment.meta.bytes);
    }

    async fn verify(&self, table: &Arc<TableMeta>, owner: &Owner, segment: &Arc<SegmentEntry>) -> Result<()> {
        self.store.cold().reader(table, owner, segment)?.verify().await
    }

    pub fn finish(mut self) -> Findings {
        self.progress.end();
        for file in self.files.left(&self.catalog.dropped) {
            self.found.fault(file, UNNAMED.to_owned());
        }
        self.found
    }
}
