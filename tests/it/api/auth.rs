//! `/v1/api/auth/…`: set-up, log-in, refresh, log-out, me; lock-out; Basic.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::World;
use crate::http::Client;
use crate::server::{PASSWORD, Server};

fn slug_of(client: &mut Client, path: &str, body: &Value) -> (u16, String) {
    let response = client.post(path, body);
    let body = response.json();
    assert!(!body["message"].as_str().unwrap().is_empty(), "{body}");
    (response.status, body["error"].as_str().unwrap().to_owned())
}

#[test]
fn set_up_once_from_here() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let setup = "/v1/api/auth/setup";
    assert_eq!(client.get("/v1/api/auth/status").json()["needs_setup"], true);

    // Nobody gets in before.
    let login = json!({"user": "root", "password": ""});
    assert_eq!(slug_of(&mut client, "/v1/api/auth/login", &login), (428, "setup_required".to_owned()));
    let login = json!({"user": "root", "password": PASSWORD});
    assert_eq!(client.post("/v1/api/auth/login", &login).status / 100, 4);

    let body =
        |user: &str, password: &str, root: &str| json!({"user": user, "password": password, "root_password": root});
    for (given, status, slug) in [
        (body("admin", "short", PASSWORD), 400, "weak_password"),
        (body("admin", PASSWORD, "short"), 400, "weak_password"),
        (body("admin", "password", PASSWORD), 400, "weak_password"),
        (body("admin", &"x".repeat(73), PASSWORD), 400, "weak_password"),
        (body("root", PASSWORD, PASSWORD), 400, "invalid_user"),
        (body("a/b", PASSWORD, PASSWORD), 400, "invalid_user"),
        (body("", PASSWORD, PASSWORD), 400, "invalid_user"),
    ] {
        assert_eq!(slug_of(&mut client, setup, &given), (status, slug.to_owned()), "{given}");
    }
    for body in ["{", "[]", r#"{"user":"x"}"#, r#"{"user":"x","password":"y","root_password":"z","more":1}"#] {
        assert_eq!(client.post_text(setup, body).status, 400, "{body}");
    }
    assert_eq!(client.get("/v1/api/auth/status").json()["needs_setup"], true, "nothing of it was set up");

    let response = client.post(setup, &body("admin", PASSWORD, PASSWORD));
    assert_eq!(response.status, 200, "{}", response.body);
    let user = &response.json()["user"];
    assert_eq!((&user["id"], &user["role"], &user["email"]), (&json!("admin"), &json!("dba"), &Value::Null));
    assert!(response.headers_named("set-cookie").is_empty(), "set-up does not log in");
    assert_eq!(client.get("/v1/api/auth/status").json()["needs_setup"], false);
    assert_eq!(
        slug_of(&mut client, setup, &body("second", PASSWORD, PASSWORD)),
        (409, "already_configured".to_owned())
    );
    server.log_in("root");
}

