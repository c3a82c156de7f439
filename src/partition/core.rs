//! One partition: which writes may go on at once, and what each does to the rows.
//!
//! Owns the keys of pending writes, the writes parked behind them, and the key rules.
//! Never reads a row itself: [`PartitionCore::admit`] says when the shell may read, [`PartitionCore::prepare`] takes
//! what it read.
//! Invariants: two writes of one key are never pending at once, so a row read between `admit` and `prepare` is the
//! newest there is; writes of one key go on in the order they came.

use std::collections::{HashMap, HashSet, VecDeque};

use foldhash::fast::RandomState;

use crate::error::{Error, Result};
use crate::model::{
    Assignment, Change, PkBytes, RowBytes, RowPlace, Seq, StoredRow, WriteCommand, WriteOp, WrittenRow,
};
use conflict::Conflicts;

mod conflict;

/// Names one pending write of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

#[cfg(test)]
impl Ticket {
    pub(crate) fn of(number: u64) -> Self {
        Self(number)
    }
}

/// May a write go on?
#[derive(Debug)]
pub enum Admission<W> {
    /// Read what its operations need, then [`PartitionCore::prepare`].
    Ready(W),
    /// It waits inside for a pending write of the same key: [`PartitionCore::committed`] gives it back.
    Parked,
}

/// A write whose keys are held.
#[derive(Debug, PartialEq, Eq)]
pub struct Prepared {
    pub ticket: Ticket,
    pub effects: Effects,
}

/// What a write does to the rows.
#[derive(Debug, PartialEq, Eq)]
pub struct Effects {
    pub changes: Vec<Change>,
    /// Live rows inserted, matched or deleted: the statement's count.
    pub rows: u64,
    /// The same rows, in order, where the statement is to answer them.
    pub written: Vec<Written>,
}

/// A row that a statement counts, and the operation it is of.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// By the change at this place of [`Effects::changes`].
    Changed { op: usize, change: usize },
    /// Nothing in it changed.
    Kept(WrittenRow),
}

impl Written {
    /// The row, once `changed` tells how the changes were stored.
    pub fn row(self, changed: impl Fn(usize) -> StoredRow) -> WrittenRow {
        match self {
            Written::Changed { op, change } => WrittenRow { op, row: changed(change) },
            Written::Kept(row) => row,
        }
    }
}

/// A change as the row that it leaves, at `seq`.
pub fn row_after(change: &Change, seq: Seq) -> StoredRow {
    StoredRow {
        seq,
        created: change.created(seq),
        deleted: change.deletes,
        row: change.row.clone(),
        place: RowPlace::Own,
    }
}

/// How the core asks the shell for the storage layer's pure helpers, so that it knows no bytes itself.
pub trait RowEditor {
    /// The row with the assignments applied.
    ///
    /// # Errors
    /// `INTERNAL` where the row is damaged.
    fn patch(&self, row: &RowBytes, assignments: &[Assignment]) -> Result<RowBytes>;

    /// The row as it would be written today: rows of different versions of the table compare by it.
    ///
    /// # Errors
    /// `INTERNAL` where the row is damaged.
    fn todays(&self, row: &RowBytes) -> Result<RowBytes>;

    /// The key columns' names and the key's text, for an error.
    fn describe_key(&self, pk: &PkBytes) -> (String, String);
}

/// `W` is a write with whatever the shell needs to answer it.
#[derive(Debug)]
pub struct PartitionCore<W> {
    next_ticket: u64,
    pending: HashMap<Ticket, Vec<PkBytes>>,
    /// Keys of pending writes, and how many parked writes wait for each key.
    held: HashSet<PkBytes, RandomState>,
    waiting: HashMap<PkBytes, usize, RandomState>,
    parked: VecDeque<W>,
    /// Everything parks: the rows are moving.
    closed: bool,
    /// No row has a greater key, nor has a pending write; `None`: not known.
    greatest: Option<GreatestKey>,
}

/// The greatest key of a partition's rows; `None` where it has none.
type GreatestKey = Option<PkBytes>;

impl<W: AsRef<WriteCommand>> Default for PartitionCore<W> {
    fn default() -> Self {
        Self {
            next_ticket: 0,
            pending: HashMap::new(),
            held: HashSet::default(),
            waiting: HashMap::default(),
            parked: VecDeque::new(),
            closed: false,
            greatest: None,
        }
    }
}

