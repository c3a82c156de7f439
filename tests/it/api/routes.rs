//! Paths, methods, health.

use serde_json::json;

use super::World;
use crate::server::Server;

#[test]
fn health_answers_anyone_and_readiness_says_ready() {
    let server = Server::start(&[]);
    let mut client = server.client();
    for path in ["/health", "/v1/api/healthcheck"] {
        let response = client.get(path);
        assert_eq!(response.status, 200);
        let body = response.json();
        assert_eq!((&body["status"], &body["api_version"]), (&json!("healthy"), &json!("v1")));
        assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    }
    for path in ["/healthz", "/readyz"] {
        assert_eq!(client.get(path).status, 200, "{path}");
    }
}

#[test]
fn what_is_not_there_is_said_and_where_it_is_instead() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let cases: &[(&str, u16, &str)] = &[
        ("GET /", 404, "/v1/api/sql"),
        ("POST /v1/api/query", 404, "POST /v1/api/sql"),
        ("GET /ws", 404, "/v1/ws"),
        ("GET /v1/api/nothing", 404, "the paths are"),
        ("GET /v1/api/../../etc/passwd", 404, "the paths are"),
        ("GET /%2e%2e/%2e%2e/etc/passwd", 404, "the paths are"),
        ("GET /v1/api/sql", 405, "use POST"),
        ("DELETE /v1/api/sql", 405, "use POST"),
        ("POST /health", 405, "use GET"),
        ("GET /v1/api/auth/login", 405, "use POST"),
    ];
    for (head, status, text) in cases {
        let response = client.request(head, &[], b"").unwrap();
        assert_eq!(response.status, *status, "{head}: {}", response.body);
        let message = response.json()["message"].as_str().unwrap().to_owned();
        assert!(message.contains(text), "{head}: {message}");
    }
}

#[test]
fn nonsense_on_the_wire_ends_that_connection_only() {
    let server = Server::start(&[]);
    for bytes in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        b"\r\n\r\n\r\n\0\0\0\0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\nnot a settings frame",
    ] {
        // An answer or a closed connection; both are right.
        if let Ok(response) = server.client().exchange(bytes) {
            assert!((400..500).contains(&response.status), "{response:?}");
        }
        assert_eq!(server.client().get("/health").status, 200);
    }
    let many_headers: String = (0..2_000).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let _ = server.client().exchange(format!("GET /health HTTP/1.1\r\nHost: x\r\n{many_headers}\r\n").as_bytes());
    assert_eq!(server.client().get("/health").status, 200);
}

#[test]
fn a_browser_of_any_origin_may_call_and_of_others_only_where_configured() {
    let preflight = |server: &Server, origin: &str| {
        let headers = [
            ("Origin", origin),
            ("Access-Control-Request-Method", "POST"),
            ("Access-Control-Request-Headers", "authorization,content-type"),
        ];
        server.client().request("OPTIONS /v1/api/sql", &headers, b"").unwrap()
    };
    let open = Server::start(&[]);
    assert_eq!(preflight(&open, "https://app.example.org").status, 200);
    let closed = Server::start(&["security.cors.allowed_origins=[\"https://app.example.org\"]"]);
    let allowed = preflight(&closed, "https://app.example.org");
    assert_eq!(allowed.header("access-control-allow-origin"), Some("https://app.example.org"));
    assert_eq!(preflight(&closed, "https://evil.example.org").header("access-control-allow-origin"), None);
}

#[test]
fn an_idle_connection_stays_usable_after_every_kind_of_answer() {
    let mut world = World::new(&[]);
    let mut client = world.alice.again();
    for _ in 0..3 {
        assert_eq!(client.rows("SELECT COUNT(*) FROM w.mail"), json!([["2"]]));
        assert_eq!(client.refused("SELECT * FROM w.nothing").status, 400);
        assert_eq!(client.post_text("/v1/api/sql", "{").status, 400);
        assert_eq!(client.get("/nothing").status, 404);
    }
    assert_eq!(world.admin.rows("SELECT 1"), json!([["1"]]));
}
