//! A table's order: gives each change its `_seq`.
//!
//! Owns PT-1. Start at [`Sequencer::assign`].

use std::sync::Arc;

use crate::model::{Change, CommittedChanges, NoteWrite, Owner, Seq, SeqGenerator, SeqRange, TableMeta};

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

    /// Gives the changes of one statement adjacent positions, in their order; what is noted without changes gets one of its
    /// own. `None` where there is neither.
    /// `table`: as the statement was bound against it.
    pub fn assign(
        &mut self,
        table: Arc<TableMeta>,
        owner: Owner,
        (changes, notes): (Vec<Change>, Vec<NoteWrite>),
        now_ms: i64,
    ) -> Option<CommittedChanges> {
        let changes: Vec<(Seq, Change)> =
            changes.into_iter().map(|change| (self.generator.next(now_ms), change)).collect();
        let range = match (changes.first(), changes.last()) {
            (Some((first, _)), Some((last, _))) => SeqRange { first: *first, last: *last },
            _ if notes.is_empty() => return None,
            _ => {
                let only = self.generator.next(now_ms);
                SeqRange { first: only, last: only }
            }
        };
        Some(CommittedChanges { table, owner, range, changes: changes.into(), notes, stats: None, quota: None })
    }
}
