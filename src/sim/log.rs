//! A log in memory that can lose its process or its power, and the rows that it stands for.
//!
//! The second implementation of [`CommitLog`].

use std::collections::BTreeMap;

use crate::error::Result;
use crate::model::{CommittedChanges, Durability, Owner, PkBytes, RowPlace, Seq, StoredRow};
use crate::storage::{CommitEntry, CommitLog, CommitReceipt};

#[derive(Default)]
pub(super) struct Log {
    /// In the order of their commits. Those of one append are there together or not at all.
    appends: Vec<Vec<CommittedChanges>>,
    /// So many appends survive a loss of power.
    synced: usize,
    /// What the appends come to.
    rows: BTreeMap<(Owner, PkBytes), StoredRow>,
    tombstones: BTreeMap<Seq, (Owner, StoredRow)>,
}

impl CommitLog for Log {
    fn append(&mut self, entries: &[CommitEntry], durability: Durability) -> Result<CommitReceipt> {
        let changes: Vec<CommittedChanges> = entries
            .iter()
            .map(|entry| match entry {
                CommitEntry::Changes(changes) => changes.clone(),
                other => panic!("only changes are simulated: {other:?}"),
            })
            .collect();
        for committed in &changes {
            self.apply(committed);
        }
        self.appends.push(changes);
        if durability == Durability::Sync {
            self.synced = self.appends.len();
        }
        Ok(CommitReceipt { commit: self.appends.len() as u64 })
    }
}

impl Log {
    /// What was appended so far survives a loss of power.
    pub(super) fn sync(&mut self) {
        self.synced = self.appends.len();
    }

    /// Holds the partition's key rules: an insert finds no row, whatever replaces one replaces the newest.
    fn apply(&mut self, committed: &CommittedChanges) {
        for (seq, change) in committed.changes.iter() {
            let key = (committed.owner.clone(), change.pk.clone());
            let live = self.rows.remove(&key);
            assert_eq!(live, change.replaces, "{seq} replaces another row than the newest of {key:?}");
            let row = StoredRow {
                seq: *seq,
                created: change.created(*seq),
                deleted: change.deletes,
                row: change.row.clone(),
                place: RowPlace::Own,
            };
            if change.deletes {
                self.tombstones.insert(*seq, (committed.owner.clone(), row));
            } else {
                self.rows.insert(key, row);
            }
        }
    }

    /// Takes up to `count` of the newest appends that were not synced; what is left is what recovery finds.
    pub(super) fn lose_power(&mut self, count: usize) {
        let kept = self.appends.len().saturating_sub(count).max(self.synced);
        self.appends.truncate(kept);
        self.synced = kept;
        let appends = std::mem::take(&mut self.appends);
        self.rows.clear();
        self.tombstones.clear();
        for committed in appends.iter().flatten() {
            self.apply(committed);
        }
        self.appends = appends;
    }

    pub(super) fn len(&self) -> usize {
        self.appends.iter().map(Vec::len).sum()
    }

    fn committed(&self) -> impl Iterator<Item = &CommittedChanges> {
        self.appends.iter().flatten()
    }

    /// The highest position: what recovery tells the table's order.
    pub(super) fn head(&self) -> Seq {
        self.committed().last().map_or(Seq::ZERO, |committed| committed.range.last)
    }

    /// The highest position of one owner, or of all.
    pub(super) fn head_of(&self, owner: Option<&Owner>) -> Seq {
        let mine = self.committed().filter(|c| owner.is_none_or(|owner| c.owner == *owner));
        mine.last().map_or(Seq::ZERO, |committed| committed.range.last)
    }

    pub(super) fn contains(&self, seq: Seq) -> bool {
        self.committed().any(|committed| committed.range.last == seq)
    }

    pub(super) fn live_row(&self, owner: &Owner, pk: &PkBytes) -> Option<StoredRow> {
        self.rows.get(&(owner.clone(), pk.clone())).cloned()
    }

    pub(super) fn live_rows(&self, owner: &Owner) -> Vec<(PkBytes, StoredRow)> {
        let mine = self.rows.iter().filter(|((of, _), _)| of == owner);
        mine.map(|((_, pk), row)| (pk.clone(), row.clone())).collect()
    }

    /// Live rows and tombstones of one owner, or of all, above `after` up to `until`, in order.
    pub(super) fn scan(&self, owner: Option<&Owner>, after: Seq, until: Seq) -> Vec<(Owner, StoredRow)> {
        let live = self.rows.iter().map(|((of, _), row)| (of.clone(), row.clone()));
        let all = live.chain(self.tombstones.values().cloned());
        let mut found: Vec<_> = all
            .filter(|(of, row)| owner.is_none_or(|owner| of == owner) && row.seq > after && row.seq <= until)
            .collect();
        found.sort_by_key(|(_, row)| row.seq);
        found
    }

    /// LQ-2: what is about to be delivered is durable at its level.
    pub(super) fn check_durable(&self, committed: &CommittedChanges, durability: Durability) {
        let last = committed.range.last;
        let place = self.appends.iter().position(|append| append.iter().any(|c| c.range.last == last));
        let place = place.unwrap_or_else(|| panic!("{last} is told and not in the log"));
        assert!(durability == Durability::Buffered || place < self.synced, "{last} is told before it is synced");
    }

    /// PT-1.
    pub(super) fn check_order(&self) {
        let mut before = Seq::ZERO;
        for (seq, _) in self.committed().flat_map(|committed| committed.changes.iter()) {
            assert!(*seq > before, "{seq} after {before}");
            before = *seq;
        }
    }
}
