//! `ON CONFLICT` of an INSERT: what becomes of a key that a live row has.
//!
//! Owns which rows conflict, and that no row is updated twice by one statement. What DO UPDATE makes of a row is the
//! statement's own ([`RowMerge`](crate::model::RowMerge)); all rows of a statement are asked of it at once.

use std::collections::HashSet;

use foldhash::fast::RandomState;

use super::{RowEditor, Touched, replace};
use crate::error::{Error, Result};
use crate::model::{Change, KeyConflict, OnConflict, PkBytes, RowBytes, StoredRow, WriteCommand, WriteOp};

/// The conflicts of one statement.
pub(super) enum Conflicts<'c> {
    Nothing,
    Update {
        /// What becomes of each operation's live row, if it has one and is not to stay.
        merged: Vec<Option<RowBytes>>,
        /// Keys that the statement has inserted or updated.
        affected: HashSet<&'c PkBytes, RandomState>,
    },
}

impl<'c> Conflicts<'c> {
    /// `None`: the statement has no such clause.
    ///
    /// # Errors
    /// What computing a merged row answers.
    pub(super) fn of(command: &'c WriteCommand, found: &[Option<StoredRow>]) -> Result<Option<Self>> {
        let merge = match &command.on_conflict {
            OnConflict::Fail => return Ok(None),
            OnConflict::Nothing => return Ok(Some(Self::Nothing)),
            OnConflict::Update(merge) => merge,
        };
        let mut places = Vec::new();
        let mut conflicts = Vec::new();
        for (n, (op, live)) in command.ops.iter().zip(found).enumerate() {
            if let (WriteOp::Insert { row, .. }, Some(live)) = (op, live) {
                places.push(n);
                conflicts.push(KeyConflict { live, proposed: row });
            }
        }
        let mut merged = vec![None; command.ops.len()];
        if !conflicts.is_empty() {
            for (place, row) in places.into_iter().zip(merge.merge(&conflicts)?) {
                merged[place] = row;
            }
        }
        Ok(Some(Self::Update { merged, affected: HashSet::default() }))
    }

