//! The codes of errors: one row each, with all that a client sees of it.
//!
//! Owns the table that docs/errors.md is held to. What is wrong with what, and in which words, is [`Error`](super::Error)'s.

use tracing::Level;

/// One row a code: variant, HTTP wire text, HTTP status, SQLSTATE, may the same request succeed later.
macro_rules! error_codes {
    ($($variant:ident $wire:literal $http:literal $sqlstate:literal $retry:literal $ws:literal;)*) => {
        /// The closed set of codes. `docs/errors.md` lists them with causes and remedies.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ErrorCode { $($variant,)* }

        impl ErrorCode {
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)*];

            /// `error.code` over HTTP.
            pub fn wire(self) -> &'static str {
                match self { $(ErrorCode::$variant => $wire,)* }
            }

            pub fn http_status(self) -> u16 {
                match self { $(ErrorCode::$variant => $http,)* }
            }

            /// PostgreSQL's five characters for the same thing.
            pub fn sqlstate(self) -> &'static str {
                match self { $(ErrorCode::$variant => $sqlstate,)* }
            }

            /// May the same request succeed when it is sent again?
            pub fn retryable(self) -> bool {
                match self { $(ErrorCode::$variant => $retry,)* }
            }

            /// `code` of a WebSocket error frame about a subscription.
            pub fn live_wire(self) -> &'static str {
                match self { $(ErrorCode::$variant => $ws,)* }
            }
        }
    };
}

