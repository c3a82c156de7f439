//! The committer's log: what makes changes durable.
//!
//! Owns the order *journal, fdatasync, visible*, the commit counter and its mark.
//! Never called by two threads: the Committer has the only one (fjall has one journal under one lock).
//! Invariants: PT-2, LQ-2; a failed append poisons the store and is never retried.

use std::sync::Arc;

use fjall::{OwnedWriteBatch as WriteBatch, PersistMode};

use super::erase::ErasedKeys;
use super::journal_sync::{JournalSync, Progress};
use super::keys;
use super::records::{RecordKind, RecordWrite};
use super::row_block;
use super::store::{COMMITS_RECORD, Keyspaces, Recovered, Store, storage_error};
use crate::error::Result;
use crate::model::{Change, CommittedChanges, Durability, PartitionKey, RowPlace, Seq};

/// One thing to make durable.
#[derive(Debug, Clone)]
pub enum CommitEntry {
    /// The changes of one statement, positions given.
    Changes(CommittedChanges),
    Records(Vec<RecordWrite>),
    /// Removes what an [`Eraser`](super::Eraser) found.
    Erase(ErasedKeys),
}

/// What an append did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitReceipt {
    /// Number of this commit, counted from the store's creation: contiguous.
    pub commit: u64,
}

/// Makes entries durable, all of them or none.
pub trait CommitLog: Send {
    /// When this returns, the entries are durable at `durability` and visible to new read views, in their order.
    ///
    /// # Errors
    /// `STORAGE_UNAVAILABLE`: nothing may be appended any more; the process has to stop and recover.
    fn append(&mut self, entries: &[CommitEntry], durability: Durability) -> Result<CommitReceipt>;
}

/// The log in fjall's journal.
pub struct FjallLog {
    store: Arc<Store>,
    commits: u64,
    progress: Arc<Progress>,
    marked: u64,
}

/// The mark trails the commits by at most this many; each write is one pwrite.
const MARK_EVERY: u64 = 64;

impl FjallLog {
    pub fn new(store: Arc<Store>, recovered: Recovered) -> Self {
        // After a loss the count goes on above the mark, so that the same loss is not told twice.
        let commits = recovered.commits + recovered.lost_commits;
        let progress = Arc::new(Progress::new(commits, store.mark_path()));
        Self { store, commits, progress, marked: commits }
    }

    /// What makes its buffered appends durable.
    pub fn journal_sync(&self) -> JournalSync {
        JournalSync::new(self.store.journal_folder().to_owned(), self.progress.clone())
    }

    fn put_changes(&self, batch: &mut WriteBatch, committed: &CommittedChanges) {
        let key = PartitionKey { table: committed.table.id, owner: committed.owner.clone() };
        let spaces = self.store.keyspaces();
        let mut rest = &committed.changes[..];
        while let Some((seq, change)) = rest.first() {
            let block = row_block::block_len(rest);
            if block > 1 {
                let (rows, behind) = rest.split_at(block);
                batch.insert(&spaces.rows, keys::row(&key, *seq), row_block::block_value(rows));
                for (row, change) in rows {
                    let value = row_block::pk_value(*row, RowPlace::Block(*seq));
                    batch.insert(&spaces.pk, keys::pk(&key, &change.pk), value);
                }
                rest = behind;
            } else {
                put_change(batch, spaces, &key, (*seq, change));
                rest = &rest[1..];
            }
        }
        // One entry for all rows of the statement.
        let range = committed.range;
        batch.insert(
            &spaces.feed,
            keys::feed(committed.table.id, range.first),
            keys::feed_value(range.last, &committed.owner),
        );
    }

    fn put_records(&self, batch: &mut WriteBatch, writes: &[RecordWrite]) {
        let records = &self.store.keyspaces().records;
        for write in writes {
            let key = keys::record(write.kind, &write.key);
            match &write.value {
                Some(value) => batch.insert(records, key, value.as_slice()),
                None => batch.remove(records, key),
            }
        }
    }

    fn put_erase(&self, batch: &mut WriteBatch, erased: &ErasedKeys) {
        let spaces = self.store.keyspaces();
        for (keyspace, keys) in [(&spaces.rows, &erased.rows), (&spaces.pk, &erased.pk), (&spaces.feed, &erased.feed)] {
            for key in keys {
                batch.remove(keyspace, key.clone());
            }
        }
    }
}

