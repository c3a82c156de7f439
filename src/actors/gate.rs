//! A table's gate: every write passes it, and an ALTER or DROP closes it.
//!
//! Owns the order between the writes of a table and the changes of its definition. A write holds its passage until it
//! has ended and its partition's subscribers are told; whoever closes the gate waits for all passages, and while it is
//! closed later writes wait in front of it. So a definition never changes under a write.
//! Who waits is bounded by the requests under way: it holds no credit yet. How long: as long as the change takes.

use std::sync::Arc;

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::error::{Error, Result};
use crate::model::TableMeta;

/// The definition that holds now; `None`: the table was dropped. Fair: who closes it waits for no later write.
#[derive(Clone)]
pub(super) struct Gate(Arc<RwLock<Option<Arc<TableMeta>>>>);

/// While it lives, the table stays as it is.
pub(super) type Passage = OwnedRwLockReadGuard<Option<Arc<TableMeta>>>;

/// While it lives, nothing is written to the table, and nothing was on its way when it was made.
pub struct ClosedGate(OwnedRwLockWriteGuard<Option<Arc<TableMeta>>>);

impl Gate {
    pub(super) fn new(table: Arc<TableMeta>) -> Self {
        Self(Arc::new(RwLock::new(Some(table))))
    }

    /// For what was bound against `table`.
    ///
    /// # Errors
    /// `TABLE_ALTERED` where that is not its definition any more, `TABLE_NOT_FOUND` where it was dropped.
    pub(super) async fn pass(&self, table: &TableMeta) -> Result<Passage> {
        let passage = self.0.clone().read_owned().await;
        match &*passage {
            Some(now) if now.schema_version == table.schema_version => Ok(passage),
            Some(_) => Err(Error::TableAltered(table.name.clone())),
            None => Err(Error::TableNotFound(table.name.to_string())),
        }
    }

    pub(super) async fn close(&self) -> ClosedGate {
        ClosedGate(self.0.clone().write_owned().await)
    }
}

impl ClosedGate {
    /// What passes from now on has to be bound against `table`; `None`: nothing passes any more.
    pub(super) fn set(&mut self, table: Option<Arc<TableMeta>>) {
        *self.0 = table;
    }
}
