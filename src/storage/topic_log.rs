//! Topics on disk: heads, groups and entries, and the changes that a commit makes to them.
//!
//! Owns the forms of their values (`docs/on-disk-format.md`), which partition a key's entries go to, and the giving of
//! offsets: the committer's thread has the only [`TopicHeads`], so a partition's offsets have no gap and follow the order
//! of commits, whatever tables the entries come from.
//! Never decides what is appended, delivered or removed.

use std::collections::BTreeSet;
use std::collections::hash_map::{Entry, HashMap};

use fjall::{Keyspace, OwnedWriteBatch as WriteBatch, UserKey};
use xxhash_rust::xxh3::xxh3_64;

use super::commit_log::remove_read;
use super::keys;
use super::store::storage_error;
use super::varint;
use crate::error::{Error, Result};
use crate::model::{
    ChangeKind, EntryOrigin, GroupId, GroupKey, GroupRun, GroupState, Owner, PkBytes, TopicEntry, TopicHead, TopicId,
    TopicPartition, UserId,
};

/// The form of an entry's and of a group's value. Another form gets another number.
const FORM: u8 = 1;

const HAS_USER: u8 = 1;
const HAS_ORIGIN: u8 = 2;
const HAS_KEY: u8 = 4;

/// One entry to append. It gets its offset when it is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicAppend {
    pub at: TopicPartition,
    /// Of [`entry_value`].
    pub value: Vec<u8>,
}

/// A change of a topic. Those of one entry of the log are durable together, and with the rows they tell of.
#[derive(Debug, Clone)]
pub enum TopicChange {
    Append(Vec<TopicAppend>),
    PutGroup(GroupKey, GroupState),
    /// From all partitions of a topic.
    RemoveGroup {
        topic: TopicId,
        partitions: u32,
        group: GroupId,
    },
    /// Removes entries: offset and bytes of each. What is below `first` is gone from now on, what is below `swept` removed.
    Remove {
        at: TopicPartition,
        entries: Vec<(u64, u64)>,
        first: u64,
        swept: u64,
    },
    /// All entries are gone from now on; their keys go later.
    Clear {
        at: TopicPartition,
    },
    /// Removes keys of a dropped topic. `last`: there are no more.
    Forget {
        topic: TopicId,
        keys: Vec<UserKey>,
        last: bool,
    },
}

impl TopicChange {
    /// Topics whose consumers have something to look at behind this.
    pub fn appended(&self) -> impl Iterator<Item = TopicId> {
        let appends = match self {
            TopicChange::Append(appends) => appends.as_slice(),
            _ => &[],
        };
        appends.iter().map(|append| append.at.topic)
    }
}

/// The partition of a topic that a row's entries go to: always the same, so that they stay in order.
pub fn partition_of(owner: &Owner, pk: &PkBytes, partitions: u32) -> u32 {
    if partitions <= 1 {
        return 0;
    }
    let mut key = Vec::with_capacity(owner.as_str().len() + 1 + pk.0.len());
    key.extend_from_slice(owner.as_str().as_bytes());
    key.push(0);
    key.extend_from_slice(&pk.0);
    u32::try_from(xxh3_64(&key) % u64::from(partitions)).unwrap_or(0)
}

/// Where the logs of topics end: of those that were written to since the start. The committer's own.
#[derive(Debug, Default)]
pub(super) struct TopicHeads {
    heads: HashMap<TopicPartition, TopicHead>,
    /// Those that this batch changes.
    changed: BTreeSet<TopicPartition>,
}

impl TopicHeads {
    pub(super) fn put(&mut self, batch: &mut WriteBatch, topics: &Keyspace, change: &TopicChange) -> Result<()> {
        match change {
            TopicChange::Append(appends) => {
                for TopicAppend { at, value } in appends {
                    let head = self.change(topics, *at)?;
                    batch.insert(topics, keys::topic_entry(*at, head.next), value.as_slice());
                    head.next += 1;
                    head.bytes += value.len() as u64;
                }
            }
            TopicChange::PutGroup(key, state) => batch.insert(topics, keys::topic_group(key), group_value(state)),
            TopicChange::RemoveGroup { topic, partitions, group } => {
                for partition in 0..*partitions {
                    let at = TopicPartition { topic: *topic, partition };
                    batch.remove(topics, keys::topic_group(&GroupKey { at, group: group.clone() }));
                }
            }
            TopicChange::Remove { at, entries, first, swept } => {
                let head = self.change(topics, *at)?;
                for (offset, bytes) in entries {
                    batch.remove(topics, keys::topic_entry(*at, *offset));
                    // Those below do not count any more.
                    if *offset >= head.first {
                        head.bytes = head.bytes.saturating_sub(*bytes);
                    }
                }
                head.first = head.first.max(*first).min(head.next);
                head.swept = head.swept.max(*swept).min(head.first);
            }
            TopicChange::Clear { at } => {
                let head = self.change(topics, *at)?;
                (head.first, head.bytes) = (head.next, 0);
            }
            TopicChange::Forget { topic, keys, last } => {
                for key in keys {
                    remove_read(batch, topics, key);
                }
                if *last {
                    self.heads.retain(|at, _| at.topic != *topic);
                }
            }
        }
        Ok(())
    }

