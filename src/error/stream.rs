//! What is told to whoever uses a stream by its address.

use super::ErrorCode;
use crate::model::Seq;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamFault {
    #[error("There is no stream '{0}'")]
    NotFound(String),
    #[error("Stream '{0}' was deleted, or has expired; streams that were forked from it still hold it")]
    Deleted(String),
    #[error("What followed this offset has expired; read again from the beginning, offset=-1")]
    Expired,
    #[error("The stream is closed; nothing can be appended")]
    Closed { tail: Seq },
    #[error("{text}")]
    Conflict { text: String, tail: Option<Seq> },
    #[error("Another instance of this producer has claimed epoch {epoch}")]
    Fenced { epoch: u64 },
    #[error("The producer's request {expected} is missing before {received}")]
    Gap { expected: u64, received: u64 },
}

impl StreamFault {
    pub fn conflict(text: impl Into<String>) -> Self {
        StreamFault::Conflict { text: text.into(), tail: None }
    }

    pub fn code(&self) -> ErrorCode {
        match self {
            StreamFault::NotFound(_) => ErrorCode::StreamNotFound,
            StreamFault::Deleted(_) | StreamFault::Expired => ErrorCode::StreamGone,
            StreamFault::Closed { .. } => ErrorCode::StreamClosed,
            StreamFault::Conflict { .. } => ErrorCode::StreamConflict,
            StreamFault::Fenced { .. } => ErrorCode::ProducerFenced,
            StreamFault::Gap { .. } => ErrorCode::ProducerGap,
        }
    }
}

impl From<StreamFault> for super::Error {
    fn from(fault: StreamFault) -> Self {
        super::Error::Stream(fault)
    }
}
