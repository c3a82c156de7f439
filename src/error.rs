//! The one error, and the closed table of codes that clients rely on.
//!
//! Owns every text a client is told, each code's HTTP status, close code, SQLSTATE and log level.
//! Never decides anything on an error's text.
//! A new code is a variant of [`ErrorCode`], a line in each table below, its row in docs/errors.md and a test that
//! provokes it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{GroupId, NamespaceName, Seq, StorageId, TableName, UserId};
pub use code::ErrorCode;
pub use stream::StreamFault;

mod code;
mod stream;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whatever can go wrong that a client can be told.
///
/// Clone, so that one failed commit can answer all who wait for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    // What was sent.
    #[error("{0}")]
    InvalidInput(String),
    #[error("SQL text is empty; send at least one statement")]
    EmptySql,
    #[error("Invalid SQL: {message}")]
    Syntax { message: String, line: u64, column: u64 },
    #[error("Invalid SQL: {0}")]
    InvalidSql(String),
    #[error("Invalid SQL: {0}")]
    Unsupported(String),
    #[error("Parameter ${position} invalid: {fault}")]
    InvalidParameter { position: usize, fault: String },
    #[error("Parameter count exceeded: maximum {max} parameters allowed, got {got}")]
    TooManyParameters { max: usize, got: usize },
    #[error("Invalid {what} name '{name}': {fault}")]
    InvalidName { what: &'static str, name: String, fault: String },
    #[error("Request body exceeds {max_bytes} bytes")]
    BodyTooLarge { size_bytes: u64, max_bytes: u64 },

    // What is not there, or is there already.
    #[error("Table not found: {0}")]
    TableNotFound(String),
    #[error("Column not found: '{column}' in {table}{}", did_you_mean(.suggestion))]
    ColumnNotFound { column: String, table: String, suggestion: Option<String> },
    #[error("Namespace '{0}' does not exist. Create it first with CREATE NAMESPACE {0}")]
    NamespaceNotFound(NamespaceName),
    #[error("Not found: User '{0}' not found")]
    UserNotFound(String),
    #[error("Not found: {0}")]
    NotFound(String),
    #[error("Already exists: Namespace '{0}' already exists")]
    NamespaceExists(NamespaceName),
    #[error("Already exists: Table {0} already exists")]
    TableExists(TableName),
    #[error("Already exists: Column '{column}' already exists in {table}")]
    ColumnExists { column: String, table: TableName },
    #[error("Already exists: User '{0}' already exists")]
    UserExists(UserId),
    #[error("Already exists: Storage '{0}' already exists")]
    StorageExists(StorageId),
    #[error("Topic '{0}' does not exist")]
    TopicNotFound(String),
    #[error("Already exists: Topic '{0}' already exists")]
    TopicExists(TableName),
    #[error("Already exists: Topic '{topic}' has a source {table} ON {op} already")]
    SourceExists { topic: TableName, table: TableName, op: &'static str },
    #[error("Cannot drop topic '{topic}': it is the dead-letter topic of '{by}'")]
    TopicInUse { topic: TableName, by: TableName },
    #[error("Offset {offset} of topic '{topic}' has not been delivered to group '{group}'; {end} is the next one")]
    NotDelivered { topic: TableName, group: GroupId, offset: u64, end: u64 },
    #[error("Offset {offset} of topic '{topic}' has been passed by retention; the first one there is, is {first}")]
    OffsetLost { topic: TableName, offset: u64, first: u64 },
    #[error("Export not found")]
    ExportNotFound,
    #[error("Cannot {what} storage '{storage}': {by} still using it")]
    StorageInUse { what: &'static str, storage: StorageId, by: String },

    #[error("Invalid SQL: {0}")]
    WrongObject(String),
    #[error("Already exists: View {0} already exists")]
    ViewExists(TableName),
    #[error("Cannot {what}: {views} could not be read any more; {remedy}")]
    NeededByViews { what: String, views: String, remedy: &'static str },
    #[error("Already exists: Constraint '{name}' already exists in {table}")]
    ConstraintExists { name: String, table: TableName },

    // What the data does not allow.
    #[error("Check constraint violation: row {row} of the statement fails '{constraint}' of {table}")]
    CheckViolated { constraint: String, table: TableName, row: usize },
    #[error("Check constraint violation: rows that are stored in {table} fail '{constraint}'; change them first")]
    CheckFailsStored { constraint: String, table: TableName },
    #[error("Already exists: Primary key violation: value '{value}' already exists in column '{column}'")]
    DuplicateKey { column: String, value: String },
    #[error(
        "Already exists: Primary key violation: value '{value}' appears multiple times in the insert batch (column '{column}')"
    )]
    DuplicateKeyInBatch { column: String, value: String },
    #[error("NOT NULL constraint violation: column '{column}' cannot be NULL (row {row})")]
    NotNull { column: String, row: usize },
    #[error(
        "ON CONFLICT DO UPDATE cannot affect a row twice: this statement gives {column} = {value} more than once; \
         leave out the duplicates, or send them one by one"
    )]
    AffectedTwice { column: String, value: String },
    #[error("ON CONFLICT names no unique key of {table}: {given} is not its primary key ({key})")]
    ConflictTarget { table: String, given: String, key: String },
    #[error(
        "Constraint violation: {given} is not valid for column '{column}' of type {expected_type}: expected {expected} (row {row})"
    )]
    TypeMismatch { column: String, expected_type: String, given: String, expected: String, row: usize },
    #[error("Constraint violation: {given} is out of range for column '{column}' of type {expected_type} (row {row})")]
    OutOfRange { column: String, expected_type: String, given: String, row: usize },
    #[error(
        "NOT NULL constraint violation: column '{column}' of {table} holds NULL in rows that are stored; give them a value first"
    )]
    NullsStored { column: String, table: TableName },
    #[error("Conflict: {0}")]
    Conflict(String),
    #[error("Table {0} was altered; send it again, or subscribe again with \"from\"")]
    TableAltered(TableName),
    #[error("Execution error: {0}")]
    Execution(String),

    // What the caller may not do.
    #[error("Permission denied: {0}")]
    PermissionDenied(String),
    #[error("Authentication required")]
    MissingAuthorization,
    #[error("Invalid credentials")]
    TokenExpired,
    #[error("Invalid credentials")]
    InvalidCredentials,
    #[error("Server requires initial setup")]
    SetupRequired,
    #[error("Account locked; try again in {minutes} minute(s)")]
    AccountLocked { minutes: u64 },
    #[error("Access denied")]
    RemoteAccessDenied,
    #[error("{0}")]
    RateLimited(String),
    #[error("{0}")]
    WeakPassword(String),
    #[error("The server is already configured")]
    AlreadyConfigured,

    // What the server can not do now, or at all.
    #[error("The result exceeds limits.max_result_bytes ({max_bytes} bytes); add a LIMIT, or page with WHERE _seq > …")]
    ResultTooLarge { max_bytes: u64 },
    // As Rust writes durations: 30s, 250ms, 1.5s.
    #[error("The statement ran longer than {limit:?} and was stopped")]
    StatementTimeout { limit: Duration },
    #[error(
        "The query needs more memory than it may have (datafusion.query_memory_limit, and datafusion.memory_limit for all); ask for fewer rows or columns, or sort and group less at a time: {0}"
    )]
    OutOfMemory(String),
    #[error("The server is busy; try again")]
    Busy,
    #[error("The server is shutting down; connect again in a moment")]
    ShuttingDown,
    #[error("The request was given up before an answer; whether it took effect is unknown")]
    Aborted,
    #[error("Storage is unavailable; the server stops and recovers")]
    StorageUnavailable,
    #[error("Cold segment '{path}' is damaged: {fault}")]
    SegmentDamaged { path: String, fault: String },
    #[error("Cold storage can not be used at '{path}': {fault}")]
    ColdUnavailable { path: String, fault: String },
    #[error("Backup '{path}' can not be {what}: {fault}")]
    Backup { what: &'static str, path: String, fault: String },
    #[error("Internal error; the server's log says more")]
    Internal(#[source] Arc<dyn std::error::Error + Send + Sync>),

    // What ends or refuses a subscription.
    #[error("{0}")]
    Subscription(SubscriptionFault),

    // What a stream's address is answered.
    #[error("{0}")]
    Stream(StreamFault),
}

/// What is told to a subscriber, on its socket, about a subscription.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubscriptionFault {
    #[error("The subscriber can not keep up; reconnect and subscribe with \"from\": {}", seq_text(.last_delivered))]
    SlowConsumer { last_delivered: Option<Seq> },
    /// A subscriber to several tables: where it stands in each.
    #[error("The subscriber can not keep up; reconnect and subscribe with \"from\": the positions in \"last_seq_id\"")]
    SlowFeed { positions: BTreeMap<String, Seq> },
    #[error("Position {from} has been passed by retention; subscribe again without \"from\"")]
    PositionLost { from: Seq },
    #[error("Position {from} of table {table} has been passed by retention; subscribe again without \"from\"")]
    PositionOfTableLost { from: Seq, table: TableName },
    #[error("Maximum subscriptions reached ({max} per user)")]
    TooManyForUser { max: usize },
    #[error("Maximum subscriptions reached ({max} per connection)")]
    TooManyForConnection { max: usize },
    #[error("Subscription id must not be empty or longer than 256 bytes")]
    InvalidId,
    #[error("Authenticate first")]
    AuthRequired,
    #[error("Message exceeds {max} bytes")]
    MessageTooLarge { max: u64 },
    #[error("Too many messages")]
    TooManyMessages,
    #[error("{0}")]
    UnsupportedData(String),
    #[error("{0}")]
    BatchFetchFailed(String),
    #[error("Table {0} was dropped")]
    TableDropped(TableName),
    #[error("Namespace {0} was dropped")]
    NamespaceDropped(NamespaceName),
    #[error("The right to read this table was taken away")]
    RightRevoked,
    #[error("The query was stopped by an administrator")]
    Killed,
    #[error("Another subscriber has taken over group '{0}'")]
    TakenOver(String),
    #[error("{0}")]
    AckRefused(String),
    #[error("Group '{group}' is the cursor of {target}; choose another name, or DROP CURSOR '{group}' first")]
    OtherCursor { group: String, target: String },
    #[error("Maximum cursors reached ({max} per user); DROP CURSOR one, or wait until an unused one expires")]
    TooManyCursors { max: usize },
    #[error("A group's name has 1 to 128 bytes and no control characters")]
    InvalidGroup,
    #[error("The cursor of group '{0}' was dropped")]
    CursorDropped(String),
    #[error("Too many subscriptions are being opened; try again in {} ms", retry_after.as_millis())]
    TooManyOpening { retry_after: Duration },
}