    /// Behind the last change of a batch.
    pub(super) fn put_heads(&mut self, batch: &mut WriteBatch, topics: &Keyspace) {
        for at in std::mem::take(&mut self.changed) {
            if let Some(head) = self.heads.get(&at) {
                batch.insert(topics, keys::topic_head(at), head_value(head));
            }
        }
    }

    fn change(&mut self, topics: &Keyspace, at: TopicPartition) -> Result<&mut TopicHead> {
        self.changed.insert(at);
        match self.heads.entry(at) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(unknown) => {
                let stored = topics.get(keys::topic_head(at)).map_err(storage_error)?;
                Ok(unknown.insert(stored.map_or(Ok(TopicHead::default()), |value| parse_head(&value))?))
            }
        }
    }
}

fn head_value(head: &TopicHead) -> [u8; 32] {
    let mut value = [0; 32];
    value.copy_from_slice([head.first, head.next, head.bytes, head.swept].map(u64::to_be_bytes).as_flattened());
    value
}

pub(super) fn parse_head(value: &[u8]) -> Result<TopicHead> {
    match value.as_chunks::<8>() {
        ([first, next, bytes, swept], []) => {
            let [first, next, bytes, swept] = [first, next, bytes, swept].map(|word| u64::from_be_bytes(*word));
            Ok(TopicHead { first, next, bytes, swept })
        }
        _ => Err(Error::internal("a damaged head of a topic")),
    }
}

fn group_value(state: &GroupState) -> Vec<u8> {
    let mut value = vec![FORM];
    value.extend_from_slice(&state.updated_at.to_be_bytes());
    for number in [state.cursor, state.lost, state.buried, state.runs.len() as u64] {
        varint::put(&mut value, number);
    }
    for run in &state.runs {
        varint::put(&mut value, run.len);
        varint::put(&mut value, (u64::from(run.deliveries) << 1) | u64::from(run.buried));
    }
    value
}

pub(super) fn parse_group(value: &[u8]) -> Result<GroupState> {
    let parsed = || {
        let (time, mut rest) = value.strip_prefix(&[FORM])?.split_first_chunk::<8>()?;
        let mut state = GroupState { updated_at: i64::from_be_bytes(*time), ..GroupState::default() };
        state.cursor = varint::take(&mut rest)?;
        state.lost = varint::take(&mut rest)?;
        state.buried = varint::take(&mut rest)?;
        for _ in 0..varint::take(&mut rest)? {
            let len = varint::take(&mut rest)?;
            let word = varint::take(&mut rest)?;
            let deliveries = u32::try_from(word >> 1).ok()?;
            state.runs.push(GroupRun { len, deliveries, buried: word & 1 == 1 });
        }
        rest.is_empty().then_some(state)
    };
    parsed().ok_or_else(|| Error::internal("a damaged group of a topic"))
}

/// An entry as it is stored.
///
/// # Errors
/// `INTERNAL` where its origin is no JSON.
pub fn entry_value(entry: &TopicEntry) -> Result<Vec<u8>> {
    let mut value = Vec::with_capacity(entry.payload.len() + entry.key.as_ref().map_or(0, String::len) + 64);
    let has = [(entry.user.is_some(), HAS_USER), (entry.origin.is_some(), HAS_ORIGIN), (entry.key.is_some(), HAS_KEY)];
    let flags = has.iter().filter(|(has, _)| *has).fold(0, |flags, (_, flag)| flags | flag);
    let op = match entry.op {
        ChangeKind::Insert => 0,
        ChangeKind::Update => 1,
        ChangeKind::Delete => 2,
    };
    value.extend_from_slice(&[FORM, op, flags]);
    value.extend_from_slice(&entry.timestamp_ms.to_be_bytes());
    if let Some(user) = &entry.user {
        put_bytes(&mut value, user.as_str().as_bytes());
    }
    if let Some(key) = &entry.key {
        put_bytes(&mut value, key.as_bytes());
    }
    if let Some(origin) = &entry.origin {
        put_bytes(&mut value, &serde_json::to_vec(origin).map_err(Error::internal)?);
    }
    value.extend_from_slice(&entry.payload);
    Ok(value)
}

