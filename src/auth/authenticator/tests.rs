use std::num::NonZeroU32;

use super::*;
use crate::auth::testing::{Bench, LOCAL, PASSWORD, REMOTE, config, principal, root, wire};
use crate::auth::{SetupRequest, UserChange};
use crate::model::Role;

const HOUR_S: i64 = 3_600;

async fn login(bench: &Bench, user: &str, password: &str) -> Result<LoggedIn> {
    bench.auth.login(user, Secret::new(password), REMOTE).await
}

/// Access and refresh token of a fresh session.
async fn tokens(bench: &Bench) -> (String, String) {
    let pair = login(bench, "alice", PASSWORD).await.unwrap().tokens;
    (pair.access.expose().to_owned(), pair.refresh.expose().to_owned())
}

fn alice() -> UserId {
    UserId::parse("alice").unwrap()
}

#[tokio::test]
async fn a_login_gives_tokens_that_work_until_they_expire() {
    let bench = Bench::with_alice(Role::Service).await;
    let (access, refresh) = tokens(&bench).await;
    let session = bench.auth.authenticate_bearer(&access).unwrap();
    assert_eq!(session.principal, principal("alice", Role::Service));
    assert_eq!(bench.auth.user(&alice()).unwrap().last_login_at, Some(bench.clock.now_us()));
    assert_eq!(wire(bench.auth.authenticate_bearer(&refresh)), "INVALID_CREDENTIALS");

    bench.clock.set_us((session.ends_s().unwrap() - 1) * 1_000_000);
    assert_eq!(wire(bench.auth.authenticate_bearer(&access)), "ok");
    bench.clock.set_us(session.ends_s().unwrap() * 1_000_000);
    assert_eq!(wire(bench.auth.authenticate_bearer(&access)), "TOKEN_EXPIRED");
    assert_eq!(wire(bench.auth.recheck(&session)), "TOKEN_EXPIRED");
    let renewed = bench.auth.refresh(&refresh, REMOTE).await.unwrap();
    let renewed = bench.auth.authenticate_bearer(renewed.tokens.access.expose()).unwrap();
    assert_eq!(renewed.sid, session.sid, "a refresh stays in its session");

    bench.advance_s(7 * 24 * HOUR_S);
    assert!(matches!(bench.auth.refresh(&refresh, REMOTE).await, Err(RefreshFault::Refused(Error::TokenExpired))));
}

#[tokio::test]
async fn what_an_administrator_changes_acts_at_once() {
    enum Act {
        Drop,
        DropAndCreateAgain,
        Change(UserChange),
        Logout,
        WrongPasswords,
    }
    let role = || Act::Change(UserChange::Role(Role::User));
    let reset = || Act::Change(UserChange::Password { new: Secret::new("another-pass"), current: None });
    let email = || Act::Change(UserChange::Email("a@b".to_owned()));
    let cases = [
        ("drop", Act::Drop, "INVALID_CREDENTIALS", Some(AuthEvent::UserDropped(alice()))),
        ("drop, create", Act::DropAndCreateAgain, "INVALID_CREDENTIALS", Some(AuthEvent::UserDropped(alice()))),
        ("role", role(), "INVALID_CREDENTIALS", Some(AuthEvent::UserChanged(alice()))),
        ("password", reset(), "INVALID_CREDENTIALS", Some(AuthEvent::UserChanged(alice()))),
        ("email", email(), "ok", None),
        ("logout", Act::Logout, "INVALID_CREDENTIALS", None),
        ("five wrong passwords", Act::WrongPasswords, "ACCOUNT_LOCKED", Some(AuthEvent::UserLocked(alice()))),
    ];
    for (what, act, expected, event) in cases {
        let bench = Bench::with_alice(Role::Service).await;
        let (access, refresh) = tokens(&bench).await;
        let session = bench.auth.authenticate_bearer(&access).unwrap();
        let mut events = bench.auth.changes();
        match act {
            Act::Drop => drop(bench.auth.drop_user(&root(), alice(), false).await.unwrap()),
            Act::DropAndCreateAgain => {
                bench.auth.drop_user(&root(), alice(), false).await.unwrap();
                bench.erase("alice").await;
                bench.add("alice", Role::Service).await;
            }
            Act::Change(change) => drop(bench.auth.alter_user(&root(), alice(), change).await.unwrap()),
            Act::Logout => bench.auth.logout(&access).await.unwrap(),
            Act::WrongPasswords => {
                for _ in 0..5 {
                    assert_eq!(wire(login(&bench, "alice", "wrong").await), "INVALID_CREDENTIALS", "{what}");
                }
            }
        }
        assert_eq!(wire(bench.auth.authenticate_bearer(&access)), expected, "{what}: bearer");
        assert_eq!(wire(bench.auth.recheck(&session)), expected, "{what}: open socket");
        let refreshed = bench.auth.refresh(&refresh, REMOTE).await.is_ok();
        assert_eq!(refreshed, expected == "ok", "{what}: refresh");
        let told = events.try_recv().ok();
        if let Some(event) = event {
            assert_eq!(told, Some(event), "{what}: event");
        }
        assert_eq!(told.is_some_and(|event| session.is_concerned_by(&event)), expected != "ok", "{what}: concerned");

        let restarted = bench.restarted().await;
        assert_eq!(wire(restarted.auth.authenticate_bearer(&access)), expected, "{what}: after a restart");
    }
}

