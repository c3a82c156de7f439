//! `GET /v1/live`: one live query as server-sent events.
//!
//! Owns what the request may say, and that whatever refuses it has a status of its own: the response begins once the
//! subscription stands.
//! Never decides what a subscriber is told: the session is the WebSocket's, with another peer.

use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::{Data, Query};
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use super::client::ClientIp;
use super::ws::LiveEndpoint;
use super::ws::session::spawn_events;
use super::{caller, events, get, problem};
use crate::auth::Authenticator;
use crate::config::Config;
use crate::error::{Error, Result, SubscriptionFault};
use crate::live::Outbox;
use crate::live::Position;
use crate::live::frames::{SubscribeOptions, SubscribeRequest};
use crate::model::Seq;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const MAX_ID_BYTES: usize = 256;

/// The route. Needs `web::Data` of [`LiveEndpoint`], [`Config`] and [`Authenticator`].
pub(super) fn configure(routes: &mut web::ServiceConfig) {
    routes.service(get("/v1/live", web::get().to(subscribe)));
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct LiveParams {
    sql: String,
    /// What the subscription is called in `system.live` and in its events.
    #[serde(default = "unnamed")]
    id: String,
    batch_size: Option<u32>,
    last_rows: Option<u32>,
    from: Option<i64>,
}

fn unnamed() -> String {
    "live".to_owned()
}

async fn subscribe(
    request: HttpRequest,
    endpoint: Data<LiveEndpoint>,
    config: Data<Config>,
    authenticator: Data<Authenticator>,
) -> HttpResponse {
    match begin(&request, endpoint, &config, &authenticator).await {
        Ok(body) => body.respond(&mut HttpResponse::Ok()),
        Err(error) => problem::coded(&error),
    }
}

async fn begin(
    request: &HttpRequest,
    endpoint: Data<LiveEndpoint>,
    config: &Config,
    authenticator: &Authenticator,
) -> Result<events::EventBody> {
    let peer = ClientIp::of(request);
    let login = endpoint.database.authenticate(&caller::token(request, config)?, peer).await?;
    authenticator.admit_request(&login.principal)?;
    let params = subscribe_request(request.query_string(), request.headers().get(LAST_EVENT_ID))?;

    let outbox = Outbox::new(endpoint.limits.outbox);
    let connection = endpoint.directory.connect(peer, "sse", outbox, endpoint.clock.now_us())?;
    let (writer, body) = events::pipe();
    let started = spawn_events(endpoint.into_inner(), writer, (connection, login), params);
    // No answer: the session ended before its subscription stood.
    started.await.unwrap_or(Err(Error::Aborted))?;
    Ok(body)
}

/// What is asked for. A client that comes back says in its header where it stands: that counts, not the position that
/// its address began with.
fn subscribe_request(query: &str, last_event: Option<&HeaderValue>) -> Result<SubscribeRequest> {
    let params = Query::<LiveParams>::from_query(query).map_err(|fault| {
        Error::InvalidInput(format!("{fault}; GET /v1/live takes sql, id, from, batch_size and last_rows"))
    })?;
    let LiveParams { sql, id, batch_size, last_rows, from } = params.into_inner();
    if id.trim().is_empty() || id.len() > MAX_ID_BYTES {
        return Err(SubscriptionFault::InvalidId.into());
    }
    let last_event = last_event.map(|value| value.to_str().unwrap_or("?").trim()).filter(|text| !text.is_empty());
    let from = match last_event {
        Some(text) => Some(text.parse::<i64>().map_err(|_| position(text))?),
        None => from,
    };
    let from = from.map(|raw| Seq::new(raw).ok_or_else(|| position(&raw.to_string()))).transpose()?;
    let from = from.map(Position::Seq);
    let options = SubscribeOptions { batch_size, last_rows, from, ..SubscribeOptions::default() };
    Ok(SubscribeRequest { id, sql, options: Some(options) })
}

fn position(text: &str) -> Error {
    Error::InvalidInput(format!("'{text}' is no position: send the id of the last event"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &str, last_event: Option<&'static str>) -> Result<SubscribeRequest, String> {
        let header = last_event.map(HeaderValue::from_static);
        subscribe_request(query, header.as_ref()).map_err(|error| error.to_string())
    }

    #[test]
    fn the_address_and_the_header_say_what_is_asked() {
        let ask = |id: &str, from: Option<i64>, batch_size, last_rows| SubscribeRequest {
            id: id.into(),
            sql: "SELECT 1".into(),
            options: Some(SubscribeOptions {
                batch_size,
                last_rows,
                from: from.map(|raw| Position::Seq(Seq::new(raw).unwrap())),
                ..SubscribeOptions::default()
            }),
        };
        let sql = "sql=SELECT%201";
        assert_eq!(read(sql, None), Ok(ask("live", None, None, None)));
        let all = format!("{sql}&id=tab+1&batch_size=5&last_rows=3&from=7");
        assert_eq!(read(&all, None), Ok(ask("tab 1", Some(7), Some(5), Some(3))));
        assert_eq!(read(&all, Some("9")), Ok(ask("tab 1", Some(9), Some(5), Some(3))), "the header counts");
        assert_eq!(read(sql, Some("")), Ok(ask("live", None, None, None)));
        for (query, last_event, fault) in [
            ("", None, "missing field `sql`"),
            ("sql=a&token=b", None, "unknown field `token`"),
            ("sql=a&from=x", None, "invalid digit"),
            ("sql=a&from=-1", None, "'-1' is no position"),
            ("sql=a", Some("x"), "'x' is no position"),
            ("sql=a&id=", None, "must not be empty"),
        ] {
            let refused = read(query, last_event).unwrap_err();
            assert!(refused.contains(fault), "{query} {last_event:?}: {refused}");
        }
    }
}
