//! Small documents beside the rows: namespaces, tables, views, users, revoked sessions, settings, jobs, storages.
//!
//! Owns how they are keyed and told apart. Their JSON belongs to those who write them.

use crate::error::{Error, Result};
use crate::model::Seq;

/// What a record is about. The number is its key's first byte: never used for anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// The store's own: format number, commit counter.
    Store = 0,
    Namespace = 1,
    Table = 2,
    /// A dropped table whose keys still have to go.
    DroppedTable = 3,
    User = 4,
    /// A logged-out session; its tokens are refused until they expire.
    RevokedSession = 5,
    Setting = 6,
    /// A job of `jobs`, finished ones included while they are shown.
    Job = 7,
    /// A storage of cold rows, with its credentials.
    Storage = 8,
    /// A partition of which hot keys are left that are in segments by now.
    Flushed = 9,
    /// The last position of a table, over all owners, whose tombstone has expired.
    Expired = 12,
    /// A table, or one owner's partition of it, whose segments are to be moved.
    Move = 13,
    Topic = 20,
    /// A dropped topic whose keys still have to go.
    DroppedTopic = 21,
    /// Where a durable cursor of live queries stands.
    Cursor = 22,
    View = 30,
    /// A line of the audit log; its key begins with its time.
    Audit = 31,
}

impl RecordKind {
    pub const ALL: &'static [RecordKind] = &[
        RecordKind::Store,
        RecordKind::Namespace,
        RecordKind::Table,
        RecordKind::DroppedTable,
        RecordKind::User,
        RecordKind::RevokedSession,
        RecordKind::Setting,
        RecordKind::Job,
        RecordKind::Storage,
        RecordKind::Flushed,
        RecordKind::Expired,
        RecordKind::Move,
        RecordKind::Topic,
        RecordKind::DroppedTopic,
        RecordKind::Cursor,
        RecordKind::View,
        RecordKind::Audit,
    ];
}

/// Puts (`Some`) or removes (`None`) one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordWrite {
    pub kind: RecordKind,
    pub key: String,
    pub value: Option<Vec<u8>>,
}

/// The value of a record that is a position.
///
/// # Errors
/// `INTERNAL` where it is none.
pub(super) fn parse_seq(value: &[u8]) -> Result<Seq> {
    let seq = value.try_into().ok().and_then(|bytes| Seq::new(i64::from_be_bytes(bytes)));
    seq.ok_or_else(|| Error::internal("a damaged record of a position"))
}
