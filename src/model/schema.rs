//! What a table is: its kind, columns, key, defaults and options.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use arrow::datatypes::{DataType as ArrowType, Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::{
    CheckMeta, ColumnName, Compression, DataType, FlushPolicy, Owner, Principal, StorageId, TableComments, TableId,
    TableName, UserId,
};
pub use history::{OlderCell, RowLayout, SchemaChange, SchemaHistory, SchemaVersion};
pub use stream_ttl::StreamTtl;

pub mod history;
pub mod stream_ttl;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableKind {
    /// One isolated partition per user.
    User,
    /// One partition for everybody, gated by an [`AccessLevel`].
    Shared,
    /// One isolated partition per user, append-only; its rows expire.
    Stream,
}

impl TableKind {
    pub fn as_str(self) -> &'static str {
        match self {
            TableKind::User => "user",
            TableKind::Shared => "shared",
            TableKind::Stream => "stream",
        }
    }
}

/// Who may read and write a SHARED table; the matrix is `auth::Policy`'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum AccessLevel {
    Public,
    Private,
    Restricted,
    Dba,
}

impl AccessLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            AccessLevel::Public => "PUBLIC",
            AccessLevel::Private => "PRIVATE",
            AccessLevel::Restricted => "RESTRICTED",
            AccessLevel::Dba => "DBA",
        }
    }
}

/// When a write is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After the journal write: survives the death of the process, not of the machine.
    Buffered,
    /// After fdatasync: survives power loss.
    #[default]
    Sync,
}

impl Durability {
    pub fn as_str(self) -> &'static str {
        match self {
            Durability::Buffered => "buffered",
            Durability::Sync => "sync",
        }
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Durability {
    type Err = UnknownDurability;

    fn from_str(text: &str) -> Result<Self, UnknownDurability> {
        match text.to_ascii_lowercase().as_str() {
            "sync" => Ok(Durability::Sync),
            "buffered" => Ok(Durability::Buffered),
            _ => Err(UnknownDurability(text.to_owned())),
        }
    }
}

/// The text names no durability level.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a durability level; levels are sync and buffered")]
pub struct UnknownDurability(pub String);

/// What an INSERT that leaves a column out puts there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnDefault {
    /// The literal as written, converted to the column's type when the table was made.
    Literal(String),
    Now,
    SnowflakeId,
    UuidV7,
    Ulid,
    CurrentUser,
}

impl fmt::Display for ColumnDefault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnDefault::Literal(text) => f.write_str(text),
            ColumnDefault::Now => f.write_str("NOW()"),
            ColumnDefault::SnowflakeId => f.write_str("SNOWFLAKE_ID()"),
            ColumnDefault::UuidV7 => f.write_str("UUID_V7()"),
            ColumnDefault::Ulid => f.write_str("ULID()"),
            ColumnDefault::CurrentUser => f.write_str("CURRENT_USER()"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnMeta {
    /// Never used again within the table after a DROP COLUMN.
    pub id: u32,
    pub name: ColumnName,
    #[serde(rename = "type")]
    pub data_type: DataType,
    pub nullable: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<ColumnDefault>,
}

/// A table as the catalog stores it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableMeta {
    pub id: TableId,
    pub name: TableName,
    pub kind: TableKind,
    pub columns: Vec<ColumnMeta>,
    /// Positions in `columns`; empty only for a STREAM table. There it is what was declared, see
    /// [`TableMeta::unique_key`].
    pub primary_key: Vec<usize>,
    /// Of SHARED tables; `PRIVATE` and without meaning for others.
    pub access: AccessLevel,
    /// `None`: the server's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<Durability>,
    #[serde(default, skip_serializing_if = "FlushPolicy::is_default")]
    pub flush: FlushPolicy,
    /// Of its cold segments.
    #[serde(default, skip_serializing_if = "is_default")]
    pub compression: Compression,
    /// Where its cold rows go, but for owners who have a storage of their own.
    #[serde(default = "StorageId::local", skip_serializing_if = "StorageId::is_local")]
    pub storage: StorageId,
    /// Of a USER table: who has a storage of their own has their rows there.
    #[serde(default, skip_serializing_if = "is_default")]
    pub use_user_storage: bool,
    /// How long tombstones stay; `None`: as long as the server's setting says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_retention_hours: Option<u32>,
    /// Of a STREAM table, which has always one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<StreamTtl>,
    /// Where segments lie whose entries do not say it, as those of format 3; `None`: in `storage`, which never was another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unnamed_storage: Option<StorageId>,
    /// Conditions that each row fulfils.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub checks: Vec<CheckMeta>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub comments: TableComments,
    pub schema_version: u32,
    /// Microseconds since the Unix epoch.
    pub created_at: i64,
    pub updated_at: i64,
    #[serde(default, skip_serializing_if = "SchemaHistory::is_empty")]
    pub history: SchemaHistory,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What WITH says of a table, and SET changes.
#[derive(Debug, Clone, PartialEq)]
pub struct TableOptions {
    pub access: AccessLevel,
    pub durability: Option<Durability>,
    pub flush: FlushPolicy,
    pub compression: Compression,
    /// Whether there is one of this name, the catalog says.
    pub storage: StorageId,
    pub use_user_storage: bool,
    pub deleted_retention_hours: Option<u32>,
    /// Of a STREAM table.
    pub ttl_seconds: Option<u64>,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            access: AccessLevel::Private,
            durability: None,
            flush: FlushPolicy::default(),
            compression: Compression::default(),
            storage: StorageId::local(),
            use_user_storage: false,
            deleted_retention_hours: None,
            ttl_seconds: None,
        }
    }
}

