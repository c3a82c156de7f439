//! The nouns: names, ids, order, types, values, tables, changes, commands, principals.
//!
//! Owns what these words mean and which values of them can exist: constructors check, fields are private where a
//! wrong value would matter.
//! Never performs I/O, never awaits, never reads a clock: time comes in as an argument.

pub mod audit;
pub mod catalog;
pub mod change;
pub mod check;
pub mod command;
pub mod compression;
pub mod datatype;
pub mod flush_policy;
pub mod name;
pub mod note;
pub mod param;
pub mod principal;
pub mod result;
pub mod schema;
pub mod seq;
pub mod storage;
pub mod topic;
pub mod value;
pub mod view;

pub use audit::AuditEntry;
pub use catalog::{Catalog, NamespaceMeta};
pub use change::{
    Change, ChangeKind, CommittedChanges, HotStats, PkBytes, QuotaNote, QuotaSlice, RowBytes, RowPlace, StoredRow,
};
pub use check::{CheckMeta, TableComments};
pub use command::{
    Assignment, KeyConflict, OnConflict, Returning, RowMerge, WriteAck, WriteCommand, WriteOp, WrittenRow,
};
pub use compression::Compression;
pub use datatype::DataType;
pub use flush_policy::FlushPolicy;
pub use name::{ColumnName, NamespaceName, Owner, PartitionKey, StorageId, TableId, TableName, UserId};
pub use note::{NoteWrite, StoredNote};
pub use param::Param;
pub use principal::{Principal, Role};
pub use result::{CellEncoders, ColumnFlags, ResultColumn, ResultSchema};
pub use schema::{
    AccessLevel, ColumnDefault, ColumnMeta, Durability, SchemaChange, SchemaHistory, SchemaVersion, StreamTtl,
    TableKind, TableMeta, TableOptions,
};
pub use seq::{Seq, SeqGenerator, SeqRange};
pub use storage::{StorageCredentials, StorageKind, StorageMeta, StorageMode, UnknownStorageMode, UserStorage};
pub use topic::{
    ConsumeFrom, DeadLetter, EntryOrigin, GroupId, GroupKey, GroupRun, GroupState, PayloadMode, TopicEntry, TopicHead,
    TopicId, TopicMeta, TopicPartition, TopicRoute,
};
pub use value::{Value, ValueRef};
pub use view::{ViewColumn, ViewMeta};
