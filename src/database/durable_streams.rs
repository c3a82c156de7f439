//! Durable Streams on STREAM tables: whose stream an address names, its record and its rows.
//!
//! Owns the order in which one mailbox's streams are written ([`turns`]), and the way from records and rows to what
//! `streams` decides. A record is a note of the partition: it is durable with the rows of its append, or neither is.
//! Never decides about a stream: `crate::streams` does. Never knows HTTP.
//! Invariants: LQ-3 (the owner is chosen here, before anything is read); an append and its record are one commit.
//! Start at [`Database::append_to_stream`] and [`StreamReader::next`].

mod read;
mod shape;
pub(super) mod turns;
mod write;

use std::collections::BTreeMap;

use super::Database;
use crate::auth::ActAs;
use crate::error::{Error, Result};
use crate::model::{NoteWrite, Owner, PartitionKey, Principal, Seq, UserId};
use crate::sql::statement::ExecuteTarget;
use crate::storage::ReadView;
use crate::streams::record::{ProducerState, StoredStream, Stream, check_key};
use shape::StreamShape;

pub use read::{StreamHead, StreamPage, StreamReader};
pub use write::{Appended, Created};

/// Which stream.
#[derive(Debug, Clone)]
pub struct StreamAddress {
    pub namespace: String,
    pub table: String,
    pub key: String,
    /// In whose mailbox; `None`: the caller's own. Others' are for those who may `EXECUTE AS USER`.
    pub user: Option<String>,
}

/// An address that a caller may use.
pub(super) struct StreamScope {
    /// Whose stream it is, with a user's rights where somebody else asks.
    principal: Principal,
    impersonates: bool,
    shape: StreamShape,
    partition: PartitionKey,
    /// How long rows live.
    ttl_us: i64,
    now_us: i64,
}

impl StreamScope {
    fn owner(&self) -> &Owner {
        &self.partition.owner
    }
}

impl Database {
    pub(super) fn stream_scope(&self, caller: &Principal, address: &StreamAddress) -> Result<StreamScope> {
        if self.is_stopping() {
            return Err(Error::ShuttingDown);
        }
        check_key(&address.key)?;
        let principal = match &address.user {
            Some(user) => {
                let user = UserId::parse(user)?;
                let decided = self.auth.execute_as(caller, ActAs::User(&user));
                match &decided {
                    Ok(_) => self.audit.note_acting_for(caller, &ExecuteTarget::One(user), None),
                    Err(error) => self.audit.note_denied(caller, "EXECUTE AS USER", error, None),
                }
                decided?
            }
            None => caller.clone(),
        };
        let catalog = self.catalog.current();
        let table = catalog.table(&address.namespace, &address.table)?;
        self.policy.may_read(&principal, table)?;
        let shape = StreamShape::of(table)?;
        let seconds = table.ttl.as_ref().map_or(0, |ttl| ttl.seconds());
        Ok(StreamScope {
            impersonates: address.user.is_some(),
            partition: PartitionKey { table: table.id, owner: table.owner_of(&principal) },
            ttl_us: i64::try_from(seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000),
            now_us: self.clock.now_us(),
            principal,
            shape,
        })
    }

    /// To read with: the view first, so that no row is newer than the definition it is read by.
    fn stream_to_read(&self, caller: &Principal, address: &StreamAddress) -> Result<(StreamScope, ReadView)> {
        let view = self.store.read_view();
        let scope = self.stream_scope(caller, address)?;
        self.auth.check_holder(&scope.principal)?;
        Ok((scope, view))
    }

    /// To write with: a view of a time when the owner was who the caller means.
    fn stream_view(&self, scope: &StreamScope) -> Result<ReadView> {
        let view = self.store.read_view();
        self.auth.check_holder(&scope.principal)?;
        Ok(view)
    }
}

/// Names of notes: a stream's record.
const STREAM: u8 = b's';
/// What is remembered of a producer of a stream.
const PRODUCER: u8 = b'p';

/// Notes on their way into a commit: each name once.
#[derive(Default)]
struct Notes(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

impl Notes {
    fn put(&mut self, key: &str, record: &StoredStream) -> Result<()> {
        self.0.insert(record_name(key), Some(record.to_bytes()?));
        Ok(())
    }

    fn put_producer(&mut self, name: Vec<u8>, state: ProducerState) -> Result<()> {
        self.0.insert(name, Some(serde_json::to_vec(&state).map_err(Error::internal)?));
        Ok(())
    }

    fn remove(&mut self, name: Vec<u8>) {
        self.0.insert(name, None);
    }

    /// The stream as this commit leaves it. One that it makes is not asked for.
    fn stream(&self, view: &ReadView, partition: &PartitionKey, key: &str) -> Result<Option<Stream>> {
        match self.0.get(&record_name(key)) {
            Some(Some(record)) => Stream::read(record, (Seq::ZERO, Seq::ZERO)).map(Some),
            Some(None) => Ok(None),
            None => stream_in(view, partition, key),
        }
    }

    fn into_writes(self) -> Vec<NoteWrite> {
        self.0.into_iter().map(|(name, value)| NoteWrite { name, value }).collect()
    }
}

fn record_name(key: &str) -> Vec<u8> {
    [&[STREAM], key.as_bytes()].concat()
}

/// Of the stream of this key that began at `start`: another one of the key knows none of its producers. No key holds the
/// byte that ends it here.
fn producers_prefix(key: &str, start: Seq) -> Vec<u8> {
    [&[PRODUCER], key.as_bytes(), &[0], &start.get().to_be_bytes()].concat()
}

fn producer_name(key: &str, start: Seq, producer: &str) -> Vec<u8> {
    [&producers_prefix(key, start), producer.as_bytes()].concat()
}

fn stream_in(view: &ReadView, partition: &PartitionKey, key: &str) -> Result<Option<Stream>> {
    let note = view.note(partition, &record_name(key))?;
    note.map(|note| Stream::read(&note.value, note.commit)).transpose()
}

fn producer_in(
    view: &ReadView,
    partition: &PartitionKey,
    (key, start): (&str, Seq),
    id: &str,
) -> Result<Option<ProducerState>> {
    let note = view.note(partition, &producer_name(key, start, id))?;
    note.map(|note| serde_json::from_slice(&note.value).map_err(Error::internal)).transpose()
}