fn seq_text(seq: &Option<Seq>) -> String {
    seq.map_or_else(|| "null".to_owned(), |s| s.to_string())
}

fn did_you_mean(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map_or_else(String::new, |s| format!(". Did you mean '{s}'?"))
}

impl Error {
    /// Wraps what no client should see in detail.
    pub fn internal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Error::Internal(Arc::from(source.into()))
    }

    pub fn code(&self) -> ErrorCode {
        match self {
            Error::InvalidInput(_) => ErrorCode::InvalidInput,
            Error::EmptySql => ErrorCode::EmptySql,
            Error::Syntax { .. } => ErrorCode::SyntaxError,
            Error::InvalidSql(_) => ErrorCode::InvalidSql,
            Error::Unsupported(_) => ErrorCode::Unsupported,
            Error::InvalidParameter { .. } | Error::TooManyParameters { .. } => ErrorCode::InvalidParameter,
            Error::InvalidName { .. } => ErrorCode::InvalidName,
            Error::BodyTooLarge { .. } => ErrorCode::BodyTooLarge,
            Error::TableNotFound(_) => ErrorCode::TableNotFound,
            Error::ColumnNotFound { .. } => ErrorCode::ColumnNotFound,
            Error::NamespaceNotFound(_) => ErrorCode::NamespaceNotFound,
            Error::UserNotFound(_) => ErrorCode::UserNotFound,
            Error::NotFound(_) => ErrorCode::NotFound,
            Error::NamespaceExists(_)
            | Error::TableExists(_)
            | Error::ColumnExists { .. }
            | Error::UserExists(_)
            | Error::StorageExists(_)
            | Error::TopicExists(_)
            | Error::ViewExists(_)
            | Error::ConstraintExists { .. }
            | Error::SourceExists { .. } => ErrorCode::AlreadyExists,
            Error::WrongObject(_) => ErrorCode::WrongObject,
            Error::NeededByViews { .. } => ErrorCode::NeededByViews,
            Error::CheckViolated { .. } | Error::CheckFailsStored { .. } => ErrorCode::CheckViolated,
            Error::TopicNotFound(_) => ErrorCode::TopicNotFound,
            Error::TopicInUse { .. } => ErrorCode::TopicInUse,
            Error::NotDelivered { .. } => ErrorCode::NotDelivered,
            Error::OffsetLost { .. } => ErrorCode::PositionLost,
            Error::ExportNotFound => ErrorCode::ExportNotFound,
            Error::StorageInUse { .. } => ErrorCode::StorageInUse,
            Error::DuplicateKey { .. } | Error::DuplicateKeyInBatch { .. } => ErrorCode::DuplicateKey,
            Error::NotNull { .. } | Error::NullsStored { .. } => ErrorCode::NotNull,
            Error::AffectedTwice { .. } => ErrorCode::CardinalityViolation,
            Error::ConflictTarget { .. } => ErrorCode::ConflictTarget,
            Error::TypeMismatch { .. } => ErrorCode::TypeMismatch,
            Error::OutOfRange { .. } => ErrorCode::OutOfRange,
            Error::Conflict(_) => ErrorCode::Conflict,
            Error::TableAltered(_) => ErrorCode::TableAltered,
            Error::Execution(_) => ErrorCode::Execution,
            Error::PermissionDenied(_) => ErrorCode::PermissionDenied,
            Error::MissingAuthorization => ErrorCode::MissingAuthorization,
            Error::TokenExpired => ErrorCode::TokenExpired,
            Error::InvalidCredentials => ErrorCode::InvalidCredentials,
            Error::SetupRequired => ErrorCode::SetupRequired,
            Error::AccountLocked { .. } => ErrorCode::AccountLocked,
            Error::RemoteAccessDenied => ErrorCode::RemoteAccessDenied,
            Error::RateLimited(_) => ErrorCode::RateLimited,
            Error::WeakPassword(_) => ErrorCode::WeakPassword,
            Error::AlreadyConfigured => ErrorCode::AlreadyConfigured,
            Error::ResultTooLarge { .. } => ErrorCode::ResultTooLarge,
            Error::StatementTimeout { .. } => ErrorCode::StatementTimeout,
            Error::OutOfMemory(_) => ErrorCode::OutOfMemory,
            Error::Busy => ErrorCode::Busy,
            Error::ShuttingDown => ErrorCode::ShuttingDown,
            Error::Aborted => ErrorCode::Aborted,
            Error::StorageUnavailable => ErrorCode::StorageUnavailable,
            Error::SegmentDamaged { .. } => ErrorCode::SegmentDamaged,
            Error::ColdUnavailable { .. } => ErrorCode::ColdUnavailable,
            Error::Backup { .. } => ErrorCode::Backup,
            Error::Internal(_) => ErrorCode::Internal,
            Error::Subscription(fault) => fault.code(),
            Error::Stream(fault) => fault.code(),
        }
    }

    /// Line and column (from 1) of a syntax error.
    pub fn position(&self) -> Option<(u64, u64)> {
        match self {
            Error::Syntax { line, column, .. } => Some((*line, *column)),
            _ => None,
        }
    }
}

