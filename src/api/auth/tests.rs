use std::net::SocketAddr;
use std::sync::Arc;

use actix_web::dev::{Service, ServiceResponse};
use actix_web::{App, test};
use serde_json::{Value, json};

use super::*;
use crate::auth::testing::{Bench, LOCAL, PASSWORD, REMOTE, config, root};
use crate::auth::{AuthConfig, UserChange};
use crate::model::UserId;

/// What a request was answered.
struct Answer {
    status: u16,
    body: Value,
    cookies: Vec<Cookie<'static>>,
}

impl Answer {
    /// Status and error slug.
    fn fault(&self) -> (u16, &str) {
        (self.status, self.body["error"].as_str().unwrap_or("ok"))
    }

    fn text(&self, field: &str) -> String {
        self.body[field].as_str().unwrap_or_default().to_owned()
    }

    fn cookie(&self, name: &str) -> &Cookie<'static> {
        self.cookies.iter().find(|cookie| cookie.name() == name).unwrap()
    }
}

async fn send(bench: &Bench, request: test::TestRequest) -> Answer {
    let app = App::new().app_data(web::Data::from(Arc::clone(&bench.auth))).configure(configure);
    let app = test::init_service(app).await;
    let response: ServiceResponse = app.call(request.to_request()).await.unwrap();
    let status = response.status().as_u16();
    let cookies = response.response().cookies().map(Cookie::into_owned).collect();
    let body = serde_json::from_slice(&test::read_body(response).await).unwrap_or(Value::Null);
    Answer { status, body, cookies }
}

fn post_to(path: &str, ip: IpAddr) -> test::TestRequest {
    test::TestRequest::post().uri(&format!("/v1/api/auth/{path}")).peer_addr(SocketAddr::new(ip, 4321))
}

fn get_from(path: &str, ip: IpAddr) -> test::TestRequest {
    test::TestRequest::get().uri(&format!("/v1/api/auth/{path}")).peer_addr(SocketAddr::new(ip, 4321))
}

async fn log_in(bench: &Bench, user: &str, password: &str, ip: IpAddr) -> Answer {
    send(bench, post_to("login", ip).set_payload(json!({"user": user, "password": password}).to_string())).await
}

fn with_bearer(request: test::TestRequest, token: &str) -> test::TestRequest {
    request.insert_header((header::AUTHORIZATION, format!("Bearer {token}")))
}

#[tokio::test]
async fn login_answers_as_the_protocol_says() {
    let bench = Bench::with_alice(Role::Dba).await;
    let answer = log_in(&bench, "alice", PASSWORD, REMOTE).await;
    assert_eq!(answer.status, 200);
    let mut body = answer.body.clone();
    for token in ["access_token", "refresh_token"] {
        assert_eq!(body[token].as_str().unwrap().split('.').count(), 3, "{token}");
        body[token] = json!("<jwt>");
    }
    let date = "2026-04-24T03:06:40+00:00";
    assert_eq!(
        body,
        json!({
            "user": {"id": "alice", "role": "dba", "email": null, "created_at": date, "updated_at": date},
            "admin_ui_access": true,
            "expires_at": "2026-04-25T03:06:40+00:00",
            "access_token": "<jwt>",
            "refresh_token": "<jwt>",
            "refresh_expires_at": "2026-05-01T03:06:40+00:00",
        })
    );
    for (name, token, days) in [(ACCESS_COOKIE, "access_token", 1), (REFRESH_COOKIE, "refresh_token", 7)] {
        let cookie = answer.cookie(name);
        assert_eq!(cookie.value(), answer.text(token));
        assert_eq!(
            (cookie.path(), cookie.http_only(), cookie.same_site()),
            (Some("/"), Some(true), Some(SameSite::Strict))
        );
        assert_eq!(cookie.max_age(), Some(CookieLife::days(days)));
        assert_ne!(cookie.secure(), Some(true), "plain http");
    }
    let https = post_to("login", REMOTE)
        .insert_header(("x-forwarded-proto", "https"))
        .set_payload(json!({"username": "alice", "password": PASSWORD}).to_string());
    assert_eq!(send(&bench, https).await.cookie(ACCESS_COOKIE).secure(), Some(true));
}

