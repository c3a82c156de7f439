//! Who calls, as the network tells: the client's address, and protection from those who call too much.
//!
//! Owns the address rule (proxies), the request rate, bans and connection counts per address (protocol §1). Loopback is
//! exempt from all but the body's size.
//! Never knows users: rights and per-user rates are auth's.
//! Start at [`protect`].

mod body_deadline;
mod gate;
pub(crate) mod presence;

use std::any::Any;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd as _;

use actix_tls::accept::rustls_0_23::TlsStream;
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Extensions, ServiceRequest, ServiceResponse};
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::middleware::Next;
use actix_web::rt::net::TcpStream;
use actix_web::{Error as HttpError, HttpMessage as _, HttpRequest, HttpResponse, web};
use serde::Serialize;

use body_deadline::BodyDeadline;
pub use gate::Gate;
use gate::{ConnectionTicket, Verdict};
use presence::ConnectionSocket;

use crate::config::IpRange;

/// The client's address: the peer's, or what a trusted proxy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientIp(pub IpAddr);

impl ClientIp {
    /// Of a request that passed [`protect`]; of any other, its peer's address. `None`: the socket has just closed.
    pub fn of(request: &HttpRequest) -> Option<IpAddr> {
        let noted = request.extensions().get::<ClientIp>().map(|client| client.0);
        noted.or_else(|| request.peer_addr().map(|peer| peer.ip().to_canonical()))
    }

    /// Does the request come from this machine? Without an address nobody knows: then it does not.
    pub fn is_loopback(request: &HttpRequest) -> bool {
        Self::of(request).is_some_and(|address| address.is_loopback())
    }
}

/// The rule: the first hop of `X-Forwarded-For`, else `X-Real-IP`, where the peer is loopback or a trusted proxy; a
/// loopback value there is a lie.
fn client_ip(peer: IpAddr, headers: &HeaderMap, trusted: &[IpRange]) -> IpAddr {
    let peer = peer.to_canonical();
    if !peer.is_loopback() && !trusted.iter().any(|range| range.contains(peer)) {
        return peer;
    }
    let named = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let forwarded = named("x-forwarded-for").and_then(|hops| hops.split(',').next());
    let given = forwarded.or_else(|| named("x-real-ip"));
    let address = given.and_then(|text| text.trim().parse::<IpAddr>().ok()).map(|ip| ip.to_canonical());
    address.filter(|address| !address.is_loopback()).unwrap_or(peer)
}

/// For `HttpServer::on_connect`: counts the connection to its peer until it closes.
pub fn count_connection(gate: &Gate, connection: &dyn Any, extensions: &mut Extensions) {
    if let Some(stream) = tcp_of(connection)
        && let Ok(peer) = stream.peer_addr()
    {
        extensions.insert(gate.connected(peer.ip().to_canonical()));
        extensions.insert(ConnectionSocket(stream.as_raw_fd()));
    }
}

/// The TCP stream of a connection, with or without TLS around it.
pub(crate) fn tcp_of(connection: &dyn Any) -> Option<&TcpStream> {
    let under_tls = || connection.downcast_ref::<TlsStream<TcpStream>>().map(|tls| tls.get_ref().0);
    connection.downcast_ref::<TcpStream>().or_else(under_tls)
}