fn put_change(batch: &mut WriteBatch, spaces: &Keyspaces, key: &PartitionKey, (seq, change): (Seq, &Change)) {
    let Change { pk, row, replaces, deletes } = change;
    batch.insert(&spaces.rows, keys::row(key, seq), row_block::row_value(seq, change.created(seq), *deletes, row));
    match replaces.as_ref().map(|old| (old.seq, old.place)) {
        None => {}
        Some((old, RowPlace::Own)) => batch.remove(&spaces.rows, keys::row(key, old)),
        // A block is written once: a mark behind it says which of its rows are gone.
        Some((old, RowPlace::Block(first))) => {
            batch.insert(&spaces.rows, keys::gone(key, old), row_block::gone_value(first));
        }
    }
    if *deletes {
        batch.remove(&spaces.pk, keys::pk(key, pk));
    } else {
        batch.insert(&spaces.pk, keys::pk(key, pk), row_block::pk_value(seq, RowPlace::Own));
    }
}

impl CommitLog for FjallLog {
    fn append(&mut self, entries: &[CommitEntry], durability: Durability) -> Result<CommitReceipt> {
        let mode = match durability {
            Durability::Sync => PersistMode::SyncData,
            Durability::Buffered => PersistMode::Buffer,
        };
        let mut batch = self.store.db().batch().durability(Some(mode));
        for entry in entries {
            match entry {
                CommitEntry::Changes(committed) => self.put_changes(&mut batch, committed),
                CommitEntry::Records(writes) => self.put_records(&mut batch, writes),
                CommitEntry::Erase(erased) => self.put_erase(&mut batch, erased),
            }
        }
        let commit = self.commits + 1;
        batch.insert(
            &self.store.keyspaces().records,
            keys::record(RecordKind::Store, COMMITS_RECORD),
            commit.to_be_bytes(),
        );
        // 1. the journal has the batch; 2. it is on disk (sync); 3. new read views see it. A crash before the end of 1
        // leaves a torn batch, which recovery drops whole; after it, the finished state. PT-2, LQ-2.
        batch.commit().map_err(storage_error)?;
        self.commits = commit;
        self.progress.append(commit);
        if durability == Durability::Sync {
            self.progress.sync(commit);
            if commit - self.marked >= MARK_EVERY && self.progress.write_mark() {
                self.marked = commit;
            }
        }
        Ok(CommitReceipt { commit })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{DataType, Owner, SeqGenerator, SeqRange, StoredRow, UserId, Value};
    use crate::storage::LogSync;
    use crate::storage::row_codec::tests::table_with;
    use crate::storage::{EraseScope, Order, keys::encode_pk, row_codec};

    struct Fixture {
        _folder: tempfile::TempDir,
        store: Arc<Store>,
        log: FjallLog,
        table: Arc<crate::model::TableMeta>,
        generator: SeqGenerator,
    }

    fn fixture() -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let (store, recovered) = Store::open(folder.path(), 1 << 20).unwrap();
        let log = FjallLog::new(store.clone(), recovered);
        let table = Arc::new(table_with(&[DataType::BigInt, DataType::Text], &[0]));
        Fixture { _folder: folder, store, log, table, generator: SeqGenerator::new(0, Seq::ZERO) }
    }

    impl Fixture {
        fn key(&self, owner: &str) -> PartitionKey {
            PartitionKey { table: self.table.id, owner: Owner::User(UserId::parse(owner).unwrap()) }
        }

        fn commit(&mut self, owner: &str, changes: Vec<Change>) -> SeqRange {
            let changes: Vec<(Seq, Change)> = changes.into_iter().map(|c| (self.generator.next(0), c)).collect();
            let range = SeqRange { first: changes[0].0, last: changes[changes.len() - 1].0 };
            let entry = CommittedChanges {
                table: self.table.clone(),
                owner: self.key(owner).owner,
                range,
                changes: changes.into(),
            };
            self.log.append(&[CommitEntry::Changes(entry)], Durability::Buffered).unwrap();
            range
        }

        fn change(&self, id: i64, body: &str, replaces: Option<StoredRow>, deletes: bool) -> Change {
            let values = [Value::Int(id), Value::Text(body.to_owned())];
            Change {
                pk: encode_pk(&self.table, &values, 1).unwrap(),
                row: row_codec::encode(&self.table, &values),
                replaces,
                deletes,
            }
        }

