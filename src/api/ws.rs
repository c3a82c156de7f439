//! `GET /v1/ws`: from an HTTP request to a session (protocol §7.1).
//!
//! Owns what an upgrade may ask for, and who may ask: origins, a token in the header, a server that stops.
//! Never speaks the session's protocol: that is the session actor's, in `ws/session.rs`.

mod admission;
mod frame_guard;
pub(super) mod session;

use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{AUTHORIZATION, HeaderMap, ORIGIN};
use actix_web::{FromRequest as _, HttpRequest, HttpResponse, dev, web};
use serde::Deserialize;

pub use admission::Admission;
pub use session::LiveEndpoint;

use self::session::Hello;
use super::client::ClientIp;
use super::problem;
use crate::config::{Config, SecurityConfig};
use crate::live::Outbox;
use crate::live::database::LiveLogin;
use crate::live::frames::{Compression, Protocol, Serialization};
use frame_guard::GuardedFrames;

/// The route of live queries. Needs `web::Data<LiveEndpoint>` and `web::Data<Config>`.
pub fn configure(routes: &mut web::ServiceConfig) {
    routes.service(super::get("/v1/ws", web::get().to(upgrade)));
}

/// Fields that are left out or not understood mean the default.
#[derive(Debug, Default, Deserialize)]
struct UpgradeQuery {
    compress: Option<String>,
    serialization: Option<String>,
    compression: Option<String>,
}

impl UpgradeQuery {
    fn compress(&self) -> bool {
        self.compress.as_deref() != Some("false")
    }

    fn protocol(&self) -> Protocol {
        Protocol {
            serialization: match self.serialization.as_deref() {
                Some("msgpack" | "messagepack") => Serialization::MsgPack,
                _ => Serialization::Json,
            },
            compression: match self.compression.as_deref() {
                Some("none") => Compression::None,
                _ => Compression::Gzip,
            },
        }
    }
}

async fn upgrade(
    request: HttpRequest,
    body: web::Payload,
    query: Option<web::Query<UpgradeQuery>>,
    endpoint: web::Data<LiveEndpoint>,
    config: web::Data<Config>,
) -> Result<HttpResponse, actix_web::Error> {
    let endpoint = endpoint.into_inner();
    let query = query.map(web::Query::into_inner).unwrap_or_default();
    if endpoint.directory.is_shutting_down() {
        return Ok(shutting_down());
    }
    if let Err(refused) = check_origin(&config.security, request.headers()) {
        return Ok(problem::plain(StatusCode::FORBIDDEN, "FORBIDDEN", refused.to_owned()));
    }
    let peer = ClientIp::of(&request);
    let login = match header_login(&endpoint, &request).await {
        Ok(login) => login,
        Err(refused) => return Ok(refused),
    };
    let outbox = Outbox::within(endpoint.limits.outbox, endpoint.directory.budget());
    let Ok(connection) = endpoint.directory.connect(peer, "websocket", outbox, endpoint.clock.now_us()) else {
        return Ok(shutting_down());
    };

    // Room for a message that is too long to be taken, but not too long to be answered.
    let max_frame = endpoint.limits.max_message_bytes.saturating_mul(2);
    let guarded = GuardedFrames::new(body.into_inner(), max_frame);
    let body = web::Payload::from_request(&request, &mut dev::Payload::Stream { payload: Box::pin(guarded) }).await?;
    let (response, socket, messages) = actix_ws::handle(&request, body)?;
    let messages = messages.max_frame_size(max_frame).aggregate_continuations().max_continuation_size(max_frame);
    let login = login.map(|login| (login, query.protocol()));
    session::spawn(endpoint, socket, messages, Hello { connection, compress: query.compress(), login });
    Ok(response)
}

/// Who the request says it comes from; `None`: the first message will say.
async fn header_login(endpoint: &Arc<LiveEndpoint>, request: &HttpRequest) -> Result<Option<LiveLogin>, HttpResponse> {
    let Some(header) = request.headers().get(AUTHORIZATION) else { return Ok(None) };
    let invalid = || problem::plain(StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS", "Invalid token".to_owned());
    let (scheme, token) = header.to_str().ok().and_then(|text| text.trim().split_once(' ')).ok_or_else(invalid)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(invalid());
    }
    let login = endpoint.database.authenticate(token.trim(), ClientIp::of(request)).await;
    login.map(Some).map_err(|error| {
        let code = error.code();
        let status = StatusCode::from_u16(code.http_status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let message = if status == StatusCode::UNAUTHORIZED { "Invalid token".to_owned() } else { error.to_string() };
        problem::plain(status, code.wire(), message)
    })
}

fn check_origin(security: &SecurityConfig, headers: &HeaderMap) -> Result<(), &'static str> {
    let allowed = &security.cors.allowed_origins;
    if allowed.is_empty() || allowed.iter().any(|origin| origin == "*") {
        return Ok(());
    }
    match headers.get(ORIGIN) {
        // Only browsers send one; what is no browser is not misled by a web page.
        None if security.strict_ws_origin_check => Err("Origin header required"),
        None => Ok(()),
        Some(origin) if allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) => Ok(()),
        Some(_) => Err("Origin not allowed"),
    }
}

fn shutting_down() -> HttpResponse {
    problem::plain(StatusCode::SERVICE_UNAVAILABLE, "SHUTTING_DOWN", "Server is shutting down".to_owned())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    #[test]
    fn origins_are_checked_where_some_are_named() {
        let check = |allowed: &[&str], strict, origin: Option<&str>| {
            let mut security = SecurityConfig { strict_ws_origin_check: strict, ..SecurityConfig::default() };
            security.cors.allowed_origins = allowed.iter().map(|origin| (*origin).to_owned()).collect();
            let mut headers = HeaderMap::new();
            if let Some(origin) = origin {
                headers.insert(ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            check_origin(&security, &headers)
        };
        assert_eq!(check(&[], true, Some("https://x")), Ok(()));
        assert_eq!(check(&["*"], true, None), Ok(()));
        assert_eq!(check(&["https://a"], false, Some("https://a")), Ok(()));
        assert_eq!(check(&["https://a"], false, Some("https://b")), Err("Origin not allowed"));
        assert_eq!(check(&["https://a"], false, None), Ok(()));
        assert_eq!(check(&["https://a"], true, None), Err("Origin header required"));
    }

    #[test]
    fn the_query_says_how_to_speak() {
        let query = |text: &str| web::Query::<UpgradeQuery>::from_query(text).unwrap().into_inner();
        assert!(query("").compress());
        assert!(query("compress=yes").compress());
        assert!(!query("compress=false").compress());
        assert_eq!(query("").protocol(), Protocol::default());
        let packed = query("serialization=msgpack&compression=none&other=1").protocol();
        assert_eq!(packed, Protocol { serialization: Serialization::MsgPack, compression: Compression::None });
    }
}
