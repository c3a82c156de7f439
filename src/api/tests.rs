//! The routes over a real database in a temporary folder: what a caller of HTTP sees.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use actix_web::body::MessageBody;
use actix_web::dev::{Service, ServiceResponse};
use actix_web::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use actix_web::middleware::from_fn;
use actix_web::test::{self, TestRequest};
use actix_web::web::Data;
use actix_web::{App, http::header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytesize::ByteSize;
use serde_json::{Value, json};

use super::client::{Gate, protect};
use super::health::ServerStatus;
use super::*;
use crate::actors::Fatal;
use crate::auth::NewUser;
use crate::auth::testing::{PASSWORD, config as auth_config, root};
use crate::config::Secret;
use crate::database::{Database, DatabaseOptions};
use crate::model::{Role, UserId};
use crate::time::Clock;

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);
const STRANGER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7));

/// A server without sockets.
struct Site {
    database: Arc<Database>,
    config: Config,
    gate: Data<Gate>,
    status: Data<ServerStatus>,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: u16,
    headers: header::HeaderMap,
    text: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Site {
    async fn open(change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { auth: auth_config(), ..Config::default() };
        change(&mut config);
        let options = DatabaseOptions { auth: config.auth.clone(), ..DatabaseOptions::at(folder.path()) };
        let fatal = Fatal::new(|reason| panic!("{reason}"));
        let database = Database::open(options, Clock::system(), fatal).await.unwrap();
        for (name, role) in [("alice", Role::User), ("boss", Role::Dba)] {
            let user = UserId::parse(name).unwrap();
            let new =
                NewUser { user, role, password: Some(Secret::new(PASSWORD)), email: None, storage: Default::default() };
            database.auth().create_user(&root(), new).await.unwrap();
        }
        let (gate, status) = (Data::new(Gate::new(&config)), Data::new(ServerStatus::ready()));
        Self { database, config, gate, status, _folder: folder }
    }

    async fn send_from(&self, peer: IpAddr, request: TestRequest) -> Answer {
        let app = App::new()
            .app_data(Data::new(self.config.clone()))
            .app_data(self.gate.clone())
            .app_data(self.status.clone())
            .app_data(Data::from(self.database.clone()))
            .app_data(Data::from(self.database.auth().clone()))
            .app_data(Data::from(self.database.metrics().clone()))
            .wrap(cors(&self.config.security.cors))
            .wrap(from_fn(protect))
            .wrap(from_fn(observe::observe))
            .configure(configure(&self.config));
        let app = test::init_service(app).await;
        let request = request.peer_addr(SocketAddr::new(peer, 4321)).to_request();
        let response: ServiceResponse<_> = app.call(request).await.unwrap();
        read(response).await
    }

    async fn send(&self, request: TestRequest) -> Answer {
        self.send_from(LOOPBACK, request).await
    }

    async fn sql(&self, user: &str, body: Value) -> Answer {
        self.send(as_user(user, TestRequest::post().uri("/v1/api/sql")).set_payload(body.to_string())).await
    }
}

async fn read<B: MessageBody>(response: ServiceResponse<B>) -> Answer {
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = String::from_utf8(test::read_body(response).await.to_vec()).unwrap();
    Answer { status, headers, text }
}

fn as_user(user: &str, request: TestRequest) -> TestRequest {
    let credentials = BASE64.encode(format!("{user}:{PASSWORD}"));
    request.insert_header((AUTHORIZATION, format!("Basic {credentials}")))
}

#[actix::test]
async fn a_session_of_statements() {
    let site = Site::open(|_| {}).await;
    let create = "CREATE TABLE demo.notes (id BIGINT PRIMARY KEY, body TEXT NOT NULL) WITH (TYPE='USER')";
    for sql in ["CREATE NAMESPACE demo", create] {
        let answer = site.sql("boss", json!({ "sql": sql })).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
    let insert = json!({"sql":"INSERT INTO notes VALUES ($1,$2)","params":[1,"first"],"namespace_id":"demo"});
    let answer = site.sql("alice", insert).await.json();
    assert_eq!(answer["results"], json!([{"row_count":1,"message":"Inserted 1 row(s)","as_user":"alice"}]));
    let answer = site.sql("alice", json!({"sql":"SELECT id, body FROM demo.notes"})).await.json();
    assert_eq!(answer["results"][0]["rows"], json!([["1", "first"]]));
    assert_eq!((&answer["status"], &answer["error"]), (&json!("success"), &Value::Null));
    let other = site.sql("boss", json!({"sql":"SELECT id, body FROM demo.notes"})).await.json();
    assert_eq!(other["results"][0]["row_count"], 0, "another mailbox");
}

#[actix::test]
async fn errors_have_code_status_and_shape() {
    let site = Site::open(|_| {}).await;
    let cases = [
        ("alice", json!({"sql":"SELECT 1 FROM"}), 400, "INVALID_SQL"),
        ("alice", json!({"sql":"SELECT * FROM nowhere.t"}), 400, "TABLE_NOT_FOUND"),
        ("alice", json!({"sql":""}), 400, "EMPTY_SQL"),
        ("alice", json!({"sql":"SELECT 1","params":[[1]]}), 400, "INVALID_PARAMETER"),
        ("alice", json!([1]), 400, "INVALID_INPUT"),
        ("alice", json!({"sql":"CREATE NAMESPACE mine"}), 403, "PERMISSION_DENIED"),
        ("nobody", json!({"sql":"SELECT 1"}), 401, "INVALID_CREDENTIALS"),
    ];
    for (user, body, status, code) in cases {
        let answer = site.sql(user, body.clone()).await;
        let json = answer.json();
        assert_eq!((answer.status, &json["error"]["code"]), (status, &json!(code)), "{body}: {}", answer.text);
        assert_eq!((&json["status"], &json["results"]), (&json!("error"), &json!([])), "{body}");
        assert!(json["error"]["sqlstate"].as_str().is_some_and(|state| state.len() == 5), "{body}");
        assert!(json["error"].get("details").is_none(), "only administrators see the statement");
    }
    let json = site.sql("boss", json!({"sql":"SELECT 1 FROM"})).await.json();
    assert_eq!(json["error"]["details"], "SELECT 1 FROM");
}

#[actix::test]
async fn bodies_that_are_no_request_are_told_so() {
    let site = Site::open(|config| config.server.request_body_limit = ByteSize::kib(4)).await;
    let post = || as_user("alice", TestRequest::post().uri("/v1/api/sql"));
    let broken = site.send(post().set_payload("SELECT 1")).await;
    assert!(broken.text.contains("Invalid JSON payload: expected value at line 1 column 1"), "{}", broken.text);
    let upload = post().insert_header((CONTENT_TYPE, "multipart/form-data; boundary=B")).set_payload("--B");
    let upload = site.send(upload).await;
    assert!(upload.status == 400 && upload.text.contains("not supported"), "{}", upload.text);
    let said = site.send(post().insert_header((CONTENT_LENGTH, "5000"))).await;
    let limits = |answer: &Answer| (answer.status, answer.json()["error"].clone(), answer.json()["max_bytes"].clone());
    assert_eq!(limits(&said), (413, json!("BODY_TOO_LARGE"), json!(4096)));
    assert_eq!(said.json()["size_bytes"], 5000);
    let unsaid = site.send(post().set_payload(vec![b' '; 5000])).await;
    assert_eq!(limits(&unsaid), (413, json!("BODY_TOO_LARGE"), json!(4096)));
}

#[actix::test]
async fn unknown_paths_and_methods_get_help() {
    let site = Site::open(|_| {}).await;
    let wrong_path = site.send(TestRequest::post().uri("/v1/api/query")).await;
    assert_eq!(wrong_path.status, 404);
    assert!(wrong_path.text.contains("POST /v1/api/sql"), "{}", wrong_path.text);
    let wrong_method = site.send(TestRequest::get().uri("/v1/api/sql")).await;
    assert_eq!((wrong_method.status, wrong_method.header("allow")), (405, "POST"));
    let wrong_method = site.send(TestRequest::get().uri("/v1/api/auth/login")).await;
    assert_eq!((wrong_method.status, wrong_method.header("allow")), (405, "POST"));
}

#[actix::test]
async fn health_tells_strangers_little() {
    let site = Site::open(|_| {}).await;
    let keys = |answer: &Answer| answer.json().as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for path in ["/health", "/v1/api/healthcheck"] {
        let stranger = site.send_from(STRANGER, TestRequest::get().uri(path)).await;
        assert_eq!(
            (stranger.status, keys(&stranger)),
            (200, vec!["api_version".into(), "status".into(), "version".into()])
        );
        assert!(site.send(TestRequest::get().uri(path)).await.text.contains("uptime_seconds"));
    }
    assert_eq!(site.send(TestRequest::get().uri("/readyz")).await.status, 200);
    site.status.stop();
    assert_eq!(site.send(TestRequest::get().uri("/readyz")).await.status, 503);
    assert_eq!(site.send(TestRequest::get().uri("/healthz")).await.status, 200);
}

#[actix::test]
async fn strangers_are_held_to_a_rate_and_this_machine_is_not() {
    let site = Site::open(|config| config.server.max_requests_per_ip_per_sec = 2).await;
    let mut seen = Vec::new();
    for _ in 0..20 {
        let answer = site.send_from(STRANGER, TestRequest::get().uri("/healthz")).await;
        if answer.status == 429 {
            assert!(!answer.header("retry-after").is_empty());
            seen.push(answer.json()["error"].as_str().unwrap().to_owned());
        }
        assert_eq!(site.send(TestRequest::get().uri("/healthz")).await.status, 200);
    }
    assert_eq!(
        (seen.first().map(String::as_str), seen.last().map(String::as_str)),
        (Some("RATE_LIMIT_EXCEEDED"), Some("IP_BANNED"))
    );
}

#[actix::test]
async fn the_request_id_comes_back() {
    let site = Site::open(|_| {}).await;
    let answer = site.send(TestRequest::get().uri("/healthz").insert_header(("x-request-id", "r-1"))).await;
    assert_eq!(answer.header("x-request-id"), "r-1");
}

#[actix::test]
async fn pages_of_other_origins_are_refused_where_origins_are_named() {
    let named = |config: &mut Config| config.security.cors.allowed_origins = vec!["https://app.example".to_owned()];
    let (open, closed) = (Site::open(|_| {}).await, Site::open(named).await);
    let preflight = || {
        TestRequest::with_uri("/v1/api/sql")
            .method(Method::OPTIONS)
            .insert_header((header::ORIGIN, "https://evil.example"))
            .insert_header((header::ACCESS_CONTROL_REQUEST_METHOD, "POST"))
    };
    let allowed = |answer: &Answer| answer.header("access-control-allow-origin").to_owned();
    assert_eq!(allowed(&open.send(preflight()).await), "https://evil.example");
    assert_eq!(allowed(&closed.send(preflight()).await), "");
}