impl<W: AsRef<WriteCommand>> PartitionCore<W> {
    /// Has [`PartitionCore::learn_greatest`] been called?
    pub fn knows_greatest(&self) -> bool {
        self.greatest.is_some()
    }

    /// Takes the greatest key among the rows that are stored.
    pub fn learn_greatest(&mut self, key: Option<PkBytes>) {
        self.greatest = Some(key);
    }

    /// The rows are others now.
    pub fn forget_greatest(&mut self) {
        self.greatest = None;
    }

    /// Is it certain that no row has this key? Keys that grow, as most do, need no look at the store then.
    pub fn is_beyond(&self, pk: &PkBytes) -> bool {
        match &self.greatest {
            None => false,
            Some(None) => true,
            Some(Some(greatest)) => pk > greatest,
        }
    }

    /// Takes a write in. The router's credits bound how many can be parked.
    pub fn admit(&mut self, write: W) -> Admission<W> {
        let free = |pk: &PkBytes| !self.held.contains(pk) && !self.waiting.contains_key(pk);
        if !self.closed && write.as_ref().ops.iter().filter_map(WriteOp::pk).all(free) {
            return Admission::Ready(write);
        }
        for pk in write.as_ref().ops.iter().filter_map(WriteOp::pk) {
            *self.waiting.entry(pk.clone()).or_default() += 1;
        }
        self.parked.push_back(write);
        Admission::Parked
    }

    /// Holds an admitted write's keys until [`PartitionCore::committed`]: reading what it needs takes longer than this turn.
    pub fn hold(&mut self, command: &WriteCommand) -> Ticket {
        let ticket = self.next_ticket();
        let keys: Vec<PkBytes> = command.ops.iter().filter_map(WriteOp::pk).cloned().collect();
        self.held.extend(keys.iter().cloned());
        self.pending.insert(ticket, keys);
        ticket
    }

    fn next_ticket(&mut self) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        ticket
    }

    /// Parks every write from now on, until [`PartitionCore::open`].
    pub fn close(&mut self) {
        self.closed = true;
    }

    /// Gives back the writes that were parked meanwhile, in the order they came: the shell admits them again.
    pub fn open(&mut self) -> Vec<W> {
        self.closed = false;
        self.unpark()
    }

    /// Is no write under way? Some may be parked.
    pub fn is_quiet(&self) -> bool {
        self.pending.is_empty()
    }

    /// [`work_out`], and [`PartitionCore::take`] at once.
    ///
    /// # Errors
    /// As [`work_out`]: nothing is held, nothing happens.
    pub fn prepare(
        &mut self,
        command: &WriteCommand,
        found: Vec<Option<StoredRow>>,
        editor: &impl RowEditor,
    ) -> Result<Prepared> {
        let effects = work_out(command, found, editor)?;
        Ok(self.take(command, effects))
    }

    /// Takes what an admitted write does. Its keys are held until [`PartitionCore::committed`], unless there are no changes.
    pub fn take(&mut self, command: &WriteCommand, effects: Effects) -> Prepared {
        let ticket = self.next_ticket();
        let changes = &effects.changes;
        if !changes.is_empty() || !command.notes.is_empty() {
            let keys: Vec<PkBytes> =
                changes.iter().map(|c| &c.pk).filter(|pk| **pk != PkBytes::NONE).cloned().collect();
            if let (Some(greatest), Some(most)) = (&mut self.greatest, keys.iter().max())
                && greatest.as_ref().is_none_or(|greatest| most > greatest)
            {
                *greatest = Some(most.clone());
            }
            self.held.extend(keys.iter().cloned());
            self.pending.insert(ticket, keys);
        }
        Prepared { ticket, effects }
    }

    /// A pending write is durable. Gives back the parked writes that may go on, in the order they came: the shell
    /// admits them again.
    pub fn committed(&mut self, ticket: Ticket) -> Vec<W> {
        let mut contended = false;
        for key in self.pending.remove(&ticket).unwrap_or_default() {
            contended |= self.waiting.contains_key(&key);
            self.held.remove(&key);
        }
        if !contended {
            return Vec::new();
        }
        self.unpark()
    }

    /// All come out; those that still have to wait park again, behind nobody who came later.
    fn unpark(&mut self) -> Vec<W> {
        self.waiting.clear();
        self.parked.drain(..).collect()
    }

    /// Has it nothing pending and nothing parked?
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.parked.is_empty()
    }
}

