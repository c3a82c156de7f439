//! Who is asking: tokens, passwords, sessions and their end.
//!
//! Owns the order of the checks. The user's record and the revoked sessions are asked on **every** use of a token, so
//! that a logout, a drop, a lock or another role acts at once; only the signature of a token is remembered.
//! Never decides what a principal may do: see [`Policy`](super::Policy). Creating and changing users is in
//! `administration.rs`.

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::sync::broadcast;
use tracing::debug;

use super::accounts::{Accounts, AuthEvent, Decision};
use super::config::{AuthConfig, Secret};
use super::limits::{BasicMemory, Limits};
use super::log::{AuthLog, AuthRecord};
use super::password::Passwords;
use super::policy::{ExecuteAs, Policy};
use super::strangers::Strangers;
use super::token::{Claims, LEEWAY_S, SessionId, TokenPair, TokenType, Tokens};
use super::users::{Lockout, UserRecord};
use crate::error::{Error, Result};
use crate::model::{AuditEntry, Principal, UserId};
use crate::time::Clock;

/// An authenticated caller, for as long as [`Authenticator::recheck`] says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    pub principal: Principal,
    /// `None`: the caller gave a password with the request itself.
    pub sid: Option<SessionId>,
    /// When the token ends, in seconds since the Unix epoch.
    pub expires_s: Option<i64>,
}

impl Session {
    /// From when on [`Authenticator::recheck`] finds the token expired, in seconds since the Unix epoch: clocks may
    /// differ a little.
    pub fn ends_s(&self) -> Option<i64> {
        self.expires_s.map(|expires_s| expires_s.saturating_add(LEEWAY_S + 1))
    }

    /// Is `event` about this session? Then it is to be checked again.
    pub fn is_concerned_by(&self, event: &AuthEvent) -> bool {
        match event {
            AuthEvent::UserDropped(user) | AuthEvent::UserLocked(user) | AuthEvent::UserChanged(user) => {
                *user == self.principal.user
            }
            AuthEvent::SessionRevoked(sid) => self.sid == Some(*sid),
        }
    }
}

/// A login or refresh that worked.
#[derive(Debug, Clone)]
pub struct LoggedIn {
    pub user: Arc<UserRecord>,
    pub tokens: TokenPair,
}

/// Why there is no new pair of tokens.
#[derive(Debug, thiserror::Error)]
pub enum RefreshFault {
    #[error("Refresh endpoint requires a refresh token")]
    NotARefreshToken,
    #[error("User no longer valid")]
    UserGone,
    #[error("The user's role has changed; log in again")]
    RoleChanged,
    #[error(transparent)]
    Refused(#[from] Error),
}

/// Whom an `EXECUTE AS USER` statement names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActAs<'a> {
    User(&'a UserId),
    All,
}

/// Answers who is asking. One per server; shared behind an `Arc`.
pub struct Authenticator {
    pub(super) config: AuthConfig,
    pub(super) clock: Clock,
    pub(super) accounts: Accounts,
    pub(super) passwords: Passwords,
    tokens: Tokens,
    limits: Limits,
    basic: BasicMemory,
    strangers: Strangers,
}

impl Authenticator {
    /// `stored` is what the log holds. Without `auth.jwt_secret` tokens are signed with a random one, and so end with
    /// the process. Call [`Authenticator::boot`] before the first request.
    ///
    /// # Errors
    /// `INTERNAL` where the system gives no random bytes.
    pub fn new(config: AuthConfig, clock: Clock, log: Arc<dyn AuthLog>, stored: Vec<AuthRecord>) -> Result<Self> {
        let secret = match &config.jwt_secret {
            Some(secret) => secret.clone(),
            None => random_secret()?,
        };
        Ok(Self {
            accounts: Accounts::new(log, stored),
            passwords: Passwords::new(config.argon2),
            tokens: Tokens::new(&secret, config.jwt_expiry),
            limits: Limits::new(config.login_rate_per_ip, config.query_rate_per_user),
            basic: BasicMemory::new()?,
            strangers: Strangers::new(config.lockout_duration),
            clock,
            config,
        })
    }

    /// Who sent this `Authorization` header?
    ///
    /// # Errors
    /// `MISSING_AUTHORIZATION`, or as [`Authenticator::authenticate_bearer`] and [`Authenticator::authenticate_basic`].
    pub async fn authenticate_header(&self, header: Option<&str>, ip: IpAddr) -> Result<Session> {
        let header = header.ok_or(Error::MissingAuthorization)?;
        let (scheme, credentials) = header.trim().split_once(' ').ok_or(Error::InvalidCredentials)?;
        let credentials = credentials.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.authenticate_bearer(credentials);
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(Error::InvalidCredentials);
        }
        let bytes = STANDARD.decode(credentials).map_err(|_| Error::InvalidCredentials)?;
        let text = String::from_utf8(bytes).map_err(|_| Error::InvalidCredentials)?;
        let (user, password) = text.split_once(':').ok_or(Error::InvalidCredentials)?;
        self.authenticate_basic(user, Secret::new(password), ip).await
    }

