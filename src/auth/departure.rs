//! What becomes of a dropped user: restored, or erased so that the name is free again.
//!
//! Owns the steps *kept, erasing, erased* in the user's record. Each is durable before the next begins: a crash goes on
//! where it was.
//! Never touches rows: who erases them says so here.

use std::sync::Arc;
use std::time::Duration;

use super::accounts::Decision;
use super::authenticator::Authenticator;
use super::log::AuthRecord;
use super::policy::{AdminAction, Policy};
use super::users::{Mailbox, UserAck, UserRecord};
use crate::error::{Error, Result};
use crate::model::{Principal, UserId};

impl Authenticator {
    /// The dropped holder of a name whose rows are still there.
    pub fn leaving(&self, user: &UserId) -> Option<Arc<UserRecord>> {
        self.accounts.users().stored(user.as_str()).filter(|record| record.leaves_mailbox())
    }

    /// Dropped users whose rows are to be erased: their time is over, or it was begun.
    pub fn due_to_be_erased(&self, grace: Duration) -> Vec<Arc<UserRecord>> {
        let grace_us = i64::try_from(grace.as_micros()).unwrap_or(i64::MAX);
        let until = self.clock.now_us().saturating_sub(grace_us);
        let due = |record: &Arc<UserRecord>| {
            record.mailbox == Mailbox::Erasing || record.deleted_at.is_some_and(|at| at <= until)
        };
        self.accounts.users().leaving().into_iter().filter(due).collect()
    }

    /// From here on nothing brings the user back. `false`: this holder of the name is not to be erased (any more).
    ///
    /// # Errors
    /// Those of the log.
    pub async fn begin_erasure(&self, user: UserId, generation: u32) -> Result<bool> {
        self.step_erasure(user, generation, |record, now_us| record.erasing(now_us)).await
    }

    /// The rows are gone; so are the password and the e-mail address, and the name is free.
    ///
    /// # Errors
    /// Those of the log.
    pub async fn finish_erasure(&self, user: UserId, generation: u32) -> Result<bool> {
        self.step_erasure(user, generation, |record, now_us| record.erased(now_us)).await
    }

    async fn step_erasure(
        &self,
        user: UserId,
        generation: u32,
        step: impl Fn(&UserRecord, i64) -> UserRecord + Send + 'static,
    ) -> Result<bool> {
        let now_us = self.clock.now_us();
        let change = self.accounts.change(move |accounts| {
            let record = accounts.users().stored(user.as_str());
            let record = record.filter(|record| record.leaves_mailbox() && record.generation == generation);
            let records: Vec<AuthRecord> = record.iter().map(|old| AuthRecord::User(step(old, now_us))).collect();
            Ok(Decision { answer: !records.is_empty(), records })
        });
        change.await
    }

