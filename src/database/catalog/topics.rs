//! The catalog's topics: made, altered and dropped, durable first.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{CatalogStore, NEXT_TABLE_ID, TableAlteration, record, removal};
use crate::error::{Error, Result};
use crate::model::{Catalog, TableName, TopicId, TopicMeta};
use crate::storage::{RecordKind, RecordWrite, Store};

impl CatalogStore {
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where a record is damaged.
    pub(super) fn read_topics(store: &Store, catalog: &mut Catalog) -> Result<()> {
        for (_, json) in store.records(RecordKind::Topic)? {
            let topic: Arc<TopicMeta> = Arc::new(serde_json::from_slice(&json).map_err(Error::internal)?);
            catalog.topics.insert(topic.name.clone(), topic);
        }
        Ok(())
    }
}

impl TableAlteration {
    /// The number of a new topic. An id is never used again: [`TableAlteration::commit_topics`] notes that it is taken.
    pub(in crate::database) fn next_topic_id(&mut self) -> TopicId {
        let id = *self.changing;
        *self.changing = id + 1;
        TopicId(id)
    }

    /// These topics are made or altered, those are dropped: all of it or nothing.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub(in crate::database) async fn commit_topics(
        &self,
        put: Vec<TopicMeta>,
        dropped: &[Arc<TopicMeta>],
    ) -> Result<()> {
        let mut writes = writes(&put, dropped)?;
        writes.push(record(RecordKind::Setting, NEXT_TABLE_ID, &*self.changing)?);
        self.catalog.commit(writes, |catalog| apply(catalog, put, dropped)).await
    }
}

/// What is durable of it.
pub(super) fn writes(put: &[TopicMeta], dropped: &[Arc<TopicMeta>]) -> Result<Vec<RecordWrite>> {
    let mut writes = Vec::with_capacity(put.len() + 2 * dropped.len());
    for topic in put {
        writes.push(record(RecordKind::Topic, &topic.id.to_string(), topic)?);
    }
    for topic in dropped {
        let id = topic.id.to_string();
        writes.push(removal(RecordKind::Topic, &id));
        writes.push(record(RecordKind::DroppedTopic, &id, &DroppedTopic { id: topic.id, name: topic.name.clone() })?);
    }
    Ok(writes)
}

/// What is visible of it.
pub(super) fn apply(catalog: &mut Catalog, put: Vec<TopicMeta>, dropped: &[Arc<TopicMeta>]) {
    for topic in put {
        catalog.topics.insert(topic.name.clone(), Arc::new(topic));
    }
    for topic in dropped {
        catalog.topics.remove(&topic.name);
    }
}

/// A dropped topic whose keys still have to go.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::database) struct DroppedTopic {
    pub id: TopicId,
    pub name: TableName,
}

/// # Errors
/// `STORAGE_UNAVAILABLE`, `INTERNAL` where a record is damaged.
pub(in crate::database) fn dropped_topics(store: &Store) -> Result<Vec<DroppedTopic>> {
    let records = store.records(RecordKind::DroppedTopic)?;
    records.iter().map(|(_, json)| serde_json::from_slice(json).map_err(Error::internal)).collect()
}

/// The record that says a dropped topic's keys are gone.
pub(in crate::database) fn forgotten_topic(topic: TopicId) -> RecordWrite {
    removal(RecordKind::DroppedTopic, &topic.to_string())
}
