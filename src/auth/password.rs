//! Passwords: which are allowed, how they are hashed, how they are checked.
//!
//! Owns the rules, Argon2id, and how many checks run at once. Never stores or logs a password.
//! A check costs the same whether the user exists or not.

use std::fmt;
use std::sync::Arc;

use argon2::password_hash::phc;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::config::{Argon2Config, MAX_PASSWORD_LENGTH, Secret};
use crate::error::{Error, Result};

/// Checks that run at once: each takes a core and `auth.argon2.memory`.
const CHECKS_AT_ONCE: usize = 2;
/// Checks that run or wait. At the bound the caller is answered `busy`.
const CHECKS_WAITING: usize = 64;
/// Longest password that SQL accepts and login reads.
pub const PASSWORD_READ_LIMIT: usize = 256;
/// Salt of the check that is made for a user who does not exist.
const DUMMY_SALT: &[u8; 16] = b"inboxdb dummy 16";

/// Passwords of eight and more characters that every guesser tries first.
const COMMON_PASSWORDS: &[&str] = &[
    "00000000",
    "11111111",
    "12341234",
    "12345678",
    "123456789",
    "1234567890",
    "123123123",
    "1q2w3e4r",
    "1qaz2wsx",
    "87654321",
    "987654321",
    "aaaaaaaa",
    "abcd1234",
    "abcdefgh",
    "admin123",
    "administrator",
    "asdfasdf",
    "asdfghjk",
    "baseball",
    "changeme",
    "computer",
    "football",
    "iloveyou",
    "letmein1",
    "master123",
    "password",
    "password1",
    "password12",
    "password123",
    "passw0rd",
    "princess",
    "q1w2e3r4",
    "qwer1234",
    "qwerty12",
    "qwerty123",
    "qwertyui",
    "qwertyuiop",
    "starwars",
    "sunshine",
    "superman",
    "trustno1",
    "welcome1",
    "whatever",
    "zaq12wsx",
];

/// An Argon2id hash in PHC form, or nothing: then no password is right.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PasswordHash(String);

impl PasswordHash {
    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }

    /// The PHC text, for `system.users`.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() { "***" } else { "(none)" })
    }
}

/// Refuses passwords that are too short, too long, or what everybody tries first.
///
/// # Errors
/// `WEAK_PASSWORD`: the rule that the password breaks.
pub fn check_strength(password: &Secret, min_length: usize) -> Result<()> {
    let text = password.expose();
    let length = text.chars().count();
    let fault = if length < min_length {
        format!("Password is too short: it has {length} characters, at least {min_length} are needed")
    } else if length > MAX_PASSWORD_LENGTH {
        format!("Password is too long: it has {length} characters, at most {MAX_PASSWORD_LENGTH} are allowed")
    } else if COMMON_PASSWORDS.iter().any(|common| common.eq_ignore_ascii_case(text)) {
        "Password is one of the most common ones; choose another".to_owned()
    } else {
        return Ok(());
    };
    Err(Error::WeakPassword(fault))
}

/// Hashes and checks passwords off the async threads, a few at a time.
pub(crate) struct Passwords {
    cost: Argon2Config,
    running: Arc<Semaphore>,
    seats: Arc<Semaphore>,
}

impl Passwords {
    pub(crate) fn new(cost: Argon2Config) -> Self {
        Self {
            cost,
            running: Arc::new(Semaphore::new(CHECKS_AT_ONCE)),
            seats: Arc::new(Semaphore::new(CHECKS_WAITING)),
        }
    }

    /// # Errors
    /// `BUSY` where too many wait already.
    pub(crate) async fn hash(&self, password: Secret) -> Result<PasswordHash> {
        let cost = self.cost;
        self.run(move || hash(cost, &password)).await?
    }

    /// Is it the password of `hash`? `None`, or a hash that is not set, costs as much as one that is, and is wrong.
    ///
    /// # Errors
    /// `BUSY` where too many wait already.
    pub(crate) async fn verify(&self, password: Secret, hash: Option<PasswordHash>) -> Result<bool> {
        let cost = self.cost;
        self.run(move || verify(cost, &password, hash.as_ref())).await?
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let seat = Arc::clone(&self.seats).try_acquire_owned().map_err(|_| Error::Busy)?;
        let turn = Arc::clone(&self.running).acquire_owned().await.map_err(|_| Error::ShuttingDown)?;
        // The permits go with the work: it runs to its end even where the caller has gone.
        let held: (OwnedSemaphorePermit, OwnedSemaphorePermit) = (seat, turn);
        let task = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(held);
            done
        });
        task.await.map_err(Error::internal)
    }
}

