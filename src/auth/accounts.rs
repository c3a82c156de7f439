//! The users and revoked sessions of this server, and the one way to change them.
//!
//! Owns the order: decide, commit, apply, tell. Changes happen one after the other, so that a decision sees the
//! result of the one before, and each runs to its end even where the caller has gone.
//! Invariant: PT-2 for accounts, nothing is visible before it is durable. One thing alone is the other way round: how often a
//! password was guessed at counts, and locks, at once, and is written by and by. A guess at a user's password therefore costs
//! the one commit that a guess at nobody's does.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex as Lock, PoisonError};

use tokio::sync::{Mutex, Notify, broadcast};

use super::log::{AuthLog, AuthRecord};
use super::revoked::RevokedSessions;
use super::token::SessionId;
use super::users::{Lockout, UserDirectory, UserRecord};
use crate::error::{Error, Result};
use crate::model::UserId;

/// Events that a receiver may be behind by. One that is further behind is told so (`Lagged`) and then re-checks every
/// session that it keeps open.
const EVENTS_CAPACITY: usize = 1_024;

/// Sessions that may have lost their right to be open: whoever keeps one calls
/// [`Authenticator::recheck`](super::Authenticator::recheck).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuthEvent {
    UserDropped(UserId),
    UserLocked(UserId),
    /// Another role, or a password that somebody else set.
    UserChanged(UserId),
    SessionRevoked(SessionId),
}

/// What a change stores, and what its caller is told.
pub(crate) struct Decision<T> {
    pub(crate) records: Vec<AuthRecord>,
    pub(crate) answer: T,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Accounts(Arc<State>);

struct State {
    users: UserDirectory,
    revoked: RevokedSessions,
    log: Arc<dyn AuthLog>,
    /// Held from decision to application.
    writer: Mutex<()>,
    /// Users whose failed log-ins are counted and not yet written.
    guessed: Lock<BTreeSet<UserId>>,
    /// Woken when one of them is locked: that is not to wait.
    locked: Arc<Notify>,
    events: broadcast::Sender<AuthEvent>,
}

impl Accounts {
    pub(crate) fn new(log: Arc<dyn AuthLog>, stored: Vec<AuthRecord>) -> Self {
        let state = State {
            users: UserDirectory::default(),
            revoked: RevokedSessions::default(),
            log,
            writer: Mutex::new(()),
            guessed: Lock::default(),
            locked: Arc::default(),
            events: broadcast::Sender::new(EVENTS_CAPACITY),
        };
        for record in stored {
            state.apply(record);
        }
        Self(Arc::new(state))
    }

    pub(crate) fn users(&self) -> &UserDirectory {
        &self.0.users
    }

    pub(crate) fn revoked(&self) -> &RevokedSessions {
        &self.0.revoked
    }

    pub(crate) fn events(&self) -> broadcast::Receiver<AuthEvent> {
        self.0.events.subscribe()
    }

    /// Decides with the present state, makes the outcome durable, then visible.
    ///
    /// # Errors
    /// Those of `decide` and of the log.
    pub(crate) async fn change<T: Send + 'static>(
        &self,
        decide: impl FnOnce(&Accounts) -> Result<Decision<T>> + Send + 'static,
    ) -> Result<T> {
        let accounts = self.clone();
        // A task of its own: an HTTP client that hangs up drops its handler, which between commit and apply would
        // leave memory behind the disk until the next start.
        #[expect(clippy::disallowed_methods, reason = "awaited below, unless the caller hangs up")]
        let task = tokio::spawn(async move {
            let _turn = accounts.0.writer.lock().await;
            let Decision { records, answer } = decide(&accounts)?;
            if !records.is_empty() {
                accounts.0.log.commit(records.clone()).await?;
            }
            for record in records {
                accounts.0.apply(record);
            }
            Ok(answer)
        });
        task.await.map_err(|_| Error::Aborted)?
    }

    /// Counts a wrong password, in memory. Called while a change is decided, so no other is. Did it lock the account?
    pub(crate) fn note_failed_login(&self, user: &UserId, lockout: Lockout, now_us: i64) -> bool {
        let open = self.users().get(user.as_str()).filter(|record| record.check_open(now_us).is_ok());
        let Some(record) = open else { return false };
        let record = record.after_failed_login(lockout, now_us);
        let locked = record.locked_until.is_some();
        self.0.apply(AuthRecord::User(record));
        self.guessed().insert(user.clone());
        if locked {
            self.0.locked.notify_one();
        }
        locked
    }

    /// Is notified when [`Accounts::write_failed_logins`] is due.
    pub(crate) fn locked(&self) -> Arc<Notify> {
        self.0.locked.clone()
    }

    /// Makes durable what [`Accounts::note_failed_login`] counted.
    ///
    /// # Errors
    /// Those of the log; the next call tries again.
    pub(crate) async fn write_failed_logins(&self) -> Result<()> {
        let guessed = std::mem::take(&mut *self.guessed());
        if guessed.is_empty() {
            return Ok(());
        }
        let users = guessed.clone();
        let change = self.change(move |accounts| {
            let stored = users.iter().filter_map(|user| accounts.users().stored(user.as_str()));
            let records = stored.map(|record| AuthRecord::User(Arc::unwrap_or_clone(record))).collect();
            Ok(Decision { records, answer: () })
        });
        let written = change.await;
        if written.is_err() {
            self.guessed().extend(guessed);
        }
        written
    }