    /// `ALTER USER … RESTORE`.
    pub(super) async fn restore_user(&self, actor: &Principal, user: UserId) -> Result<UserAck> {
        Policy.may_administer(actor, AdminAction::ManageUsers)?;
        let (actor, now_us) = (actor.clone(), self.clock.now_us());
        let change = self.accounts.change(move |accounts| {
            let record = accounts.users().stored(user.as_str());
            let record = record.ok_or_else(|| Error::UserNotFound(user.to_string()))?;
            Policy.may_change_user(&actor, record.role)?;
            if !record.is_deleted() {
                return Err(Error::UserExists(user));
            }
            if record.mailbox != Mailbox::Kept {
                return Err(Error::NotFound(format!(
                    "the mailbox of user '{user}' is erased; CREATE USER begins anew"
                )));
            }
            let records = vec![AuthRecord::User(record.restored(now_us))];
            Ok(Decision { records, answer: UserAck::Restored(user) })
        });
        change.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::testing::{Bench, PASSWORD, REMOTE, principal, root, wire};
    use crate::auth::{NewUser, Secret, UserChange};
    use crate::model::Role;

    const GRACE: Duration = Duration::from_secs(100);

    fn alice() -> UserId {
        UserId::parse("alice").unwrap()
    }

    async fn with_dropped_alice() -> Bench {
        let bench = Bench::with_alice(Role::User).await;
        bench.auth.drop_user(&root(), alice(), false).await.unwrap();
        bench
    }

    async fn restore(bench: &Bench, actor: &Principal) -> Result<UserAck> {
        bench.auth.alter_user(actor, alice(), UserChange::Restore).await
    }

    async fn create(bench: &Bench) -> Result<UserAck> {
        let new = NewUser {
            user: alice(),
            role: Role::User,
            password: Some(Secret::new("other")),
            email: None,
            storage: Default::default(),
        };
        bench.auth.create_user(&root(), new).await
    }

    fn due(bench: &Bench) -> usize {
        bench.auth.due_to_be_erased(GRACE).len()
    }

    #[tokio::test]
    async fn a_dropped_user_comes_back_until_erasure_begins() {
        let bench = with_dropped_alice().await;
        assert_eq!(wire(restore(&bench, &principal("alice", Role::Service)).await), "PERMISSION_DENIED");
        assert_eq!(restore(&bench, &root()).await.unwrap().to_string(), "User 'alice' restored");
        assert_eq!(wire(bench.auth.login("alice", Secret::new(PASSWORD), REMOTE).await), "ok");
        let again = restore(&bench, &root()).await.unwrap_err();
        assert_eq!(again.to_string(), "Already exists: User 'alice' already exists");
        assert_eq!(wire(bench.auth.check_holder(&principal("alice", Role::User))), "INVALID_CREDENTIALS", "of before");

        bench.auth.drop_user(&root(), alice(), false).await.unwrap();
        let generation = bench.auth.leaving(&alice()).unwrap().generation;
        assert!(bench.auth.begin_erasure(alice(), generation).await.unwrap());
        let late = restore(&bench, &root()).await.unwrap_err();
        assert_eq!(late.to_string(), "Not found: the mailbox of user 'alice' is erased; CREATE USER begins anew");
        let nobody = bench.auth.alter_user(&root(), UserId::parse("nobody").unwrap(), UserChange::Restore).await;
        assert_eq!(wire(nobody), "USER_NOT_FOUND");
    }

    #[tokio::test]
    async fn a_name_is_free_once_its_mailbox_is_gone() {
        let bench = with_dropped_alice().await;
        let refused = create(&bench).await.unwrap_err();
        assert!(refused.code().retryable(), "{refused}");
        assert_eq!(bench.auth.leaving(&alice()).unwrap().generation, 1);
        assert!(!bench.auth.begin_erasure(alice(), 2).await.unwrap(), "another holder of the name");
        assert!(bench.auth.begin_erasure(alice(), 1).await.unwrap());
        assert!(create(&bench).await.is_err());
        assert!(bench.restarted().await.auth.leaving(&alice()).is_some());
        assert!(bench.auth.finish_erasure(alice(), 1).await.unwrap());
        assert!(bench.auth.leaving(&alice()).is_none());
        assert!(!bench.auth.begin_erasure(alice(), 1).await.unwrap(), "it is done");
        assert_eq!(create(&bench).await.unwrap(), UserAck::Created(alice()));
        assert!(!bench.auth.begin_erasure(alice(), 2).await.unwrap(), "the new one is not dropped");
        assert_eq!(wire(bench.auth.login("alice", Secret::new(PASSWORD), REMOTE).await), "INVALID_CREDENTIALS");
        assert_eq!(wire(bench.auth.check_holder(&bench.auth.user(&alice()).unwrap().principal())), "ok");
    }

    #[tokio::test]
    async fn erasure_is_due_after_the_grace_period_or_once_begun() {
        let bench = with_dropped_alice().await;
        bench.advance_s(99);
        assert_eq!(due(&bench), 0);
        bench.advance_s(1);
        assert_eq!(due(&bench), 1);

        let bench = with_dropped_alice().await;
        bench.auth.begin_erasure(alice(), 1).await.unwrap();
        assert_eq!((due(&bench), due(&bench.restarted().await)), (1, 1));
        bench.auth.finish_erasure(alice(), 1).await.unwrap();
        assert_eq!((due(&bench), due(&bench.restarted().await)), (0, 0));
    }
}
