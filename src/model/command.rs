//! A write, bound: names resolved, values converted, defaults filled in, one partition addressed.

use std::sync::Arc;

use super::{Durability, NoteWrite, Owner, PkBytes, RowBytes, Seq, TableMeta, Value};

/// One INSERT, UPDATE or DELETE statement for one partition: all of it happens, or nothing.
#[derive(Debug, Clone)]
pub struct WriteCommand {
    pub table: Arc<TableMeta>,
    pub owner: Owner,
    pub ops: Vec<WriteOp>,
    /// What is noted of the partition with it; without `ops`, that alone.
    pub notes: Vec<NoteWrite>,
    pub durability: Durability,
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
    /// Fails with `DUPLICATE_KEY` where a live row has the key.
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WriteAck {
    /// Live rows that the statement inserted, matched or deleted.
    pub rows: u64,
    /// Position of the last change, or of what was noted alone; `None` where nothing changed.
    pub last: Option<Seq>,
}
