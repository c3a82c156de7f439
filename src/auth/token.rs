//! Tokens: signed statements about who logged in, and when.
//!
//! Owns the claims, their signature and their times. Never asks whether the user still exists, has the role or has
//! logged out: [`Authenticator`](super::Authenticator) does, on every use, so that a change acts at once.
//! The algorithm is ours, not the token's: a token that names another is refused.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::config::Secret;
use super::users::UserRecord;
use crate::error::{Error, Result};
use crate::model::{Role, UserId};

const ISSUER: &str = "inboxdb";
/// Clocks of two machines may differ by so much.
pub(crate) const LEEWAY_S: i64 = 60;
/// A refresh token lives this many times as long as an access token.
const REFRESH_LIVES: u32 = 7;
/// Our tokens have about 400 bytes; nothing longer is worth a signature check.
const TOKEN_MAX_BYTES: usize = 4 * 1024;
/// Verified access tokens that are remembered. At the bound the least used one is checked anew at its next use.
const VERIFIED_MAX: u64 = 20_000;
/// How long an unused one is remembered.
const VERIFIED_IDLE: Duration = Duration::from_secs(10 * 60);

/// One login and all tokens that come of it: what a logout ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Uuid);

impl SessionId {
    pub(crate) fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Uuid::parse_str(text).map(Self)
    }
}

impl Serialize for SessionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SessionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TokenType {
    Access,
    Refresh,
}

/// What a token says. Times in seconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) sub: UserId,
    pub(crate) iss: String,
    pub(crate) iat: i64,
    pub(crate) exp: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) nbf: Option<i64>,
    pub(crate) email: Option<String>,
    pub(crate) role: Role,
    pub(crate) token_type: TokenType,
    pub(crate) sid: SessionId,
    /// [`UserRecord::generation`] at the login.
    #[serde(rename = "gen")]
    pub(crate) generation: u32,
}

impl Claims {
    /// # Errors
    /// `TOKEN_EXPIRED`; `INVALID_CREDENTIALS` for a token of the future.
    fn check_time(&self, now_s: i64) -> Result<()> {
        if self.iat > now_s + LEEWAY_S || self.nbf.is_some_and(|nbf| nbf > now_s + LEEWAY_S) {
            return Err(Error::InvalidCredentials);
        }
        if self.exp.saturating_add(LEEWAY_S) < now_s { Err(Error::TokenExpired) } else { Ok(()) }
    }
}

/// A fresh pair of tokens and when they are good, in seconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct TokenPair {
    pub access: Secret,
    pub refresh: Secret,
    pub issued_s: i64,
    pub access_expires_s: i64,
    pub refresh_expires_s: i64,
}

/// Makes and checks tokens.
pub(crate) struct Tokens {
    signing: EncodingKey,
    checking: DecodingKey,
    validation: Validation,
    access_life_s: i64,
    /// By the token's whole text. A hit saves the signature, never the check of the times.
    verified: Cache<Arc<str>, Arc<Claims>>,
}

