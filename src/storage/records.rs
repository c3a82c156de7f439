//! Small documents beside the rows: namespaces, tables, users, revoked sessions, settings, jobs, storages.
//!
//! Owns how they are keyed and told apart. Their JSON belongs to those who write them.

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
    ];
}

/// Puts (`Some`) or removes (`None`) one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordWrite {
    pub kind: RecordKind,
    pub key: String,
    pub value: Option<Vec<u8>>,
}
