//! A table's order: gives each change its `_seq`.
//!
//! Owns PT-1. Start at [`Sequencer::assign`].

use std::sync::Arc;

use crate::model::{Change, CommittedChanges, Owner, Seq, SeqGenerator, SeqRange, TableMeta};

/// The one giver of positions of one table.
#[derive(Debug)]
pub struct Sequencer {
    generator: SeqGenerator,
}

impl Sequencer {
    /// `last`: the highest position that the store holds of this table.
    pub fn new(node: u16, last: Seq) -> Self {
        Self { generator: SeqGenerator::new(node, last) }
    }

    /// The highest position given so far.
    pub fn last(&self) -> Seq {
        self.generator.last()
    }

    /// Gives the changes of one statement adjacent positions, in their order. `None` where there are no changes.
    /// `table`: as the statement was bound against it.
    pub fn assign(
        &mut self,
        table: Arc<TableMeta>,
        owner: Owner,
        changes: Vec<Change>,
        now_ms: i64,
    ) -> Option<CommittedChanges> {
        let changes: Vec<(Seq, Change)> =
            changes.into_iter().map(|change| (self.generator.next(now_ms), change)).collect();
        let range = SeqRange { first: changes.first()?.0, last: changes.last()?.0 };
        Some(CommittedChanges { table, owner, range, changes: changes.into(), stats: None, quota: None })
    }
}