#[tokio::test]
async fn a_logout_ends_its_session_and_no_other() {
    let bench = Bench::with_alice(Role::User).await;
    let (phone, phone_refresh) = tokens(&bench).await;
    let (laptop, _) = tokens(&bench).await;
    bench.auth.logout(&phone_refresh).await.unwrap();
    assert_eq!(wire(bench.auth.authenticate_bearer(&phone)), "INVALID_CREDENTIALS");
    assert_eq!(wire(bench.auth.authenticate_bearer(&laptop)), "ok");
    assert_eq!(wire(bench.auth.logout("garbage").await), "INVALID_CREDENTIALS");

    let sid = bench.auth.accounts.revoked().expired(i64::MAX)[0];
    bench.advance_s(8 * 24 * HOUR_S);
    let (fresh, _) = tokens(&bench).await;
    bench.auth.logout(&fresh).await.unwrap();
    assert!(!bench.auth.accounts.revoked().contains(sid), "a later logout forgets what has expired");
    assert!(bench.log.records().contains(&AuthRecord::ForgottenSession(sid)));
}

#[tokio::test]
async fn a_locked_account_refuses_even_the_right_password() {
    let bench = Bench::with_alice(Role::User).await;
    for _ in 0..4 {
        assert_eq!(wire(login(&bench, "alice", "wrong").await), "INVALID_CREDENTIALS");
    }
    assert_eq!(wire(login(&bench, "alice", PASSWORD).await), "ok", "the right one resets the count");
    for _ in 0..5 {
        assert_eq!(wire(login(&bench, "alice", "wrong").await), "INVALID_CREDENTIALS");
    }
    for (after_s, expected) in [(0, Some(15)), (60, Some(14)), (14 * 60, Some(1))] {
        let locked = bench.restarted().await;
        locked.advance_s(after_s);
        let refused = login(&locked, "alice", PASSWORD).await.err();
        locked.advance_s(-after_s);
        let minutes = match refused {
            Some(Error::AccountLocked { minutes }) => Some(minutes),
            _ => None,
        };
        assert_eq!(minutes, expected, "after {after_s} s, restarted");
    }
    bench.advance_s(15 * 60);
    assert_eq!(wire(login(&bench, "alice", PASSWORD).await), "ok");
}

#[tokio::test]
async fn many_guesses_at_once_are_worth_no_more_than_five() {
    for by in ["login", "basic", "current"] {
        let bench = Bench::with_alice(Role::User).await;
        let guess = |password: String| {
            let auth = Arc::clone(&bench.auth);
            let password = Secret::new(password);
            async move {
                match by {
                    "login" => auth.login("alice", password, REMOTE).await.is_ok(),
                    "basic" => auth.authenticate_basic("alice", password, REMOTE).await.is_ok(),
                    _ => {
                        let change = UserChange::Password { new: Secret::new("kalamdb123"), current: Some(password) };
                        auth.alter_user(&principal("alice", Role::User), alice(), change).await.is_ok()
                    }
                }
            }
        };
        let wrong = (0..29).map(|i| guess(format!("guess-{i}")));
        let results = futures_util::future::join_all(wrong).await;
        assert!(results.iter().all(|worked| !worked), "{by}");
        assert!(!guess(PASSWORD.to_owned()).await, "{by}: the right one came behind the lock");
        assert_eq!(bench.auth.user(&alice()).unwrap().failed_login_attempts, 5, "{by}");
    }
}