error_codes! {
    InvalidInput "INVALID_INPUT" 400 "22023" false "SUBSCRIPTION_FAILED";
    EmptySql "EMPTY_SQL" 400 "42601" false "INVALID_SQL";
    SyntaxError "INVALID_SQL" 400 "42601" false "INVALID_SQL";
    InvalidSql "INVALID_SQL" 400 "42000" false "INVALID_SQL";
    Unsupported "INVALID_SQL" 400 "0A000" false "INVALID_SQL";
    InvalidParameter "INVALID_PARAMETER" 400 "22023" false "SUBSCRIPTION_FAILED";
    InvalidName "SQL_EXECUTION_ERROR" 400 "42602" false "INVALID_SQL";
    BodyTooLarge "BODY_TOO_LARGE" 413 "54000" false "MESSAGE_TOO_LARGE";
    TableNotFound "TABLE_NOT_FOUND" 400 "42P01" false "NOT_FOUND";
    ColumnNotFound "COLUMN_NOT_FOUND" 400 "42703" false "INVALID_SQL";
    NamespaceNotFound "NAMESPACE_NOT_FOUND" 400 "3F000" false "NOT_FOUND";
    UserNotFound "USER_NOT_FOUND" 400 "42704" false "NOT_FOUND";
    NotFound "SQL_EXECUTION_ERROR" 400 "42704" false "NOT_FOUND";
    AlreadyExists "SQL_EXECUTION_ERROR" 400 "42710" false "SUBSCRIPTION_FAILED";
    ExportNotFound "EXPORT_NOT_FOUND" 404 "42704" false "NOT_FOUND";
    TopicNotFound "NOT_FOUND" 404 "42704" false "NOT_FOUND";
    TopicInUse "SQL_EXECUTION_ERROR" 400 "2BP01" false "SUBSCRIPTION_FAILED";
    NotDelivered "NOT_DELIVERED" 409 "55000" false "SUBSCRIPTION_FAILED";
    StorageInUse "SQL_EXECUTION_ERROR" 400 "2BP01" false "SUBSCRIPTION_FAILED";
    WrongObject "INVALID_SQL" 400 "42809" false "INVALID_SQL";
    NeededByViews "SQL_EXECUTION_ERROR" 400 "2BP01" false "SUBSCRIPTION_FAILED";
    CheckViolated "SQL_EXECUTION_ERROR" 400 "23514" false "SUBSCRIPTION_FAILED";
    DuplicateKey "SQL_EXECUTION_ERROR" 400 "23505" false "SUBSCRIPTION_FAILED";
    NotNull "SQL_EXECUTION_ERROR" 400 "23502" false "SUBSCRIPTION_FAILED";
    CardinalityViolation "SQL_EXECUTION_ERROR" 400 "21000" false "SUBSCRIPTION_FAILED";
    ConflictTarget "INVALID_SQL" 400 "42P10" false "INVALID_SQL";
    TypeMismatch "SQL_EXECUTION_ERROR" 400 "22P02" false "SUBSCRIPTION_FAILED";
    OutOfRange "SQL_EXECUTION_ERROR" 400 "22003" false "SUBSCRIPTION_FAILED";
    Conflict "SQL_EXECUTION_ERROR" 400 "40001" true "SUBSCRIPTION_FAILED";
    TableAltered "SQL_EXECUTION_ERROR" 400 "40001" true "TABLE_ALTERED";
    Execution "SQL_EXECUTION_ERROR" 400 "22000" false "SUBSCRIPTION_FAILED";
    PermissionDenied "PERMISSION_DENIED" 403 "42501" false "UNAUTHORIZED";
    MissingAuthorization "MISSING_AUTHORIZATION" 401 "28000" false "AUTH_REQUIRED";
    TokenExpired "TOKEN_EXPIRED" 401 "28000" false "UNAUTHORIZED";
    InvalidCredentials "INVALID_CREDENTIALS" 401 "28P01" false "UNAUTHORIZED";
    SetupRequired "SETUP_REQUIRED" 401 "28000" false "UNAUTHORIZED";
    AccountLocked "ACCOUNT_LOCKED" 401 "28000" true "UNAUTHORIZED";
    RemoteAccessDenied "REMOTE_ACCESS_DENIED" 403 "28000" false "UNAUTHORIZED";
    RateLimited "RATE_LIMIT_EXCEEDED" 429 "53400" true "RATE_LIMIT_EXCEEDED";
    WeakPassword "WEAK_PASSWORD" 400 "28P01" false "SUBSCRIPTION_FAILED";
    AlreadyConfigured "ALREADY_CONFIGURED" 409 "42710" false "SUBSCRIPTION_FAILED";
    ResultTooLarge "RESULT_TOO_LARGE" 400 "54000" false "SUBSCRIPTION_FAILED";
    StatementTimeout "STATEMENT_TIMEOUT" 400 "57014" true "SUBSCRIPTION_FAILED";
    OutOfMemory "OUT_OF_MEMORY" 400 "53200" true "SUBSCRIPTION_FAILED";
    Busy "BUSY" 503 "53300" true "BUSY";
    ShuttingDown "SHUTTING_DOWN" 503 "57P01" true "SHUTTING_DOWN";
    Aborted "ABORTED" 503 "57P01" true "SUBSCRIPTION_FAILED";
    StorageUnavailable "STORAGE_UNAVAILABLE" 503 "58030" true "SUBSCRIPTION_FAILED";
    SegmentDamaged "SEGMENT_DAMAGED" 500 "XX001" false "SUBSCRIPTION_FAILED";
    ColdUnavailable "COLD_STORAGE_UNAVAILABLE" 503 "58030" true "SUBSCRIPTION_FAILED";
    Backup "BACKUP_FAILED" 400 "58030" false "SUBSCRIPTION_FAILED";
    Internal "INTERNAL_ERROR" 500 "XX000" false "SUBSCRIPTION_FAILED";
    SlowConsumer "SLOW_CONSUMER" 400 "53400" true "SLOW_CONSUMER";
    PositionLost "POSITION_LOST" 400 "55000" false "POSITION_LOST";
    SubscriptionLimit "SUBSCRIPTION_LIMIT_EXCEEDED" 400 "53300" false "SUBSCRIPTION_LIMIT_EXCEEDED";
    InvalidSubscriptionId "INVALID_SUBSCRIPTION_ID" 400 "22023" false "INVALID_SUBSCRIPTION_ID";
    AuthRequired "AUTH_REQUIRED" 401 "28000" false "AUTH_REQUIRED";
    MessageTooLarge "MESSAGE_TOO_LARGE" 400 "54000" false "MESSAGE_TOO_LARGE";
    UnsupportedData "UNSUPPORTED_DATA" 400 "22023" false "UNSUPPORTED_DATA";
    BatchFetchFailed "BATCH_FETCH_FAILED" 400 "55000" true "BATCH_FETCH_FAILED";
    TableDropped "TABLE_DROPPED" 400 "42P01" false "TABLE_DROPPED";
    RightRevoked "RIGHT_REVOKED" 403 "42501" false "RIGHT_REVOKED";
    SubscriptionKilled "SUBSCRIPTION_KILLED" 400 "57014" false "SUBSCRIPTION_KILLED";
    StreamNotFound "STREAM_NOT_FOUND" 404 "42704" false "NOT_FOUND";
    StreamGone "STREAM_GONE" 410 "55000" false "SUBSCRIPTION_FAILED";
    StreamClosed "STREAM_CLOSED" 409 "55000" false "SUBSCRIPTION_FAILED";
    StreamConflict "STREAM_CONFLICT" 409 "40001" false "SUBSCRIPTION_FAILED";
    ProducerFenced "PRODUCER_FENCED" 403 "55000" false "SUBSCRIPTION_FAILED";
    ProducerGap "PRODUCER_GAP" 409 "55000" false "SUBSCRIPTION_FAILED";
    GroupTakenOver "GROUP_TAKEN_OVER" 400 "55006" false "GROUP_TAKEN_OVER";
    AckRefused "ACK_REFUSED" 400 "22023" false "ACK_REFUSED";
    CursorMismatch "CURSOR_MISMATCH" 400 "55000" false "CURSOR_MISMATCH";
    CursorLimit "CURSOR_LIMIT_EXCEEDED" 400 "53400" false "CURSOR_LIMIT_EXCEEDED";
    CursorDropped "CURSOR_DROPPED" 400 "42704" false "CURSOR_DROPPED";
    SubscribeBusy "SUBSCRIBE_BUSY" 503 "53300" true "SUBSCRIBE_BUSY";
}

impl ErrorCode {
    /// WebSocket close code where this error closes the socket: 4400–4499 come back and resume, 4500–4999 do not.
    pub fn close_code(self) -> u16 {
        match self {
            ErrorCode::SlowConsumer => 4408,
            ErrorCode::TokenExpired => 4401,
            ErrorCode::Busy | ErrorCode::Aborted => 4429,
            ErrorCode::StorageUnavailable => 4450,
            ErrorCode::ShuttingDown => 1001,
            ErrorCode::InvalidCredentials | ErrorCode::AccountLocked | ErrorCode::RightRevoked => 4501,
            _ if self.retryable() => 4499,
            _ => 4500,
        }
    }

    pub fn log_level(self) -> Level {
        match self {
            ErrorCode::Internal | ErrorCode::StorageUnavailable | ErrorCode::SegmentDamaged => Level::ERROR,
            ErrorCode::ColdUnavailable
            | ErrorCode::Busy
            | ErrorCode::OutOfMemory
            | ErrorCode::SlowConsumer
            | ErrorCode::Aborted => Level::WARN,
            _ => Level::DEBUG,
        }
    }
}
