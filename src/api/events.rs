//! Server-sent events: the bytes of an event, and the body of a response that goes on.
//!
//! Owns the form of events, and the bounded pipe between whoever writes them and the connection that takes them. Both
//! live on one HTTP worker.
//! Never knows where events come from: `GET /v1/live` and the streams write them.
//! Invariant: LQ-5. A writer is ready only while less than [`ROOM`] waits; what it writes then is written as a whole.
//! Start at [`pipe`].

use std::cell::RefCell;
use std::convert::Infallible;
use std::ops::ControlFlow;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::body::{BodySize, MessageBody};
use actix_web::http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use actix_web::{HttpResponse, HttpResponseBuilder};
use bytes::{Bytes, BytesMut};

use crate::error::ErrorCode;
use crate::live::session::{Label, Outgoing};
use crate::live::{EventKind, WireFrame};
use crate::model::Seq;

/// A writer waits while this much has not been taken.
const ROOM: usize = 64 << 10;
/// Bytes handed to the connection at once: so a peer that takes a large page slowly is seen taking it.
const PIECE: usize = 64 << 10;

/// After how long a client comes back whose connection was cut.
const RETRY_MS: u32 = 2_000;
/// The same, where the end is no accident: the answer will be a status that stops it.
const RETRY_LATE_MS: u32 = 60_000;

/// The two ends of one response's body.
pub(super) fn pipe() -> (EventWriter, EventBody) {
    let pipe = Rc::new(RefCell::new(Pipe {
        waiting: BytesMut::new(),
        took: false,
        ended: false,
        dropped: false,
        writer: Waker::noop().clone(),
        reader: Waker::noop().clone(),
    }));
    (EventWriter(pipe.clone()), EventBody(pipe))
}

struct Pipe {
    waiting: BytesMut,
    /// Something was taken since the writer last looked.
    took: bool,
    /// The writer is gone: what waits is all.
    ended: bool,
    /// The connection is gone.
    dropped: bool,
    writer: Waker,
    reader: Waker,
}

/// The writing end. Dropped, it ends the body.
pub(super) struct EventWriter(Rc<RefCell<Pipe>>);

impl EventWriter {
    /// # Errors
    /// The connection is gone.
    pub(super) fn poll_ready(&mut self, task: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        let mut pipe = self.0.borrow_mut();
        pipe.writer.clone_from(task.waker());
        match (pipe.dropped, pipe.waiting.len() < ROOM) {
            (true, _) => Poll::Ready(Err(Closed)),
            (false, true) => Poll::Ready(Ok(())),
            (false, false) => Poll::Pending,
        }
    }

    pub(super) fn write<T>(&mut self, write: impl FnOnce(&mut BytesMut) -> T) -> T {
        let mut pipe = self.0.borrow_mut();
        let written = write(&mut pipe.waiting);
        pipe.reader.wake_by_ref();
        written
    }

    pub(super) fn is_gone(&self) -> bool {
        self.0.borrow().dropped
    }

    /// Was something taken since the last time this was asked?
    pub(super) fn took(&self) -> bool {
        std::mem::take(&mut self.0.borrow_mut().took)
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.ended = true;
        pipe.reader.wake_by_ref();
    }
}

/// The connection is gone.
#[derive(Debug)]
pub(super) struct Closed;

/// The reading end: the body of a response.
pub(super) struct EventBody(Rc<RefCell<Pipe>>);

impl EventBody {
    /// The response, whose length nobody knows.
    pub(super) fn respond(self, response: &mut HttpResponseBuilder) -> HttpResponse {
        response
            .content_type("text/event-stream")
            .insert_header((CACHE_CONTROL, HeaderValue::from_static("no-cache, no-store, no-transform")))
            // What nginx needs to be told, where it stands between.
            .insert_header((HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")))
            .body(self)
    }
}

impl MessageBody for EventBody {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let mut pipe = self.0.borrow_mut();
        if pipe.waiting.is_empty() {
            pipe.reader.clone_from(task.waker());
            return if pipe.ended { Poll::Ready(None) } else { Poll::Pending };
        }
        let length = pipe.waiting.len().min(PIECE);
        let piece = pipe.waiting.split_to(length).freeze();
        if pipe.waiting.is_empty() {
            // A large page's memory goes with its last piece.
            pipe.waiting = BytesMut::new();
        }
        pipe.took = true;
        pipe.writer.wake_by_ref();
        Poll::Ready(Some(Ok(piece)))
    }
}

impl Drop for EventBody {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.dropped = true;
        pipe.waiting = BytesMut::new();
        pipe.writer.wake_by_ref();
    }
}

/// What a session says, as events. `Break`: nothing comes behind it.
pub(super) fn write_event(out: &mut BytesMut, outgoing: &Outgoing) -> ControlFlow<()> {
    let (Outgoing::Frame(frame, label) | Outgoing::Change(frame, _, label)) = outgoing else {
        // A comment: it shows that the connection is there, and whether it is.
        out.extend_from_slice(b": heartbeat\n\n");
        return if matches!(outgoing, Outgoing::Close(_)) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    };
    let data = match frame {
        WireFrame::Text(text) => text.as_bytes(),
        WireFrame::Binary(bytes) => bytes,
    };
    match label {
        Label::Authentication => {}
        Label::Subscribed => {
            write_retry(out, RETRY_MS);
            write_parts(out, "subscribed", None, data);
        }
        Label::Rows { position, .. } => write_parts(out, "snapshot", *position, data),
        Label::Change { kind, seq, resumes, .. } => {
            let name = match kind {
                EventKind::Insert => "insert",
                EventKind::Update => "update",
                EventKind::Delete => "delete",
            };
            write_parts(out, name, resumes.then_some(*seq), data);
        }
        Label::Table => write_parts(out, "table", None, data),
        Label::Error(code) => {
            write_retry(out, retry_ms(*code));
            write_parts(out, "error", None, data);
            return ControlFlow::Break(());
        }
    }
    ControlFlow::Continue(())
}