    /// What the INSERT of `row`, the statement's `n`th operation, does to `live`. `first`: no operation before has its key.
    ///
    /// # Errors
    /// `CARDINALITY_VIOLATION`.
    pub(super) fn insert(
        &mut self,
        (n, pk, row): (usize, &'c PkBytes, &RowBytes),
        live: Option<StoredRow>,
        first: bool,
        editor: &impl RowEditor,
        changes: &mut Vec<Change>,
    ) -> Result<Option<Touched>> {
        match (&mut *self, live) {
            (Self::Nothing, None) if first => {}
            (Self::Nothing, _) => return Ok(None),
            (Self::Update { affected, .. }, _) if affected.contains(pk) => {
                let (column, value) = editor.describe_key(pk);
                return Err(Error::AffectedTwice { column, value });
            }
            (Self::Update { affected, .. }, None) => drop(affected.insert(pk)),
            (Self::Update { merged, affected }, Some(live)) => {
                let Some(row) = merged[n].take() else { return Ok(None) };
                affected.insert(pk);
                return replace(pk, live, row, editor, changes).map(Some);
            }
        }
        changes.push(Change { pk: pk.clone(), row: row.clone(), replaces: None, deletes: false });
        Ok(Some(Touched::Changed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::tests::{Editor, Write, insert, key, live, row, write};
    use super::super::{Admission, Effects, PartitionCore, Written};
    use super::*;
    use crate::model::{ChangeKind, Returning, RowMerge, WrittenRow};

    /// The live row becomes `merged`, but one that is "fixed" stays.
    #[derive(Debug)]
    struct Merge;

    impl RowMerge for Merge {
        fn computes(&self) -> bool {
            false
        }

        fn merge(&self, conflicts: &[KeyConflict<'_>]) -> Result<Vec<Option<RowBytes>>> {
            Ok(conflicts.iter().map(|c| (c.live.row != row("fixed")).then(|| row("merged"))).collect())
        }
    }

    #[derive(Debug)]
    struct Answer(bool);

    impl Returning for Answer {
        fn computes(&self) -> bool {
            true
        }

        fn check(&self, _: &[WrittenRow]) -> Result<()> {
            if self.0 { Ok(()) } else { Err(Error::Execution("division by zero".to_owned())) }
        }
    }

    fn prepare(on_conflict: OnConflict, keys: &[&'static str], found: Vec<Option<StoredRow>>) -> Result<Effects> {
        let Write(name, command) = write("w", keys.iter().map(|k| insert(k)).collect());
        let command = WriteCommand { on_conflict, returning: Some(Arc::new(Answer(true))), ..command };
        let mut core = PartitionCore::default();
        match core.admit(Write(name, command)) {
            Admission::Ready(write) => core.prepare(&write.1, found, &Editor).map(|prepared| prepared.effects),
            Admission::Parked => panic!("nothing is pending"),
        }
    }

    #[test]
    fn what_a_conflict_does() {
        use ChangeKind::{Insert, Update};
        let update = || OnConflict::Update(Arc::new(Merge));
        // clause, keys, rows found, (kinds of the changes, rows) or the code of the error
        type Case<'a> =
            (OnConflict, &'a [&'static str], Vec<Option<StoredRow>>, Result<(Vec<ChangeKind>, u64), &'a str>);
        let cases: Vec<Case<'_>> = vec![
            (OnConflict::Nothing, &["a", "b"], vec![live("x", 1), None], Ok((vec![Insert], 1))),
            (OnConflict::Nothing, &["a", "a"], vec![None, None], Ok((vec![Insert], 1))),
            (OnConflict::Nothing, &["a", "a"], vec![live("x", 1), live("x", 1)], Ok((vec![], 0))),
            (update(), &["a", "b"], vec![live("x", 1), None], Ok((vec![Update, Insert], 2))),
            (update(), &["a"], vec![live("fixed", 1)], Ok((vec![], 0))),
            (update(), &["a", "a"], vec![live("fixed", 1), live("fixed", 1)], Ok((vec![], 0))),
            (update(), &["a"], vec![live("merged", 1)], Ok((vec![], 1))),
            (update(), &["a", "b", "a"], vec![None, None, None], Err("21000")),
            (update(), &["a", "a"], vec![live("x", 1), live("x", 1)], Err("21000")),
            (update(), &["a", "a"], vec![live("merged", 1), live("merged", 1)], Err("21000")),
            (OnConflict::Fail, &["a", "a"], vec![None, None], Err("23505")),
        ];
        for (clause, keys, found, expected) in cases {
            let label = format!("{clause:?} {keys:?} on {found:?}");
            let got = prepare(clause, keys, found);
            let got = got.map(|p| (p.changes.iter().map(Change::kind).collect(), p.rows));
            assert_eq!(got.map_err(|e| e.code().sqlstate()), expected, "{label}");
        }
    }

    #[test]
    fn rows_are_answered_in_the_order_of_the_statement() {
        let found = vec![live("merged", 3), None, live("fixed", 4), live("x", 5)];
        let prepared = prepare(OnConflict::Update(Arc::new(Merge)), &["a", "b", "c", "d"], found).unwrap();
        let kept = WrittenRow { op: 0, row: live("merged", 3).unwrap() };
        let changed = |op, change| Written::Changed { op, change };
        assert_eq!(prepared.written, [Written::Kept(kept), changed(1, 0), changed(3, 1)]);
    }

    #[test]
    fn what_can_not_be_answered_is_not_written() {
        let Write(name, command) = write("w", vec![insert("a")]);
        let command = WriteCommand { returning: Some(Arc::new(Answer(false))), ..command };
        let mut core = PartitionCore::default();
        let Admission::Ready(write) = core.admit(Write(name, command)) else { panic!("nothing is pending") };
        assert!(core.prepare(&write.1, vec![None], &Editor).is_err());
        assert!(core.is_idle());
        assert_eq!(write.1.ops.iter().filter_map(WriteOp::pk).next(), Some(&key("a")));
    }
}
