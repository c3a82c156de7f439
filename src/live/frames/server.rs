//! What a client is told. Change frames are built by [`crate::live::event`], since subscribers share them.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Protocol;
use crate::error::{Error, Result, SubscriptionFault};
use crate::live::Position;
use crate::live::encoding::{Format, MapWriter, Tail, Wire, WireFrame, pack};
use crate::model::result::ResultSchema;
use crate::model::{Role, Seq, UserId};

const PLAIN_JSON: Wire = Wire { format: Format::Json, compress: false };

#[derive(Debug, Clone)]
pub enum ServerMessage<'a> {
    AuthSuccess {
        user: &'a UserId,
        role: Role,
        protocol: Protocol,
    },
    /// The socket is closed after it.
    AuthError {
        message: &'a str,
    },
    SubscriptionAck {
        subscription_id: &'a str,
        control: BatchControl,
        schema: &'a ResultSchema,
    },
    /// Of a subscription to several tables: `positions` is where each stands when the beginning has been told.
    FeedAck {
        subscription_id: &'a str,
        control: BatchControl,
        schema: &'a ResultSchema,
        positions: &'a BTreeMap<String, Seq>,
    },
    /// The tables of such a subscription are others from here on.
    FeedTable {
        subscription_id: &'a str,
        change: TableChange,
        table: &'a str,
        /// `None` of a table that is gone.
        schema: Option<&'a ResultSchema>,
    },
    InitialDataBatch {
        subscription_id: &'a str,
        /// The frame's last entry: the list of rows.
        rows: &'a Tail,
        control: BatchControl,
    },
    Error {
        /// Also the word `subscribe`, `protocol` or `rate_limit`, where no subscription is meant.
        subscription_id: &'a str,
        error: &'a Error,
    },
}

/// What became of a table of a subscription to several.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum TableChange {
    Joined,
    Altered,
    Dropped,
}

/// Where an initial load stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BatchControl {
    pub batch_num: u32,
    pub has_more: bool,
    pub status: BatchStatus,
    pub last_seq_id: Option<Seq>,
    pub snapshot_end_seq: Option<Seq>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BatchStatus {
    /// The first batch, and more follow.
    Loading,
    /// A later batch, and more follow.
    LoadingBatch,
    /// All there is has been sent; from here on only changes come.
    Ready,
}

impl BatchControl {
    pub(crate) fn new(batch_num: u32, has_more: bool, last_seq_id: Option<Seq>, snapshot_end: Option<Seq>) -> Self {
        let status = match (has_more, batch_num) {
            (false, _) => BatchStatus::Ready,
            (true, 0) => BatchStatus::Loading,
            (true, _) => BatchStatus::LoadingBatch,
        };
        Self { batch_num, has_more, status, last_seq_id, snapshot_end_seq: snapshot_end }
    }
}

impl ServerMessage<'_> {
    /// The message in the session's format; authentication and errors are JSON text in any.
    ///
    /// # Errors
    /// `INTERNAL` where a part can not be encoded.
    pub(crate) fn frame(&self, wire: Wire) -> Result<WireFrame> {
        match self {
            ServerMessage::AuthSuccess { user, role, protocol } => {
                let mut map = MapWriter::new(Format::Json, 4);
                map.entry("type", "auth_success")?;
                map.entry("user", user)?;
                map.entry("role", role)?;
                map.entry("protocol", protocol)?;
                Ok(pack(PLAIN_JSON, map.finish()))
            }
            ServerMessage::AuthError { message } => {
                let mut map = MapWriter::new(Format::Json, 2);
                map.entry("type", "auth_error")?;
                map.entry("message", message)?;
                Ok(pack(PLAIN_JSON, map.finish()))
            }
            ServerMessage::SubscriptionAck { subscription_id, control, schema } => {
                let mut map = MapWriter::new(wire.format, 5);
                map.entry("type", "subscription_ack")?;
                map.entry("subscription_id", subscription_id)?;
                map.entry("total_rows", &0)?;
                map.entry("batch_control", control)?;
                map.entry("schema", schema)?;
                Ok(pack(wire, map.finish()))
            }
            ServerMessage::FeedAck { subscription_id, control, schema, positions } => {
                let mut map = MapWriter::new(wire.format, 6);
                map.entry("type", "subscription_ack")?;
                map.entry("subscription_id", subscription_id)?;
                map.entry("total_rows", &0)?;
                map.entry("batch_control", control)?;
                map.entry("positions", positions)?;
                map.entry("schema", schema)?;
                Ok(pack(wire, map.finish()))
            }
            ServerMessage::FeedTable { subscription_id, change, table, schema } => {
                let mut map = MapWriter::new(wire.format, 4 + u8::from(schema.is_some()));
                map.entry("type", "feed_table")?;
                map.entry("subscription_id", subscription_id)?;
                map.entry("change", change)?;
                map.entry("table", table)?;
                if let Some(schema) = schema {
                    map.entry("schema", schema)?;
                }
                Ok(pack(wire, map.finish()))
            }
            ServerMessage::InitialDataBatch { subscription_id, rows, control } => {
                let mut map = MapWriter::new(wire.format, 4);
                map.entry("type", "initial_data_batch")?;
                map.entry("subscription_id", subscription_id)?;
                map.entry("batch_control", control)?;
                Ok(rows.frame(wire, map.into_head()))
            }
            ServerMessage::Error { subscription_id, error } => error_frame(subscription_id, error, wire.compress),
        }
    }
}

fn error_frame(subscription_id: &str, error: &Error, compress: bool) -> Result<WireFrame> {
    let resume_at = match error {
        Error::Subscription(SubscriptionFault::SlowConsumer { last_delivered }) => {
            Some(last_delivered.map(Position::Seq))
        }
        Error::Subscription(SubscriptionFault::SlowFeed { positions }) => {
            Some(Some(Position::Tables(positions.clone())))
        }
        _ => None,
    };
    let retry_after = match error {
        Error::Subscription(SubscriptionFault::TooManyOpening { retry_after }) => Some(retry_after.as_millis()),
        _ => None,
    };
    let mut map = MapWriter::new(Format::Json, 4 + u8::from(resume_at.is_some()));
    map.entry("type", "error")?;
    map.entry("subscription_id", subscription_id)?;
    map.entry("code", error.code().live_wire())?;
    map.entry("message", &error.to_string())?;
    if let Some(last_delivered) = resume_at {
        map.entry("last_seq_id", &last_delivered)?;
    }
    // Errors are JSON in any format: the number of entries is not written before.
    if let Some(retry_after) = retry_after {
        map.entry("retry_after_ms", &u64::try_from(retry_after).unwrap_or(u64::MAX))?;
    }
    Ok(pack(Wire { format: Format::Json, compress }, map.finish()))
}
