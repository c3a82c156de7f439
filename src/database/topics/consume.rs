//! CONSUME and ACK: what a group gets, and what it has done with.
//!
//! Owns the order of a delivery, under the group's slot: what retention took is told; what was delivered too often goes to
//! the dead-letter topic, in one commit with the group's step over it; the rest is read, claimed, and the group's new state
//! handed to the committer. A crash before the commit leaves the group as it was: it is delivered again.
//! An acknowledgement is durable at `sync` before it is answered; a delivery's count at `buffered`.
//! A long poll waits for a commit, for a message that becomes visible again, or for its end; how many wait is bounded.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::Topics;
use super::groups::Slot;
use crate::auth::AdminAction;
use crate::database::Database;
use crate::error::{Error, Result};
use crate::model::{
    ConsumeFrom, Durability, EntryOrigin, GroupId, GroupKey, Owner, PkBytes, Principal, TableName, TopicEntry,
    TopicHead, TopicMeta, TopicPartition,
};
use crate::storage::topic_log::{entry_value, partition_of};
use crate::storage::{CommitEntry, CommitReceipt, ReadView, TopicAppend, TopicChange};
use crate::topics::{GroupCore, GroupRules};

/// The longest a consumer may wait.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Messages that one delivery brings to the dead-letter topic: the next one goes on.
const BURIED_AT_ONCE: u64 = 100;

/// What a member of a group asks for.
#[derive(Debug, Clone)]
pub struct ConsumeRequest {
    pub topic: TableName,
    pub group: GroupId,
    pub partition: u32,
    /// Where a new group begins.
    pub from: ConsumeFrom,
    pub limit: u64,
    /// How long to wait where there is nothing.
    pub wait: Duration,
}

/// A message as it is delivered.
#[derive(Debug, Clone)]
pub struct Message {
    pub at: TopicPartition,
    pub offset: u64,
    pub entry: TopicEntry,
    /// How often the group got it, this time included; 0 without a group.
    pub deliveries: u32,
}

/// What a member gets.
#[derive(Debug, Default)]
pub struct Consumed {
    pub messages: Vec<Message>,
    pub next_offset: u64,
    /// Where the log begins by now.
    pub first_offset: u64,
    pub has_more: bool,
    /// Messages that retention removed, since the last delivery, before the group had done with them.
    pub lost: u64,
}

/// What one look at a group brings.
#[derive(Default)]
struct Delivery {
    consumed: Consumed,
    /// When there may be more without a commit.
    look_again_ms: Option<i64>,
    committed: Option<oneshot::Receiver<Result<CommitReceipt>>>,
}

/// How a delivery is made.
#[derive(Debug, Clone, Copy)]
struct Terms {
    from: ConsumeFrom,
    limit: u64,
    max_bytes: u64,
    max_groups: usize,
    rules: GroupRules,
    now_us: i64,
    /// What is delivered is acknowledged with it.
    acks: bool,
}

impl Terms {
    fn now_ms(&self) -> i64 {
        self.now_us / 1_000
    }
}

impl Database {
    fn may_consume(&self, principal: &Principal) -> Result<()> {
        let allowed = self.policy.may_administer(principal, AdminAction::ConsumeTopics);
        allowed.inspect_err(|error| self.audit.note_denied(principal, "CONSUME", error, None))
    }

    /// Delivers messages to a member of a group; waits for some, where there are none. Dropping the answer ends the wait.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `NOT_FOUND`, `INVALID_INPUT`, `POSITION_LOST`, `BUSY` where too many wait, `SHUTTING_DOWN`.
    pub async fn consume(&self, principal: &Principal, request: &ConsumeRequest) -> Result<Consumed> {
        let until = Instant::now() + request.wait.min(WAIT_MAX);
        let mut waiting = None;
        loop {
            // Each time: they may have lost the right, and the topic may be gone.
            self.may_consume(principal)?;
            self.auth.check_holder(principal)?;
            if self.is_stopping() {
                return Err(Error::ShuttingDown);
            }
            let topic = self.catalog.current().topic(&request.topic)?.clone();
            let at = topic.partition(request.partition)?;
            let signal = self.topics.signals.of(topic.id);
            // Made before the look: no commit behind it is missed.
            let woken = signal.notified();
            let terms = self.terms(&topic, request.from, request.limit, false);
            let key = GroupKey { at, group: request.group.clone() };
            let (consumed, look_again_ms) = self.deliver_durably(topic, key, terms).await?;
            if !consumed.messages.is_empty() || consumed.lost > 0 || Instant::now() >= until {
                return Ok(consumed);
            }
            if waiting.is_none() {
                let permit = self.topics.waiters.clone().try_acquire_owned();
                waiting = Some(permit.map_err(|_| Error::Busy)?);
            }
            let again = look_again_ms.map(|at| u64::try_from(at - self.clock.now_ms()).unwrap_or(0));
            let again = again.map(|ms| Instant::now() + Duration::from_millis(ms.saturating_add(1)));
            let alarm = again.map_or(until, |again| again.min(until));
            // Either way it looks again.
            let _ = tokio::time::timeout_at(alarm, woken).await;
        }
    }