#[tokio::test]
async fn the_authorization_header() {
    let bench = Bench::with_alice(Role::User).await;
    let (access, _) = tokens(&bench).await;
    let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
    let right = basic(&format!("alice:{PASSWORD}"));
    for (header, expected) in [
        (None, "MISSING_AUTHORIZATION"),
        (Some(format!("Bearer {access}")), "ok"),
        (Some(format!("bearer  {access}")), "ok"),
        (Some(format!("Token {access}")), "INVALID_CREDENTIALS"),
        (Some(access.clone()), "INVALID_CREDENTIALS"),
        (Some("Bearer".to_owned()), "INVALID_CREDENTIALS"),
        (Some("Bearer nonsense".to_owned()), "INVALID_CREDENTIALS"),
        (Some(right.clone()), "ok"),
        (Some(right.replace("Basic", "BASIC")), "ok"),
        (Some(basic("alice:wrong")), "INVALID_CREDENTIALS"),
        (Some(basic("nobody:wrong")), "INVALID_CREDENTIALS"),
        (Some(basic("alice")), "INVALID_CREDENTIALS"),
        (Some(basic("root:")), "REMOTE_ACCESS_DENIED"),
        (Some("Basic !!!".to_owned()), "INVALID_CREDENTIALS"),
        (Some(String::new()), "INVALID_CREDENTIALS"),
    ] {
        let result = bench.auth.authenticate_header(header.as_deref(), REMOTE).await;
        assert_eq!(wire(result), expected, "{header:?}");
    }
    assert_eq!(wire(bench.auth.authenticate_header(Some(&basic("root:")), LOCAL).await), "SETUP_REQUIRED");
}

#[tokio::test]
async fn remembered_basic_credentials_end_with_the_user_and_the_password() {
    let bench = Bench::with_alice(Role::User).await;
    let basic = || bench.auth.authenticate_basic("alice", Secret::new(PASSWORD), REMOTE);
    assert_eq!(wire(basic().await), "ok");
    assert_eq!(wire(basic().await), "ok");
    let change = UserChange::Password { new: Secret::new("another-pass"), current: Some(Secret::new(PASSWORD)) };
    bench.auth.alter_user(&principal("alice", Role::User), alice(), change).await.unwrap();
    assert_eq!(wire(basic().await), "INVALID_CREDENTIALS");
    bench.auth.drop_user(&root(), alice(), false).await.unwrap();
    assert_eq!(wire(basic().await), "INVALID_CREDENTIALS");
}

#[tokio::test]
async fn rates_are_kept() {
    let slow = AuthConfig { login_rate_per_ip: NonZeroU32::MIN, query_rate_per_user: NonZeroU32::MIN, ..config() };
    let bench = Bench::with(slow).await;
    bench.add("alice", Role::User).await;
    assert_eq!(wire(bench.auth.admit_login(REMOTE)), "ok");
    assert_eq!(wire(login(&bench, "alice", PASSWORD).await), "RATE_LIMIT_EXCEEDED");
    let from_here = bench.auth.authenticate_basic("alice", Secret::new(PASSWORD), LOCAL).await;
    assert_eq!(wire(from_here), "ok", "another address is another rate");
    let again = bench.auth.authenticate_basic("alice", Secret::new(PASSWORD), LOCAL).await;
    assert_eq!(wire(again), "ok", "remembered credentials cost no login");

    let alice = principal("alice", Role::User);
    assert_eq!(wire(bench.auth.admit_request(&alice)), "ok");
    assert_eq!(wire(bench.auth.admit_request(&alice)), "RATE_LIMIT_EXCEEDED");
    assert_eq!(wire(bench.auth.admit_request(&root())), "ok");
}

#[tokio::test]
async fn refresh_says_why_not() {
    let bench = Bench::with_alice(Role::User).await;
    let (access, refresh) = tokens(&bench).await;
    let fault = async || bench.auth.refresh(&refresh, REMOTE).await.unwrap_err().to_string();
    let wrong_type = bench.auth.refresh(&access, REMOTE).await.unwrap_err().to_string();
    assert_eq!(wrong_type, "Refresh endpoint requires a refresh token");
    bench.auth.alter_user(&root(), alice(), UserChange::Role(Role::Dba)).await.unwrap();
    assert_eq!(fault().await, "The user's role has changed; log in again");
    bench.auth.drop_user(&root(), alice(), false).await.unwrap();
    assert_eq!(fault().await, "User no longer valid");
}

#[tokio::test]
async fn ones_own_new_password_ends_the_others_at_their_next_refresh() {
    let bench = Bench::with_alice(Role::User).await;
    let (access, refresh) = tokens(&bench).await;
    let change = UserChange::Password { new: Secret::new("another-pass"), current: Some(Secret::new(PASSWORD)) };
    bench.auth.alter_user(&principal("alice", Role::User), alice(), change).await.unwrap();
    assert_eq!(wire(bench.auth.authenticate_bearer(&access)), "ok");
    assert!(bench.auth.refresh(&refresh, REMOTE).await.is_err());
    assert_eq!(wire(login(&bench, "alice", PASSWORD).await), "INVALID_CREDENTIALS");
    assert_eq!(wire(login(&bench, "alice", "another-pass").await), "ok");
}