/// # Errors
/// `INTERNAL` where it is damaged.
pub(super) fn parse_entry(value: &[u8]) -> Result<TopicEntry> {
    let parsed = || {
        let (&[op, flags], rest) = value.strip_prefix(&[FORM])?.split_first_chunk::<2>()?;
        let (time, mut rest) = rest.split_first_chunk::<8>()?;
        let op = match op {
            0 => ChangeKind::Insert,
            1 => ChangeKind::Update,
            2 => ChangeKind::Delete,
            _ => return None,
        };
        let text = |rest: &mut &[u8]| String::from_utf8(take_bytes(rest)?.to_vec()).ok();
        let user = match flags & HAS_USER != 0 {
            true => Some(UserId::parse(&text(&mut rest)?).ok()?),
            false => None,
        };
        let key = match flags & HAS_KEY != 0 {
            true => Some(text(&mut rest)?),
            false => None,
        };
        let origin: Option<EntryOrigin> = match flags & HAS_ORIGIN != 0 {
            true => Some(serde_json::from_slice(take_bytes(&mut rest)?).ok()?),
            false => None,
        };
        Some(TopicEntry { timestamp_ms: i64::from_be_bytes(*time), op, user, key, origin, payload: rest.to_vec() })
    };
    parsed().ok_or_else(|| Error::internal("a damaged entry of a topic"))
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn take_bytes<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(varint::take(bytes)?).ok()?;
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(user: Option<&str>, origin: Option<EntryOrigin>) -> TopicEntry {
        TopicEntry {
            timestamp_ms: 1_777_000_000_000,
            op: ChangeKind::Update,
            user: user.map(|user| UserId::parse(user).unwrap()),
            key: user.map(|_| "7".to_owned()),
            origin,
            payload: br#"{"id":"7"}"#.to_vec(),
        }
    }

    #[test]
    fn values_come_back_and_damage_is_told() {
        let origin = EntryOrigin {
            topic_id: "shop.orders".to_owned(),
            partition_id: 3,
            offset: 120,
            group_id: "g".to_owned(),
            deliveries: 5,
        };
        for entry in [entry(None, None), entry(Some("al"), None), entry(Some("al"), Some(origin))] {
            let value = entry_value(&entry).unwrap();
            assert_eq!(parse_entry(&value).unwrap(), entry);
            for cut in 0..value.len() - entry.payload.len() {
                assert!(parse_entry(&value[..cut]).is_err(), "cut at {cut}");
            }
        }
        let runs = vec![
            GroupRun { len: 300, deliveries: 2, buried: false },
            GroupRun { len: 1, deliveries: u32::MAX, buried: true },
        ];
        let state = GroupState { cursor: 1 << 40, lost: 2, buried: 3, runs, updated_at: -5 };
        let value = group_value(&state);
        assert_eq!(parse_group(&value).unwrap(), state);
        for cut in 0..value.len() {
            assert!(parse_group(&value[..cut]).is_err(), "cut at {cut}");
        }
        let head = TopicHead { first: 2, next: 3, bytes: 4, swept: 1 };
        assert_eq!(parse_head(&head_value(&head)).unwrap(), head);
        assert!(parse_head(&[0; 24]).is_err() && parse_group(&[2]).is_err() && parse_entry(&[2; 40]).is_err());
    }

    #[test]
    fn the_bytes_are_as_documented() {
        assert_eq!(
            entry_value(&entry(Some("al"), None)).unwrap(),
            [&[1, 1, 1 | 4][..], &1_777_000_000_000_i64.to_be_bytes(), &[2, b'a', b'l', 1, b'7'], br#"{"id":"7"}"#]
                .concat()
        );
        let runs = vec![GroupRun { len: 2, deliveries: 3, buried: false }];
        let state = GroupState { cursor: 200, runs, updated_at: 9, ..GroupState::default() };
        assert_eq!(group_value(&state), [1, 0, 0, 0, 0, 0, 0, 0, 9, 0xC8, 1, 0, 0, 1, 2, 6]);
        let at = TopicPartition { topic: TopicId(7), partition: 2 };
        assert_eq!(keys::topic_entry(at, 5), [0, 0, 0, 7, 2, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 5]);
        let key = GroupKey { at, group: GroupId::parse("g").unwrap() };
        assert_eq!(keys::topic_group(&key), [0, 0, 0, 7, 1, b'g', 0, 0, 0, 0, 2]);
        assert_eq!(keys::parse_topic_group(&keys::topic_group(&key)), Some(key));
    }

    /// A row's place among partitions is part of the format: its entries would change their order if it moved.
    #[test]
    fn a_row_stays_in_its_partition() {
        let owner = |name: &str| Owner::User(UserId::parse(name).unwrap());
        let pk = PkBytes(bytes::Bytes::from_static(&[1, 2, 3]));
        let places = ["alice", "bob", "carol", "dave"].map(|user| partition_of(&owner(user), &pk, 4));
        assert_eq!(places, [3, 3, 2, 2]);
        assert_eq!(partition_of(&Owner::Shared, &pk, 1), 0);
    }
}
