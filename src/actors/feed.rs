//! From committed changes to subscribers: what partitions (one owner) and tables (all owners) do alike.
//!
//! Owns how a change becomes rows that queries can see. Never evaluates a query itself.
//! Invariants: LQ-2 (only what is durable gets here); LQ-1 (a subscriber is registered and reads the head in one turn).

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::Result;
use crate::live::{ChangeBatch, LiveQuery, QueryRegistry, Subscriber};
use crate::model::{ChangeKind, CommittedChanges, RowPlace, Seq, StoredRow};
use crate::storage::{BatchBuilder, UserStorages};

/// A live query to register. Its session counted it, so it needs no credit.
pub(super) struct Attach {
    pub query: Arc<dyn LiveQuery>,
    pub subscriber: Subscriber,
    /// Gets the position up to which changes were delivered before.
    pub reply: oneshot::Sender<Seq>,
}

impl Attach {
    pub(super) fn register(self, queries: &mut QueryRegistry, head: Seq) {
        let key = self.subscriber.key;
        queries.attach(self.query, self.subscriber);
        if self.reply.send(head).is_err() {
            // Whoever asked has gone meanwhile, and nobody else will detach it.
            queries.detach(key);
        }
    }
}

/// Tells the subscribers. Without any, nothing is decoded. `homes`: where rows lie, for subscribers over all owners.
/// Rows of a STREAM table always say their owner: the name of one that is deleted is made of it.
pub(crate) fn deliver(queries: &mut QueryRegistry, committed: &CommittedChanges, homes: Option<&UserStorages>) {
    if queries.is_empty() || committed.changes.is_empty() {
        return;
    }
    match change_batch(committed, homes) {
        Ok(batch) => {
            queries.deliver(&batch);
        }
        // A row that was just encoded cannot be decoded: no subscriber may believe that nothing happened.
        Err(error) => {
            tracing::error!(table = %committed.table.name, %error, "changes can not be delivered");
            queries.end_all(&error);
        }
    }
}

pub(super) fn change_batch(committed: &CommittedChanges, homes: Option<&UserStorages>) -> Result<ChangeBatch> {
    let homes = homes.map(UserStorages::current);
    let builder = || {
        let table = committed.table.clone();
        match &homes {
            Some(homes) => BatchBuilder::all_owners(table, homes.clone(), None),
            None if table.is_stream() => BatchBuilder::all_owners(table, Arc::default(), None),
            None => BatchBuilder::new(table, None),
        }
    };
    let (mut new, mut old) = (builder(), None);
    let mut kinds = Vec::with_capacity(committed.changes.len());
    for (seq, change) in committed.changes.iter() {
        let kind = change.kind();
        let row = StoredRow {
            seq: *seq,
            created: change.created(*seq),
            deleted: kind == ChangeKind::Delete,
            row: change.row.clone(),
            place: RowPlace::Own,
        };
        new.push(&committed.owner, &row)?;
        if let Some(replaced) = &change.replaces {
            old.get_or_insert_with(builder).push(&committed.owner, replaced)?;
        }
        kinds.push(kind);
    }
    let old = old.map(|mut old| old.finish()).transpose()?;
    ChangeBatch::new(kinds, new.finish()?, old)
}
