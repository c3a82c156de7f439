use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{
    Change, CommittedChanges, DataType, Durability, PkBytes, QuotaNote, RowPlace, SeqGenerator, SeqRange, TableKind,
    UserId, Value,
};
use crate::partition::stream_buckets::plan;
use crate::storage::row_codec::tests::table_with;
use crate::storage::{CommitEntry, CommitLog as _, FjallLog, Store, row_codec, testing};
use crate::time::Clock;

const START_MS: i64 = 1_800_000_000_000;

#[derive(Debug, Clone)]
enum Step {
    Insert(usize, usize),
    /// Of the rows that are there.
    Delete(usize),
    Pass(i64),
    Alter(u64),
    /// Makes and drops buckets.
    Turn,
    /// The rows of an owner up to one of them give way.
    Trim(usize, usize),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..3, 1usize..90).prop_map(|(owner, rows)| Step::Insert(owner, rows)),
        3 => any::<usize>().prop_map(Step::Delete),
        4 => (-20_000i64..120_000).prop_map(Step::Pass),
        1 => prop_oneof![1u64..60, 200u64..700].prop_map(Step::Alter),
        2 => Just(Step::Turn),
        1 => (0usize..3, any::<usize>()).prop_map(|(owner, row)| Step::Trim(owner, row)),
        1 => Just(Step::Reopen),
    ]
}

/// A store and what it should hold.
struct World {
    folder: tempfile::TempDir,
    open: Option<(Arc<Store>, FjallLog)>,
    clock: Clock,
    table: TableMeta,
    generator: SeqGenerator,
    /// Owner, row, and the shortest TTL since it was written.
    model: Vec<(Owner, StoredRow, u64)>,
    trimmed: [Seq; 3],
}

fn owner(nth: usize) -> Owner {
    Owner::User(UserId::parse(["al", "alice", "bob"][nth]).unwrap())
}

impl World {
    fn new() -> Self {
        let table = TableMeta {
            kind: TableKind::Stream,
            ttl: Some(StreamTtl::new(50)),
            ..table_with(&[DataType::BigInt, DataType::Text], &[])
        };
        let mut world = Self {
            folder: tempfile::tempdir().unwrap(),
            open: None,
            clock: Clock::manual(START_MS * 1_000),
            table,
            generator: SeqGenerator::new(1, Seq::ZERO),
            model: Vec::new(),
            trimmed: [Seq::ZERO; 3],
        };
        world.reopen();
        world
    }

    fn reopen(&mut self) {
        self.open = None;
        let (store, recovered) = Store::open(self.folder.path(), 1 << 20).unwrap();
        store.streams().run_by(self.clock.clone());
        let log = FjallLog::new(store.clone(), recovered);
        let last = store.read_view().last_position(&self.table).unwrap().max(store.streams().dropped_up_to());
        self.generator = SeqGenerator::new(1, last);
        self.open = Some((store, log));
    }

    fn store(&self) -> &Arc<Store> {
        &self.open.as_ref().unwrap().0
    }

    fn append(&mut self, entry: CommitEntry) {
        self.open.as_mut().unwrap().1.append(&[entry], Durability::Buffered).unwrap();
    }

    fn now_ms(&self) -> i64 {
        self.store().streams().now_ms()
    }

    fn commit(&mut self, nth: usize, changes: Vec<Change>, quota: Option<QuotaNote>) {
        let now = self.now_ms();
        let changes: Vec<(Seq, Change)> =
            changes.into_iter().map(|change| (self.generator.next(now), change)).collect();
        let ttl = self.table.ttl.as_ref().unwrap().seconds();
        for (seq, change) in &changes {
            if let Some(old) = &change.replaces {
                self.model.retain(|(_, row, _)| row.seq != old.seq);
            }
            let row = StoredRow {
                seq: *seq,
                created: change.created(*seq),
                deleted: change.deletes,
                row: change.row.clone(),
                place: RowPlace::Own,
            };
            self.model.push((owner(nth), row, ttl));
        }
        let range = SeqRange { first: changes[0].0, last: changes[changes.len() - 1].0 };
        let (table, quota) = (Arc::new(self.table.clone()), quota.map(Arc::new));
        let committed = CommittedChanges {
            table,
            owner: owner(nth),
            range,
            changes: changes.into(),
            stats: None,
            quota,
            notes: Vec::new(),
        };
        self.append(CommitEntry::Changes(committed));
    }

    fn insert(&self, rows: usize) -> Vec<Change> {
        let row = |n| {
            let values = [Value::Int(n as i64), Value::Text("x".repeat(n * 7 % 400))];
            let row = row_codec::encode(&self.table, &values);
            Change { pk: PkBytes::NONE, row, replaces: None, deletes: false }
        };
        (0..rows).map(row).collect()
    }