    /// The group has done with everything up to this offset.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`, `NOT_FOUND`, `INVALID_INPUT`, `NOT_DELIVERED`, `STORAGE_UNAVAILABLE`.
    pub async fn ack(
        &self,
        principal: &Principal,
        topic: &TableName,
        group: &GroupId,
        partition: u32,
        upto: u64,
    ) -> Result<u64> {
        self.may_consume(principal)?;
        if self.is_stopping() {
            return Err(Error::ShuttingDown);
        }
        let topic = self.catalog.current().topic(topic)?.clone();
        let key = GroupKey { at: topic.partition(partition)?, group: group.clone() };
        let (store, committer) = (self.store.clone(), self.topics.committer.clone());
        let (groups, now_us) = (self.topics.groups.clone(), self.clock.now_us());
        let _turn = self.topics.turns.acquire().await;
        let acknowledged = self.engine.blocking(move || {
            groups.with(
                &key,
                &topic,
                || store.read_view(),
                |slot, _| {
                    let never = |end| Error::NotDelivered {
                        topic: topic.name.clone(),
                        group: key.group.clone(),
                        offset: upto,
                        end,
                    };
                    let before = slot.core.as_ref().ok_or_else(|| never(0))?;
                    let mut core = before.clone();
                    core.ack(upto).map_err(|fault| never(fault.end))?;
                    let state = core.state(now_us);
                    let change = TopicChange::PutGroup(key.clone(), state);
                    // Also where it was acknowledged before: the answer says that it is durable.
                    let committed = committer.begin(CommitEntry::Topics(vec![change]), Durability::Sync)?;
                    slot.core = Some(core);
                    Ok(committed)
                },
            )
        });
        acknowledged.await?.await.unwrap_or(Err(Error::StorageUnavailable))?;
        Ok(upto)
    }

    /// CONSUME … GROUP: delivers, and acknowledges what it delivers.
    pub(super) async fn consume_once(
        &self,
        topic: &Arc<TopicMeta>,
        key: GroupKey,
        from: ConsumeFrom,
        limit: u64,
    ) -> Result<Vec<Message>> {
        let terms = self.terms(topic, from, limit, true);
        let (consumed, _) = self.deliver_durably(topic.clone(), key, terms).await?;
        Ok(consumed.messages)
    }

    /// Reads a log without a group: as much as is asked for, or nothing.
    ///
    /// # Errors
    /// `POSITION_LOST`, `INVALID_INPUT`, `RESULT_TOO_LARGE`.
    pub(super) async fn read_topic(
        &self,
        topic: &Arc<TopicMeta>,
        at: TopicPartition,
        from: ConsumeFrom,
        limit: u64,
    ) -> Result<Vec<Message>> {
        let max_bytes = self.options.max_result_bytes;
        let bytes = if max_bytes == 0 { u64::MAX } else { max_bytes };
        let terms = Terms { limit, max_bytes: bytes, ..self.terms(topic, from, limit, false) };
        let (view, topic) = (self.store.read_view(), topic.clone());
        self.engine
            .blocking(move || {
                let head = view.topic_head(at)?;
                let from = start(&topic, head, from)?;
                let (read, up_to) = read(&view, at, std::slice::from_ref(&(from..head.next)), &terms)?;
                if up_to < head.next && (read.len() as u64) < limit {
                    return Err(Error::ResultTooLarge { max_bytes });
                }
                let message = |(offset, entry)| Message { at, offset, entry, deliveries: 0 };
                Ok(read.into_iter().map(message).collect())
            })
            .await
    }

