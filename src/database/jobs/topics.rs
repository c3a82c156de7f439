//! Topics' bodies: entries that are too old or too many, keys of dropped topics, entries of erased users.
//!
//! Owns that each goes in bounded steps, and that a topic with something to remove is looked for. Removing the same keys twice
//! is the same as once, so a crash anywhere only makes the next try find less. What is to go, `topics::retention` says.

use std::sync::Weak;

use super::Bodies;
use crate::actors::jobs::{JobControl, JobDone};
use crate::database::Database;
use crate::database::catalog::{DroppedTopic, dropped_topics, forgotten_topic};
use crate::error::{Error, Result};
use crate::failpoint;
use crate::jobs::JobParams;
use crate::model::{Durability, TableName, TopicId, TopicMeta, TopicPartition, UserId};
use crate::storage::{CommitEntry, OldEntries, ReadView, TopicChange};
use crate::topics::TopicRetention;

/// The job that removes a dropped topic's keys.
pub(in crate::database) fn topic_cleanup_of(dropped: &DroppedTopic) -> JobParams {
    let (namespace_id, topic_name) = parts(&dropped.name);
    JobParams::TopicCleanup { topic_id: dropped.id, namespace_id, topic_name }
}

/// The job that removes a topic's entries that are too old or too many.
fn topic_retention_of(topic: &TopicMeta) -> JobParams {
    let (namespace_id, topic_name) = parts(&topic.name);
    JobParams::TopicRetention { topic_id: topic.id, namespace_id, topic_name }
}

fn parts(name: &TableName) -> (crate::model::NamespaceName, String) {
    (name.namespace().clone(), name.table().to_owned())
}

/// Looks for topics with entries that are too old or too many, for as long as there is a database.
pub(in crate::database) async fn look_for_old_entries(database: Weak<Database>) {
    let Some(every) = database.upgrade().map(|database| database.options.topics.check_interval) else { return };
    let mut rounds = tokio::time::interval(every);
    // The first comes at once: a start has enough to do.
    rounds.tick().await;
    loop {
        rounds.tick().await;
        let Some(database) = database.upgrade() else { return };
        database.submit_due_topics().await;
    }
}

/// What of a log is to go now.
fn old_entries(view: &ReadView, topic: &TopicMeta, at: TopicPartition, now_ms: i64) -> Result<Option<OldEntries>> {
    let retention = TopicRetention::of(topic, now_ms);
    view.old_entries(at, |timestamp_ms, bytes| retention.takes(timestamp_ms, bytes))
}

impl Database {
    async fn submit_due_topics(&self) {
        let (store, catalog, now_ms) = (self.store.clone(), self.catalog.current(), self.clock.now_ms());
        let look = self.engine.blocking(move || {
            let view = store.read_view();
            let mut due = Vec::new();
            for topic in catalog.topics.values() {
                for at in topic.partitions() {
                    if old_entries(&view, topic, at, now_ms)?.is_some() {
                        due.push(topic.clone());
                        break;
                    }
                }
            }
            Ok(due)
        });
        match look.await {
            Ok(due) => {
                for topic in due {
                    self.submit_topic_retention(&topic).await;
                }
            }
            Err(Error::ShuttingDown) => {}
            Err(error) => tracing::warn!(%error, "old entries of topics can not be looked for"),
        }
    }

    pub(in crate::database) async fn submit_topic_retention(&self, topic: &TopicMeta) {
        // An error: the queue is full or the server stops, and the next round asks again.
        let _ = self.jobs.submit(topic_retention_of(topic)).await;
    }

    pub(super) async fn submit_topic_cleanups(&self) {
        let dropped = dropped_topics(&self.store);
        let dropped = dropped.inspect_err(|error| tracing::warn!(%error, "dropped topics can not be looked for"));
        for topic in dropped.unwrap_or_default() {
            self.jobs.submit_owed(topic_cleanup_of(&topic)).await;
        }
    }
}

impl Bodies {
    pub(super) async fn expire_topic(&self, id: TopicId, control: &JobControl) -> Result<JobDone> {
        let Some(topic) = self.catalog.current().topics.values().find(|topic| topic.id == id).cloned() else {
            return Ok(JobDone::Skipped("the topic was dropped".to_owned()));
        };
        let mut removed = 0;
        for at in topic.partitions() {
            loop {
                control.check()?;
                let (view, topic, now_ms) = (self.store.read_view(), topic.clone(), self.clock.now_ms());
                let find = move || old_entries(&view, &topic, at, now_ms);
                let found = tokio::task::spawn_blocking(find).await.map_err(Error::internal)??;
                let Some(OldEntries { entries, first, swept }) = found else { break };
                removed += entries.len();
                let change = TopicChange::Remove { at, entries, first, swept };
                self.committer.commit_at(CommitEntry::Topics(vec![change]), Durability::Buffered).await?;
                failpoint::pass("topic_expired");
                control.say(|| format!("{removed} entries removed so far"));
            }
        }
        match removed {
            0 => Ok(JobDone::Skipped("nothing is too old or too much".to_owned())),
            removed => Ok(JobDone::Completed(format!("{removed} entries removed"))),
        }
    }

    /// The topic is out of the catalog, and nothing is appended to it any more: DROP TOPIC saw to it, or the topic is of
    /// before this process.
    pub(super) async fn erase_topic(&self, topic: TopicId, control: &JobControl) -> Result<JobDone> {
        let (mut removed, mut after) = (0, None);
        loop {
            control.check()?;
            let (store, behind) = (self.store.clone(), after.take());
            let find = move || store.topic_keys(topic, behind.as_ref());
            let keys = tokio::task::spawn_blocking(find).await.map_err(Error::internal)??;
            let last = keys.is_empty();
            removed += keys.len();
            after = keys.last().cloned();
            let mut entries = vec![CommitEntry::Topics(vec![TopicChange::Forget { topic, keys, last }])];
            if last {
                // At sync, and behind the removals in the journal: so these are durable as well, and then nothing is owed.
                entries.push(CommitEntry::Records(vec![forgotten_topic(topic)]));
            }
            for entry in entries {
                let durability = if last { Durability::Sync } else { Durability::Buffered };
                self.committer.commit_at(entry, durability).await?;
            }
            failpoint::pass("topic_erase_step");
            if last {
                return Ok(JobDone::Completed(format!("{removed} keys removed")));
            }
            control.say(|| format!("{removed} keys removed so far"));
        }
    }

    /// Removes what topics tell of a user's rows, for good: offsets stay, the entries at them do not.
    pub(super) async fn erase_from_topics(&self, user: &UserId, keys: &mut usize, control: &JobControl) -> Result<()> {
        let catalog = self.catalog.current();
        for at in catalog.topics.values().flat_map(|topic| topic.partitions()) {
            let mut next = Some(0);
            while let Some(from) = next {
                control.check()?;
                let (view, user) = (self.store.read_view(), user.clone());
                let find = move || view.entries_of_user(at, from, &user);
                let (entries, behind) = tokio::task::spawn_blocking(find).await.map_err(Error::internal)??;
                next = behind;
                if entries.is_empty() {
                    continue;
                }
                *keys += entries.len();
                let change = TopicChange::Remove { at, entries, first: 0, swept: 0 };
                self.committer.commit_at(CommitEntry::Topics(vec![change]), Durability::Buffered).await?;
                failpoint::pass("erase_topic_step");
            }
        }
        Ok(())
    }
}