#[tokio::test]
async fn login_errors() {
    let body = |user: &str, password: &str| json!({"user": user, "password": password}).to_string();
    let cases = [
        ("wrong password", body("alice", "wrong"), REMOTE, (401, "unauthorized"), "Invalid credentials"),
        ("unknown user", body("nobody", "wrong"), REMOTE, (401, "unauthorized"), "Invalid credentials"),
        ("locked", body("locked", PASSWORD), REMOTE, (401, "account_locked"), "15 minute(s)"),
        ("root from afar", body("root", ""), REMOTE, (403, "forbidden"), "Access denied"),
        (
            "root, not set up",
            body("root", ""),
            LOCAL,
            (428, "setup_required"),
            "Server requires initial setup. Root password is not configured.",
        ),
        ("root, guess", body("root", "guess"), LOCAL, (401, "unauthorized"), "Invalid credentials"),
        ("no JSON", "user=alice".to_owned(), REMOTE, (400, "invalid_input"), "Invalid JSON payload"),
        ("nothing", String::new(), REMOTE, (400, "invalid_input"), r#"send {"user":"…","password":"…"}"#),
        (
            "no password",
            json!({"user": "alice"}).to_string(),
            REMOTE,
            (400, "invalid_input"),
            "missing field `password`",
        ),
        (
            "unknown field",
            json!({"user": "alice", "password": "x", "otp": "1"}).to_string(),
            REMOTE,
            (400, "invalid_input"),
            "unknown field `otp`",
        ),
        ("long user", body(&"u".repeat(129), "x"), REMOTE, (400, "invalid_input"), "128 are allowed"),
        ("long password", body("alice", &"p".repeat(257)), REMOTE, (400, "invalid_input"), "256 are allowed"),
        ("long body", body("alice", &"p".repeat(20_000)), REMOTE, (400, "invalid_input"), "16384 bytes"),
    ];
    let bench = Bench::with_alice(Role::User).await;
    bench.add("locked", Role::User).await;
    for _ in 0..5 {
        log_in(&bench, "locked", "wrong", REMOTE).await;
    }
    for (what, payload, ip, fault, words) in cases {
        let answer = send(&bench, post_to("login", ip).set_payload(payload)).await;
        assert_eq!(answer.fault(), fault, "{what}: {}", answer.body);
        assert!(answer.text("message").contains(words), "{what}: {}", answer.body);
        assert!(answer.cookies.is_empty(), "{what}");
    }
}

#[tokio::test]
async fn too_many_logins_are_told_to_wait() {
    let bench = Bench::with(AuthConfig { login_rate_per_ip: std::num::NonZeroU32::MIN, ..config() }).await;
    assert_eq!(log_in(&bench, "x", "y", REMOTE).await.fault(), (401, "unauthorized"));
    assert_eq!(log_in(&bench, "x", "y", REMOTE).await.fault(), (429, "rate_limited"));
}

#[tokio::test]
async fn refresh_takes_the_cookie_or_the_header() {
    let bench = Bench::with_alice(Role::User).await;
    let first = log_in(&bench, "alice", PASSWORD, REMOTE).await;
    let (access, refresh) = (first.text("access_token"), first.text("refresh_token"));
    bench.advance_s(10);
    let by_header = send(&bench, with_bearer(post_to("refresh", REMOTE), &refresh)).await;
    let by_cookie = send(&bench, post_to("refresh", REMOTE).cookie(Cookie::new(REFRESH_COOKIE, refresh.clone()))).await;
    for answer in [&by_header, &by_cookie] {
        assert_eq!(answer.status, 200, "{}", answer.body);
        assert_ne!(answer.text("access_token"), access);
        assert_eq!(answer.cookie(REFRESH_COOKIE).value(), answer.text("refresh_token"));
    }

    for (what, request, message) in [
        ("nothing", post_to("refresh", REMOTE), "Authentication required"),
        ("access token", with_bearer(post_to("refresh", REMOTE), &access), "Refresh endpoint requires a refresh token"),
        ("garbage", with_bearer(post_to("refresh", REMOTE), "x.y.z"), "Invalid credentials"),
    ] {
        let answer = send(&bench, request).await;
        assert_eq!((answer.fault(), answer.text("message").as_str()), ((401, "unauthorized"), message), "{what}");
    }

    let alice = UserId::parse("alice").unwrap();
    bench.auth.alter_user(&root(), alice.clone(), UserChange::Role(Role::Dba)).await.unwrap();
    let answer = send(&bench, with_bearer(post_to("refresh", REMOTE), &refresh)).await;
    assert_eq!(answer.fault(), (401, "unauthorized"), "role changed");
    bench.auth.drop_user(&root(), alice, false).await.unwrap();
    let answer = send(&bench, with_bearer(post_to("refresh", REMOTE), &refresh)).await;
    assert_eq!((answer.fault(), answer.text("message").as_str()), ((401, "unauthorized"), "User no longer valid"));
}

#[tokio::test]
async fn logout_always_works_and_ends_the_session() {
    let bench = Bench::with_alice(Role::User).await;
    for by_cookie in [false, true] {
        let first = log_in(&bench, "alice", PASSWORD, REMOTE).await;
        let (access, refresh) = (first.text("access_token"), first.text("refresh_token"));
        let request = match by_cookie {
            true => post_to("logout", REMOTE).cookie(Cookie::new(REFRESH_COOKIE, refresh.clone())),
            false => with_bearer(post_to("logout", REMOTE), &access),
        };
        let answer = send(&bench, request).await;
        assert_eq!((answer.status, answer.body.clone()), (200, json!({"message": "Logged out successfully"})));
        for name in [ACCESS_COOKIE, REFRESH_COOKIE] {
            assert_eq!((answer.cookie(name).value(), answer.cookie(name).max_age()), ("", Some(CookieLife::ZERO)));
        }
        assert_eq!(send(&bench, with_bearer(get_from("me", REMOTE), &access)).await.fault(), (401, "unauthorized"));
        assert_eq!(
            send(&bench, with_bearer(post_to("refresh", REMOTE), &refresh)).await.fault(),
            (401, "unauthorized")
        );
    }
    assert_eq!(send(&bench, post_to("logout", REMOTE)).await.status, 200, "without a session");
    assert_eq!(send(&bench, with_bearer(post_to("logout", REMOTE), "garbage")).await.status, 200);
}

#[tokio::test]
async fn me_tells_who_one_is() {
    let bench = Bench::with_alice(Role::User).await;
    let access = log_in(&bench, "alice", PASSWORD, REMOTE).await.text("access_token");
    let by_header = send(&bench, with_bearer(get_from("me", REMOTE), &access)).await;
    let by_cookie = send(&bench, get_from("me", REMOTE).cookie(Cookie::new(ACCESS_COOKIE, access))).await;
    for answer in [by_header, by_cookie] {
        assert_eq!(answer.status, 200);
        assert_eq!(
            (answer.body["user"]["id"].as_str(), answer.body["user"]["role"].as_str()),
            (Some("alice"), Some("user"))
        );
        assert_eq!(answer.body["admin_ui_access"], json!(false));
    }
    let nobody = send(&bench, get_from("me", REMOTE)).await;
    assert_eq!((nobody.fault(), nobody.text("message").as_str()), ((401, "unauthorized"), "Authentication required"));
}

#[tokio::test]
async fn setup_and_status() {
    let good = json!({"user": "admin", "password": "kalamdb123", "root_password": "kalamdb123", "email": "a@b"});
    let with = |field: &str, value: &str| {
        let mut body = good.clone();
        body[field] = json!(value);
        body.to_string()
    };
    let cases = [
        ("short", with("password", "seven77"), LOCAL, (400, "weak_password")),
        ("long", with("root_password", &"x".repeat(73)), LOCAL, (400, "weak_password")),
        ("common", with("password", "password123"), LOCAL, (400, "weak_password")),
        ("bad characters", with("user", "a/b"), LOCAL, (400, "invalid_user")),
        ("root", with("user", "root"), LOCAL, (400, "invalid_user")),
        ("taken", with("user", "alice"), LOCAL, (409, "user_exists")),
        ("unknown field", with("pass", "x"), LOCAL, (400, "invalid_input")),
        ("remote", good.to_string(), REMOTE, (403, "forbidden")),
        ("good", good.to_string(), LOCAL, (200, "ok")),
        ("again", good.to_string(), LOCAL, (409, "already_configured")),
    ];
    let bench = Bench::with_alice(Role::User).await;
    let waiting = send(&bench, get_from("status", LOCAL)).await;
    assert_eq!(waiting.body, json!({"needs_setup": true, "message": "Server requires initial setup"}));
    for (what, payload, ip, fault) in cases {
        let answer = send(&bench, post_to("setup", ip).set_payload(payload)).await;
        assert_eq!(answer.fault(), fault, "{what}: {}", answer.body);
        if what == "good" {
            assert_eq!(
                (answer.body["user"]["id"].as_str(), answer.body["user"]["role"].as_str()),
                (Some("admin"), Some("dba"))
            );
            assert!(answer.cookies.is_empty(), "setup does not log in");
        }
    }
    assert_eq!(send(&bench, get_from("status", LOCAL)).await.body["needs_setup"], json!(false));
    let remote = send(&bench, get_from("status", REMOTE)).await;
    assert_eq!(
        (remote.status, remote.body),
        (403, json!({"error": "forbidden", "message": "Setup status can only be checked from localhost"}),)
    );
    assert_eq!(log_in(&bench, "admin", "kalamdb123", REMOTE).await.status, 200);
    assert_eq!(log_in(&bench, "root", "kalamdb123", REMOTE).await.status, 200);
}

#[tokio::test]
async fn a_broken_store_is_told_as_such() {
    let (status, body) = {
        let response = problem(&Error::StorageUnavailable);
        let status = response.status().as_u16();
        (status, actix_web::body::to_bytes(response.into_body()).await.unwrap())
    };
    assert_eq!(status, 503);
    assert!(std::str::from_utf8(&body).unwrap().contains(r#""error":"storage_unavailable""#));
    let response = problem(&Error::internal("the disk's name"));
    assert_eq!(response.status().as_u16(), 500);
    let body = actix_web::body::to_bytes(response.into_body()).await.unwrap();
    let text = std::str::from_utf8(&body).unwrap();
    assert!(text.contains(r#""error":"internal_error""#) && !text.contains("disk"), "{text}");
}
