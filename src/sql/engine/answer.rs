//! The way of an answer from the query that makes it to whoever reads it.
//!
//! Owns how far a query may be ahead of its reader, in batches and in bytes: then it waits. What the reader has in its
//! hands counts until it asks for the next.
//! Never lets an answer that was cut off look complete.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow::array::RecordBatch;
use futures_util::{FutureExt as _, Stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::Sleep;

use super::Deadline;
use crate::error::{Error, Result};

/// Batches that a query may be ahead of whoever reads its answer.
const BATCHES_AHEAD: usize = 4;

/// The same in KiB, the batch in the reader's hands included. A larger batch goes alone.
const KIB_AHEAD: usize = 8 << 10;

struct Sent {
    batch: RecordBatch,
    room: OwnedSemaphorePermit,
}

pub(super) struct Answers {
    /// `Ok(None)` is the end; an end without it means that the query was cut off.
    sender: mpsc::Sender<Result<Option<Sent>>>,
    room: Arc<Semaphore>,
}

pub(super) fn channel(deadline: Deadline) -> (Answers, BatchStream) {
    let (sender, answers) = mpsc::channel(BATCHES_AHEAD);
    let overdue = Box::pin(tokio::time::sleep_until(deadline.at));
    let stream = BatchStream { answers, held: None, ended: false, deadline, overdue };
    (Answers { sender, room: Arc::new(Semaphore::new(KIB_AHEAD)) }, stream)
}

impl Answers {
    /// Returns when nobody reads any more.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }

    /// Waits for room. `false`: nobody reads any more.
    pub(super) async fn send(&self, batch: RecordBatch) -> bool {
        let kib = (batch.get_array_memory_size() >> 10).clamp(1, KIB_AHEAD);
        let permits = u32::try_from(kib).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        let Ok(room) = self.room.clone().acquire_many_owned(permits).await else { return false };
        self.sender.send(Ok(Some(Sent { batch, room }))).await.is_ok()
    }

    pub(super) async fn end(&self, end: Result<()>) {
        // Whoever asked may have gone.
        let _ = self.sender.send(end.map(|()| None)).await;
    }
}

/// Record batches, at most one error, which is the last item. Dropping it stops the query.
pub struct BatchStream {
    answers: mpsc::Receiver<Result<Option<Sent>>>,
    /// Of the batch that the reader has.
    held: Option<OwnedSemaphorePermit>,
    ended: bool,
    deadline: Deadline,
    overdue: Pin<Box<Sleep>>,
}

impl Stream for BatchStream {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.held = None;
        let item = match self.answers.poll_recv(cx) {
            Poll::Ready(Some(Ok(Some(Sent { batch, room })))) => {
                self.held = Some(room);
                return Poll::Ready(Some(Ok(batch)));
            }
            Poll::Ready(Some(Ok(None))) => None,
            Poll::Ready(Some(Err(error))) => Some(Err(error)),
            Poll::Ready(None) => Some(Err(Error::Aborted)),
            Poll::Pending => {
                std::task::ready!(self.overdue.poll_unpin(cx));
                Some(Err(self.deadline.passed()))
            }
        };
        self.ended = true;
        Poll::Ready(item)
    }
}