#[tokio::test]
async fn root_without_a_password_is_for_this_machine_to_set_up() {
    let bench = Bench::fresh().await;
    let as_root = async |password: &str, ip| wire(bench.auth.login("root", Secret::new(password), ip).await);
    assert_eq!(as_root("", REMOTE).await, "REMOTE_ACCESS_DENIED");
    assert_eq!(as_root("guess", REMOTE).await, "REMOTE_ACCESS_DENIED");
    assert_eq!(as_root("", LOCAL).await, "SETUP_REQUIRED");
    for _ in 0..9 {
        assert_eq!(
            as_root("guess", LOCAL).await,
            "INVALID_CREDENTIALS",
            "and nothing is locked before there is a password"
        );
    }
    let setup = SetupRequest {
        user: "admin".to_owned(),
        password: Secret::new("kalamdb123"),
        root_password: Secret::new("kalamdb456"),
        email: None,
    };
    bench.auth.setup(setup, LOCAL).await.unwrap();
    assert_eq!(as_root("kalamdb456", REMOTE).await, "ok");
    assert_eq!(as_root("", REMOTE).await, "INVALID_CREDENTIALS");
}

#[tokio::test]
async fn execute_as_does_not_tell_who_exists() {
    let bench = Bench::with_alice(Role::User).await;
    bench.add("bob", Role::Dba).await;
    let user = |name: &str| UserId::parse(name).unwrap();
    let (alice, bob, nobody) = (user("alice"), user("bob"), user("nobody"));
    let (plain, dba) = (principal("alice", Role::User), principal("bob", Role::Dba));
    for (caller, target, expected) in [
        (&plain, ActAs::User(&alice), "ok"),
        (&plain, ActAs::User(&bob), "PERMISSION_DENIED"),
        (&plain, ActAs::User(&nobody), "PERMISSION_DENIED"),
        (&plain, ActAs::All, "PERMISSION_DENIED"),
        (&dba, ActAs::User(&alice), "ok"),
        (&dba, ActAs::User(&nobody), "USER_NOT_FOUND"),
        (&dba, ActAs::User(&UserId::root()), "PERMISSION_DENIED"),
        (&dba, ActAs::All, "ok"),
    ] {
        assert_eq!(wire(bench.auth.execute_as(caller, target)), expected, "{} as {target:?}", caller.user);
    }
}

/// What can be told apart by the time it takes is work: a password's hash (see `password`), and commits.
#[tokio::test]
async fn a_wrong_password_costs_the_same_whoever_it_is_for() {
    let bench = Bench::with_alice(Role::User).await;
    bench.add("gone", Role::User).await;
    bench.auth.drop_user(&root(), UserId::parse("gone").unwrap(), false).await.unwrap();
    let robot = UserId::parse("robot").unwrap();
    let robot = crate::auth::NewUser {
        user: robot,
        role: Role::User,
        password: None,
        email: None,
        storage: Default::default(),
    };
    bench.auth.create_user(&root(), robot).await.unwrap();
    // What was written, and its bytes but for the name: that stands twice in a user's entry, and is withheld from a stranger's.
    let written = |user: &str, records: &[AuthRecord]| -> (Vec<String>, usize) {
        let name = |entry: &AuditEntry| entry.actor.len() + entry.target.len();
        let mut bytes = 0;
        let kinds = records.iter().map(|record| {
            let AuthRecord::Audit(entry) = record else { panic!("{user}: more than entries is written: {record:?}") };
            bytes += record.key().len() + record.value().unwrap().unwrap().len() - name(entry);
            entry.action.clone()
        });
        (kinds.collect(), bytes)
    };
    for attempt in 1..=7 {
        let mut told = Vec::new();
        for user in ["alice", "robot", "gone", "nobody"] {
            let before = (bench.log.commits(), bench.log.records().len());
            let answer = wire(login(&bench, user, "wrong").await);
            let (kinds, bytes) = written(user, &bench.log.records()[before.1..]);
            told.push((answer, bench.log.commits() - before.0, kinds, bytes));
        }
        let first = told[0].clone();
        assert!(told.iter().all(|one| *one == first), "attempt {attempt}: {told:?}");
        let (answer, commits, kinds, _) = first;
        let expected: (&str, usize, &[&str]) = match attempt {
            1..=4 => ("INVALID_CREDENTIALS", 1, &["LOGIN_FAILED"]),
            5 => ("INVALID_CREDENTIALS", 1, &["LOGIN_FAILED", "ACCOUNT_LOCKED"]),
            _ => ("ACCOUNT_LOCKED", 0, &[]),
        };
        assert_eq!((answer, commits), (expected.0, expected.1), "attempt {attempt}");
        assert_eq!(kinds, expected.2, "attempt {attempt}");
    }
    // Behind it: the one who is there, once.
    let before = bench.log.records().len();
    bench.auth.write_failed_logins().await.unwrap();
    bench.auth.write_failed_logins().await.unwrap();
    let records = bench.log.records();
    let [AuthRecord::User(alice)] = &records[before..] else { panic!("{:?}", &records[before..]) };
    assert_eq!((alice.user_id.as_str(), alice.failed_login_attempts), ("alice", 5));
}
