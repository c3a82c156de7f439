//! What can be said: one variant per kind of statement, parsed and not yet bound.
//!
//! Owns the shape of statements. Names are checked for form here, never for existence.

use std::fmt;

use datafusion::sql::sqlparser::ast;

use crate::model::{NamespaceName, Role, StorageId, TableKind, UserId, UserStorage};

pub use literal_rows::{Literal, LiteralCell, LiteralRows};
pub use object::{CommentOn, CreateView};
pub use storage::{AlterStorage, CreateStorage, SecretText, StorageSettings};
pub use topic::{AckTopic, AddSource, ConsumeTopic, CreateTopic, TopicOperation};

mod literal_rows;
mod object;
mod parameters;
mod storage;
mod topic;

/// One statement of a request with the text it was written as.
#[derive(Debug, Clone)]
pub struct ParsedStatement {
    /// Without the separating semicolon; of an INSERT of many literals, with its first row only.
    pub text: String,
    pub statement: Statement,
}

#[derive(Debug, Clone)]
pub enum Statement {
    CreateNamespace {
        name: NamespaceName,
        if_not_exists: bool,
    },
    DropNamespace {
        name: NamespaceName,
        if_exists: bool,
        cascade: bool,
    },
    /// `options` as written, in order; the values without their quotes.
    AlterNamespace {
        name: NamespaceName,
        options: Vec<(String, String)>,
    },
    Use(NamespaceName),
    ShowNamespaces,
    CreateTable(Box<CreateTable>),
    AlterTable(Box<AlterTable>),
    DropTable {
        kind: Option<TableKind>,
        name: TableRef,
        if_exists: bool,
        /// The views that read it go with it.
        cascade: bool,
    },
    /// All rows that the caller could delete.
    Truncate {
        name: TableRef,
    },
    CreateView(Box<CreateView>),
    DropView {
        name: TableRef,
        if_exists: bool,
        cascade: bool,
    },
    /// COMMENT ON; `None` takes the comment away.
    Comment {
        on: CommentOn,
        text: Option<String>,
    },
    ShowTables {
        namespace: Option<NamespaceName>,
    },
    ShowViews {
        namespace: Option<NamespaceName>,
    },
    DescribeTable {
        name: TableRef,
    },
    CreateUser {
        name: UserId,
        secret: UserSecret,
        role: Role,
        email: Option<String>,
        storage: UserStorage,
    },
    AlterUser {
        name: UserId,
        change: UserChange,
    },
    DropUser {
        name: UserId,
        if_exists: bool,
    },
    ExecuteAs {
        target: ExecuteTarget,
        inner: Box<ParsedStatement>,
    },
    Insert(Box<Insert>),
    Update(Box<ast::Update>),
    Delete(Box<ast::Delete>),
    Query(Box<ast::Query>),
    /// Of a query only.
    Explain(Box<ast::Statement>),
    SubscribeTo(SubscribeTo),
    /// STORAGE FLUSH and STORAGE COMPACT.
    MaintainStorage {
        work: ColdWork,
        scope: ColdScope,
    },
    KillLiveQuery {
        live_id: String,
    },
    /// `user`: whose, where it is another's.
    DropCursor {
        group: String,
        user: Option<UserId>,
        if_exists: bool,
    },
    ShowCursors,
    /// What a subscription is and where it stands.
    ExplainLive {
        live_id: String,
    },
    KillJob {
        job_id: String,
    },
    /// The folder as written.
    BackupDatabase {
        to: String,
    },
    RestoreDatabase {
        from: String,
    },
    ExportUserData,
    ShowExport,
    CreateStorage(Box<CreateStorage>),
    AlterStorage(Box<AlterStorage>),
    DropStorage {
        id: StorageId,
        if_exists: bool,
    },
    ShowStorages,
    CheckStorage {
        id: StorageId,
        extended: bool,
    },
    CreateTopic(Box<CreateTopic>),
    AlterTopic {
        name: TableRef,
        operation: Box<TopicOperation>,
    },
    ClearTopic {
        name: TableRef,
    },
    DropTopic {
        name: TableRef,
        if_exists: bool,
    },
    Consume(Box<ConsumeTopic>),
    Ack(Box<AckTopic>),
}