fn retry_ms(code: ErrorCode) -> u32 {
    if code.retryable() { RETRY_MS } else { RETRY_LATE_MS }
}

fn write_retry(out: &mut BytesMut, ms: u32) {
    out.extend_from_slice(b"retry: ");
    out.extend_from_slice(itoa::Buffer::new().format(ms).as_bytes());
    out.extend_from_slice(b"\n");
}

/// `data` is JSON: it has no line breaks.
fn write_parts(out: &mut BytesMut, name: &str, id: Option<Seq>, data: &[u8]) {
    if let Some(id) = id {
        out.extend_from_slice(b"id: ");
        out.extend_from_slice(itoa::Buffer::new().format(id.get()).as_bytes());
        out.extend_from_slice(b"\n");
    }
    for part in [&b"event: "[..], name.as_bytes(), b"\ndata: ", data, b"\n\n"] {
        out.extend_from_slice(part);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::live::session::Close;

    fn seq(raw: i64) -> Seq {
        Seq::new(raw).unwrap()
    }

    fn text(outgoing: &Outgoing) -> (String, bool) {
        let mut out = BytesMut::new();
        let ends = write_event(&mut out, outgoing).is_break();
        (String::from_utf8(out.to_vec()).unwrap(), ends)
    }

    #[test]
    fn what_a_session_says_as_events() {
        let frame = |label| Outgoing::Frame(WireFrame::Text("{}".into()), label);
        let rows = |position, more| frame(Label::Rows { position, more });
        let change =
            |kind, at, resumes| frame(Label::Change { kind, table: crate::model::TableId(1), seq: seq(at), resumes });
        let cases: &[(Outgoing, &str, bool)] = &[
            (frame(Label::Authentication), "", false),
            (frame(Label::Subscribed), "retry: 2000\nevent: subscribed\ndata: {}\n\n", false),
            (rows(Some(seq(7)), true), "id: 7\nevent: snapshot\ndata: {}\n\n", false),
            (rows(None, true), "event: snapshot\ndata: {}\n\n", false),
            (change(EventKind::Insert, 8, true), "id: 8\nevent: insert\ndata: {}\n\n", false),
            (change(EventKind::Update, 9, true), "id: 9\nevent: update\ndata: {}\n\n", false),
            (change(EventKind::Delete, 10, true), "id: 10\nevent: delete\ndata: {}\n\n", false),
            (frame(Label::Error(ErrorCode::SlowConsumer)), "retry: 2000\nevent: error\ndata: {}\n\n", true),
            (frame(Label::Error(ErrorCode::TableDropped)), "retry: 60000\nevent: error\ndata: {}\n\n", true),
            (Outgoing::Ping, ": heartbeat\n\n", false),
            (Outgoing::Close(Close { code: 1000, reason: String::new() }), ": heartbeat\n\n", true),
        ];
        for (outgoing, expected, ends) in cases {
            assert_eq!(text(outgoing), ((*expected).to_owned(), *ends), "{outgoing:?}");
        }
    }

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_pipe_is_bounded_and_tells_each_end_of_the_other() {
        let (writes, reads) = (Arc::new(Wakes::default()), Arc::new(Wakes::default()));
        let (writing, reading) = (Waker::from(writes.clone()), Waker::from(reads.clone()));
        let (mut writing, mut reading) = (Context::from_waker(&writing), Context::from_waker(&reading));
        let (mut writer, mut body) = pipe();
        assert!(Pin::new(&mut body).poll_next(&mut reading).is_pending());
        assert!(matches!(writer.poll_ready(&mut writing), Poll::Ready(Ok(()))));
        writer.write(|out| out.extend_from_slice(&[1; 100_000]));
        assert_eq!(reads.0.load(Ordering::SeqCst), 1);
        assert!(writer.poll_ready(&mut writing).is_pending(), "no room");
        assert!(!writer.took());
        let mut take = |body: &mut EventBody| match Pin::new(body).poll_next(&mut reading) {
            Poll::Ready(Some(Ok(piece))) => Some(piece.len()),
            Poll::Ready(None) => None,
            other => panic!("{other:?}"),
        };
        assert_eq!(take(&mut body), Some(PIECE), "in pieces");
        assert_eq!(writes.0.load(Ordering::SeqCst), 1);
        assert!(writer.took() && !writer.took());
        assert!(matches!(writer.poll_ready(&mut writing), Poll::Ready(Ok(()))));
        drop(writer);
        assert_eq!(take(&mut body), Some(100_000 - PIECE), "what was written is read");
        assert_eq!(take(&mut body), None);

        let (mut writer, body) = pipe();
        assert!(matches!(writer.poll_ready(&mut writing), Poll::Ready(Ok(()))));
        let before = writes.0.load(Ordering::SeqCst);
        drop(body);
        assert_eq!(writes.0.load(Ordering::SeqCst), before + 1);
        assert!(matches!(writer.poll_ready(&mut writing), Poll::Ready(Err(Closed))));
    }
}
