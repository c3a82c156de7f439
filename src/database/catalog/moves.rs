//! What is owed to tables whose rows are to lie elsewhere: their segments are still to be moved.
//!
//! Owns the records of it, of a table as a whole or of one owner's partition. Each is put with, or before, the change that
//! makes it owed, and removed when its job has gone over all of it. Later changes are added to a record that is there, and
//! its number tells that one was: then its job goes over it once more.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{CatalogStore, record, removal};
use crate::error::{Error, Result};
use crate::model::{Owner, StorageId, TableId, UserId};
use crate::storage::{RecordKind, RecordWrite, Store};

/// Segments of a table that are still to be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::database) struct OwedMove {
    pub table: TableId,
    /// `None`: of all owners.
    pub owner: Option<Owner>,
    /// Where they come from: files may be left there that no manifest names.
    pub from: BTreeSet<StorageId>,
    /// When it became so, or did so again; above all that were before.
    pub turn: i64,
}

#[derive(Serialize, Deserialize)]
struct MoveRecord {
    from: BTreeSet<StorageId>,
    turn: i64,
}

impl OwedMove {
    fn name(&self) -> String {
        match &self.owner {
            None => self.table.to_string(),
            Some(owner) => format!("{}:{}", self.table, owner.as_str()),
        }
    }

    fn of_user(table: TableId, user: Option<&UserId>) -> Self {
        Self { table, owner: user.cloned().map(Owner::User), from: BTreeSet::new(), turn: 0 }
    }
}

/// # Errors
/// `STORAGE_UNAVAILABLE`, `INTERNAL` where a record is damaged.
pub(in crate::database) fn owed_moves(store: &Store) -> Result<Vec<OwedMove>> {
    let decode = |(name, record): &(String, Vec<u8>)| {
        let (table, owner) = name.split_once(':').map_or((name.as_str(), None), |(table, owner)| (table, Some(owner)));
        let owner = owner.map(|owner| Owner::from_stored(owner).ok_or_else(|| Error::internal("a damaged move")));
        let MoveRecord { from, turn } = serde_json::from_slice(record).map_err(Error::internal)?;
        Ok(OwedMove { table: TableId(table.parse().map_err(Error::internal)?), owner: owner.transpose()?, from, turn })
    };
    store.records(RecordKind::Move)?.iter().map(decode).collect()
}

/// The record that says that segments of a table, or of one user's partition of it, are to be moved out of `from`. Asked
/// by whoever holds back other changes of the catalog.
///
/// # Errors
/// As [`owed_moves`].
pub(in crate::database) fn owe_move(
    store: &Store,
    (table, user): (TableId, Option<&UserId>),
    from: impl IntoIterator<Item = StorageId>,
    now_us: i64,
) -> Result<RecordWrite> {
    let mut owed = OwedMove::of_user(table, user);
    let before = owed_moves(store)?.into_iter().find(|other| other.table == table && other.owner == owed.owner);
    if let Some(before) = before {
        owed = before;
    }
    owed.from.extend(from);
    owed.turn = now_us.max(owed.turn + 1);
    record(RecordKind::Move, &owed.name(), &MoveRecord { from: owed.from.clone(), turn: owed.turn })
}

/// Removes what is owed of a table that goes.
///
/// # Errors
/// As [`owed_moves`].
pub(in crate::database) fn forget_moves(store: &Store, table: TableId) -> Result<Vec<RecordWrite>> {
    let owed = owed_moves(store)?.into_iter().filter(|owed| owed.table == table);
    Ok(owed.map(|owed| removal(RecordKind::Move, &owed.name())).collect())
}

impl CatalogStore {
    /// They are done, as they were when they were looked at. `false`: more is owed by now, and all of it stands.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`, `INTERNAL`.
    pub(in crate::database) async fn finish_moves(
        &self,
        store: &Store,
        table: TableId,
        done: &[OwedMove],
    ) -> Result<bool> {
        let _changing = self.changing.lock().await;
        let owed: Vec<OwedMove> = owed_moves(store)?.into_iter().filter(|owed| owed.table == table).collect();
        if owed != done {
            return Ok(false);
        }
        self.commit(owed.iter().map(|owed| removal(RecordKind::Move, &owed.name())).collect(), |_| {}).await?;
        Ok(true)
    }
}
