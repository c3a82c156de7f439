//! A write, bound: names resolved, values converted, defaults filled in, one partition addressed.

use std::fmt;
use std::sync::Arc;

use super::{Durability, NoteWrite, Owner, PkBytes, RowBytes, Seq, StoredRow, TableMeta, Value};
use crate::error::Result;

/// One INSERT, UPDATE or DELETE statement for one partition: all of it happens, or nothing.
#[derive(Debug, Clone)]
pub struct WriteCommand {
    pub table: Arc<TableMeta>,
    pub owner: Owner,
    pub ops: Vec<WriteOp>,
    /// What is noted of the partition with it; without `ops`, that alone.
    pub notes: Vec<NoteWrite>,
    pub durability: Durability,
    /// What an [`WriteOp::Insert`] does where a live row has its key.
    pub on_conflict: OnConflict,
    /// Has the statement a RETURNING clause? Then its [`WriteAck`] names the rows.
    pub returning: Option<Arc<dyn Returning>>,
}

impl WriteCommand {
    /// Does it take expressions to find out what the write does? Then not on a thread that others wait for.
    pub fn computes(&self) -> bool {
        matches!(&self.on_conflict, OnConflict::Update(merge) if merge.computes())
            || self.returning.as_ref().is_some_and(|returning| returning.computes())
    }
}

/// `ON CONFLICT` of an INSERT.
#[derive(Debug, Clone, Default)]
pub enum OnConflict {
    /// There is none: `DUPLICATE_KEY`.
    #[default]
    Fail,
    /// The live row stays, and the new one does not count.
    Nothing,
    Update(Arc<dyn RowMerge>),
}

/// `DO UPDATE SET …` of an INSERT: asked in the partition, of rows that no other write can change meanwhile.
pub trait RowMerge: fmt::Debug + Send + Sync {
    /// Does it evaluate expressions of the statement? They may take long, or panic.
    fn computes(&self) -> bool;

    /// What becomes of each live row; `None`: it stays, and does not count.
    ///
    /// # Errors
    /// Whatever computing it answers: nothing of the statement happens.
    fn merge(&self, conflicts: &[KeyConflict<'_>]) -> Result<Vec<Option<RowBytes>>>;
}

/// A live row, and the one that an INSERT proposes in its place.
#[derive(Debug, Clone, Copy)]
pub struct KeyConflict<'a> {
    pub live: &'a StoredRow,
    pub proposed: &'a RowBytes,
}

/// `RETURNING …`.
pub trait Returning: fmt::Debug + Send + Sync {
    /// As [`RowMerge::computes`]; where it does not, nothing needs to be checked.
    fn computes(&self) -> bool;

    /// Finds out, before anything is written, what can not be answered of these rows. Positions of rows that are not
    /// written yet are made up.
    ///
    /// # Errors
    /// Whatever computing it answers: nothing of the statement happens.
    fn check(&self, rows: &[WrittenRow]) -> Result<()>;
}

/// A row that a statement inserted, updated or deleted, or that it left as it was because nothing in it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenRow {
    /// Which of the statement's [`WriteCommand::ops`] did it.
    pub op: usize,
    /// As it is now; of a deleted row its last cells, `deleted`, at the position of its deletion.
    pub row: StoredRow,
}

/// `column = constant` of an UPDATE by primary key.
#[derive(Debug, Clone)]
pub struct Assignment {
    /// Position in [`TableMeta::columns`].
    pub column: usize,
    pub value: Value,
}

#[derive(Debug, Clone)]
pub enum WriteOp {
    /// Where a live row has the key, [`WriteCommand::on_conflict`] says what happens.
    Insert { pk: PkBytes, row: RowBytes },
    /// A row of a table without a key.
    Append { row: RowBytes },
    /// A computed UPDATE: the row read at `expected` becomes `row`. Fails with `CONFLICT` where the live row is another.
    Replace { pk: PkBytes, expected: Seq, row: RowBytes },
    /// An UPDATE by key that needs nothing of the old row. No live row: nothing happens.
    Patch { pk: PkBytes, assignments: Arc<[Assignment]> },
    /// No live row: nothing happens, unless `expected` is given: then `CONFLICT`, like [`WriteOp::Replace`].
    Delete { pk: PkBytes, expected: Option<Seq> },
}

impl WriteOp {
    /// The key that no other write may hold meanwhile. Of a table without one, a row to be deleted goes by its position
    /// ([`PkBytes::of_seq`]).
    pub fn pk(&self) -> Option<&PkBytes> {
        match self {
            WriteOp::Insert { pk, .. }
            | WriteOp::Replace { pk, .. }
            | WriteOp::Patch { pk, .. }
            | WriteOp::Delete { pk, .. } => Some(pk),
            WriteOp::Append { .. } => None,
        }
    }
}

/// The answer to a [`WriteCommand`], given once it is durable at its level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriteAck {
    /// Live rows that the statement inserted, matched or deleted.
    pub rows: u64,
    /// Position of the last change, or of what was noted alone; `None` where nothing changed.
    pub last: Option<Seq>,
    /// Where the statement has a RETURNING clause: those rows, in the order of its operations.
    pub written: Vec<WrittenRow>,
}