    fn guessed(&self) -> std::sync::MutexGuard<'_, BTreeSet<UserId>> {
        self.0.guessed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn apply(&self, record: AuthRecord) {
        let event = match record {
            AuthRecord::User(user) => {
                let event = self.users.get(user.user_id.as_str()).and_then(|old| event_between(&old, &user));
                self.users.apply(user);
                event
            }
            // On disk only.
            AuthRecord::Audit(_) => None,
            AuthRecord::RevokedSession { sid, expires_s } => {
                self.revoked.revoke(sid, expires_s);
                Some(AuthEvent::SessionRevoked(sid))
            }
            AuthRecord::ForgottenSession(sid) => {
                self.revoked.forget(sid);
                None
            }
        };
        if let Some(event) = event {
            // An error means that nobody listens.
            let _ = self.events.send(event);
        }
    }
}

/// What the step from `old` to `new` takes away from sessions that are open.
fn event_between(old: &UserRecord, new: &UserRecord) -> Option<AuthEvent> {
    let user = || new.user_id.clone();
    if new.is_deleted() {
        return Some(AuthEvent::UserDropped(user()));
    }
    if new.locked_until.is_some() && new.locked_until != old.locked_until {
        return Some(AuthEvent::UserLocked(user()));
    }
    (new.role != old.role || new.oldest_access != old.oldest_access).then(|| AuthEvent::UserChanged(user()))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;

    use super::*;
    use crate::auth::users::AuthType;
    use crate::model::Role;

    /// Fails while `broken`.
    #[derive(Default)]
    struct FlakyLog {
        broken: AtomicBool,
    }

    #[async_trait]
    impl AuthLog for FlakyLog {
        async fn commit(&self, _records: Vec<AuthRecord>) -> Result<()> {
            if self.broken.load(Ordering::SeqCst) { Err(Error::StorageUnavailable) } else { Ok(()) }
        }
    }

    fn alice() -> UserRecord {
        UserRecord::new(UserId::parse("alice").unwrap(), Role::User, AuthType::Password, 0)
    }

    async fn store(accounts: &Accounts, user: UserRecord) -> Result<()> {
        accounts.change(|_| Ok(Decision { records: vec![AuthRecord::User(user)], answer: () })).await
    }

    #[tokio::test]
    async fn what_is_not_durable_is_not_visible() {
        let log = Arc::new(FlakyLog::default());
        let accounts = Accounts::new(Arc::clone(&log) as Arc<dyn AuthLog>, vec![]);
        log.broken.store(true, Ordering::SeqCst);
        assert!(matches!(store(&accounts, alice()).await, Err(Error::StorageUnavailable)));
        assert!(accounts.users().get("alice").is_none());
        log.broken.store(false, Ordering::SeqCst);
        store(&accounts, alice()).await.unwrap();
        assert!(accounts.users().get("alice").is_some());
    }

    #[tokio::test]
    async fn guesses_count_at_once_and_are_written_until_it_works() {
        let log = Arc::new(FlakyLog::default());
        let accounts = Accounts::new(Arc::clone(&log) as Arc<dyn AuthLog>, vec![AuthRecord::User(alice())]);
        let (id, lockout) = (alice().user_id, Lockout { attempts: 2, duration: std::time::Duration::from_secs(60) });
        assert!(!accounts.note_failed_login(&id, lockout, 1));
        assert!(accounts.note_failed_login(&id, lockout, 1), "the second locks");
        assert!(!accounts.note_failed_login(&id, lockout, 1), "a locked account counts no more");
        assert!(!accounts.note_failed_login(&UserId::parse("nobody").unwrap(), lockout, 1));
        assert_eq!(accounts.users().get("alice").unwrap().failed_login_attempts, 2);
        log.broken.store(true, Ordering::SeqCst);
        assert!(accounts.write_failed_logins().await.is_err());
        assert_eq!(accounts.guessed().len(), 1);
        log.broken.store(false, Ordering::SeqCst);
        accounts.write_failed_logins().await.unwrap();
        assert!(accounts.guessed().is_empty());
        assert_eq!(accounts.users().get("alice").unwrap().failed_login_attempts, 2);
    }

    #[tokio::test]
    async fn tells_of_what_open_sessions_lose_and_of_nothing_else() {
        let accounts = Accounts::new(Arc::new(FlakyLog::default()), vec![AuthRecord::User(alice())]);
        let mut events = accounts.events();
        let id = alice().user_id;
        let steps = [
            (alice().after_login(1), None),
            (alice().with_email("a@b".to_owned(), 1), None),
            (UserRecord { locked_until: Some(9), ..alice() }, Some(AuthEvent::UserLocked(id.clone()))),
            (UserRecord { locked_until: Some(9), last_login_at: Some(1), ..alice() }, None),
            (alice().with_role(Role::Dba, 1), Some(AuthEvent::UserChanged(id.clone()))),
            (alice().with_role(Role::Dba, 2), None),
            (
                UserRecord { oldest_access: 2, ..alice().with_role(Role::Dba, 2) },
                Some(AuthEvent::UserChanged(id.clone())),
            ),
            (alice().dropped(3), Some(AuthEvent::UserDropped(id))),
        ];
        for (step, (record, expected)) in steps.into_iter().enumerate() {
            store(&accounts, record).await.unwrap();
            assert_eq!(events.try_recv().ok(), expected, "step {step}");
        }
    }
}
