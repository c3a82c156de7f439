//! What happened to rows: the changes of one committed statement in one partition.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{NoteWrite, Owner, Seq, SeqRange, TableMeta};

/// A primary key in its order-preserving encoding (`storage::keys`). Opaque to everyone else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PkBytes(pub Bytes);

impl PkBytes {
    /// What stands for the key in a table without one.
    pub const NONE: PkBytes = PkBytes(Bytes::new());

    /// Names a row of a table without a key.
    pub fn of_seq(seq: Seq) -> Self {
        Self(Bytes::copy_from_slice(&seq.get().to_be_bytes()))
    }
}

/// A row's cells in the row codec's form (`storage::row_codec`), without `_seq`. Opaque to everyone else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowBytes(pub Bytes);

/// A stored version of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRow {
    pub seq: Seq,
    /// `_seq` of the INSERT that this row goes back to: how a resume tells an insert from an update.
    pub created: Seq,
    /// A tombstone: the row's last cells, kept so that a resumed subscriber can be told what went.
    pub deleted: bool,
    pub row: RowBytes,
    pub place: RowPlace,
}

/// Where a version is stored: what has to be known to take it away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowPlace {
    /// Under its own position.
    Own,
    /// With other rows of its INSERT, under the position of the block's first.
    Block(Seq),
    /// In a cold segment, as its row at this position.
    Segment { segment: u64, position: u32 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    Insert,
    Update,
    Delete,
}

impl ChangeKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeKind::Insert => "insert",
            ChangeKind::Update => "update",
            ChangeKind::Delete => "delete",
        }
    }
}

/// One row's change. Its `_seq` is its place in [`CommittedChanges`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub pk: PkBytes,
    /// The row after the change; of a delete the last cells before it.
    pub row: RowBytes,
    /// The version that this change replaces. `None`: an insert.
    pub replaces: Option<StoredRow>,
    pub deletes: bool,
}

impl Change {
    pub fn kind(&self) -> ChangeKind {
        match (&self.replaces, self.deletes) {
            (None, _) => ChangeKind::Insert,
            (Some(_), false) => ChangeKind::Update,
            (Some(_), true) => ChangeKind::Delete,
        }
    }

    /// `_seq` of the insert that the row goes back to, where this change itself has position `seq`.
    pub fn created(&self, seq: Seq) -> Seq {
        self.replaces.as_ref().map_or(seq, |old| old.created)
    }
}

/// The changes of one statement in one partition, durable, with their positions.
#[derive(Debug, Clone)]
pub struct CommittedChanges {
    pub table: Arc<TableMeta>,
    pub owner: Owner,
    /// Positions of the first and the last change.
    pub range: SeqRange,
    /// `_seq` and change, ascending.
    pub changes: Arc<[(Seq, Change)]>,
    /// What is noted with them; without changes, at a position of its own.
    pub notes: Vec<NoteWrite>,
    /// What the partition has hot behind this statement, where it is worth noting.
    pub stats: Option<HotStats>,
    /// Of a STREAM table: what is to be noted of what gave way.
    pub quota: Option<Arc<QuotaNote>>,
}

/// How much of a partition is hot: what decides whether it is worth flushing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HotStats {
    /// Versions and tombstones.
    pub rows: u64,
    /// Of their cells.
    pub bytes: u64,
    /// About where the oldest of them is; [`Seq::ZERO`] where that was not noted yet.
    pub oldest: Seq,
    /// No hot tombstone is older than this; [`Seq::ZERO`]: there is none; [`Seq::MAX`]: the first is on its way.
    pub oldest_tombstone: Seq,
    /// No tombstone in a segment is older than this; [`Seq::ZERO`]: there is none.
    pub cold_tombstone: Seq,
}

impl HotStats {
    /// What was on its way has got positions from `first` on.
    pub fn begun(self, first: Seq) -> Self {
        Self {
            oldest: if self.oldest == Seq::ZERO { first } else { self.oldest },
            oldest_tombstone: if self.oldest_tombstone == Seq::MAX { first } else { self.oldest_tombstone },
            ..self
        }
    }
}

/// A stretch of positions of one owner in a STREAM table, to the end of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QuotaSlice {
    pub last: Seq,
    pub rows: u64,
    pub bytes: u64,
}

/// What is stored of the count of an owner's rows in a STREAM table.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct QuotaNote {
    /// Rows up to here have given way.
    pub trimmed: Seq,
    /// The oldest first.
    pub slices: Vec<QuotaSlice>,
}

impl QuotaNote {
    /// Rows above are not in it.
    pub fn counted_up_to(&self) -> Seq {
        self.slices.last().map_or(self.trimmed, |slice| slice.last.max(self.trimmed))
    }
}