/// Notes who calls, refuses what is too much.
///
/// # Errors
/// Those of the inner services.
pub async fn protect(
    gate: web::Data<Gate>,
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, HttpError> {
    let peer = request.peer_addr().map(|peer: SocketAddr| peer.ip());
    let client = peer.map(|peer| client_ip(peer, request.headers(), gate.trusted()));
    if let Some(client) = client {
        request.extensions_mut().insert(ClientIp(client));
    }
    let refused = body_too_large(&gate, request.headers()).or_else(|| {
        let ticket = request.conn_data::<ConnectionTicket>();
        client.and_then(|client| refusal(gate.admit(client, ticket)))
    });
    let mut response = match refused {
        Some(refused) => request.into_response(refused),
        None => {
            let deadline = BodyDeadline::hold(&mut request, gate.body_timeout());
            let response = next.call(request).await?.map_into_boxed_body();
            match deadline.refusal() {
                Some(late) => response.into_response(late),
                None => response,
            }
        }
    };
    harden(response.headers_mut(), gate.is_tls());
    Ok(response)
}

/// What browsers are told of every answer: to guess no type, to show it in nobody's frame, and where the server speaks TLS,
/// to come by TLS from now on. What a page has set for itself stays.
fn harden(headers: &mut HeaderMap, tls: bool) {
    let mut put = |name: HeaderName, value: &'static str| {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    };
    put(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    put(header::X_FRAME_OPTIONS, "DENY");
    put(header::REFERRER_POLICY, "no-referrer");
    put(header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'");
    if tls {
        put(header::STRICT_TRANSPORT_SECURITY, "max-age=31536000");
    }
}

/// Bodies without a length are cut off by the extractor, at the same size.
fn body_too_large(gate: &Gate, headers: &HeaderMap) -> Option<HttpResponse> {
    let length: u64 = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()?;
    (length > gate.body_limit()).then(|| too_large(Some(length), gate.body_limit()))
}

/// 413, with the sizes.
pub(crate) fn too_large(size_bytes: Option<u64>, max_bytes: u64) -> HttpResponse {
    #[derive(Serialize)]
    struct Body {
        error: &'static str,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        size_bytes: Option<u64>,
        max_bytes: u64,
    }
    let message = format!("Request body exceeds {max_bytes} bytes");
    HttpResponse::PayloadTooLarge().force_close().json(Body { error: "BODY_TOO_LARGE", message, size_bytes, max_bytes })
}

fn refusal(verdict: Verdict) -> Option<HttpResponse> {
    #[derive(Serialize)]
    struct RateBody {
        error: &'static str,
        message: &'static str,
        retry_after_seconds: u64,
    }
    #[derive(Serialize)]
    struct ConnectionsBody {
        error: &'static str,
        message: &'static str,
        current: u32,
        max: u32,
    }
    let rate = |error, message, seconds: u64| {
        HttpResponse::TooManyRequests()
            .insert_header((header::RETRY_AFTER, HeaderValue::from(seconds)))
            .insert_header(("x-ratelimit-reset", HeaderValue::from(seconds)))
            .json(RateBody { error, message, retry_after_seconds: seconds })
    };
    match verdict {
        Verdict::Admitted => None,
        Verdict::TooFast => Some(rate("RATE_LIMIT_EXCEEDED", "Too many requests from this address. Slow down.", 1)),
        Verdict::Banned { seconds } => {
            Some(rate("IP_BANNED", "This address has broken the request limit too often.", seconds))
        }
        Verdict::TooManyConnections { current, max } => {
            let body = ConnectionsBody {
                error: "TOO_MANY_CONNECTIONS",
                message: "Too many connections from this address.",
                current,
                max,
            };
            Some(HttpResponse::build(StatusCode::SERVICE_UNAVAILABLE).force_close().json(body))
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderName;

    use super::*;

    #[test]
    fn a_proxy_is_believed_only_where_it_is_trusted() {
        let trusted: Vec<IpRange> = vec!["10.0.0.0/8".parse().unwrap()];
        type Case = (&'static str, &'static [(&'static str, &'static str)], &'static str);
        let cases: &[Case] = &[
            ("1.2.3.4", &[("x-forwarded-for", "9.9.9.9")], "1.2.3.4"),
            ("10.1.1.1", &[("x-forwarded-for", "9.9.9.9, 10.2.2.2")], "9.9.9.9"),
            ("127.0.0.1", &[("x-forwarded-for", "9.9.9.9")], "9.9.9.9"),
            ("127.0.0.1", &[("x-real-ip", "8.8.8.8")], "8.8.8.8"),
            ("127.0.0.1", &[("x-forwarded-for", "9.9.9.9"), ("x-real-ip", "8.8.8.8")], "9.9.9.9"),
            ("10.1.1.1", &[("x-forwarded-for", "127.0.0.1")], "10.1.1.1"),
            ("10.1.1.1", &[("x-forwarded-for", "::1")], "10.1.1.1"),
            ("10.1.1.1", &[("x-forwarded-for", "::ffff:127.0.0.1")], "10.1.1.1"),
            ("10.1.1.1", &[("x-forwarded-for", "nonsense")], "10.1.1.1"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("::ffff:127.0.0.1", &[], "127.0.0.1"),
        ];
        for (peer, given, expected) in cases {
            let mut headers = HeaderMap::new();
            for (name, value) in *given {
                headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let got = client_ip(peer.parse().unwrap(), &headers, &trusted);
            assert_eq!(got, expected.parse::<IpAddr>().unwrap(), "{peer} {given:?}");
        }
    }
}