    fn terms(&self, topic: &TopicMeta, from: ConsumeFrom, limit: u64, acks: bool) -> Terms {
        let config = &self.topics.config;
        let hidden = topic.visibility_timeout_seconds.map_or(config.visibility_timeout, Duration::from_secs);
        let rules = GroupRules {
            visibility_ms: i64::try_from(hidden.as_millis()).unwrap_or(i64::MAX),
            // Without a topic to go to, a message stays.
            max_deliveries: self.dead_letter_of(topic).and(topic.dead_letter.as_ref()).map(|dead| dead.max_deliveries),
            max_in_flight: config.max_in_flight,
        };
        Terms {
            from,
            limit: limit.clamp(1, config.max_batch),
            max_bytes: config.max_batch_bytes.as_u64(),
            max_groups: config.max_groups,
            rules,
            now_us: self.clock.now_us(),
            acks,
        }
    }

    fn dead_letter_of(&self, topic: &TopicMeta) -> Option<Arc<TopicMeta>> {
        let dead = topic.dead_letter.as_ref()?;
        self.catalog.current().topics.get(&dead.topic).cloned()
    }

    /// What is delivered, its claim durable, and when to look again.
    async fn deliver_durably(
        &self,
        topic: Arc<TopicMeta>,
        key: GroupKey,
        terms: Terms,
    ) -> Result<(Consumed, Option<i64>)> {
        let _turn = self.topics.turns.acquire().await;
        let Delivery { consumed, look_again_ms, committed } = self.deliver(topic, key, terms).await?;
        if let Some(committed) = committed {
            committed.await.unwrap_or(Err(Error::StorageUnavailable))?;
        }
        Ok((consumed, look_again_ms))
    }

    async fn deliver(&self, topic: Arc<TopicMeta>, key: GroupKey, terms: Terms) -> Result<Delivery> {
        let (store, committer, groups) =
            (self.store.clone(), self.topics.committer.clone(), self.topics.groups.clone());
        let dead = self.dead_letter_of(&topic);
        self.engine
            .blocking(move || {
                groups.with(
                    &key,
                    &topic,
                    || store.read_view(),
                    |slot, view| {
                        let turn = Turn { topic: &topic, dead: dead.as_deref(), key: &key, view: &view, terms: &terms };
                        let (core, changes, mut delivery) = turn.deliver(slot)?;
                        if !changes.is_empty() {
                            let durability =
                                if changes.len() > 1 || terms.acks { Durability::Sync } else { Durability::Buffered };
                            delivery.committed = Some(committer.begin(CommitEntry::Topics(changes), durability)?);
                            slot.core = Some(core);
                        }
                        Ok(delivery)
                    },
                )
            })
            .await
    }
}

/// One delivery to one group.
struct Turn<'a> {
    topic: &'a TopicMeta,
    dead: Option<&'a TopicMeta>,
    key: &'a GroupKey,
    view: &'a ReadView,
    terms: &'a Terms,
}