impl Tokens {
    pub(crate) fn new(secret: &Secret, access_life: Duration) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Ours to check: with the clock that we were given.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Self {
            signing: EncodingKey::from_secret(secret.expose().as_bytes()),
            checking: DecodingKey::from_secret(secret.expose().as_bytes()),
            validation,
            access_life_s: i64::try_from(access_life.as_secs()).unwrap_or(i64::MAX / 16),
            verified: Cache::builder().max_capacity(VERIFIED_MAX).time_to_idle(VERIFIED_IDLE).build(),
        }
    }

    /// How long any token of a session that exists now may live.
    pub(crate) fn longest_life_s(&self) -> i64 {
        self.access_life_s.saturating_mul(i64::from(REFRESH_LIVES)).saturating_add(LEEWAY_S)
    }

    /// # Errors
    /// `INTERNAL`.
    pub(crate) fn issue(&self, user: &UserRecord, sid: SessionId, now_s: i64) -> Result<TokenPair> {
        let access_expires_s = now_s.saturating_add(self.access_life_s);
        let refresh_expires_s = now_s.saturating_add(self.access_life_s.saturating_mul(i64::from(REFRESH_LIVES)));
        let claims = |token_type, exp| Claims {
            sub: user.user_id.clone(),
            iss: ISSUER.to_owned(),
            iat: now_s,
            exp,
            nbf: None,
            email: user.email.clone(),
            role: user.role,
            token_type,
            sid,
            generation: user.generation,
        };
        Ok(TokenPair {
            access: self.sign(&claims(TokenType::Access, access_expires_s))?,
            refresh: self.sign(&claims(TokenType::Refresh, refresh_expires_s))?,
            issued_s: now_s,
            access_expires_s,
            refresh_expires_s,
        })
    }

    /// # Errors
    /// `TOKEN_EXPIRED`, or `INVALID_CREDENTIALS` for everything else that is wrong with it.
    pub(crate) fn verify_access(&self, token: &str, now_s: i64) -> Result<Arc<Claims>> {
        if let Some(claims) = self.verified.get(token) {
            claims.check_time(now_s)?;
            return Ok(claims);
        }
        let claims = self.decode(token)?;
        if claims.token_type != TokenType::Access {
            return Err(Error::InvalidCredentials);
        }
        claims.check_time(now_s)?;
        let claims = Arc::new(claims);
        self.verified.insert(token.into(), Arc::clone(&claims));
        Ok(claims)
    }

    /// A token that we signed, of either type, good now.
    ///
    /// # Errors
    /// As [`Tokens::verify_access`].
    pub(crate) fn verify_any(&self, token: &str, now_s: i64) -> Result<Claims> {
        let claims = self.decode(token)?;
        claims.check_time(now_s)?;
        Ok(claims)
    }

    fn decode(&self, token: &str) -> Result<Claims> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(Error::InvalidCredentials);
        }
        let decoded = jsonwebtoken::decode::<Claims>(token, &self.checking, &self.validation);
        let claims = decoded.map_err(|_| Error::InvalidCredentials)?.claims;
        if claims.iss != ISSUER { Err(Error::InvalidCredentials) } else { Ok(claims) }
    }

    fn sign(&self, claims: &Claims) -> Result<Secret> {
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &self.signing);
        token.map(Secret::new).map_err(Error::internal)
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use serde_json::{Value, json};

    use super::*;
    use crate::auth::users::AuthType;

    const NOW: i64 = 1_777_000_000;
    const HOUR: i64 = 3_600;
    const SECRET: &str = "a secret of more than thirty-two bytes";

    fn tokens() -> Tokens {
        Tokens::new(&Secret::new(SECRET), Duration::from_secs(3_600))
    }

    fn good() -> Value {
        json!({
            "sub": "alice", "iss": "inboxdb", "iat": NOW, "exp": NOW + HOUR, "email": null, "role": "user",
            "token_type": "access", "sid": "5f0c1ad0-8e9c-4f0e-9c53-7d7fbb5a9a11", "gen": 1,
        })
    }

    fn with(key: &str, value: Value) -> Value {
        let mut claims = good();
        claims[key] = value;
        claims
    }

    fn without(key: &str) -> Value {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(key);
        claims
    }

    fn signed(claims: &Value, algorithm: Algorithm, secret: &str) -> String {
        jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
    }

    fn unsigned(header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(header), part(claims))
    }

    fn verdict(token: &str, now_s: i64) -> &'static str {
        match tokens().verify_access(token, now_s) {
            Ok(_) => "ok",
            Err(error) => error.code().wire(),
        }
    }

    #[test]
    fn only_our_own_good_access_tokens_pass() {
        let ours = |claims: Value| signed(&claims, Algorithm::HS256, SECRET);
        let mut tampered = ours(good());
        tampered.replace_range(tampered.len() - 2.., "AA");
        let parts = ours(good());
        let parts: Vec<&str> = parts.split('.').collect();
        let other_payload = URL_SAFE_NO_PAD.encode(with("role", json!("system")).to_string());
        let cases = [
            ("good", ours(good()), "ok"),
            ("expired within the leeway", ours(with("exp", json!(NOW - 60))), "ok"),
            ("expired", ours(with("exp", json!(NOW - 61))), "TOKEN_EXPIRED"),
            ("iat within the leeway", ours(with("iat", json!(NOW + 60))), "ok"),
            ("iat of the future", ours(with("iat", json!(NOW + 61))), "INVALID_CREDENTIALS"),
            ("nbf past", ours(with("nbf", json!(NOW - 5))), "ok"),
            ("nbf of the future", ours(with("nbf", json!(NOW + 61))), "INVALID_CREDENTIALS"),
            ("refresh used as access", ours(with("token_type", json!("refresh"))), "INVALID_CREDENTIALS"),
            ("unknown type", ours(with("token_type", json!("id"))), "INVALID_CREDENTIALS"),
            ("other issuer", ours(with("iss", json!("kalamdb"))), "INVALID_CREDENTIALS"),
            ("issuer among others", ours(with("iss", json!(["inboxdb", "x"]))), "INVALID_CREDENTIALS"),
            ("unknown role", ours(with("role", json!("god"))), "INVALID_CREDENTIALS"),
            ("impossible user", ours(with("sub", json!("../etc"))), "INVALID_CREDENTIALS"),
            ("no subject", ours(without("sub")), "INVALID_CREDENTIALS"),
            ("no expiry", ours(without("exp")), "INVALID_CREDENTIALS"),
            ("no issue time", ours(without("iat")), "INVALID_CREDENTIALS"),
            ("no session", ours(without("sid")), "INVALID_CREDENTIALS"),
            ("no type", ours(without("token_type")), "INVALID_CREDENTIALS"),
            ("expiry as text", ours(with("exp", json!("never"))), "INVALID_CREDENTIALS"),
            ("other secret", signed(&good(), Algorithm::HS256, "another"), "INVALID_CREDENTIALS"),
            ("other algorithm, our secret", signed(&good(), Algorithm::HS512, SECRET), "INVALID_CREDENTIALS"),
            ("alg none", unsigned(&json!({"alg": "none", "typ": "JWT"}), &good()), "INVALID_CREDENTIALS"),
            ("alg HS256, no signature", unsigned(&json!({"alg": "HS256"}), &good()), "INVALID_CREDENTIALS"),
            ("tampered signature", tampered, "INVALID_CREDENTIALS"),
            ("tampered claims", format!("{}.{other_payload}.{}", parts[0], parts[2]), "INVALID_CREDENTIALS"),
            ("empty", String::new(), "INVALID_CREDENTIALS"),
            ("garbage", "not.a.token".to_owned(), "INVALID_CREDENTIALS"),
            ("huge", "x".repeat(1 << 20), "INVALID_CREDENTIALS"),
        ];
        for (what, token, expected) in cases {
            assert_eq!(verdict(&token, NOW), expected, "{what}");
        }
    }

    #[test]
    fn a_remembered_token_still_expires() {
        let tokens = tokens();
        let user = UserRecord::new(UserId::parse("alice").unwrap(), Role::User, AuthType::Password, 0);
        let pair = tokens.issue(&user, SessionId::random(), NOW).unwrap();
        assert_eq!((pair.access_expires_s, pair.refresh_expires_s), (NOW + HOUR, NOW + 7 * HOUR));
        for _ in 0..2 {
            assert_eq!(tokens.verify_access(pair.access.expose(), NOW).unwrap().sub.as_str(), "alice");
        }
        let late = tokens.verify_access(pair.access.expose(), NOW + HOUR + LEEWAY_S + 1);
        assert!(matches!(late, Err(Error::TokenExpired)), "{late:?}");
        assert!(tokens.verify_any(pair.refresh.expose(), NOW + HOUR + LEEWAY_S + 1).is_ok());
    }
}
