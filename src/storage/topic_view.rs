//! What a view has of topics, and what is found of them for removal.
//!
//! Owns how logs, heads and groups are read. Entries of hidden users (dropped, not erased yet) are passed over.
//! Its reads block on the disk: they belong on the engine's threads or a job's.

use std::ops::Bound::{Excluded, Included};
use std::ops::Range;

use fjall::UserKey;

use super::keys;
use super::read_view::ReadView;
use super::store::{Store, storage_error};
use super::topic_log::{parse_entry, parse_group, parse_head};
use crate::error::{Error, Result};
use crate::model::{GroupKey, GroupState, Owner, TopicEntry, TopicHead, TopicId, TopicPartition, UserId};

/// Entries looked at in one step of what removes some of them.
const STEP: usize = 1_000;

/// What a step found to be removed of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OldEntries {
    /// Offset and bytes of each.
    pub entries: Vec<(u64, u64)>,
    /// The first that stays.
    pub first: u64,
    /// Behind the last that goes.
    pub swept: u64,
}

impl ReadView {
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn topic_head(&self, at: TopicPartition) -> Result<TopicHead> {
        let value = self.value(&self.keyspaces().topics, &keys::topic_head(at))?;
        value.map_or(Ok(TopicHead::default()), |value| parse_head(&value))
    }

    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn topic_group(&self, key: &GroupKey) -> Result<Option<GroupState>> {
        let value = self.value(&self.keyspaces().topics, &keys::topic_group(key))?;
        value.map(|value| parse_group(&value)).transpose()
    }

    /// All groups of a topic, by name and partition.
    pub fn topic_groups(&self, topic: TopicId) -> impl Iterator<Item = Result<(GroupKey, GroupState)>> + use<> {
        let groups = keys::topic_groups(topic);
        let end = keys::prefix_end(&groups);
        self.entries_of(&self.keyspaces().topics, (Included(groups), end)).map(|guard| {
            let (key, value) = guard.into_inner().map_err(storage_error)?;
            let key = keys::parse_topic_group(&key).ok_or_else(|| Error::internal("a damaged key of a topic"))?;
            Ok((key, parse_group(&value)?))
        })
    }

    /// The entries of a log at these offsets, with what each takes. There may be holes: users were erased.
    pub fn topic_entries(
        &self,
        at: TopicPartition,
        offsets: Range<u64>,
    ) -> impl Iterator<Item = Result<(u64, TopicEntry)>> + use<'_> {
        let read = self.topic_values(at, offsets).map(|found| {
            let (offset, value) = found?;
            Ok((offset, parse_entry(&value)?))
        });
        let is_hidden = |user: &UserId| self.hides(&Owner::User(user.clone()));
        read.filter(move |found| !found.as_ref().is_ok_and(|(_, entry)| entry.user.as_ref().is_some_and(is_hidden)))
    }

    fn topic_values(
        &self,
        at: TopicPartition,
        offsets: Range<u64>,
    ) -> impl Iterator<Item = Result<(u64, fjall::UserValue)>> + use<> {
        // A range that ends before it begins is a panic in the engine.
        let end = offsets.end.max(offsets.start);
        let range = (Included(keys::topic_entry(at, offsets.start)), Excluded(keys::topic_entry(at, end)));
        self.entries_of(&self.keyspaces().topics, range).map(|guard| {
            let (key, value) = guard.into_inner().map_err(storage_error)?;
            let offset = keys::topic_offset(&key).ok_or_else(|| Error::internal("a damaged key of a topic"))?;
            Ok((offset, value))
        })
    }

    /// How many entries a log has from `first` on, and their bytes: all of them read.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL` where one is damaged, or lies behind the log's end.
    pub fn count_entries(&self, at: TopicPartition, first: u64) -> Result<(u64, u64)> {
        let next = self.topic_head(at)?.next;
        let (mut entries, mut bytes) = (0, 0);
        for entry in self.topic_values(at, first..u64::MAX) {
            let (offset, value) = entry?;
            if offset >= next {
                return Err(Error::internal(format!("there is an entry at {offset}, and {next} is the next one")));
            }
            parse_entry(&value)?;
            entries += 1;
            bytes += value.len() as u64;
        }
        Ok((entries, bytes))
    }

    /// The oldest entries of a log, and what is left of those that were cleared: as long as `takes` says of their time, and of the
    /// bytes from them on, that they go. Some at a time: `None` is that there are no more.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub fn old_entries(&self, at: TopicPartition, takes: impl Fn(i64, u64) -> bool) -> Result<Option<OldEntries>> {
        let head = self.topic_head(at)?;
        let mut found = OldEntries { entries: Vec::new(), first: head.first, swept: head.first };
        let mut bytes = head.bytes;
        // Not from the beginning: what is swept would be walked through as marks of what was removed.
        for entry in self.topic_values(at, head.swept..head.next) {
            let (offset, value) = entry?;
            if found.entries.len() == STEP {
                found.swept = offset;
                return Ok(Some(found));
            }
            let size = value.len() as u64;
            if offset >= head.first {
                if !takes(parse_entry(&value)?.timestamp_ms, bytes) {
                    break;
                }
                bytes = bytes.saturating_sub(size);
                found.first = offset + 1;
                found.swept = found.first;
            }
            found.entries.push((offset, size));
        }
        Ok((head.swept < found.first).then_some(found))
    }

    /// The entries of a user among the next ones of a log from `from` on, and where the next step begins; `None`: that was
    /// the log's end.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    #[expect(clippy::type_complexity, reason = "offsets with their bytes, and a place")]
    pub fn entries_of_user(
        &self,
        at: TopicPartition,
        from: u64,
        user: &UserId,
    ) -> Result<(Vec<(u64, u64)>, Option<u64>)> {
        let mut found = Vec::new();
        for (count, entry) in self.topic_values(at, from..u64::MAX).enumerate() {
            let (offset, value) = entry?;
            if count == STEP {
                return Ok((found, Some(offset)));
            }
            if parse_entry(&value)?.user.as_ref() == Some(user) {
                found.push((offset, value.len() as u64));
            }
        }
        Ok((found, None))
    }
}

impl Store {
    /// Keys of a dropped topic behind `after`, some at a time.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`.
    pub fn topic_keys(&self, topic: TopicId, after: Option<&UserKey>) -> Result<Vec<UserKey>> {
        let prefix = keys::topic_prefix(topic);
        let from = after.map_or_else(|| Included(prefix.to_vec()), |after| Excluded(after.to_vec()));
        let keys = self.keyspaces().topics.range::<Vec<u8>, _>((from, keys::prefix_end(&prefix))).take(STEP);
        keys.map(|guard| guard.key().map_err(storage_error)).collect()
    }
}