/// One name for each kind of statement: [`Statement::kind`] and [`Statement::KINDS`] come of one list.
macro_rules! kinds {
    ($($pattern:pat => $name:literal,)*) => {
        impl Statement {
            /// Every kind, in the order of the variants.
            pub const KINDS: &'static [&'static str] = &[$($name),*];

            /// What it is called where it is told about: in the audit log, and in refusals.
            pub fn kind(&self) -> &'static str {
                match self { $($pattern => $name),* }
            }
        }
    };
}

kinds! {
    Statement::CreateNamespace { .. } => "CREATE NAMESPACE",
    Statement::DropNamespace { .. } => "DROP NAMESPACE",
    Statement::AlterNamespace { .. } => "ALTER NAMESPACE",
    Statement::Use(_) => "USE",
    Statement::ShowNamespaces => "SHOW NAMESPACES",
    Statement::CreateTable(_) => "CREATE TABLE",
    Statement::AlterTable(_) => "ALTER TABLE",
    Statement::DropTable { .. } => "DROP TABLE",
    Statement::Truncate { .. } => "TRUNCATE",
    Statement::CreateView(_) => "CREATE VIEW",
    Statement::DropView { .. } => "DROP VIEW",
    Statement::Comment { .. } => "COMMENT",
    Statement::ShowTables { .. } => "SHOW TABLES",
    Statement::ShowViews { .. } => "SHOW VIEWS",
    Statement::DescribeTable { .. } => "DESCRIBE TABLE",
    Statement::CreateUser { .. } => "CREATE USER",
    Statement::AlterUser { .. } => "ALTER USER",
    Statement::DropUser { .. } => "DROP USER",
    Statement::ExecuteAs { .. } => "EXECUTE AS USER",
    Statement::Insert(_) => "INSERT",
    Statement::Update(_) => "UPDATE",
    Statement::Delete(_) => "DELETE",
    Statement::Query(_) => "SELECT",
    Statement::Explain(_) => "EXPLAIN",
    Statement::SubscribeTo(_) => "SUBSCRIBE TO",
    Statement::MaintainStorage { work: ColdWork::Flush, .. } => "STORAGE FLUSH",
    Statement::MaintainStorage { work: ColdWork::Compact, .. } => "STORAGE COMPACT",
    Statement::KillLiveQuery { .. } => "KILL LIVE QUERY",
    Statement::DropCursor { .. } => "DROP CURSOR",
    Statement::ShowCursors => "SHOW CURSORS",
    Statement::ExplainLive { .. } => "EXPLAIN LIVE",
    Statement::KillJob { .. } => "KILL JOB",
    Statement::BackupDatabase { .. } => "BACKUP DATABASE",
    Statement::RestoreDatabase { .. } => "RESTORE DATABASE",
    Statement::ExportUserData => "EXPORT USER DATA",
    Statement::ShowExport => "SHOW EXPORT",
    Statement::CreateStorage(_) => "CREATE STORAGE",
    Statement::AlterStorage(_) => "ALTER STORAGE",
    Statement::DropStorage { .. } => "DROP STORAGE",
    Statement::ShowStorages => "SHOW STORAGES",
    Statement::CheckStorage { .. } => "STORAGE CHECK",
    Statement::CreateTopic(_) => "CREATE TOPIC",
    Statement::AlterTopic { .. } => "ALTER TOPIC",
    Statement::ClearTopic { .. } => "CLEAR TOPIC",
    Statement::DropTopic { .. } => "DROP TOPIC",
    Statement::Consume(_) => "CONSUME",
    Statement::Ack(_) => "ACK",
}

/// An INSERT as sqlparser read it, and the rows that it did not have to read.
#[derive(Debug, Clone)]
pub struct Insert {
    pub statement: ast::Insert,
    /// Rows behind those of the statement's VALUES; empty where `statement` is the whole.
    pub more: LiteralRows,
}