    /// Who holds this access token?
    ///
    /// # Errors
    /// `TOKEN_EXPIRED`, `ACCOUNT_LOCKED`, or `INVALID_CREDENTIALS` for all else that is wrong with it.
    pub fn authenticate_bearer(&self, token: &str) -> Result<Session> {
        let claims = self.tokens.verify_access(token, self.now_s())?;
        let session = Session {
            principal: Principal { user: claims.sub.clone(), role: claims.role, generation: claims.generation },
            sid: Some(claims.sid),
            expires_s: Some(claims.exp),
        };
        self.recheck(&session)?;
        Ok(session)
    }

    /// Whose password is this? A right pair is not hashed again for a few seconds.
    ///
    /// # Errors
    /// `INVALID_CREDENTIALS`, `ACCOUNT_LOCKED`, `SETUP_REQUIRED`, `RATE_LIMIT_EXCEEDED`, `BUSY`.
    pub async fn authenticate_basic(&self, user: &str, password: Secret, ip: IpAddr) -> Result<Session> {
        if let Some(record) = self.accounts.users().get(user)
            && self.basic.knows(user, &password, record.generation)
        {
            record.check_open(self.clock.now_us())?;
            return Ok(session_of(&record));
        }
        self.limits.admit_login(ip)?;
        self.check_root_is_set_up(user, &password, ip)?;
        let record = self.check_password(user, password.clone(), Some(ip)).await?;
        let record = self.note_login(&record, ip).await?;
        self.basic.remember(user, &password, record.generation);
        Ok(session_of(&record))
    }

    /// May a session that was good once stay open? Asked when an [`AuthEvent`] concerns it, after a receiver of
    /// events lagged, and when its token ends.
    ///
    /// # Errors
    /// `TOKEN_EXPIRED`, `ACCOUNT_LOCKED`, `INVALID_CREDENTIALS`.
    pub fn recheck(&self, session: &Session) -> Result<()> {
        let record = self.accounts.users().get(session.principal.user.as_str()).ok_or(Error::InvalidCredentials)?;
        record.check_open(self.clock.now_us())?;
        if session.ends_s().is_some_and(|end_s| self.now_s() >= end_s) {
            return Err(Error::TokenExpired);
        }
        let revoked = session.sid.is_some_and(|sid| self.accounts.revoked().contains(sid));
        if revoked || !record.accepts(session.principal.generation) || record.role != session.principal.role {
            return Err(Error::InvalidCredentials);
        }
        Ok(())
    }

    /// Opens a session.
    ///
    /// # Errors
    /// `INVALID_CREDENTIALS`, `ACCOUNT_LOCKED`, `SETUP_REQUIRED`, `REMOTE_ACCESS_DENIED` (root without a password),
    /// `RATE_LIMIT_EXCEEDED`, `BUSY`.
    pub async fn login(&self, user: &str, password: Secret, ip: IpAddr) -> Result<LoggedIn> {
        self.limits.admit_login(ip)?;
        self.check_root_is_set_up(user, &password, ip)?;
        let record = self.check_password(user, password, Some(ip)).await?;
        let record = self.note_login(&record, ip).await?;
        let tokens = self.tokens.issue(&record, SessionId::random(), self.now_s())?;
        Ok(LoggedIn { user: record, tokens })
    }

    /// New tokens for the session of a refresh token.
    ///
    /// # Errors
    /// What the endpoint tells, by [`RefreshFault`].
    pub async fn refresh(&self, token: &str, ip: IpAddr) -> Result<LoggedIn, RefreshFault> {
        self.limits.admit_login(ip)?;
        let claims = self.tokens.verify_any(token, self.now_s())?;
        if claims.token_type != TokenType::Refresh {
            return Err(RefreshFault::NotARefreshToken);
        }
        let record = self.accounts.users().get(claims.sub.as_str()).ok_or(RefreshFault::UserGone)?;
        record.check_open(self.clock.now_us())?;
        if claims.role != record.role {
            return Err(RefreshFault::RoleChanged);
        }
        if claims.generation != record.generation || self.accounts.revoked().contains(claims.sid) {
            return Err(Error::InvalidCredentials.into());
        }
        let tokens = self.tokens.issue(&record, claims.sid, self.now_s())?;
        Ok(LoggedIn { user: record, tokens })
    }

