//! Settings of authentication: tokens, passwords, rates, lock-out.

use std::num::NonZeroU32;
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Serialize};

use super::units::{Secret, duration, optional_secret, optional_text, size};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    #[serde(with = "optional_secret")]
    pub jwt_secret: Option<Secret>,
    #[serde(with = "optional_text")]
    pub jwt_secret_file: Option<String>,
    #[serde(with = "duration")]
    pub jwt_expiry: Duration,
    #[serde(with = "optional_secret")]
    pub root_password: Option<Secret>,
    #[serde(with = "optional_text")]
    pub root_password_file: Option<String>,
    pub cookie_secure: bool,
    pub min_password_length: usize,
    pub allow_remote_setup: bool,
    pub login_rate_per_ip: NonZeroU32,
    pub query_rate_per_user: NonZeroU32,
    pub lockout_attempts: NonZeroU32,
    #[serde(with = "duration")]
    pub lockout_duration: Duration,
    pub argon2: Argon2Config,
}

impl Default for AuthConfig {
    fn default() -> Self {
        let count = |n| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        Self {
            jwt_secret: None,
            jwt_secret_file: None,
            jwt_expiry: Duration::from_secs(24 * 60 * 60),
            root_password: None,
            root_password_file: None,
            cookie_secure: true,
            min_password_length: 8,
            allow_remote_setup: false,
            login_rate_per_ip: count(20),
            query_rate_per_user: count(1_000),
            lockout_attempts: count(5),
            lockout_duration: Duration::from_secs(15 * 60),
            argon2: Argon2Config::default(),
        }
    }
}

/// What one password check costs us, and a thief one guess.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Argon2Config {
    #[serde(with = "size")]
    pub memory: ByteSize,
    pub iterations: u32,
    pub parallelism: u32,
}

impl Default for Argon2Config {
    fn default() -> Self {
        Self { memory: ByteSize::mib(19), iterations: 2, parallelism: 1 }
    }
}
