//! What a page of another site can do with a browser that is logged in here.

use serde_json::json;

use super::Target;
use crate::server::PASSWORD;
use crate::socket::{Message, Socket};

/// Proves that a socket is never authenticated by a cookie, whatever page opens it: without a token it is told nothing and
/// is closed.
#[test]
fn a_cookie_opens_no_socket() {
    let target = Target::new(&["websocket.auth_timeout=200ms"]);
    let login = target.server.client().post("/v1/api/auth/login", &json!({ "user": "alice", "password": PASSWORD }));
    let cookies: Vec<&str> = login.headers_named("set-cookie").iter().filter_map(|c| c.split(';').next()).collect();
    let cookie = cookies.join("; ");
    assert!(cookie.contains("inboxdb_auth="));
    let headers = [("Cookie", cookie.as_str()), ("Origin", "https://evil.example")];
    let mut socket = Socket::try_open(target.server.address, "/v1/ws", &headers).unwrap();
    socket.subscribe("s", "SELECT * FROM t.mail", json!({}));
    let mut told = Vec::new();
    loop {
        match socket.try_message() {
            Ok(Message::Close(code, _)) => {
                assert_eq!(code, 1008);
                break;
            }
            Ok(Message::Text(text)) => told.push(text),
            other => panic!("{other:?}"),
        }
    }
    for text in told {
        assert!(text.contains("AUTH_REQUIRED") || text.contains("auth_error"), "{text}");
    }
}

/// Proves that pages of origins that are not named get no socket, even with a token, where origins are named.
#[test]
fn pages_of_other_origins_get_no_socket() {
    let target =
        Target::new(&["security.cors.allowed_origins=https://app.example", "security.strict_ws_origin_check=true"]);
    let token = format!("Bearer {}", target.alice.token());
    let open = |origin: Option<&str>| {
        let mut headers = vec![("Authorization", token.as_str())];
        headers.extend(origin.map(|origin| ("Origin", origin)));
        Socket::try_open(target.server.address, "/v1/ws", &headers).map(drop).map_err(|refused| refused.status)
    };
    for origin in [
        "https://evil.example",
        "https://app.example.evil.example",
        "http://app.example",
        "null",
        "https://APP.example@evil",
    ] {
        assert_eq!(open(Some(origin)), Err(403), "{origin}");
    }
    assert_eq!(open(None), Err(403));
    assert_eq!(open(Some("https://app.example")), Ok(()));
}

/// Proves that browsers are told not to let such pages read answers, nor to frame, guess or leak what is here.
#[test]
fn browsers_are_told_what_they_need() {
    let target = Target::new(&["security.cors.allowed_origins=https://app.example"]);
    let mut client = target.server.client();
    for path in ["/health", "/v1/api/auth/me", "/none", "/examples/chat"] {
        let answer = client.get(path);
        for (name, value) in
            [("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"), ("referrer-policy", "no-referrer")]
        {
            assert_eq!(answer.headers_named(name), [value], "{path}");
        }
        assert_eq!(answer.headers_named("content-security-policy").len(), 1, "{path}");
        assert_eq!(answer.header("strict-transport-security"), None, "in clear text that would lock people out");
    }
    let preflight = |origin: &str| {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
        let answer = target.server.client().request("OPTIONS /v1/api/sql", &headers, b"").unwrap();
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    assert_eq!(preflight("https://evil.example"), None);
    assert_eq!(preflight("https://app.example").as_deref(), Some("https://app.example"));
}