    /// Ends the session of an access or refresh token: all its tokens, and its open sockets.
    ///
    /// # Errors
    /// `INVALID_CREDENTIALS`, `TOKEN_EXPIRED` where there is no session to end.
    pub async fn logout(&self, token: &str) -> Result<()> {
        let now_s = self.now_s();
        let Claims { sid, .. } = self.tokens.verify_any(token, now_s)?;
        let expires_s = now_s.saturating_add(self.tokens.longest_life_s());
        let change = self.accounts.change(move |accounts| {
            if accounts.revoked().contains(sid) {
                return Ok(Decision { records: Vec::new(), answer: () });
            }
            let forgotten = accounts.revoked().expired(now_s).into_iter().map(AuthRecord::ForgottenSession);
            let revoked = AuthRecord::RevokedSession { sid, expires_s };
            Ok(Decision { records: std::iter::once(revoked).chain(forgotten).collect(), answer: () })
        });
        change.await
    }

    /// The principal that the inner statement of `EXECUTE AS USER` runs as. Whoever runs it writes that to the audit log.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `USER_NOT_FOUND` for those who may act for others.
    pub fn execute_as(&self, caller: &Principal, target: ActAs<'_>) -> Result<Principal> {
        match target {
            ActAs::All => Policy.may_execute_as(caller, ExecuteAs::All),
            ActAs::User(user) => self.may_act_for(caller, user),
        }
    }

    /// May `caller` act for `user`, as both are now? Asked again while a subscription in that name goes on: nothing is
    /// done, so nothing is audited.
    ///
    /// # Errors
    /// `PERMISSION_DENIED`; `USER_NOT_FOUND` for those who may act for others.
    pub fn may_act_for(&self, caller: &Principal, user: &UserId) -> Result<Principal> {
        Policy.may_execute_as_others(caller, user)?;
        let target = self.accounts.users().require(user)?.principal();
        Policy.may_execute_as(caller, ExecuteAs::One(&target))
    }

    /// Is the user whom a statement runs for still the one that it began for? Asked behind the opening of its view: if
    /// so, the view is of that user's time, and not of one who has the name after them.
    ///
    /// # Errors
    /// `INVALID_CREDENTIALS`.
    pub fn check_holder(&self, principal: &Principal) -> Result<()> {
        let record = self.accounts.users().get(principal.user.as_str());
        let current = record.is_some_and(|record| record.accepts(principal.generation));
        if current { Ok(()) } else { Err(Error::InvalidCredentials) }
    }

    /// # Errors
    /// `RATE_LIMIT_EXCEEDED`: more requests than `auth.query_rate_per_user` a second.
    pub fn admit_request(&self, principal: &Principal) -> Result<()> {
        self.limits.admit_request(&principal.user)
    }

    /// # Errors
    /// `RATE_LIMIT_EXCEEDED`: more logins, or tokens offered on a socket, than `auth.login_rate_per_ip` a second.
    pub fn admit_login(&self, ip: IpAddr) -> Result<()> {
        self.limits.admit_login(ip)
    }

    /// A live user.
    ///
    /// # Errors
    /// `USER_NOT_FOUND`.
    pub fn user(&self, user: &UserId) -> Result<Arc<UserRecord>> {
        self.accounts.users().require(user)
    }

    /// All users, dropped ones included, by id: `system.users`.
    pub fn users(&self) -> Vec<Arc<UserRecord>> {
        self.accounts.users().all()
    }

    /// Is there a user of this name, who was not dropped?
    pub fn is_user(&self, user: &UserId) -> bool {
        self.accounts.users().get(user.as_str()).is_some()
    }

    /// What open sessions lose, as it happens. A receiver that lags is told so by the channel; it has then missed
    /// events, never been waited for, and re-checks every session that it keeps open.
    pub fn changes(&self) -> broadcast::Receiver<AuthEvent> {
        self.accounts.events()
    }

    /// Are cookies of https requests marked `Secure`?
    pub fn cookie_secure(&self) -> bool {
        self.config.cookie_secure
    }

    pub(super) fn now_s(&self) -> i64 {
        self.clock.now_us() / 1_000_000
    }

    /// The user whose password this is. Wrong ones are counted, and lock the account; so do those for names that nobody
    /// has, or that have no password: the same is computed, written and answered, whoever is asked for.
    pub(super) async fn check_password(
        &self,
        user: &str,
        password: Secret,
        ip: Option<IpAddr>,
    ) -> Result<Arc<UserRecord>> {
        let record = self.accounts.users().get(user).filter(|record| record.password_hash.is_set());
        match &record {
            Some(record) => record.check_open(self.clock.now_us())?,
            // Everybody knows that there is a root. Before it has a password, it is not to be locked out of its set-up.
            None if is_root(user) => {}
            None => self.strangers.check_open(user, self.clock.now_us())?,
        }
        let hash = record.as_ref().map(|record| record.password_hash.clone());
        let right = self.passwords.verify(password, hash).await?;
        if let (Some(checked), true) = (&record, right) {
            return self.still_open(checked);
        }
        debug!(known = record.is_some(), "wrong password");
        self.note_failed_login(record, user, ip).await?;
        Err(Error::InvalidCredentials)
    }

