//! A body has to come within a time: who sends one byte and waits holds nothing for long.
//!
//! Owns the deadline around a request's body. A body that is there already costs no timer.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::error::PayloadError;
use actix_web::http::{StatusCode, Version, header};
use actix_web::rt::time::{Sleep, sleep};
use actix_web::web::Bytes;
use actix_web::{HttpMessage as _, HttpResponse};
use futures_util::Stream;

use crate::api::problem;

/// Did the body come too late? Then whatever its handler has made of that is not the answer.
#[derive(Debug, Clone, Default)]
pub(super) struct BodyDeadline(Rc<Cell<bool>>);

impl BodyDeadline {
    /// Puts the deadline around the request's body, if it has one. An upgrade has none: what follows it is no body.
    pub(super) fn hold(request: &mut ServiceRequest, limit: Duration) -> Self {
        let deadline = Self::default();
        let headers = request.headers();
        let told = headers.contains_key(header::CONTENT_LENGTH) || headers.contains_key(header::TRANSFER_ENCODING);
        // Over HTTP/2 a body needs no word before it.
        if told || request.version() == Version::HTTP_2 {
            let inner = request.take_payload();
            let timed = Timed { inner, limit, sleep: None, passed: deadline.clone() };
            request.set_payload(Payload::Stream { payload: Box::pin(timed) });
        }
        deadline
    }

    /// The answer where it has passed.
    pub(super) fn refusal(&self) -> Option<HttpResponse> {
        self.0.get().then(|| {
            let text = "The request's body did not come in time; send it again".to_owned();
            let mut answer = problem::plain(StatusCode::REQUEST_TIMEOUT, "BODY_TIMEOUT", text);
            answer.head_mut().set_connection_type(actix_web::http::ConnectionType::Close);
            answer
        })
    }
}

struct Timed {
    inner: Payload,
    limit: Duration,
    /// From the first time that nothing was there.
    sleep: Option<Pin<Box<Sleep>>>,
    passed: BodyDeadline,
}

impl Stream for Timed {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Poll::Ready(item) = Pin::new(&mut self.inner).poll_next(cx) {
            return Poll::Ready(item);
        }
        let limit = self.limit;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep(limit)));
        std::task::ready!(sleep.as_mut().poll(cx));
        self.passed.0.set(true);
        Poll::Ready(Some(Err(PayloadError::Io(io::ErrorKind::TimedOut.into()))))
    }
}
