//! The wire frames: what a client may say, and what it is told (protocol §7).
//!
//! Owns the names of frames and fields. Sequence ids in control fields are numbers; a text is also accepted, since
//! JavaScript rounds such numbers.

mod client;
mod server;

use serde::{Deserialize, Serialize};

pub use client::{ClientMessage, MessageFault, SubscribeOptions, SubscribeRequest};
pub use server::{BatchControl, BatchStatus, ServerMessage, TableChange};

use super::Format;

/// What both sides agreed on when the session authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Protocol {
    pub serialization: Serialization,
    pub compression: Compression,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Serialization {
    #[default]
    Json,
    #[serde(alias = "messagepack")]
    MsgPack,
}

/// Echoed only: `?compress=false` is what turns compression off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    #[default]
    Gzip,
    None,
}

impl Serialization {
    pub fn format(self) -> Format {
        match self {
            Serialization::Json => Format::Json,
            Serialization::MsgPack => Format::MsgPack,
        }
    }
}

#[cfg(test)]
mod tests;