impl Turn<'_> {
    /// The group behind it, and what has to be durable of it.
    fn deliver(&self, slot: &Slot) -> Result<(GroupCore, Vec<TopicChange>, Delivery)> {
        let (at, terms, now) = (self.key.at, self.terms, self.terms.now_ms());
        let head = self.view.topic_head(at)?;
        let mut core = match &slot.core {
            Some(core) => core.clone(),
            None => self.new_group(head)?,
        };
        let lost = core.lose(head.first);
        let mut changes = self.bury(&mut core, head)?;
        let wanted = core.wanted(now, head.next, &terms.rules);
        let (read, up_to) = read(self.view, at, &wanted, terms)?;
        core.claim(now, up_to, &wanted, &terms.rules);
        let message = |(offset, entry)| Message { at, offset, entry, deliveries: core.deliveries(offset) };
        let messages: Vec<Message> = read.into_iter().map(message).collect();
        let last = messages.last().map(|message| message.offset);
        if let (true, Some(last)) = (terms.acks, last) {
            core.ack(last).map_err(|_| Error::internal("what was delivered can not be acknowledged"))?;
        }
        if slot.core.as_ref() != Some(&core) {
            changes.push(TopicChange::PutGroup(self.key.clone(), core.state(terms.now_us)));
        }
        let consumed = Consumed {
            next_offset: last.map_or_else(|| core.end(), |last| last + 1),
            first_offset: head.first,
            has_more: !core.wanted(now, head.next, &terms.rules).is_empty(),
            messages,
            lost,
        };
        // More to bury than one delivery does: at once.
        let again = (!core.overdue(now, &terms.rules, 1).is_empty()).then_some(now);
        let look_again_ms = again.or_else(|| core.next_visible(now));
        Ok((core, changes, Delivery { consumed, look_again_ms, committed: None }))
    }

    /// It begins now, and that is durable: what comes next is not missed though nothing is delivered yet.
    fn new_group(&self, head: TopicHead) -> Result<GroupCore> {
        let mut groups: Vec<GroupId> = Vec::new();
        for group in self.view.topic_groups(self.topic.id) {
            let group = group?.0.group;
            if groups.last() != Some(&group) {
                groups.push(group);
            }
        }
        if !groups.contains(&self.key.group) && groups.len() >= self.terms.max_groups {
            let (name, max) = (&self.topic.name, self.terms.max_groups);
            let text = format!(
                "Topic '{name}' has {max} groups, as topics.max_groups allows; ALTER TOPIC … DROP GROUP removes one"
            );
            return Err(Error::InvalidInput(text));
        }
        Ok(GroupCore::new(start(self.topic, head, self.terms.from)?))
    }

    /// What was delivered too often goes to the dead-letter topic.
    fn bury(&self, core: &mut GroupCore, head: TopicHead) -> Result<Vec<TopicChange>> {
        let Some(dead) = self.dead else { return Ok(Vec::new()) };
        let overdue = core.overdue(self.terms.now_ms(), &self.terms.rules, BURIED_AT_ONCE);
        if overdue.is_empty() {
            return Ok(Vec::new());
        }
        let mut appends = Vec::new();
        for range in &overdue {
            for found in self.view.topic_entries(self.key.at, range.start..range.end.min(head.next)) {
                let (offset, entry) = found?;
                appends.push(self.dead_letter(dead, (offset, core.deliveries(offset)), entry)?);
            }
        }
        core.bury(&overdue);
        tracing::warn!(topic = %self.topic.name, group = %self.key.group, count = appends.len(), "messages were delivered too often");
        Ok(vec![TopicChange::Append(appends)])
    }

    fn dead_letter(
        &self,
        dead: &TopicMeta,
        (offset, deliveries): (u64, u32),
        entry: TopicEntry,
    ) -> Result<TopicAppend> {
        let owner = entry.user.clone().map_or(Owner::Shared, Owner::User);
        let key = PkBytes(Bytes::copy_from_slice(entry.key.as_deref().unwrap_or_default().as_bytes()));
        let partition = partition_of(&owner, &key, dead.partitions);
        let origin = EntryOrigin {
            topic_id: self.topic.name.to_string(),
            partition_id: self.key.at.partition,
            offset,
            group_id: self.key.group.to_string(),
            deliveries,
        };
        let entry = TopicEntry { timestamp_ms: self.terms.now_ms(), origin: Some(origin), ..entry };
        Ok(TopicAppend { at: TopicPartition { topic: dead.id, partition }, value: entry_value(&entry)? })
    }
}

/// Where who has no place yet begins.
fn start(topic: &TopicMeta, head: TopicHead, from: ConsumeFrom) -> Result<u64> {
    match from {
        ConsumeFrom::Latest => Ok(head.next),
        ConsumeFrom::Earliest => Ok(head.first),
        ConsumeFrom::Offset(offset) if offset < head.first => {
            Err(Error::OffsetLost { topic: topic.name.clone(), offset, first: head.first })
        }
        ConsumeFrom::Offset(offset) if offset > head.next => {
            let text = format!("Topic '{}' has no offset {offset} yet; {} is the next one", topic.name, head.next);
            Err(Error::InvalidInput(text))
        }
        ConsumeFrom::Offset(offset) => Ok(offset),
    }
}

/// The entries of `wanted`, within the terms' bounds, and up to where everything was looked at.
fn read(
    view: &ReadView,
    at: TopicPartition,
    wanted: &[Range<u64>],
    terms: &Terms,
) -> Result<(Vec<(u64, TopicEntry)>, u64)> {
    let (mut found, mut bytes) = (Vec::new(), 0);
    for range in wanted {
        for entry in view.topic_entries(at, range.clone()) {
            let (offset, entry) = entry?;
            let size = entry.payload.len() as u64;
            let is_full = found.len() as u64 == terms.limit || bytes + size > terms.max_bytes;
            if is_full && !found.is_empty() {
                return Ok((found, offset));
            }
            bytes += size;
            found.push((offset, entry));
        }
    }
    Ok((found, wanted.last().map_or(0, |range| range.end)))
}

impl Topics {
    /// The server stops, or rights changed: whoever waits looks again.
    pub(in crate::database) fn wake_all(&self) {
        self.signals.wake_all();
    }
}
