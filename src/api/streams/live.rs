//! The three ways of reading a stream: what there is, waiting for the next, and events.

use std::convert::Infallible;
use std::time::Duration;

use actix_web::http::header::{CACHE_CONTROL, HeaderName, HeaderValue};
use actix_web::{HttpResponse, rt};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};

use super::{Services, answer};
use crate::auth::Session;
use crate::config::StreamsConfig;
use crate::database::durable_streams::{StreamPage, StreamReader};
use crate::error::Result;
use crate::streams::body::{Control, write_control, write_data};
use crate::streams::content_type;
use crate::streams::cursor;
use crate::streams::offset::ReadFrom;

/// A connection on which nothing else comes shows that it is there.
const HEARTBEAT: Duration = Duration::from_secs(15);

pub(super) async fn catch_up(mut reader: StreamReader, from: ReadFrom, known: Option<&str>) -> Result<HttpResponse> {
    let page = reader.page().await?;
    Ok(if from == ReadFrom::Now { answer::tail(page) } else { answer::page(page, None, known) })
}

pub(super) async fn long_poll(
    mut reader: StreamReader,
    cursor: Option<String>,
    config: &StreamsConfig,
) -> Result<HttpResponse> {
    let page = reader.next(config.long_poll_timeout).await?;
    let cursor = next_cursor(cursor.as_deref(), &page);
    Ok(if page.is_empty { answer::nothing(&page, cursor) } else { answer::page(page, Some(cursor), None) })
}

/// The response begins once there is something to say about the stream; what goes wrong later ends it, and the reader that
/// comes back has it as a status.
pub(super) async fn events(
    mut reader: StreamReader,
    cursor: Option<String>,
    services: &Services,
    session: &Session,
) -> Result<HttpResponse> {
    let page = reader.page().await?;
    let mut life = services.config.streams.sse_lifetime;
    if let Some(ends_s) = session.ends_s() {
        let left_us = ends_s.saturating_mul(1_000_000) - page.read_at_us;
        life = life.min(Duration::from_micros(u64::try_from(left_us).unwrap_or(0)));
    }
    let mut response = HttpResponse::Ok();
    response
        .content_type("text/event-stream")
        .insert_header((CACHE_CONTROL, "no-cache, no-store, no-transform"))
        .insert_header((HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no")));
    if !content_type::is_text(&page.content_type) {
        response.insert_header(("stream-sse-data-encoding", "base64"));
    }
    let telling = Telling { reader, cursor, first: Some(page), ends: rt::time::Instant::now() + life };
    Ok(answer::secured(response.streaming(told(telling))))
}

/// A reader that is told one page after the other, as its connection takes them.
struct Telling {
    reader: StreamReader,
    cursor: Option<String>,
    first: Option<StreamPage>,
    ends: rt::time::Instant,
}

fn told(telling: Telling) -> impl Stream<Item = Result<Bytes, Infallible>> {
    stream::unfold(Some(telling), |telling| async move {
        let mut telling = telling?;
        let is_first = telling.first.is_some();
        let page = match telling.first.take() {
            Some(page) => page,
            None => {
                let left = telling.ends.saturating_duration_since(rt::time::Instant::now());
                if left.is_zero() {
                    return None;
                }
                telling.reader.next(left.min(HEARTBEAT)).await.ok()?
            }
        };
        let mut out = BytesMut::new();
        if !page.is_empty {
            write_data(&mut out, &page.content_type, &page.body);
        }
        if is_first || !page.is_empty || page.ended {
            let cursor = next_cursor(telling.cursor.as_deref(), &page);
            let control = Control { next: page.next, cursor, up_to_date: page.up_to_date, closed: page.ended };
            write_control(&mut out, control);
        } else {
            out.extend_from_slice(b": heartbeat\n\n");
        }
        Some((Ok(out.freeze()), (!page.ended).then_some(telling)))
    })
}

fn next_cursor(given: Option<&str>, page: &StreamPage) -> u64 {
    // Without randomness readers only come back closer together.
    cursor::next(given, page.read_at_us, getrandom::u64().unwrap_or(0))
}