/// What an admitted write does, given the live row (`None`: there is none) that each of its operations found. For an INSERT
/// that fails on a conflict a row's presence is all that matters. Needs no core: it may be worked out aside while the keys
/// are held.
///
/// # Errors
/// `DUPLICATE_KEY`, `CARDINALITY_VIOLATION`, `CONFLICT`, and what computing a merged or a returned row answers: nothing happens.
pub fn work_out(command: &WriteCommand, found: Vec<Option<StoredRow>>, editor: &impl RowEditor) -> Result<Effects> {
    // Keys in ascending order, as most batches have them, are all different.
    let ascending = command.ops.is_sorted_by(|a, b| a.pk() < b.pk());
    let mut seen: HashSet<&PkBytes, RandomState> = HashSet::default();
    let mut effects = Effects { changes: Vec::with_capacity(command.ops.len()), rows: 0, written: Vec::new() };
    let mut conflicts = Conflicts::of(command, &found)?;
    for (n, (op, live)) in command.ops.iter().zip(found).enumerate() {
        let first = ascending || op.pk().is_none_or(|pk| seen.insert(pk));
        let changes = &mut effects.changes;
        let touched = match (&mut conflicts, op) {
            (Some(conflicts), WriteOp::Insert { pk, row }) => {
                conflicts.insert((n, pk, row), live, first, editor, changes)?
            }
            _ => apply(op, live, first, editor, changes)?,
        };
        let Some(touched) = touched else { continue };
        effects.rows += 1;
        if command.returning.is_some() {
            effects.written.push(match touched {
                Touched::Changed => Written::Changed { op: n, change: effects.changes.len() - 1 },
                Touched::Kept(row) => Written::Kept(WrittenRow { op: n, row }),
            });
        }
    }
    check_returning(command, &effects)?;
    Ok(effects)
}

/// Stands for a position that is not given out yet where expressions are tried: of the size that positions have.
const NOT_ASSIGNED: i64 = 1 << 57;

/// Has whoever answers the rows find out what can not be answered of them.
fn check_returning(command: &WriteCommand, effects: &Effects) -> Result<()> {
    let Some(returning) = command.returning.as_ref().filter(|returning| returning.computes()) else { return Ok(()) };
    let not_assigned = Seq::new(NOT_ASSIGNED).unwrap_or(Seq::ZERO);
    let rows = effects.written.iter().map(|written| match written {
        Written::Changed { op, change } => {
            WrittenRow { op: *op, row: row_after(&effects.changes[*change], not_assigned) }
        }
        Written::Kept(row) => row.clone(),
    });
    returning.check(&rows.collect::<Vec<_>>())
}

/// What an operation that counts did.
enum Touched {
    /// The change that was appended last.
    Changed,
    /// Nothing in the row changed.
    Kept(StoredRow),
}

/// Appends what one operation changes; `None`: it does not count as a row.
fn apply(
    op: &WriteOp,
    live: Option<StoredRow>,
    first_of_key: bool,
    editor: &impl RowEditor,
    changes: &mut Vec<Change>,
) -> Result<Option<Touched>> {
    match op {
        WriteOp::Insert { pk, row } => {
            if !first_of_key {
                let (column, value) = editor.describe_key(pk);
                return Err(Error::DuplicateKeyInBatch { column, value });
            }
            if live.is_some() {
                let (column, value) = editor.describe_key(pk);
                return Err(Error::DuplicateKey { column, value });
            }
            changes.push(Change { pk: pk.clone(), row: row.clone(), replaces: None, deletes: false });
        }
        WriteOp::Append { row } => {
            changes.push(Change { pk: PkBytes::NONE, row: row.clone(), replaces: None, deletes: false });
        }
        WriteOp::Replace { pk, expected, row } => {
            let live = live.filter(|live| live.seq == *expected).ok_or_else(|| changed_meanwhile(editor, pk))?;
            return replace(pk, live, row.clone(), editor, changes).map(Some);
        }
        WriteOp::Patch { pk, assignments } => {
            let Some(live) = live.filter(|_| first_of_key) else { return Ok(None) };
            let row = editor.patch(&live.row, assignments)?;
            return replace(pk, live, row, editor, changes).map(Some);
        }
        WriteOp::Delete { pk, expected } => {
            let live = match expected {
                Some(expected) => {
                    Some(live.filter(|l| l.seq == *expected).ok_or_else(|| changed_meanwhile(editor, pk))?)
                }
                None => live.filter(|_| first_of_key),
            };
            let Some(live) = live else { return Ok(None) };
            changes.push(Change { pk: pk.clone(), row: live.row.clone(), replaces: Some(live), deletes: true });
        }
    }
    Ok(Some(Touched::Changed))
}

