//! What an operator decides about authentication: section `auth` of the configuration.
//!
//! Owns the keys, their defaults and which values are allowed. Never reads a file or the environment.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// HS256 signs with a 256-bit key: a shorter secret can be guessed from one token.
const MIN_SECRET_BYTES: usize = 32;
/// Secrets that stand in published examples.
const KNOWN_SECRETS: &[&str] = &["CHANGE_ME_IN_PRODUCTION", "changeme", "secret"];
/// Longest password that is accepted.
pub(crate) const MAX_PASSWORD_LENGTH: usize = 72;

/// Section `auth`. Durations are text like `15min`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Signs the tokens; at least 32 bytes. None: one is made in the data folder, on a loopback host only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jwt_secret: Option<Secret>,
    /// Life of an access token; a refresh token lives seven times as long.
    #[serde(with = "duration_text")]
    pub jwt_expiry: Duration,
    /// Given to `root` at a start where it has no password yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_password: Option<Secret>,
    /// Marks cookies `Secure` on https requests.
    pub cookie_secure: bool,
    pub min_password_length: usize,
    /// Holds CREATE USER and ALTER USER to the rules of the first-run setup: length, and none of the most common.
    pub enforce_password_complexity: bool,
    /// Lets others than this machine do the first-run setup.
    pub allow_remote_setup: bool,
    /// Logins, refreshes and Basic checks a second from one address.
    pub login_rate_per_ip: NonZeroU32,
    /// Requests a second of one user.
    pub query_rate_per_user: NonZeroU32,
    /// Wrong passwords in a row that lock an account.
    pub lockout_attempts: NonZeroU32,
    /// How long an account stays locked.
    #[serde(with = "duration_text")]
    pub lockout_duration: Duration,
    /// Cost of a password hash.
    pub argon2: Argon2Config,
}

impl Default for AuthConfig {
    fn default() -> Self {
        Self {
            jwt_secret: None,
            jwt_expiry: Duration::from_secs(24 * 60 * 60),
            root_password: None,
            cookie_secure: true,
            min_password_length: 8,
            enforce_password_complexity: false,
            allow_remote_setup: false,
            login_rate_per_ip: NonZeroU32::new(20).unwrap_or(NonZeroU32::MIN),
            query_rate_per_user: NonZeroU32::new(1_000).unwrap_or(NonZeroU32::MIN),
            lockout_attempts: NonZeroU32::new(5).unwrap_or(NonZeroU32::MIN),
            lockout_duration: Duration::from_secs(15 * 60),
            argon2: Argon2Config::default(),
        }
    }
}

impl AuthConfig {
    /// Every fault of the section, each naming its key.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.jwt_expiry < Duration::from_secs(1) {
            faults.push("auth.jwt_expiry must be at least 1s".to_owned());
        }
        if self.lockout_duration < Duration::from_secs(1) {
            faults.push("auth.lockout_duration must be at least 1s".to_owned());
        }
        if !(1..=MAX_PASSWORD_LENGTH).contains(&self.min_password_length) {
            faults.push(format!("auth.min_password_length must be from 1 to {MAX_PASSWORD_LENGTH}"));
        }
        faults.extend(self.argon2.fault());
        faults
    }
}

/// Section `auth.argon2`: what one password check costs us, and a thief one guess.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Argon2Config {
    pub memory_kib: u32,
    pub iterations: u32,
    pub parallelism: u32,
}

impl Default for Argon2Config {
    fn default() -> Self {
        Self { memory_kib: 19 * 1024, iterations: 2, parallelism: 1 }
    }
}

impl Argon2Config {
    fn fault(&self) -> Option<String> {
        argon2::Params::new(self.memory_kib, self.iterations, self.parallelism, None).err().map(|fault| {
            format!("auth.argon2 (memory_kib, iterations, parallelism) is not a usable combination: {fault}")
        })
    }
}

/// A text that no log, no error and no printed configuration shows.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the code that signs or hashes with it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

/// The secret may not sign tokens here; the text says why and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeakSecret {
    #[error(
        "auth.jwt_secret is a published example; set one of your own, for example the output of `openssl rand -base64 48`"
    )]
    Published,
    #[error("auth.jwt_secret has {bytes} bytes; on a host that others can reach it needs at least {MIN_SECRET_BYTES}")]
    Short { bytes: usize },
    #[error("auth.jwt_secret is empty")]
    Empty,
}

/// May `secret` sign tokens on this host? A server that only this machine reaches may use a weak one.
///
/// # Errors
/// The rule that the secret breaks.
pub fn check_secret(secret: &str, host_is_loopback: bool) -> Result<(), WeakSecret> {
    if secret.is_empty() {
        return Err(WeakSecret::Empty);
    }
    if host_is_loopback {
        return Ok(());
    }
    if KNOWN_SECRETS.iter().any(|known| known.eq_ignore_ascii_case(secret)) {
        return Err(WeakSecret::Published);
    }
    if secret.len() < MIN_SECRET_BYTES {
        return Err(WeakSecret::Short { bytes: secret.len() });
    }
    Ok(())
}

/// Durations as `1day` or `15min`.
mod duration_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|fault| serde::de::Error::custom(format!("'{text}' is no duration like 15min or 24h: {fault}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_can_guess_signs_nothing_on_an_open_host() {
        let long = "x".repeat(32);
        let cases = [
            ("", true, Err(WeakSecret::Empty)),
            ("CHANGE_ME_IN_PRODUCTION", true, Ok(())),
            ("CHANGE_ME_IN_PRODUCTION", false, Err(WeakSecret::Published)),
            ("short", true, Ok(())),
            ("short", false, Err(WeakSecret::Short { bytes: 5 })),
            (long.as_str(), false, Ok(())),
        ];
        for (secret, loopback, expected) in cases {
            assert_eq!(check_secret(secret, loopback), expected, "{secret:?}, loopback {loopback}");
        }
    }

    #[test]
    fn reads_human_durations_and_refuses_unknown_keys() {
        let config: AuthConfig = toml::from_str("jwt_expiry = \"12h\"\nlockout_duration = \"1min\"").unwrap();
        assert_eq!(config.jwt_expiry, Duration::from_secs(12 * 3600));
        assert_eq!(config.argon2, Argon2Config::default());
        assert!(toml::from_str::<AuthConfig>("jwt_secrets = \"x\"").is_err());
        assert!(toml::from_str::<AuthConfig>("jwt_expiry = \"soon\"").unwrap_err().to_string().contains("soon"));
        assert!(AuthConfig::default().faults().is_empty());
    }

    #[test]
    fn no_secret_is_printed() {
        let config = AuthConfig { jwt_secret: Some(Secret::new("hunter2")), ..AuthConfig::default() };
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!toml::to_string(&config).unwrap().contains("hunter2"));
    }

    #[test]
    fn every_fault_is_told() {
        let config = AuthConfig {
            jwt_expiry: Duration::ZERO,
            min_password_length: 100,
            argon2: Argon2Config { memory_kib: 1, iterations: 0, parallelism: 0 },
            ..AuthConfig::default()
        };
        assert_eq!(config.faults().len(), 3, "{:?}", config.faults());
    }
}