impl Insert {
    /// The rows of VALUES with nothing around it; `None` where the source is anything else.
    pub fn parsed_rows(&self) -> Option<impl Iterator<Item = &[ast::Expr]> + Clone> {
        let ast::Query { with: None, body, order_by: None, limit_clause: None, fetch: None, pipe_operators, .. } =
            self.statement.source.as_deref()?
        else {
            return None;
        };
        match body.as_ref() {
            ast::SetExpr::Values(values) if pipe_operators.is_empty() => {
                Some(values.rows.iter().map(|row| row.content.as_slice()))
            }
            _ => None,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColdWork {
    Flush,
    Compact,
}

/// Which tables' cold rows a statement is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColdScope {
    Table(TableRef),
    /// All tables of a namespace; `None`: of the request's.
    Namespace(Option<NamespaceName>),
}

/// A table as a statement names it, in lower case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRef {
    /// `None`: the request's namespace.
    pub namespace: Option<String>,
    pub table: String,
}

impl fmt::Display for TableRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = &self.namespace {
            write!(f, "{namespace}.")?;
        }
        f.write_str(&self.table)
    }
}

#[derive(Debug, Clone)]
pub struct CreateTable {
    pub name: TableRef,
    /// From the prefix or `TYPE = '…'`; both, where given, agree.
    pub kind: Option<TableKind>,
    pub if_not_exists: bool,
    pub columns: Vec<ast::ColumnDef>,
    pub constraints: Vec<ast::TableConstraint>,
    /// Of WITH, without TYPE: names in upper case, values without their quotes.
    pub options: Vec<(String, String)>,
    /// Of CREATE TABLE … AS: gives the columns and the first rows.
    pub query: Option<Box<ast::Query>>,
}

#[derive(Debug, Clone)]
pub struct AlterTable {
    /// `None`: whatever it is.
    pub kind: Option<TableKind>,
    pub if_exists: bool,
    pub name: TableRef,
    pub operation: AlterOperation,
}

/// What an ALTER TABLE does. Columns as they were written.
#[derive(Debug, Clone)]
pub enum AlterOperation {
    AddColumn {
        definition: Box<ast::ColumnDef>,
        if_not_exists: bool,
    },
    DropColumn {
        column: String,
        if_exists: bool,
    },
    RenameColumn {
        column: String,
        to: ast::Ident,
    },
    /// `nullable`: `None` leaves it as it is.
    ModifyColumn {
        column: String,
        data_type: ast::DataType,
        nullable: Option<bool>,
    },
    SetNotNull {
        column: String,
    },
    DropNotNull {
        column: String,
    },
    SetDefault {
        column: String,
        default: Box<ast::Expr>,
    },
    DropDefault {
        column: String,
    },
    /// `ADD [CONSTRAINT name] CHECK (…)`.
    AddConstraint(Box<ast::TableConstraint>),
    DropConstraint {
        name: String,
        if_exists: bool,
    },
    /// Names in upper case, values without their quotes; at least one.
    SetOptions(Vec<(String, String)>),
}

/// How a new user proves who they are.
#[derive(Clone, PartialEq, Eq)]
pub enum UserSecret {
    Password(String),
    /// May not log in from outside.
    Internal,
}

/// A password never gets into a log.
impl fmt::Debug for UserSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UserSecret::Password(_) => "Password(***)",
            UserSecret::Internal => "Internal",
        })
    }
}

#[derive(Clone, PartialEq, Eq)]
pub enum UserChange {
    SetPassword { new: String, current: Option<String> },
    SetRole(Role),
    SetEmail(String),
    SetStorage(UserStorage),
    Restore,
}

/// A password never gets into a log.
impl fmt::Debug for UserChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UserChange::SetPassword { .. } => f.write_str("SetPassword(***)"),
            UserChange::SetRole(role) => write!(f, "SetRole({role})"),
            UserChange::SetEmail(email) => write!(f, "SetEmail({email})"),
            UserChange::SetStorage(storage) => write!(f, "SetStorage({storage:?})"),
            UserChange::Restore => f.write_str("Restore"),
        }
    }
}

/// Whose rows the statement inside `EXECUTE AS USER` addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecuteTarget {
    One(UserId),
    /// `'*'`: the rows of all owners.
    All,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeTo {
    /// The SELECT that a subscriber sends on the socket.
    pub sql: String,
    pub options: SubscribeOptions,
}

/// `OPTIONS (…)` of SUBSCRIBE TO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SubscribeOptions {
    pub last_rows: Option<u64>,
    pub batch_size: Option<u64>,
    pub from: Option<i64>,
}