    /// What should be found: in order, tombstones included.
    fn there(&self) -> Vec<(Owner, StoredRow)> {
        let now = self.now_ms();
        let trimmed = |of: &Owner| (0..3).find(|nth| owner(*nth) == *of).map_or(Seq::ZERO, |nth| self.trimmed[nth]);
        let there = |(owner, row, keeps): &&(Owner, StoredRow, u64)| {
            row.seq.unix_ms() + *keeps as i64 * 1_000 > now && row.seq > trimmed(owner)
        };
        let mut rows: Vec<_> =
            self.model.iter().filter(there).map(|(owner, row, _)| (owner.clone(), row.clone())).collect();
        rows.sort_by_key(|(_, row)| row.seq);
        rows
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Insert(nth, rows) => self.commit(nth, self.insert(rows), None),
            Step::Delete(n) => {
                let live: Vec<_> = self.there().into_iter().filter(|(_, row)| !row.deleted).collect();
                let Some((of, row)) = live.get(n % live.len().max(1)) else { return };
                let found = self.store().read_view().stream_row(&self.table, of, row.seq).unwrap().unwrap();
                let change = Change {
                    pk: PkBytes::of_seq(row.seq),
                    row: found.row.clone(),
                    replaces: Some(found),
                    deletes: true,
                };
                let nth = (0..3).find(|nth| owner(*nth) == *of).unwrap();
                self.commit(nth, vec![change], None);
            }
            Step::Pass(ms) => self.clock.set_us(self.clock.now_us() + ms * 1_000),
            Step::Alter(seconds) => {
                let head = self.store().read_view().last_position(&self.table).unwrap();
                let Some(ttl) = self.table.ttl.as_ref().unwrap().changed(seconds, head, self.now_ms()) else { return };
                self.table.ttl = Some(ttl);
                // What is gone stays gone.
                let now = self.now_ms();
                self.model.retain(|(_, row, keeps)| row.seq.unix_ms() + *keeps as i64 * 1_000 > now);
                self.model.iter_mut().for_each(|(_, _, keeps)| *keeps = (*keeps).min(seconds));
            }
            Step::Turn => {
                let now = self.now_ms();
                let classes = BTreeSet::from([TtlClass::of(self.table.ttl.as_ref().unwrap().seconds())]);
                let plan = plan(now, &classes, &self.store().streams().ids());
                self.store().streams().make_all(&plan).unwrap();
                if !plan.drop.is_empty() {
                    let note = self.store().streams().note_of_drop(now);
                    self.append(CommitEntry::Records(vec![note]));
                    self.store().streams().drop_all(&plan, now).unwrap();
                }
            }
            Step::Trim(nth, n) => {
                let own: Vec<Seq> =
                    self.there().iter().filter(|(of, _)| *of == owner(nth)).map(|(_, row)| row.seq).collect();
                let Some(up_to) = own.get(n % own.len().max(1)) else { return };
                self.trimmed[nth] = *up_to;
                self.commit(nth, self.insert(1), Some(QuotaNote { trimmed: *up_to, slices: Vec::new() }));
                let key = PartitionKey { table: self.table.id, owner: owner(nth) };
                // As far as a crash lets it come.
                if let Some((keys, _)) = self.store().trimmed_keys(&key, (Seq::ZERO, *up_to), 3).unwrap() {
                    self.append(CommitEntry::Erase(Box::new(keys)));
                }
            }
            Step::Reopen => self.reopen(),
        }
    }

    fn check(&self, cuts: (usize, usize)) -> Result<(), TestCaseError> {
        let (view, table) = (self.store().read_view(), Arc::new(self.table.clone()));
        let expected = self.there();
        let at = |cut: usize| expected.get(cut % (expected.len() + 1)).map_or(Seq::MAX, |(_, row)| row.seq);
        let (from, to) = (at(cuts.0), at(cuts.1));
        let as_own = |row: StoredRow| StoredRow { place: RowPlace::Own, ..row };
        for range in [Seq::ZERO..=Seq::MAX, from..=Seq::MAX, from..=to.max(from), to..=to] {
            let within: Vec<(Owner, StoredRow)> =
                expected.iter().filter(|(_, row)| range.contains(&row.seq)).cloned().collect();
            for order in [Order::Ascending, Order::Descending] {
                let mut fed: Vec<(Owner, StoredRow)> = testing::feed(&view, &table, range.clone(), order)
                    .into_iter()
                    .map(|(owner, row)| (owner, as_own(row)))
                    .collect();
                if order == Order::Descending {
                    fed.reverse();
                }
                prop_assert_eq!(&fed, &within);
                for nth in 0..3 {
                    let mut got: Vec<StoredRow> = testing::rows(&view, &table, &owner(nth), range.clone(), order)
                        .into_iter()
                        .map(as_own)
                        .collect();
                    if order == Order::Descending {
                        got.reverse();
                    }
                    let own = within.iter().filter(|(of, _)| *of == owner(nth)).map(|(_, row)| row.clone());
                    prop_assert_eq!(got, own.collect::<Vec<_>>());
                }
            }
        }
        let (head, replayable) = view.reach(&table, None).unwrap();
        prop_assert!(head >= replayable);
        prop_assert!(expected.iter().all(|(_, row)| row.seq <= head));
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Rows of a STREAM table are those that were written, less what was deleted, has expired or gave way: whatever the clock
    /// does, from anywhere, in both directions, of one owner and of all.
    #[test]
    fn a_stream_is_what_is_left_of_it(
        steps in proptest::collection::vec(step(), 1..30),
        cuts in (any::<usize>(), any::<usize>()),
    ) {
        let mut world = World::new();
        for step in steps {
            world.take(step);
        }
        world.check(cuts)?;
    }
}