impl SubscriptionFault {
    pub fn code(&self) -> ErrorCode {
        match self {
            SubscriptionFault::SlowConsumer { .. } => ErrorCode::SlowConsumer,
            SubscriptionFault::SlowFeed { .. } => ErrorCode::SlowConsumer,
            SubscriptionFault::PositionLost { .. } | SubscriptionFault::PositionOfTableLost { .. } => {
                ErrorCode::PositionLost
            }
            SubscriptionFault::TooManyForUser { .. } => ErrorCode::SubscriptionLimit,
            SubscriptionFault::TooManyForConnection { .. } => ErrorCode::SubscriptionLimit,
            SubscriptionFault::InvalidId => ErrorCode::InvalidSubscriptionId,
            SubscriptionFault::AuthRequired => ErrorCode::AuthRequired,
            SubscriptionFault::MessageTooLarge { .. } => ErrorCode::MessageTooLarge,
            SubscriptionFault::TooManyMessages => ErrorCode::RateLimited,
            SubscriptionFault::UnsupportedData(_) => ErrorCode::UnsupportedData,
            SubscriptionFault::BatchFetchFailed(_) => ErrorCode::BatchFetchFailed,
            SubscriptionFault::TableDropped(_) | SubscriptionFault::NamespaceDropped(_) => ErrorCode::TableDropped,
            SubscriptionFault::RightRevoked => ErrorCode::RightRevoked,
            SubscriptionFault::Killed => ErrorCode::SubscriptionKilled,
            SubscriptionFault::TakenOver(_) => ErrorCode::GroupTakenOver,
            SubscriptionFault::AckRefused(_) => ErrorCode::AckRefused,
            SubscriptionFault::OtherCursor { .. } => ErrorCode::CursorMismatch,
            SubscriptionFault::TooManyCursors { .. } => ErrorCode::CursorLimit,
            SubscriptionFault::InvalidGroup => ErrorCode::InvalidSubscriptionId,
            SubscriptionFault::CursorDropped(_) => ErrorCode::CursorDropped,
            SubscriptionFault::TooManyOpening { .. } => ErrorCode::SubscribeBusy,
        }
    }
}

impl From<SubscriptionFault> for Error {
    fn from(fault: SubscriptionFault) -> Self {
        Error::Subscription(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_well_formed_properties() {
        for code in ErrorCode::ALL {
            assert_eq!(code.sqlstate().len(), 5, "{code:?}");
            assert!((400..600).contains(&code.http_status()), "{code:?}");
            assert!(code.wire().bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{code:?}");
            let close = code.close_code();
            assert!(close == 1001 || (4400..5000).contains(&close), "{code:?}: {close}");
        }
    }

    #[test]
    fn every_code_is_documented_as_it_is() {
        let page = include_str!("../docs/errors.md");
        for code in ErrorCode::ALL {
            let row = format!(
                "| `{code:?}` | `{}` | {} | `{}` | `{}` | {} | {} | ",
                code.wire(),
                code.http_status(),
                code.sqlstate(),
                code.live_wire(),
                code.close_code(),
                if code.retryable() { "yes" } else { "no" }
            );
            assert!(
                page.lines().any(|line| line.starts_with(&row)),
                "docs/errors.md has no row that begins with: {row}"
            );
        }
    }
}
