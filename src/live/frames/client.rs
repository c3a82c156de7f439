//! What a client may say.

use serde::{Deserialize, Serialize};

use super::Protocol;
use crate::live::encoding::unpack;
use crate::live::position::{Position, lenient_position, lenient_seq, position};
use crate::model::Seq;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ClientMessage {
    Authenticate {
        method: String,
        token: String,
        protocol: Protocol,
    },
    Subscribe {
        subscription: SubscribeRequest,
    },
    NextBatch {
        subscription_id: String,
        #[serde(default, deserialize_with = "lenient_seq")]
        last_seq_id: Option<Seq>,
    },
    Unsubscribe {
        subscription_id: String,
    },
    /// Everything up to here has been handled: for a subscription with a group.
    Ack {
        subscription_id: String,
        #[serde(deserialize_with = "position")]
        upto: Position,
    },
    Ping,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscribeRequest {
    pub id: String,
    pub sql: String,
    /// `None`: no rows at first, only changes.
    #[serde(default)]
    pub options: Option<SubscribeOptions>,
}

/// Which rows come first. `from` goes before `last_rows`; neither: all rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SubscribeOptions {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_size: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rows: Option<u32>,
    /// What changed above this position.
    #[serde(
        default,
        alias = "from_seq_id",
        deserialize_with = "lenient_position",
        skip_serializing_if = "Option::is_none"
    )]
    pub from: Option<Position>,
    /// Beside `from`: the load that ended there goes on up to here.
    #[serde(default, deserialize_with = "lenient_seq", skip_serializing_if = "Option::is_none")]
    pub snapshot_end_seq: Option<Seq>,
    /// The durable cursor that this subscription reads on with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// Why a message can not be understood. The text is for the client's author.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid message: {0}")]
pub struct MessageFault(String);

impl ClientMessage {
    /// # Errors
    /// [`MessageFault`].
    pub fn from_json(text: &[u8]) -> Result<Self, MessageFault> {
        serde_json::from_slice(text).map_err(|error| MessageFault(error.to_string()))
    }

    /// A MessagePack message, gzipped or not, of at most `max_bytes` when unpacked.
    ///
    /// # Errors
    /// [`MessageFault`].
    pub fn from_msgpack(bytes: &[u8], max_bytes: usize) -> Result<Self, MessageFault> {
        let unpacked = unpack(bytes, max_bytes)
            .ok_or_else(|| MessageFault(format!("neither MessagePack nor gzip of at most {max_bytes} bytes")))?;
        rmp_serde::from_slice(&unpacked).map_err(|error| MessageFault(error.to_string()))
    }
}
