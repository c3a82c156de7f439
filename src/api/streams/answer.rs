//! What a stream's address answers: statuses and headers.

use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION,
    X_CONTENT_TYPE_OPTIONS,
};
use actix_web::{HttpResponse, HttpResponseBuilder};

use crate::api::problem;
use crate::database::durable_streams::{Appended, Created, StreamHead, StreamPage};
use crate::error::{Error, ErrorCode, StreamFault};
use crate::streams::expiry::Expiry;
use crate::streams::offset::Offset;

pub(super) const NEXT_OFFSET: &str = "stream-next-offset";
const UP_TO_DATE: &str = "stream-up-to-date";
const CLOSED: &str = "stream-closed";
const CURSOR: &str = "stream-cursor";
const PRODUCER_EPOCH: &str = "producer-epoch";
const PRODUCER_SEQ: &str = "producer-seq";

/// What a reader wrote into a stream is not to act in the reader's name where somebody opens its address.
const POLICY: &str = "sandbox; default-src 'none'";
/// It is the user's own: no cache between, and a browser's asks each time.
const PRIVATE: &str = "private, no-cache";

/// With the headers that keep browsers from taking what is in a stream for something else.
pub(super) fn secured(mut response: HttpResponse) -> HttpResponse {
    let headers = response.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    headers.insert(policy, HeaderValue::from_static("same-origin"));
    response
}

pub(super) fn created(location: &str, created: &Created) -> HttpResponse {
    let mut answer = if created.new { HttpResponse::Created() } else { HttpResponse::Ok() };
    if created.new {
        answer.insert_header((LOCATION, location));
    }
    answer.insert_header((CONTENT_TYPE, created.content_type.as_str()));
    place(&mut answer, created.tail, created.closed);
    life(&mut answer, created.expiry);
    secured(answer.finish())
}

pub(super) fn appended(appended: Appended) -> HttpResponse {
    // A producer learns from the status whether it was the first to send this.
    let new = appended.wrote && appended.producer.is_some();
    let mut answer = if new { HttpResponse::Ok() } else { HttpResponse::NoContent() };
    place(&mut answer, appended.tail, appended.closed);
    if let Some(producer) = appended.producer {
        answer.insert_header((PRODUCER_EPOCH, producer.epoch.to_string()));
        answer.insert_header((PRODUCER_SEQ, producer.seq.to_string()));
    }
    secured(answer.finish())
}

pub(super) fn head(head: &StreamHead) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    answer.insert_header((CONTENT_TYPE, head.content_type.as_str())).insert_header((CACHE_CONTROL, "no-store"));
    place(&mut answer, head.tail, head.closed);
    life(&mut answer, head.expiry);
    secured(answer.finish())
}

/// A page of a stream. `cursor`: of a live read. `known`: the entity that the reader has.
pub(super) fn page(page: StreamPage, cursor: Option<u64>, known: Option<&str>) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    describe(&mut answer, &page, cursor);
    let etag = etag(&page);
    answer.insert_header((ETAG, etag.as_str())).insert_header((CACHE_CONTROL, PRIVATE));
    if known.is_some_and(|known| known.split(',').any(|known| known.trim().trim_start_matches("W/") == etag)) {
        return secured(answer.status(StatusCode::NOT_MODIFIED).finish());
    }
    answer.insert_header((CONTENT_TYPE, page.content_type.as_str()));
    secured(answer.body(page.body))
}

/// The end of a stream, as it is now: nothing that anyone should keep.
pub(super) fn tail(page: StreamPage) -> HttpResponse {
    let mut answer = HttpResponse::Ok();
    describe(&mut answer, &page, None);
    answer.insert_header((CACHE_CONTROL, "no-store")).insert_header((CONTENT_TYPE, page.content_type.as_str()));
    secured(answer.body(page.body))
}

/// A long poll in which nothing came, or nothing can come any more.
pub(super) fn nothing(page: &StreamPage, cursor: u64) -> HttpResponse {
    let mut answer = HttpResponse::NoContent();
    describe(&mut answer, page, Some(cursor));
    answer.insert_header((CACHE_CONTROL, "no-store"));
    secured(answer.finish())
}

fn describe(answer: &mut HttpResponseBuilder, page: &StreamPage, cursor: Option<u64>) {
    place(answer, page.next, page.ended);
    if page.up_to_date {
        answer.insert_header((UP_TO_DATE, "true"));
    }
    if let Some(cursor) = cursor.filter(|_| !page.ended) {
        answer.insert_header((CURSOR, cursor.to_string()));
    }
}

fn place(answer: &mut HttpResponseBuilder, offset: Offset, closed: bool) {
    answer.insert_header((NEXT_OFFSET, offset.to_string()));
    if closed {
        answer.insert_header((CLOSED, "true"));
    }
}

fn life(answer: &mut HttpResponseBuilder, expiry: Expiry) {
    if let Some(ttl) = expiry.ttl() {
        answer.insert_header(("stream-ttl", ttl.to_string()));
    }
    if let Some(at) = expiry.expires_at() {
        answer.insert_header(("stream-expires-at", at));
    }
}

/// Of another stream of the key, of other rows, or of a stream that was closed meanwhile, it is another.
fn etag(page: &StreamPage) -> String {
    let closed = if page.ended { ":c" } else { "" };
    format!("\"{:x}:{}:{}{closed}\"", page.id.get(), page.from, page.next)
}

pub(super) fn refused(error: &Error) -> HttpResponse {
    let status = match error.code() {
        // What is not there at an address is not found, also where SQL would say that it is wrong.
        ErrorCode::TableNotFound | ErrorCode::NamespaceNotFound | ErrorCode::UserNotFound => {
            Some(StatusCode::NOT_FOUND)
        }
        _ => None,
    };
    let mut answer = problem::coded(error);
    if let Some(status) = status {
        *answer.status_mut() = status;
    }
    let number = |number: u64| HeaderValue::from(number);
    let headers = answer.headers_mut();
    let mut put = |name: &'static str, value: HeaderValue| headers.insert(HeaderName::from_static(name), value);
    match error {
        Error::Stream(StreamFault::Closed { tail }) => {
            put(CLOSED, HeaderValue::from_static("true"));
            put(NEXT_OFFSET, offset_value(Offset(*tail)));
        }
        Error::Stream(StreamFault::Conflict { tail: Some(tail), .. }) => {
            put(NEXT_OFFSET, offset_value(Offset(*tail)));
        }
        Error::Stream(StreamFault::Fenced { epoch }) => {
            put(PRODUCER_EPOCH, number(*epoch));
        }
        Error::Stream(StreamFault::Gap { expected, received }) => {
            put("producer-expected-seq", number(*expected));
            put("producer-received-seq", number(*received));
        }
        _ => {}
    }
    secured(answer)
}

fn offset_value(offset: Offset) -> HeaderValue {
    // Digits and an underscore.
    HeaderValue::from_str(&offset.to_string()).unwrap_or_else(|_| HeaderValue::from_static("-1"))
}