        fn live(&self, owner: &str, id: i64) -> Option<StoredRow> {
            let pk = self.change(id, "", None, false).pk;
            let through_view = self.store.read_view().get(&self.key(owner), &pk).unwrap();
            assert_eq!(through_view, self.store.live_row(&self.key(owner), &pk).unwrap());
            through_view
        }
    }

    #[test]
    fn insert_update_delete_leave_one_version_each() {
        let mut f = fixture();
        let inserted = f.commit("a", vec![f.change(1, "one", None, false), f.change(2, "two", None, false)]);
        let old = f.live("a", 1).unwrap();
        assert_eq!((old.seq, old.created), (inserted.first, inserted.first));
        let updated = f.commit("a", vec![f.change(1, "uno", Some(old), false)]);
        let new = f.live("a", 1).unwrap();
        assert_eq!((new.seq, new.created), (updated.first, inserted.first));
        let deleted = f.commit("a", vec![f.change(1, "uno", Some(new), true)]);
        assert!(f.live("a", 1).is_none());
        let rows: Vec<_> = f
            .store
            .read_view()
            .scan(&f.key("a"), Seq::ZERO..=Seq::MAX, Order::Ascending)
            .map(|r| r.map(|r| (r.seq, r.deleted)).unwrap())
            .collect();
        assert_eq!(rows, [(inserted.last, false), (deleted.first, true)]);
        assert_eq!(f.store.read_view().head(&f.key("a")).unwrap(), deleted.first);
        assert_eq!(f.store.read_view().head(&f.key("b")).unwrap(), Seq::ZERO, "another owner's partition is empty");
    }

    #[test]
    fn a_view_does_not_move() {
        let mut f = fixture();
        f.commit("a", vec![f.change(1, "one", None, false)]);
        let view = f.store.read_view();
        f.commit("a", vec![f.change(2, "two", None, false)]);
        assert_eq!(view.scan(&f.key("a"), Seq::ZERO..=Seq::MAX, Order::Ascending).count(), 1);
    }

    #[test]
    fn reopening_finds_the_same_and_counts_what_is_lost() {
        let mut f = fixture();
        f.commit("a", vec![f.change(1, "one", None, false)]);
        f.log.journal_sync().sync().unwrap();
        let Fixture { _folder: folder, store, log, table, .. } = f;
        drop((store, log));
        let (store, recovered) = Store::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(recovered, Recovered { commits: 1, lost_commits: 0 });
        assert_eq!(store.read_view().feed(table.id, Seq::ZERO..=Seq::MAX, Order::Ascending).count(), 1);
        drop(store);
        std::fs::write(folder.path().join("commits.mark"), 5u64.to_be_bytes()).unwrap();
        let (_store, recovered) = Store::open(folder.path(), 1 << 20).unwrap();
        assert_eq!(recovered.lost_commits, 4);
    }

    /// Single rows are stored as they were in format 1, byte for byte; only the number differs.
    #[test]
    fn a_folder_of_format_1_is_read_and_says_2_from_then_on() {
        let mut f = fixture();
        f.commit("a", vec![f.change(1, "one", None, false)]);
        let record = |f: &Fixture| f.store.keyspaces().records.get(keys::record(RecordKind::Store, "format")).unwrap();
        f.store.keyspaces().records.insert(keys::record(RecordKind::Store, "format"), 1u32.to_be_bytes()).unwrap();
        let reopen = |f: Fixture| {
            let Fixture { _folder, store, log, table, generator } = f;
            drop((store, log));
            let (store, recovered) = Store::open(_folder.path(), 1 << 20).unwrap();
            let log = FjallLog::new(store.clone(), recovered);
            Fixture { _folder, store, log, table, generator }
        };
        let mut f = reopen(f);
        assert_eq!(record(&f).as_deref(), Some(&2u32.to_be_bytes()[..]));
        f.commit("a", vec![f.change(2, "two", None, false), f.change(3, "three", None, false)]);
        let f = reopen(f);
        assert!((1..=3).all(|id| f.live("a", id).is_some()));
    }

    #[test]
    fn a_second_opening_is_refused() {
        let f = fixture();
        let error = Store::open(f._folder.path(), 1 << 20).err().unwrap();
        assert!(matches!(error, super::super::store::OpenError::Locked(_)), "{error}");
    }