#[test]
fn log_in_use_refresh_and_log_out() {
    let mut world = World::new(&[]);
    let mut client = world.server.client();
    let response = client.post("/v1/api/auth/login", &json!({"username": "alice", "password": PASSWORD}));
    assert_eq!(response.status, 200, "{}", response.body);
    let body = response.json();
    assert_eq!((&body["user"]["id"], &body["user"]["role"]), (&json!("alice"), &json!("user")));
    assert_eq!(body["admin_ui_access"], false);
    for field in ["expires_at", "refresh_expires_at"] {
        assert!(body[field].as_str().unwrap().contains("+00:00"), "{body}");
    }
    let cookies = response.headers_named("set-cookie");
    for name in ["inboxdb_auth=", "inboxdb_refresh="] {
        let cookie = cookies.iter().find(|cookie| cookie.starts_with(name)).unwrap_or_else(|| panic!("{cookies:?}"));
        for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
            assert!(cookie.contains(part), "{cookie}");
        }
        assert!(!cookie.contains("Secure"), "over http a Secure cookie would be lost: {cookie}");
    }
    let (access, refresh) = (body["access_token"].as_str().unwrap(), body["refresh_token"].as_str().unwrap());
    let mut session = Client::bearer(world.server.address, access);
    assert_eq!(session.rows("SELECT CURRENT_USER()"), json!([["alice"]]));
    let me = session.get("/v1/api/auth/me");
    assert_eq!((me.status, &me.json()["user"]["id"]), (200, &json!("alice")));

    // By cookie: me and refresh only.
    let cookie = format!("inboxdb_auth={access}; inboxdb_refresh={refresh}");
    let by_cookie = |head: &str, body: &[u8]| {
        world.server.client().request(head, &[("Cookie", &cookie), ("Content-Type", "application/json")], body).unwrap()
    };
    assert_eq!(by_cookie("GET /v1/api/auth/me", b"").json()["user"]["id"], "alice");
    assert_eq!(by_cookie("POST /v1/api/sql", br#"{"sql":"SELECT 1"}"#).status, 401);
    assert_eq!(by_cookie("POST /v1/api/auth/refresh", b"").status, 200);

    // By bearer; an access token is not for refreshing.
    assert_eq!(session.post_text("/v1/api/auth/refresh", "").status, 401);
    let refreshed = Client::bearer(world.server.address, refresh).post_text("/v1/api/auth/refresh", "");
    assert_eq!(refreshed.status, 200, "{}", refreshed.body);
    let mut second = Client::bearer(world.server.address, refreshed.json()["access_token"].as_str().unwrap());
    assert_eq!(second.rows("SELECT CURRENT_USER()"), json!([["alice"]]));

    // Logged out, the session's tokens are worth nothing (A15).
    let response = session.post_text("/v1/api/auth/logout", "");
    assert_eq!((response.status, &response.json()["message"]), (200, &json!("Logged out successfully")));
    assert_eq!(session.refused("SELECT 1").code, "INVALID_CREDENTIALS");
    assert_eq!(Client::bearer(world.server.address, refresh).post_text("/v1/api/auth/refresh", "").status, 401);
    assert_eq!(world.server.client().post_text("/v1/api/auth/logout", "").status, 200, "always works");
    assert_eq!(world.alice.rows("SELECT 1"), json!([["1"]]), "alice's other session goes on");
}

#[test]
fn wrong_passwords_say_nothing_and_lock() {
    let world = World::new(&["auth.lockout_attempts=3"]);
    let mut client = world.server.client();
    let mut log_in = |user: &str, password: &str| {
        slug_of(&mut client, "/v1/api/auth/login", &json!({"user": user, "password": password}))
    };
    let unauthorized = (401, "unauthorized".to_owned());
    assert_eq!(log_in("nobody-here", PASSWORD), unauthorized, "no word on who exists");
    for _ in 0..3 {
        assert_eq!(log_in("alice", "wrong"), unauthorized);
    }
    assert_eq!(log_in("alice", PASSWORD), (401, "account_locked".to_owned()));
    assert_eq!(world.bob.again().rows("SELECT 1"), json!([["1"]]), "others are not concerned");
    let mut locked = world.server.client();
    locked.authorization = Some(basic("alice", PASSWORD));
    assert_eq!(locked.refused("SELECT 1").code, "ACCOUNT_LOCKED");
}

#[test]
fn log_in_bodies_are_checked() {
    let world = World::new(&[]);
    let mut client = world.server.client();
    for body in [
        "",
        "null",
        "{",
        r#"{"user":"alice"}"#,
        r#"{"user":1,"password":"x"}"#,
        r#"{"user":"alice","password":"x","more":true}"#,
        &json!({"user": "u".repeat(129), "password": "x"}).to_string(),
        &json!({"user": "alice", "password": "x".repeat(257)}).to_string(),
    ] {
        let response = client.post_text("/v1/api/auth/login", body);
        assert_eq!(response.status, 400, "{body}: {}", response.body);
        assert!(!response.body.is_empty());
    }
    let large = "x".repeat(1 << 20);
    let response = client.post_text("/v1/api/auth/login", &large);
    assert!(matches!(response.status, 400 | 413), "{}", response.status);
    assert_eq!(world.server.log_in("alice").rows("SELECT 1"), json!([["1"]]));
}

#[test]
fn too_many_log_ins_are_slowed_down() {
    let world = World::new(&[]);
    let server = Server::start(&["auth.login_rate_per_ip=2"]);
    let mut client = server.client();
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(client.post("/v1/api/auth/login", &json!({"user": "x", "password": "y"})).status);
    }
    assert!(statuses.contains(&429), "{statuses:?}");
    let limited = slug_of(&mut client, "/v1/api/auth/login", &json!({"user": "x", "password": "y"}));
    assert!(limited == (429, "rate_limited".to_owned()) || limited.0 == 401, "{limited:?}");
    drop(world);
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", BASE64.encode(format!("{user}:{password}")))
}

#[test]
fn basic_works_for_sql() {
    let world = World::new(&[]);
    let mut client = world.server.client();
    client.authorization = Some(basic("alice", PASSWORD));
    assert_eq!(client.rows("SELECT CURRENT_USER()"), json!([["alice"]]));
    for header in
        [basic("alice", "wrong"), basic("nobody-here", PASSWORD), "Basic !!!".to_owned(), "Basic YWxpY2U=".to_owned()]
    {
        client.authorization = Some(header.clone());
        let failure = client.refused("SELECT 1");
        assert_eq!((failure.status, failure.code.as_str()), (401, "INVALID_CREDENTIALS"), "{header}");
    }
}

#[test]
fn users_who_change_lose_what_they_had() {
    let mut world = World::new(&[]);
    let mut old = world.bob.again();
    world.admin.sql("ALTER USER bob SET ROLE service");
    assert_eq!(old.refused("SELECT 1").code, "INVALID_CREDENTIALS", "the role in the token is not the stored one");
    let mut new = world.server.log_in("bob");
    assert_eq!(new.rows("SELECT CURRENT_ROLE()"), json!([["service"]]));

    world.admin.sql("ALTER USER bob SET PASSWORD 'quite another password'");
    assert_eq!(new.refused("SELECT 1").code, "INVALID_CREDENTIALS", "a password set by another ends all sessions");
    let body = json!({"user": "bob", "password": PASSWORD});
    assert_eq!(slug_of(&mut world.server.client(), "/v1/api/auth/login", &body), (401, "unauthorized".to_owned()));

    world.admin.sql("DROP USER alice");
    assert_eq!(world.alice.refused("SELECT 1").code, "INVALID_CREDENTIALS");
    let body = json!({"user": "alice", "password": PASSWORD});
    assert_eq!(slug_of(&mut world.server.client(), "/v1/api/auth/login", &body), (401, "unauthorized".to_owned()));
}
