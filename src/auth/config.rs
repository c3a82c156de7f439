//! What an operator decides about authentication that only authentication can judge.
//!
//! The keys, their defaults and their ranges are in [`crate::config::AuthConfig`].

pub use crate::config::{Argon2Config, AuthConfig, Secret};

/// HS256 signs with a 256-bit key: a shorter secret can be guessed from one token.
const MIN_SECRET_BYTES: usize = 32;
/// Secrets that stand in published examples.
const KNOWN_SECRETS: &[&str] = &["CHANGE_ME_IN_PRODUCTION", "changeme", "secret"];
/// Longest password that is accepted.
pub(crate) const MAX_PASSWORD_LENGTH: usize = 72;

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
}
