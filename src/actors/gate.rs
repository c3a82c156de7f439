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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::model::{DataType, SchemaChange};
    use crate::storage::row_codec::tests::table_with;

    fn table() -> Arc<TableMeta> {
        Arc::new(table_with(&[DataType::BigInt, DataType::Int], &[0]))
    }

    #[test]
    fn a_closed_gate_waits_for_those_inside_and_holds_back_those_outside() {
        let (old, new) = (table(), Arc::new(table().altered(SchemaChange::DropColumn { position: 1 }, 1)));
        let gate = Gate::new(old.clone());
        let inside = gate.pass(&old).now_or_never().unwrap().unwrap();
        let mut closing = Box::pin(gate.close());
        assert!((&mut closing).now_or_never().is_none(), "a write is under way");
        let mut waiting = Box::pin(gate.pass(&old));
        assert!((&mut waiting).now_or_never().is_none(), "who comes later does not overtake");
        drop(inside);
        let mut closed = closing.now_or_never().unwrap();
        assert!((&mut waiting).now_or_never().is_none(), "it is closed");
        closed.set(Some(new.clone()));
        drop(closed);
        assert!(matches!(waiting.now_or_never().unwrap(), Err(Error::TableAltered(_))), "to be bound anew");
        assert!(gate.pass(&new).now_or_never().unwrap().is_ok());
    }

    #[test]
    fn a_gate_that_closes_for_nothing_lets_everyone_go_on() {
        let table = table();
        let gate = Gate::new(table.clone());
        drop(gate.close().now_or_never().unwrap());
        assert!(gate.pass(&table).now_or_never().unwrap().is_ok());
    }

    #[test]
    fn nothing_passes_to_a_dropped_table() {
        let table = table();
        let gate = Gate::new(table.clone());
        gate.close().now_or_never().unwrap().set(None);
        assert!(matches!(gate.pass(&table).now_or_never().unwrap(), Err(Error::TableNotFound(_))));
    }
}