    impl Fixture {
        /// Erases in steps of four; answers with their number.
        fn erase(&mut self, scope: EraseScope) -> usize {
            let mut eraser = self.store.eraser(scope);
            for steps in 0.. {
                let keys = eraser.next_keys(4).unwrap();
                if keys.is_empty() {
                    return steps;
                }
                assert!(keys.len() <= 8);
                self.log.append(&[CommitEntry::Erase(keys)], Durability::Buffered).unwrap();
            }
            0
        }

        fn feed(&self) -> Vec<String> {
            let view = self.store.read_view();
            let rows = view.feed(self.table.id, Seq::ZERO..=Seq::MAX, Order::Ascending);
            rows.map(|row| row.unwrap().0.as_str().to_owned()).collect()
        }

        fn feed_entries(&self) -> usize {
            self.store.keyspaces().feed.prefix(keys::table_prefix(self.table.id)).count()
        }
    }

    #[test]
    fn a_table_is_erased_in_bounded_steps() {
        let mut f = fixture();
        f.commit("a", (0..10).map(|i| f.change(i, "x", None, false)).collect());
        // Ten keys, a block, a feed entry.
        assert_eq!(f.erase(EraseScope::Table(f.table.id)), 3 + 1 + 1);
        assert_eq!(f.store.read_view().feed_head(f.table.id).unwrap(), Seq::ZERO);
        assert!(f.live("a", 1).is_none());
        assert_eq!(f.erase(EraseScope::Table(f.table.id)), 0, "again finds nothing");
    }

    #[test]
    fn one_owner_is_erased_and_no_other() {
        let mut f = fixture();
        for owner in ["a", "al", "a"] {
            let old = f.live(owner, 1);
            f.commit(owner, vec![f.change(1, "one", old, false), f.change(20, owner, f.live(owner, 20), false)]);
        }
        f.commit("a", (2..9).map(|i| f.change(i, "x", None, false)).collect());
        f.commit("al", vec![f.change(3, "x", None, false)]);
        f.commit("a", vec![f.change(10, "x", None, false)]);
        f.commit("a", vec![f.change(10, "y", f.live("a", 10), false)]);
        f.commit("a", vec![f.change(9, "last", None, false)]);
        let (head, entries) = (f.store.read_view().feed_head(f.table.id).unwrap(), f.feed_entries());
        f.erase(EraseScope::Partition(f.key("a")));
        assert_eq!(f.feed(), ["al", "al", "al"]);
        assert_eq!(f.store.read_view().scan(&f.key("a"), Seq::ZERO..=Seq::MAX, Order::Ascending).count(), 0);
        assert!((0..30).all(|id| f.live("a", id).is_none()) && f.live("al", 3).is_some());
        assert_eq!(f.store.read_view().feed_head(f.table.id).unwrap(), head, "positions are not given twice");
        // The newest entry, and the one whose only row was replaced before, are left, and show nothing.
        assert_eq!((entries, f.feed_entries()), (8, 4));
        assert_eq!(f.erase(EraseScope::Partition(f.key("a"))), 0);
    }

    #[test]
    fn the_feed_hides_whom_it_is_told_to() {
        let mut f = fixture();
        for owner in ["a", "b"] {
            f.commit(owner, vec![f.change(1, "one", None, false)]);
        }
        let (before, b) = (f.store.read_view(), UserId::parse("b").unwrap());
        f.store.hide(&b);
        assert_eq!(f.feed(), ["a"]);
        assert!(f.live("b", 1).is_some(), "the rows are there");
        assert_eq!(before.feed(f.table.id, Seq::ZERO..=Seq::MAX, Order::Ascending).count(), 2);
        f.store.show(&b);
        assert_eq!(f.feed(), ["a", "b"]);
    }

    /// A statement of the model: rows inserted at once, or one row changed or deleted.
    #[derive(Debug, Clone)]
    enum Step {
        Insert(usize),
        Update(usize),
        Delete(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (1usize..150).prop_map(Step::Insert),
            4 => any::<usize>().prop_map(Step::Update),
            3 => any::<usize>().prop_map(Step::Delete),
        ]
    }

