//! Forged, expired and misused tokens: each is refused, on every endpoint that takes one.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use super::World;
use crate::http::Client;
use crate::server::PASSWORD;
use crate::token::{SECRET, claims_of, now, sign, with};

fn without(claims: &Value, name: &str) -> Value {
    let mut claims = claims.clone();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn unsigned(header: &str, claims: &Value) -> String {
    format!("{}.{}.", BASE64URL.encode(header), BASE64URL.encode(claims.to_string()))
}

#[test]
fn only_our_own_valid_access_tokens_are_taken() {
    let mut world = World::new(&[&format!("auth.jwt_secret={SECRET}")]);
    let before = world.state();
    let log_in =
        world.server.client().post("/v1/api/auth/login", &json!({"user": "alice", "password": PASSWORD})).json();
    let (access, refresh) = (log_in["access_token"].as_str().unwrap(), log_in["refresh_token"].as_str().unwrap());
    let good = claims_of(access);
    for (name, expected) in [("sub", "alice"), ("iss", "inboxdb"), ("role", "user"), ("token_type", "access")] {
        assert_eq!(good[name], expected, "{good}");
    }
    let hs256 = |claims: &Value| sign(claims, Algorithm::HS256, SECRET);
    assert_eq!(
        attempt(&world, &hs256(&good)),
        Ok(()),
        "signed anew, the same token: the forgeries below differ by one thing"
    );

    let (head, tail) = access.rsplit_once('.').unwrap();
    let cases: Vec<(&str, String, &str)> = vec![
        ("alg none", unsigned(r#"{"alg":"none","typ":"JWT"}"#, &good), "INVALID_CREDENTIALS"),
        ("alg None", unsigned(r#"{"alg":"None"}"#, &with(&good, "role", json!("system"))), "INVALID_CREDENTIALS"),
        ("no alg", unsigned(r#"{"typ":"JWT"}"#, &good), "INVALID_CREDENTIALS"),
        (
            "RS256, with our signature",
            access.replacen(access.split('.').next().unwrap(), &BASE64URL.encode(r#"{"alg":"RS256"}"#), 1),
            "INVALID_CREDENTIALS",
        ),
        (
            "a key of its own",
            unsigned(r#"{"alg":"HS256","jwk":{"kty":"oct","k":""},"kid":"/dev/null"}"#, &good),
            "INVALID_CREDENTIALS",
        ),
        ("signature cut off", format!("{head}."), "INVALID_CREDENTIALS"),
        ("signature reversed", format!("{head}.{}", tail.chars().rev().collect::<String>()), "INVALID_CREDENTIALS"),
        ("another secret", sign(&good, Algorithm::HS256, &SECRET.replace('0', "1")), "INVALID_CREDENTIALS"),
        ("the empty secret", sign(&good, Algorithm::HS256, ""), "INVALID_CREDENTIALS"),
        ("HS384", sign(&good, Algorithm::HS384, SECRET), "INVALID_CREDENTIALS"),
        ("HS512", sign(&good, Algorithm::HS512, SECRET), "INVALID_CREDENTIALS"),
        ("another issuer", hs256(&with(&good, "iss", json!("kalamdb"))), "INVALID_CREDENTIALS"),
        ("no issuer", hs256(&without(&good, "iss")), "INVALID_CREDENTIALS"),
        ("no subject", hs256(&without(&good, "sub")), "INVALID_CREDENTIALS"),
        ("no expiry", hs256(&without(&good, "exp")), "INVALID_CREDENTIALS"),
        ("no role", hs256(&without(&good, "role")), "INVALID_CREDENTIALS"),
        ("a better role", hs256(&with(&good, "role", json!("dba"))), "INVALID_CREDENTIALS"),
        ("a role there is not", hs256(&with(&good, "role", json!("emperor"))), "INVALID_CREDENTIALS"),
        ("nobody", hs256(&with(&good, "sub", json!("not-a-user"))), "INVALID_CREDENTIALS"),
        ("somebody else", hs256(&with(&good, "sub", json!("admin"))), "INVALID_CREDENTIALS"),
        ("refresh as access", refresh.to_owned(), "INVALID_CREDENTIALS"),
        ("no kind", hs256(&without(&good, "token_type")), "INVALID_CREDENTIALS"),
        ("from the future", hs256(&with(&good, "iat", json!(now() + 3_600))), "INVALID_CREDENTIALS"),
        ("not yet", hs256(&with(&good, "nbf", json!(now() + 3_600))), "INVALID_CREDENTIALS"),
        ("expired", hs256(&with(&good, "exp", json!(now() - 3_600))), "TOKEN_EXPIRED"),
        ("no token", String::new(), "INVALID_CREDENTIALS"),
        ("no JWT", "abc".to_owned(), "INVALID_CREDENTIALS"),
        ("no base64", "a!.b!.c!".to_owned(), "INVALID_CREDENTIALS"),
        ("very long", "a".repeat(7_000), "INVALID_CREDENTIALS"),
    ];
    for (what, token, code) in &cases {
        assert_eq!(attempt(&world, token), Err((*code).to_owned()), "{what}");
        let me = Client::bearer(world.server.address, token).get("/v1/api/auth/me");
        assert_eq!(me.status, 401, "{what} at me: {}", me.body);
        if *what != "refresh as access" {
            let refreshed = Client::bearer(world.server.address, token).post_text("/v1/api/auth/refresh", "");
            assert_eq!(refreshed.status, 401, "{what} at refresh: {}", refreshed.body);
        }
    }
    assert_eq!(attempt(&world, &hs256(&with(&good, "exp", json!(now() - 5)))), Ok(()), "clocks may differ by a minute");
    assert_eq!(world.state(), before);
}

/// One harmless and one harmful statement with a token.
fn attempt(world: &World, token: &str) -> Result<(), String> {
    let mut client = Client::bearer(world.server.address, token);
    let outcome = client.try_sql(&json!({"sql": "SELECT 1"}));
    if outcome.is_err() {
        let harmful = client.refused("INSERT INTO w.mail VALUES (99, 'forged', 0)");
        assert_eq!(harmful.status, 401);
        assert!(!harmful.message.is_empty());
    }
    outcome.map(drop).map_err(|failure| failure.code)
}

#[test]
fn headers_that_are_none() {
    let world = World::new(&[]);
    let token = world.alice.token().to_owned();
    let mut client = world.server.client();
    assert_eq!(client.refused("SELECT 1").code, "MISSING_AUTHORIZATION");
    for header in ["", "Bearer", "Bearer ", "Digest x", &format!("Token {token}"), &token, &format!("Bearer {token} x")]
    {
        client.authorization = Some(header.to_owned());
        let failure = client.refused("SELECT 1");
        assert_eq!(failure.status, 401, "{header:?}: {failure}");
        assert!(
            ["INVALID_CREDENTIALS", "MISSING_AUTHORIZATION"].contains(&failure.code.as_str()),
            "{header:?}: {failure}"
        );
    }
    client.authorization = Some(format!("bearer {token}"));
    assert!(client.try_sql(&json!({"sql": "SELECT 1"})).is_ok(), "the scheme's name has no case");
}

#[test]
fn a_token_of_another_server_is_none() {
    let (here, there) = (World::new(&[]), World::new(&[]));
    let mut stranger = Client::bearer(here.server.address, there.alice.token());
    assert_eq!(stranger.refused("SELECT 1").code, "INVALID_CREDENTIALS", "each data folder has its own secret");
}
