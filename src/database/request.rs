//! What the outside asks of the database, and what it is answered: the types of the middle boundary.
//!
//! Owns [`SqlRequest`], [`SqlResponse`] and [`StatementError`].
//! Never knows HTTP: the api layer translates.
//! Invariant: one [`StatementResult`] per statement of the request, in order (A2); a request that fails has none.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures_util::Stream;

use crate::error::{Error, Result};
use crate::model::result::ResultSchema;
use crate::model::{Durability, Param, UserId};
pub use crate::sql::engine::{CallerGone, CallerWatch};

/// SQL text with what it needs to be understood.
#[derive(Debug, Clone, Default)]
pub struct SqlRequest {
    pub sql: String,
    pub params: Vec<Param>,
    /// Where unqualified names live. `None`: the namespace `default`.
    pub namespace: Option<String>,
    /// Overrides the table's and the server's level for the writes of this request.
    pub durability: Option<Durability>,
    /// Scheme and host by which the caller reached us, `http://host:port`: `SUBSCRIBE TO` answers with a `ws_url` of it.
    pub base_url: Option<String>,
    /// Is it refused where it has several?
    pub one_statement: bool,
    /// Told when nobody waits for the answer any more.
    pub caller: CallerGone,
    /// By which the request is found in the log.
    pub request_id: Option<Arc<str>>,
    /// From where, for the audit log.
    pub ip: Option<IpAddr>,
}

/// One result per statement, in order.
pub struct SqlResponse {
    pub results: Vec<StatementResult>,
}

pub struct StatementResult {
    /// The user the statement ran as: the caller, or whom EXECUTE AS USER named.
    pub as_user: UserId,
    pub outcome: Outcome,
}

pub enum Outcome {
    /// The statement returns rows.
    Rows(RowStream),
    /// INSERT, UPDATE, DELETE, DDL and the like: how many rows it touched, and a sentence.
    Done { rows: u64, message: String },
}

/// Rows as they are made. Dropping it stops the query.
pub struct RowStream {
    pub schema: ResultSchema,
    pub batches: Pin<Box<dyn Stream<Item = Result<RecordBatch>> + Send>>,
}

/// Why a request failed, and at which of its statements.
#[derive(Debug, Clone)]
pub struct StatementError {
    pub error: Error,
    /// From 1, in a request of two or more statements; `None` where the request as a whole or its only one failed.
    pub statement: Option<usize>,
}

impl From<Error> for StatementError {
    fn from(error: Error) -> Self {
        Self { error, statement: None }
    }
}

impl fmt::Display for StatementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(statement) = self.statement {
            write!(f, "Statement {statement} failed: ")?;
        }
        self.error.fmt(f)
    }
}

impl std::error::Error for StatementError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}