    fn lockout(&self) -> Lockout {
        Lockout { attempts: self.config.lockout_attempts.get(), duration: self.config.lockout_duration }
    }

    /// What may have changed while the password was hashed. Of many guesses at once, those behind the one that locks
    /// the account are worth nothing.
    fn still_open(&self, checked: &UserRecord) -> Result<Arc<UserRecord>> {
        let record = self.accounts.users().get(checked.user_id.as_str()).ok_or(Error::InvalidCredentials)?;
        record.check_open(self.clock.now_us())?;
        if record.generation != checked.generation { Err(Error::InvalidCredentials) } else { Ok(record) }
    }

    /// Root without a password: who tries to get in has to set up the server first, and from this machine.
    fn check_root_is_set_up(&self, user: &str, password: &Secret, ip: IpAddr) -> Result<()> {
        if !is_root(user) || !self.needs_setup() {
            return Ok(());
        }
        self.check_setup_allowed(ip)?;
        if password.expose().is_empty() { Err(Error::SetupRequired) } else { Ok(()) }
    }

    /// First-run setup, and root while it has no password, are this machine's business only.
    pub(super) fn check_setup_allowed(&self, ip: IpAddr) -> Result<()> {
        if self.config.allow_remote_setup || ip.to_canonical().is_loopback() {
            Ok(())
        } else {
            Err(Error::RemoteAccessDenied)
        }
    }

    /// Resets the count of wrong passwords.
    async fn note_login(&self, checked: &UserRecord, ip: IpAddr) -> Result<Arc<UserRecord>> {
        let (user, generation, now_us) = (checked.user_id.clone(), checked.generation, self.clock.now_us());
        let change = self.accounts.change(move |accounts| {
            let record = accounts.users().get(user.as_str()).ok_or(Error::InvalidCredentials)?;
            record.check_open(now_us)?;
            if record.generation != generation {
                return Err(Error::InvalidCredentials);
            }
            let record = record.after_login(now_us);
            let entry = AuditEntry::of(&user, "LOGIN", user.as_str(), now_us).from_ip(Some(ip));
            let records = vec![AuthRecord::User(record.clone()), AuthRecord::Audit(entry)];
            Ok(Decision { records, answer: Arc::new(record) })
        });
        change.await
    }

    /// `None`: of nobody, or of somebody who has no password to guess. One commit either way, of the same entries: who can
    /// measure it learns nothing. Counts are memory; [`Authenticator::write_failed_logins`] writes those of users.
    async fn note_failed_login(&self, checked: Option<Arc<UserRecord>>, name: &str, ip: Option<IpAddr>) -> Result<()> {
        let (now_us, lockout, strangers, name) =
            (self.clock.now_us(), self.lockout(), self.strangers.clone(), name.to_owned());
        let change = self.accounts.change(move |accounts| {
            let user = checked.as_ref().map(|record| &record.user_id);
            let entry = |action: &str| {
                let entry = match user {
                    Some(user) => AuditEntry::of(user, action, user.as_str(), now_us),
                    None => AuditEntry::of_stranger(action, "", now_us),
                };
                AuthRecord::Audit(entry.from_ip(ip))
            };
            let locked = match user {
                Some(user) => accounts.note_failed_login(user, lockout, now_us),
                None => !is_root(&name) && strangers.note_failed_login(&name, lockout, now_us),
            };
            let mut records = vec![entry("LOGIN_FAILED")];
            records.extend(locked.then(|| entry("ACCOUNT_LOCKED")));
            Ok(Decision { records, answer: () })
        });
        change.await
    }

    /// Is notified when an account was locked: then [`Authenticator::write_failed_logins`] is not to wait.
    pub fn locked(&self) -> Arc<tokio::sync::Notify> {
        self.accounts.locked()
    }

    /// Makes durable how often users were guessed at. Called by and by, and at the end: a crash in between forgets some
    /// guesses.
    ///
    /// # Errors
    /// Those of the log; the next call tries again.
    pub async fn write_failed_logins(&self) -> Result<()> {
        self.accounts.write_failed_logins().await
    }
}

fn is_root(user: &str) -> bool {
    user == UserId::root().as_str()
}

fn session_of(record: &UserRecord) -> Session {
    Session { principal: record.principal(), sid: None, expires_s: None }
}

fn random_secret() -> Result<Secret> {
    let mut bytes = [0; 48];
    getrandom::fill(&mut bytes).map_err(Error::internal)?;
    Ok(Secret::new(STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests;
