use proptest::prelude::*;

use super::*;
use crate::model::{DataType, NoteWrite, Owner, SeqGenerator, SeqRange, StoredRow, UserId, Value};
use crate::storage::row_codec::tests::table_with;
use crate::storage::store::FORMAT_VERSION;
use crate::storage::{EraseScope, LogSync, Order, ReadView, keys::encode_pk, row_codec, testing};

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
        self.commit_with(owner, changes, Vec::new())
    }

    fn commit_with(&mut self, owner: &str, changes: Vec<Change>, notes: Vec<NoteWrite>) -> SeqRange {
        let changes: Vec<(Seq, Change)> = changes.into_iter().map(|c| (self.generator.next(0), c)).collect();
        let first = changes.first().map_or_else(|| self.generator.next(0), |(seq, _)| *seq);
        let range = SeqRange { first, last: changes.last().map_or(first, |(seq, _)| *seq) };
        let entry = CommittedChanges {
            table: self.table.clone(),
            owner: self.key(owner).owner,
            range,
            changes: changes.into(),
            notes,
            stats: None,
            quota: None,
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

    /// All rows of the first owner.
    fn rows(&self, view: &ReadView) -> Vec<StoredRow> {
        testing::rows(view, &self.table, &self.key("a").owner, Seq::ZERO..=Seq::MAX, Order::Ascending)
    }

    fn live(&self, owner: &str, id: i64) -> Option<StoredRow> {
        let pk = self.change(id, "", None, false).pk;
        testing::live(&self.store.read_view(), &self.table, &self.key(owner).owner, &pk)
    }
}

#[test]
fn a_note_knows_the_positions_of_its_commit() {
    let mut f = fixture();
    let note = |name: &str, value: Option<&str>| NoteWrite {
        name: name.as_bytes().to_vec(),
        value: value.map(|value| value.as_bytes().to_vec()),
    };
    let read = |f: &Fixture, owner: &str, name: &str| {
        let note = f.store.read_view().note(&f.key(owner), name.as_bytes()).unwrap();
        note.map(|note| (note.commit, String::from_utf8(note.value.to_vec()).unwrap()))
    };
    let changes = vec![f.change(1, "one", None, false), f.change(2, "two", None, false)];
    let with_rows = f.commit_with("a", changes, vec![note("x", Some("1")), note("xy", Some(""))]);
    let before = f.store.read_view();
    assert_eq!(read(&f, "a", "x"), Some(((with_rows.first, with_rows.last), "1".to_owned())));
    assert_eq!(read(&f, "ab", "x"), None, "another owner's");
    let alone = f.commit_with("a", Vec::new(), vec![note("x", Some("2")), note("xy", None)]);
    assert_eq!(read(&f, "a", "x"), Some(((alone.first, alone.first), "2".to_owned())));
    assert_eq!(read(&f, "a", "xy"), None);
    assert_eq!(before.note(&f.key("a"), b"x").unwrap().unwrap().commit, (with_rows.first, with_rows.last));
    // A note alone has its position to itself, also behind a restart.
    assert_eq!(f.store.read_view().feed_head(f.table.id).unwrap(), alone.last);
    assert_eq!(f.rows(&f.store.read_view()).len(), 2);
    f.commit_with("a", Vec::new(), vec![note("y", Some("3")), note("z", Some("4"))]);
    let names = |prefix: &str, from: &str, limit| {
        let found = f.store.read_view().notes(&f.key("a"), (prefix.as_bytes(), from.as_bytes()), limit).unwrap();
        found.into_iter().map(|(name, _)| String::from_utf8(name).unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(names("", "", 9), ["x", "y", "z"]);
    assert_eq!(names("", "xa", 1), ["y"]);
    assert_eq!(names("x", "x", 9), ["x"]);
    // They go with their owner's rows.
    let mut eraser = f.store.eraser(EraseScope::Partition(f.key("a")));
    loop {
        let found = eraser.next_keys(2).unwrap();
        if found.is_empty() {
            break;
        }
        f.log.append(&[CommitEntry::Erase(Box::new(found))], Durability::Buffered).unwrap();
    }
    assert_eq!(read(&f, "a", "x"), None);
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
    let rows: Vec<_> = f.rows(&f.store.read_view()).iter().map(|row| (row.seq, row.deleted)).collect();
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
    assert_eq!(f.rows(&view).len(), 1);
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
    assert_eq!(testing::feed(&store.read_view(), &table, Seq::ZERO..=Seq::MAX, Order::Ascending).len(), 1);
    drop(store);
    std::fs::write(folder.path().join("commits.mark"), 5u64.to_be_bytes()).unwrap();
    let (_store, recovered) = Store::open(folder.path(), 1 << 20).unwrap();
    assert_eq!(recovered.lost_commits, 4);
}

/// Single rows are stored as they were in format 1, byte for byte; only the number differs.
#[test]
fn a_folder_of_format_1_is_read_and_says_todays_from_then_on() {
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
    let hot: Vec<_> = f.store.hot_partitions(f.table.id).map(Result::unwrap).collect();
    assert!(matches!(&hot[..], [(owner, stats)] if owner.as_str() == "a" && stats.rows == 1), "counted: {hot:?}");
    assert_eq!(record(&f).as_deref(), Some(&FORMAT_VERSION.to_be_bytes()[..]));
    f.commit("a", vec![f.change(2, "two", None, false), f.change(3, "three", None, false)]);
    let f = reopen(f);
    assert!((1..=3).all(|id| f.live("a", id).is_some()));
}

/// A head of two numbers and stats of three, as format 3 wrote them: no tombstone was noted.
#[test]
fn a_folder_of_format_3_gets_its_tombstones_noted() {
    let mut f = fixture();
    f.commit("a", vec![f.change(1, "one", None, false), f.change(2, "two", None, false)]);
    let mut deleted = Vec::new();
    for id in [1, 2] {
        let old = f.live("a", id).unwrap();
        deleted.push(f.commit("a", vec![f.change(id, "gone", Some(old), true)]).first);
    }
    let (key, spaces) = (f.key("a"), f.store.keyspaces());
    let stats = [2u64.to_be_bytes(), 30u64.to_be_bytes(), 5i64.to_be_bytes()].concat();
    spaces.stats.insert(keys::partition_prefix(&key), stats).unwrap();
    // The first one is flushed by now, and its copy still there.
    let head = [deleted[0].get().to_be_bytes(), 7u64.to_be_bytes()].concat();
    spaces.manifest.insert(keys::manifest(&key, Seq::ZERO), head).unwrap();
    spaces.records.insert(keys::record(RecordKind::Store, "format"), 3u32.to_be_bytes()).unwrap();
    let Fixture { _folder: folder, store, log, .. } = f;
    drop((store, log));
    let (store, _) = Store::open(folder.path(), 1 << 20).unwrap();
    let expected = HotStats {
        rows: 2,
        bytes: 30,
        oldest: Seq::new(5).unwrap(),
        oldest_tombstone: deleted[1],
        cold_tombstone: Seq::ZERO,
    };
    assert_eq!(store.hot_stats(&key).unwrap(), expected);
    let view = store.read_view();
    assert_eq!(view.replayable_from(&key).unwrap(), Seq::ZERO);
    let manifest = view.manifest(&key).unwrap().unwrap();
    assert_eq!((manifest.flushed_up_to, manifest.generation), (deleted[0], 7));
}

#[test]
fn what_has_expired_is_gone_and_told_in_one() {
    let mut f = fixture();
    let mut tombstones = Vec::new();
    for owner in ["a", "b"] {
        f.commit(owner, (1..=4).map(|id| f.change(id, "row", None, false)).collect());
        for id in 1..=3 {
            let old = f.live(owner, id).unwrap();
            tombstones.push((owner, f.commit(owner, vec![f.change(id, "row", Some(old), true)]).first));
        }
    }
    let of =
        |owner: &str| -> Vec<Seq> { tombstones.iter().filter(|(o, _)| *o == owner).map(|(_, seq)| *seq).collect() };
    let before = f.store.read_view();
    let found = before.expired_tombstones(&f.key("a"), 2, |_| true).unwrap();
    assert_eq!((found.seqs.as_slice(), found.next), (&of("a")[..2], of("a")[2]));
    let found = before.expired_tombstones(&f.key("a"), 9, |seq| seq < of("a")[1]).unwrap();
    assert_eq!((found.seqs.as_slice(), found.next), (&of("a")[..1], of("a")[1]));
    let expire = |f: &Fixture, owner: &str, seqs: &[Seq]| {
        let manifest = before.manifest(&f.key(owner)).unwrap().unwrap_or_default();
        let last = *seqs.last().unwrap();
        CommitEntry::Cold(Box::new(ColdCommit {
            key: f.key(owner),
            manifest: Arc::new(manifest.changed(Seq::ZERO, &[], &[]).unwrap().expired_up_to(last)),
            added: Vec::new(),
            removed: Vec::new(),
            moved: Vec::new(),
            deleted: Vec::new(),
            expired: seqs.to_vec(),
            expired_up_to: Some(last),
            flushes: false,
            stats: HotStats::default(),
        }))
    };
    // In one batch, the greater one first: the feed's word is that of both.
    let entries = [expire(&f, "b", &of("b")[..1]), expire(&f, "a", &of("a"))];
    f.log.append(&entries, Durability::Buffered).unwrap();
    let view = f.store.read_view();
    let words = |f: &Fixture, view: &ReadView| {
        let of = |owner: &str| view.replayable_from(&f.key(owner)).unwrap();
        (of("a"), of("b"), view.feed_replayable_from(f.table.id).unwrap())
    };
    assert_eq!(words(&f, &before), (Seq::ZERO, Seq::ZERO, Seq::ZERO));
    assert_eq!(words(&f, &view), (of("a")[2], of("b")[0], of("b")[0]));
    assert!(f.rows(&view).iter().all(|row| !row.deleted) && f.live("a", 4).is_some());
    assert_eq!(f.rows(&before).len(), 4, "a view does not move");
    assert_eq!(view.head(&f.key("a")).unwrap(), of("a")[2], "the last change is where it was");
    assert!(f.store.flushed_partitions(f.table.id).unwrap().is_empty(), "nothing was flushed");
    let lower = [expire(&f, "a", &of("a")[..1])];
    f.log.append(&lower, Durability::Buffered).unwrap();
    assert_eq!(words(&f, &f.store.read_view()).2, of("b")[0], "no later one takes it back");
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
            self.log.append(&[CommitEntry::Erase(Box::new(keys))], Durability::Buffered).unwrap();
        }
        0
    }

    fn feed(&self) -> Vec<String> {
        let view = self.store.read_view();
        let rows = testing::feed(&view, &self.table, Seq::ZERO..=Seq::MAX, Order::Ascending);
        rows.iter().map(|(owner, _)| owner.as_str().to_owned()).collect()
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
    assert_eq!(f.rows(&f.store.read_view()).len(), 0);
    assert!((0..30).all(|id| f.live("a", id).is_none()) && f.live("al", 3).is_some());
    assert_eq!(f.store.read_view().feed_head(f.table.id).unwrap(), head, "positions are not given twice");
    // The table's newest entry is left, and shows nothing.
    assert_eq!((entries, f.feed_entries()), (8, 3));
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
    assert_eq!(testing::feed(&before, &f.table, Seq::ZERO..=Seq::MAX, Order::Ascending).len(), 2);
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
                    testing::rows(&view, &f.table, &f.key("a").owner, range.clone(), order).into_iter().map(as_own).collect();
                let mut fed: Vec<StoredRow> =
                    testing::feed(&view, &f.table, range.clone(), order).into_iter().map(|(_, row)| as_own(row)).collect();
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
        let got: Vec<(String, Seq)> = testing::feed(&f.store.read_view(), &f.table, from..=Seq::MAX, order)
            .into_iter().map(|(owner, row)| (owner.as_str().to_owned(), row.seq)).collect();
        prop_assert_eq!(got, expected);
    }
}
