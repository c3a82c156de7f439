//! What a session asks of the database.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;

use super::pages::{LiveReader, Page, PageJob};
use super::{LiveQuery, Subscriber};
use crate::error::Result;
use crate::model::{NamespaceName, Owner, Principal, Seq, TableName};

/// Who a token belongs to.
#[derive(Debug, Clone)]
pub struct LiveLogin {
    pub principal: Principal,
    /// The login that the token goes back to: what a logout names.
    pub session: Option<String>,
    /// When the token expires. Microseconds since the Unix epoch; `None`: never.
    pub expires_at: Option<i64>,
}

/// A query and whose rows it is about: authorised, when it exists.
#[derive(Debug, Clone)]
pub struct LiveTarget {
    pub query: Arc<dyn LiveQuery>,
    /// `None`: all owners of the table.
    pub owner: Option<Owner>,
    /// Whose rights it was authorised with: inside `EXECUTE AS USER` the target's.
    pub reader: Principal,
    /// Who acts for the reader, where that is another.
    pub actor: Option<Principal>,
}

/// What a subscription's SQL is about.
#[derive(Debug, Clone)]
pub enum LiveScope {
    Table(LiveTarget),
    /// All tables of a namespace, over all owners.
    Namespace {
        namespace: NamespaceName,
        tables: Vec<LiveTarget>,
        reader: Principal,
        actor: Option<Principal>,
    },
}

impl LiveScope {
    /// `None`: it is about several tables.
    pub fn into_table(self) -> Option<LiveTarget> {
        match self {
            LiveScope::Table(target) => Some(target),
            LiveScope::Namespace { .. } => None,
        }
    }
}

/// A subscriber that hears every change committed after `head`.
#[derive(Debug)]
pub struct Attached {
    /// Position of the last change that the subscriber will not hear of.
    pub head: Seq,
    pub guard: AttachGuard,
}

/// Detaches the subscriber when it is dropped.
pub struct AttachGuard(Option<Box<dyn FnOnce() + Send>>);

impl AttachGuard {
    pub fn new(detach: impl FnOnce() + Send + 'static) -> Self {
        Self(Some(Box::new(detach)))
    }
}

impl Drop for AttachGuard {
    fn drop(&mut self) {
        if let Some(detach) = self.0.take() {
            detach();
        }
    }
}

impl fmt::Debug for AttachGuard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttachGuard")
    }
}

/// The database as sessions see it. Nothing in it blocks: what takes time is awaited.
#[async_trait]
pub trait LiveDatabase: Send + Sync + 'static {
    /// # Errors
    /// `INVALID_CREDENTIALS`, `TOKEN_EXPIRED`; `RATE_LIMIT_EXCEEDED` where `peer` tries too often.
    async fn authenticate(&self, token: &str, peer: Option<IpAddr>) -> Result<LiveLogin>;

    /// Parses, authorises and compiles the SQL of a subscription.
    ///
    /// # Errors
    /// `INVALID_SQL`, `NOT_FOUND`, `UNAUTHORIZED` and the like: sent to the client as they are.
    async fn compile(&self, principal: &Principal, sql: &str) -> Result<LiveScope>;

    /// The same of one table of the namespace that the SQL is about; `None` where no feed over all owners has it.
    ///
    /// # Errors
    /// The same, and `TABLE_NOT_FOUND`.
    async fn compile_table(&self, principal: &Principal, sql: &str, table: &TableName) -> Result<Option<LiveTarget>>;

    /// The tables that are in the namespace now.
    fn tables_of(&self, namespace: &NamespaceName) -> Vec<TableName>;

    /// Registers the subscriber and reads the head in one turn of the actor that delivers.
    ///
    /// # Errors
    /// `BUSY`, `SHUTTING_DOWN`, `INVALID_CREDENTIALS` where the user was dropped meanwhile.
    async fn attach(&self, target: &LiveTarget, subscriber: Subscriber) -> Result<Attached>;

    /// Opens one view of the targets' rows, and a reader of each. Called after [`LiveDatabase::attach`] of all: so no
    /// change is in neither.
    ///
    /// # Errors
    /// `BUSY`, `STORAGE_UNAVAILABLE`, `INVALID_CREDENTIALS` where the user was dropped meanwhile.
    async fn open_readers(&self, targets: &[LiveTarget]) -> Result<Vec<Arc<dyn LiveReader>>>;

    /// Runs the job on a thread that may block.
    ///
    /// # Errors
    /// What [`PageJob::run`] gives; `BUSY`.
    async fn read_page(&self, job: PageJob) -> Result<Page>;
}