    /// Applies the step to the store and to the model: each key's last version, tombstones included.
    fn take_step(f: &mut Fixture, model: &mut Vec<(i64, StoredRow)>, step: &Step) {
        let live: Vec<usize> = (0..model.len()).filter(|n| !model[*n].1.deleted).collect();
        let changes = match step {
            Step::Insert(rows) => (0..*rows).map(|n| f.change((model.len() + n) as i64, "new", None, false)).collect(),
            Step::Update(n) | Step::Delete(n) if !live.is_empty() => {
                let (id, _) = model[live[n % live.len()]];
                let old = f.live("a", id);
                assert_eq!(old.as_ref().map(|old| old.seq), Some(model[id as usize].1.seq));
                vec![f.change(id, "changed", old, matches!(step, Step::Delete(_)))]
            }
            _ => return,
        };
        let range = f.commit("a", changes.clone());
        let mut seq = range.first;
        for change in changes {
            let created = change.created(seq);
            let row = StoredRow { seq, created, deleted: change.deletes, row: change.row, place: RowPlace::Own };
            let id = match keys::decode_pk(&f.table, &change.pk).as_deref() {
                Some([Value::Int(id)]) => *id,
                other => panic!("{other:?}"),
            };
            match model.get_mut(id as usize) {
                Some(slot) => slot.1 = row,
                None => model.push((id, row)),
            }
            seq = seq.next();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Blocks and the marks behind them read as the rows they stand for, from anywhere, in both directions.
        #[test]
        fn blocks_read_as_rows(steps in proptest::collection::vec(step(), 1..16), cuts in (any::<usize>(), any::<usize>())) {
            let mut f = fixture();
            let mut model = Vec::new();
            for step in &steps {
                take_step(&mut f, &mut model, step);
            }
            let view = f.store.read_view();
            let mut expected: Vec<StoredRow> = model.iter().map(|(_, row)| row.clone()).collect();
            expected.sort_by_key(|row| row.seq);
            prop_assert_eq!(view.head(&f.key("a")).unwrap(), expected.last().map_or(Seq::ZERO, |row| row.seq));
            let at = |cut: usize| expected.get(cut % (expected.len() + 1)).map_or(Seq::MAX, |row| row.seq);
            let (from, to) = (at(cuts.0), at(cuts.1));
            for range in [Seq::ZERO..=Seq::MAX, from..=Seq::MAX, Seq::ZERO..=to, from..=to.max(from), from..=from] {
                let within: Vec<StoredRow> = expected.iter().filter(|row| range.contains(&row.seq)).cloned().collect();
                for order in [Order::Ascending, Order::Descending] {
                    let as_own = |row: StoredRow| StoredRow { place: RowPlace::Own, ..row };
                    let mut got: Vec<StoredRow> =
                        view.scan(&f.key("a"), range.clone(), order).map(|row| as_own(row.unwrap())).collect();
                    let mut fed: Vec<StoredRow> =
                        view.feed(f.table.id, range.clone(), order).map(|row| as_own(row.unwrap().1)).collect();
                    if order == Order::Descending {
                        got.reverse();
                        fed.reverse();
                    }
                    prop_assert_eq!(&got, &within);
                    prop_assert_eq!(&fed, &within);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// The feed of a table from any position is the rows of all owners in the order of their commits.
        #[test]
        fn the_feed_is_all_owners_in_order(
            statements in proptest::collection::vec((0usize..3, 1usize..4), 1..12),
            cut in 0usize..30,
            descending in any::<bool>(),
        ) {
            let mut f = fixture();
            let mut expected = Vec::new();
            let mut id = 0;
            for (owner, rows) in statements {
                let owner = ["a", "b", "c"][owner];
                let changes = (0..rows).map(|_| { id += 1; f.change(id, "x", None, false) }).collect();
                let range = f.commit(owner, changes);
                let mut seq = range.first;
                while seq <= range.last {
                    expected.push((owner.to_owned(), seq));
                    seq = seq.next();
                }
            }
            let from = expected.get(cut).map_or(Seq::ZERO, |(_, seq)| *seq);
            expected.retain(|(_, seq)| *seq >= from);
            let mut order = Order::Ascending;
            if descending {
                expected.reverse();
                order = Order::Descending;
            }
            let got: Vec<(String, Seq)> = f.store.read_view().feed(f.table.id, from..=Seq::MAX, order)
                .map(|r| r.map(|(owner, row)| (owner.as_str().to_owned(), row.seq)).unwrap())
                .collect();
            prop_assert_eq!(got, expected);
        }
    }
}