/// The columns that every table has behind its own.
pub const SEQ_COLUMN: &str = "_seq";
pub const DELETED_COLUMN: &str = "_deleted";
/// The columns that rows of all owners (`EXECUTE AS USER '*'`) have behind these.
pub const USER_ID_COLUMN: &str = "_user_id";
pub const STORAGE_ID_COLUMN: &str = "_storage_id";
/// Of such rows, the table's name: no column that is stored, but a name that queries over all owners may use.
pub const TABLE_COLUMN: &str = "_table";

impl TableMeta {
    pub fn options(&self) -> TableOptions {
        TableOptions {
            access: self.access,
            durability: self.durability,
            flush: self.flush,
            compression: self.compression,
            storage: self.storage.clone(),
            use_user_storage: self.use_user_storage,
            deleted_retention_hours: self.deleted_retention_hours,
            ttl_seconds: self.ttl.as_ref().map(StreamTtl::seconds),
        }
    }

    pub fn is_stream(&self) -> bool {
        self.kind == TableKind::Stream
    }

    /// When its writes are acknowledged, where `default` is the server's word. Rows that soon expire wait for no disk, unless
    /// the table says so.
    pub fn durability_or(&self, default: Durability) -> Durability {
        self.durability.unwrap_or(if self.is_stream() { Durability::Buffered } else { default })
    }

    /// The key by which rows are found and no two of which are alike: none in a STREAM table, whatever was declared.
    pub fn unique_key(&self) -> &[usize] {
        if self.is_stream() { &[] } else { &self.primary_key }
    }

    /// Where a segment lies whose entry names no storage.
    pub fn storage_of_unnamed(&self) -> &StorageId {
        self.unnamed_storage.as_ref().unwrap_or(&self.storage)
    }

    /// Position of a column by name, any case.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|c| c.name.as_str().eq_ignore_ascii_case(name))
    }

    pub fn is_key(&self, column: usize) -> bool {
        self.primary_key.contains(&column)
    }

    /// The owner whose partition `principal` reads and writes: decided here, before planning, never by a filter.
    pub fn owner_for(&self, user: &UserId) -> Owner {
        match self.kind {
            TableKind::User | TableKind::Stream => Owner::User(user.clone()),
            TableKind::Shared => Owner::Shared,
        }
    }

    pub fn owner_of(&self, principal: &Principal) -> Owner {
        self.owner_for(&principal.user)
    }

    /// Own columns, then `_seq` and `_deleted`, each as its stored cells are.
    pub fn arrow_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.fields()))
    }

    /// The columns that statements see: all but `_deleted` in a STREAM table, which shows no tombstones. With the owner's
    /// columns behind them, where `all_owners`.
    pub fn shown_schema(&self, all_owners: bool) -> SchemaRef {
        let full = if all_owners { self.arrow_schema_all_owners() } else { self.arrow_schema() };
        if !self.is_stream() {
            return full;
        }
        let shown = full.fields().iter().filter(|field| field.name() != DELETED_COLUMN);
        Arc::new(Schema::new(shown.cloned().collect::<Vec<_>>()))
    }

    /// The position in the full schema of a column of [`TableMeta::shown_schema`].
    pub fn stored_position(&self, shown: usize) -> usize {
        if self.is_stream() && shown > self.columns.len() { shown + 1 } else { shown }
    }

    /// [`TableMeta::shown_schema`] as the columns are declared: which of them take NULL from now on.
    pub fn declared_schema(&self) -> SchemaRef {
        let declared = |(field, column): (Field, &ColumnMeta)| field.with_nullable(column.nullable);
        let mut fields = self.fields();
        let mut system = fields.split_off(self.columns.len());
        if self.is_stream() {
            system.truncate(1);
        }
        Arc::new(Schema::new(fields.into_iter().zip(&self.columns).map(declared).chain(system).collect::<Vec<_>>()))
    }

    /// [`TableMeta::arrow_schema`], then `_user_id` and `_storage_id`: what the all-owners feed shows.
    pub fn arrow_schema_all_owners(&self) -> SchemaRef {
        let mut fields = self.fields();
        fields.push(Field::new(USER_ID_COLUMN, ArrowType::Utf8, false));
        fields.push(Field::new(STORAGE_ID_COLUMN, ArrowType::Utf8, false));
        Arc::new(Schema::new(fields))
    }

    fn fields(&self) -> Vec<Field> {
        let field = |(position, column): (usize, &ColumnMeta)| {
            Field::new(column.name.as_str(), column.data_type.arrow(), self.may_hold_null(position))
        };
        let mut fields: Vec<Field> = self.columns.iter().enumerate().map(field).collect();
        fields.push(Field::new(SEQ_COLUMN, ArrowType::Int64, false));
        fields.push(Field::new(DELETED_COLUMN, ArrowType::Boolean, false));
        fields
    }
}