/// An UPDATE that changes nothing makes no version (S4), also of a row that an older version of the table wrote.
fn replace(
    pk: &PkBytes,
    live: StoredRow,
    row: RowBytes,
    editor: &impl RowEditor,
    changes: &mut Vec<Change>,
) -> Result<Touched> {
    if editor.todays(&live.row)? == row {
        return Ok(Touched::Kept(live));
    }
    changes.push(Change { pk: pk.clone(), row, replaces: Some(live), deletes: false });
    Ok(Touched::Changed)
}

fn changed_meanwhile(editor: &impl RowEditor, pk: &PkBytes) -> Error {
    let (column, value) = editor.describe_key(pk);
    Error::Conflict(format!("the row with {column} = {value} was changed by another statement; try again"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use super::*;
    use crate::model::{
        AccessLevel, ColumnMeta, ColumnName, DataType, Durability, NamespaceName, Owner, RowPlace, SchemaHistory, Seq,
        TableId, TableKind, TableMeta, TableName,
    };

    fn table() -> Arc<TableMeta> {
        Arc::new(TableMeta {
            id: TableId(1),
            name: TableName::new(NamespaceName::parse("t").unwrap(), "t").unwrap(),
            kind: TableKind::Shared,
            columns: vec![ColumnMeta {
                id: 1,
                name: ColumnName::parse("id").unwrap(),
                data_type: DataType::BigInt,
                nullable: false,
                default: None,
            }],
            primary_key: vec![0],
            access: AccessLevel::Private,
            durability: None,
            flush: Default::default(),
            compression: Default::default(),
            storage: crate::model::StorageId::local(),
            use_user_storage: false,
            deleted_retention_hours: None,
            ttl: None,
            unnamed_storage: None,
            checks: Vec::new(),
            comments: Default::default(),
            schema_version: 1,
            created_at: 0,
            updated_at: 0,
            history: SchemaHistory::default(),
        })
    }

    #[derive(Debug)]
    pub(super) struct Write(pub(super) &'static str, pub(super) WriteCommand);

    impl AsRef<WriteCommand> for Write {
        fn as_ref(&self) -> &WriteCommand {
            &self.1
        }
    }

    pub(super) struct Editor;

    impl RowEditor for Editor {
        fn patch(&self, _: &RowBytes, _: &[Assignment]) -> Result<RowBytes> {
            Ok(row("patched"))
        }

        fn todays(&self, stored: &RowBytes) -> Result<RowBytes> {
            Ok(if *stored == row("old x") { row("x") } else { stored.clone() })
        }

        fn describe_key(&self, pk: &PkBytes) -> (String, String) {
            ("id".to_owned(), String::from_utf8_lossy(&pk.0).into_owned())
        }
    }

    pub(super) fn key(text: &'static str) -> PkBytes {
        PkBytes(Bytes::from_static(text.as_bytes()))
    }

    pub(super) fn row(text: &'static str) -> RowBytes {
        RowBytes(Bytes::from_static(text.as_bytes()))
    }

    pub(super) fn live(text: &'static str, seq: i64) -> Option<StoredRow> {
        let seq = Seq::new(seq).unwrap();
        Some(StoredRow { seq, created: seq, deleted: false, row: row(text), place: RowPlace::Own })
    }

    pub(super) fn write(name: &'static str, ops: Vec<WriteOp>) -> Write {
        Write(
            name,
            WriteCommand {
                table: table(),
                owner: Owner::Shared,
                ops,
                notes: Vec::new(),
                durability: Durability::Sync,
                on_conflict: Default::default(),
                returning: None,
            },
        )
    }

    pub(super) fn insert(k: &'static str) -> WriteOp {
        WriteOp::Insert { pk: key(k), row: row("r") }
    }

    fn prepare(core: &mut PartitionCore<Write>, ops: Vec<WriteOp>, found: Vec<Option<StoredRow>>) -> Result<Prepared> {
        let write = write("w", ops);
        match core.admit(write) {
            Admission::Ready(write) => core.prepare(&write.1, found, &Editor),
            Admission::Parked => panic!("nothing is pending"),
        }
    }

    #[test]
    fn what_each_operation_does() {
        let expected = Seq::new(5).unwrap();
        let patch = || WriteOp::Patch { pk: key("a"), assignments: [].into() };
        let replace = |r| WriteOp::Replace { pk: key("a"), expected, row: row(r) };
        let delete = |expected| WriteOp::Delete { pk: key("a"), expected };
        // operation, row found, (changes, rows) or the code of the error
        type Case<'a> = (WriteOp, Option<StoredRow>, Result<(usize, u64), &'a str>);
        let cases: Vec<Case<'_>> = vec![
            (insert("a"), None, Ok((1, 1))),
            (insert("a"), live("x", 1), Err("23505")),
            (patch(), None, Ok((0, 0))),
            (patch(), live("x", 1), Ok((1, 1))),
            (patch(), live("patched", 1), Ok((0, 1))),
            (replace("y"), live("x", 5), Ok((1, 1))),
            (replace("x"), live("x", 5), Ok((0, 1))),
            (replace("x"), live("old x", 5), Ok((0, 1))),
            (replace("y"), live("old x", 5), Ok((1, 1))),
            (replace("y"), live("x", 6), Err("40001")),
            (replace("y"), None, Err("40001")),
            (delete(None), live("x", 1), Ok((1, 1))),
            (delete(None), None, Ok((0, 0))),
            (delete(Some(expected)), live("x", 6), Err("40001")),
        ];
        for (op, found, outcome) in cases {
            let label = format!("{op:?} on {found:?}");
            let mut core = PartitionCore::default();
            let got = prepare(&mut core, vec![op], vec![found]);
            let got = got.map(|p| (p.effects.changes.len(), p.effects.rows)).map_err(|e| e.code().sqlstate());
            assert_eq!(got, outcome, "{label}");
            assert_eq!(core.is_idle(), !matches!(outcome, Ok((1, _))), "{label}: only changes are pending");
        }
    }

    #[test]
    fn only_keys_beyond_the_greatest_are_certain_to_be_new() {
        let mut core = PartitionCore::default();
        assert!(!core.is_beyond(&key("a")), "nothing is known yet");
        core.learn_greatest(None);
        assert!(core.is_beyond(&key("a")));
        prepare(&mut core, vec![insert("m"), insert("c")], vec![None, None]).unwrap();
        assert_eq!(["c", "m", "n"].map(|k| core.is_beyond(&key(k))), [false, false, true]);
        prepare(&mut core, vec![insert("d")], vec![None]).unwrap();
        assert_eq!(["m", "n"].map(|k| core.is_beyond(&key(k))), [false, true]);
    }

    #[test]
    fn a_key_twice_in_one_insert_is_refused_whole() {
        let mut core = PartitionCore::default();
        let got = prepare(&mut core, vec![insert("a"), insert("b"), insert("a")], vec![None, None, None]);
        assert!(matches!(got, Err(Error::DuplicateKeyInBatch { .. })));
        assert!(core.is_idle());
    }

    #[test]
    fn writes_of_one_key_wait_in_order_and_others_pass() {
        let mut core: PartitionCore<Write> = PartitionCore::default();
        let first = prepare(&mut core, vec![insert("a")], vec![None]).unwrap();
        assert!(matches!(core.admit(write("second", vec![insert("a")])), Admission::Parked));
        assert!(matches!(core.admit(write("third", vec![insert("a"), insert("c")])), Admission::Parked));
        assert!(matches!(core.admit(write("other", vec![insert("b")])), Admission::Ready(_)));
        assert!(
            matches!(core.admit(write("fourth", vec![insert("c")])), Admission::Parked),
            "behind the third, although nothing pending holds c"
        );
        let back: Vec<&str> = core.committed(first.ticket).into_iter().map(|w| w.0).collect();
        assert_eq!(back, ["second", "third", "fourth"]);
        assert_eq!(core.waiting.len(), 0);
        assert!(core.is_idle());
    }

    #[test]
    fn a_commit_that_nobody_waits_for_wakes_nobody() {
        let mut core: PartitionCore<Write> = PartitionCore::default();
        let a = prepare(&mut core, vec![insert("a")], vec![None]).unwrap();
        let b = prepare(&mut core, vec![insert("b")], vec![None]).unwrap();
        assert!(matches!(core.admit(write("waits", vec![insert("b")])), Admission::Parked));
        assert!(core.committed(a.ticket).is_empty());
        assert_eq!(core.committed(b.ticket).len(), 1);
    }
}