fn hash(cost: Argon2Config, password: &Secret) -> Result<PasswordHash> {
    let hash: phc::PasswordHash = hasher(cost)?
        .hash_password(password.expose().as_bytes())
        .map_err(|fault| Error::internal(fault.to_string()))?;
    Ok(PasswordHash(hash.to_string()))
}

fn verify(cost: Argon2Config, password: &Secret, hash: Option<&PasswordHash>) -> Result<bool> {
    let hasher = hasher(cost)?;
    let bytes = password.expose().as_bytes();
    let Some(hash) = hash.filter(|hash| hash.is_set()) else {
        let unused: Result<phc::PasswordHash, _> = hasher.hash_password_with_salt(bytes, DUMMY_SALT);
        unused.map_err(|fault| Error::internal(fault.to_string()))?;
        return Ok(false);
    };
    // The cost of a stored hash is its own: it stays right when the configuration changes.
    let stored = phc::PasswordHash::new(&hash.0).map_err(|fault| Error::internal(fault.to_string()))?;
    Ok(hasher.verify_password(bytes, &stored).is_ok())
}

fn hasher(cost: Argon2Config) -> Result<Argon2<'static>> {
    let memory_kib = u32::try_from(cost.memory.as_u64() / 1024).unwrap_or(u32::MAX);
    let params = Params::new(memory_kib, cost.iterations, cost.parallelism, None)
        .map_err(|fault| Error::internal(fault.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

#[cfg(test)]
mod tests {
    use bytesize::ByteSize;

    use super::*;

    const CHEAP: Argon2Config = Argon2Config { memory: ByteSize::kib(8), iterations: 1, parallelism: 1 };

    #[test]
    fn says_which_rule_a_password_breaks() {
        let (long, longest) = ("x".repeat(73), "ü".repeat(72));
        for (password, expected) in [
            ("kalamdb123", None),
            (longest.as_str(), None),
            ("seven77", Some("too short")),
            ("", Some("too short")),
            (long.as_str(), Some("too long")),
            ("PassWord123", Some("most common")),
        ] {
            match (check_strength(&Secret::new(password), 8), expected) {
                (Ok(()), None) => {}
                (Err(Error::WeakPassword(text)), Some(words)) => assert!(text.contains(words), "{text}"),
                (result, _) => panic!("{password}: {result:?}"),
            }
        }
    }

    #[test]
    fn the_right_password_and_no_other_is_right() {
        let stored = hash(CHEAP, &Secret::new("s3cret-pass")).unwrap();
        assert!(stored.as_str().starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{}", stored.as_str());
        assert!(verify(CHEAP, &Secret::new("s3cret-pass"), Some(&stored)).unwrap());
        assert!(!verify(CHEAP, &Secret::new("S3cret-pass"), Some(&stored)).unwrap());
        assert!(
            !verify(CHEAP, &Secret::new(""), Some(&PasswordHash::default())).unwrap(),
            "an empty hash opens nothing"
        );
        assert!(!verify(CHEAP, &Secret::new("s3cret-pass"), None).unwrap());

        let dearer = Argon2Config { iterations: 2, ..CHEAP };
        assert!(verify(dearer, &Secret::new("s3cret-pass"), Some(&stored)).unwrap(), "a stored hash keeps its cost");
    }

    #[test]
    fn one_password_has_many_hashes() {
        let password = Secret::new("s3cret-pass");
        assert_ne!(hash(CHEAP, &password).unwrap(), hash(CHEAP, &password).unwrap());
    }

    #[tokio::test]
    async fn answers_busy_when_too_many_wait() {
        let passwords = Passwords::new(CHEAP);
        let seats = Arc::clone(&passwords.seats).try_acquire_many_owned(CHECKS_WAITING as u32).unwrap();
        let refused = passwords.verify(Secret::new("s3cret-pass"), None).await;
        assert!(matches!(refused, Err(Error::Busy)), "{refused:?}");
        drop(seats);
        assert!(!passwords.verify(Secret::new("s3cret-pass"), None).await.unwrap());
    }
}
