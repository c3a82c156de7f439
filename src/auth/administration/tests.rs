use super::*;
use crate::auth::AuthConfig;
use crate::auth::testing::{Bench, LOCAL, PASSWORD, REMOTE, config, principal, root, wire};

fn user(name: &str) -> UserId {
    UserId::parse(name).unwrap()
}

fn setup(name: &str, password: &str, root_password: &str) -> SetupRequest {
    SetupRequest {
        user: name.to_owned(),
        password: Secret::new(password),
        root_password: Secret::new(root_password),
        email: Some("a@b".to_owned()),
    }
}

#[tokio::test]
async fn setup_rules() {
    let long = "x".repeat(73);
    for (what, request, ip, expected) in [
        ("remote", setup("admin", "kalamdb123", "kalamdb123"), REMOTE, "REMOTE_ACCESS_DENIED"),
        ("short", setup("admin", "seven77", "kalamdb123"), LOCAL, "WEAK_PASSWORD"),
        ("root short", setup("admin", "kalamdb123", "seven77"), LOCAL, "WEAK_PASSWORD"),
        ("long", setup("admin", &long, "kalamdb123"), LOCAL, "WEAK_PASSWORD"),
        ("common", setup("admin", "password123", "kalamdb123"), LOCAL, "WEAK_PASSWORD"),
        ("root", setup("root", "kalamdb123", "kalamdb123"), LOCAL, "SQL_EXECUTION_ERROR"),
        ("bad name", setup("a b", "kalamdb123", "kalamdb123"), LOCAL, "SQL_EXECUTION_ERROR"),
        ("no name", setup("", "kalamdb123", "kalamdb123"), LOCAL, "SQL_EXECUTION_ERROR"),
        ("taken", setup("alice", "kalamdb123", "kalamdb123"), LOCAL, "SQL_EXECUTION_ERROR"),
        ("good", setup("admin", "kalamdb123", "kalamdb123"), LOCAL, "ok"),
    ] {
        let bench = Bench::with_alice(Role::User).await;
        let result = bench.auth.setup(request, ip).await;
        assert_eq!(wire(result), expected, "{what}");
        assert_eq!(bench.auth.needs_setup(), expected != "ok", "{what}: both users or neither");
    }
}

#[tokio::test]
async fn setup_happens_once() {
    let bench = Bench::fresh().await;
    assert!(bench.auth.status(LOCAL).unwrap());
    assert_eq!(wire(bench.auth.status(REMOTE)), "REMOTE_ACCESS_DENIED");
    let admin = bench.auth.setup(setup("admin", "kalamdb123", "kalamdb123"), LOCAL).await.unwrap();
    assert_eq!((admin.role, admin.email.as_deref()), (Role::Dba, Some("a@b")));
    assert!(!bench.auth.status(LOCAL).unwrap());
    let again = bench.auth.setup(setup("other", "kalamdb123", "kalamdb123"), LOCAL).await;
    assert_eq!(wire(again), "ALREADY_CONFIGURED");
    assert!(!bench.restarted().await.auth.needs_setup());
}

#[tokio::test]
async fn remote_setup_can_be_allowed() {
    let bench = Bench::with(AuthConfig { allow_remote_setup: true, ..config() }).await;
    assert!(bench.auth.status(REMOTE).unwrap());
    let set_up = bench.auth.setup(setup("admin", "kalamdb123", "kalamdb123"), REMOTE).await;
    assert_eq!(wire(set_up), "ok");
}

#[tokio::test]
async fn the_configured_password_is_roots_first_and_only_first() {
    let bench = Bench::with(AuthConfig { root_password: Some(Secret::new(PASSWORD)), ..config() }).await;
    assert!(!bench.auth.needs_setup());
    assert_eq!(wire(bench.auth.login("root", Secret::new(PASSWORD), REMOTE).await), "ok");
    let hash = bench.auth.user(&UserId::root()).unwrap().password_hash.clone();
    bench.auth.boot().await.unwrap();
    assert_eq!(bench.auth.user(&UserId::root()).unwrap().password_hash, hash);

    let root = Bench::fresh().await.auth.user(&UserId::root()).unwrap();
    assert_eq!((root.role, root.auth_type), (Role::System, AuthType::Internal));
    assert_eq!(root.email.as_deref(), Some("root@localhost"));
}

#[tokio::test]
async fn messages_of_user_statements() {
    let bench = Bench::fresh().await;
    let (auth, root) = (&bench.auth, root());
    let new = || NewUser {
        user: user("x"),
        role: Role::User,
        password: Some(Secret::new("p")),
        email: None,
        storage: Default::default(),
    };
    let email = || UserChange::Email("a@b".to_owned());
    let text = |result: Result<UserAck>| result.map_or_else(|error| error.to_string(), |ack| ack.to_string());
    assert_eq!(text(auth.create_user(&root, new()).await), "User 'x' created");
    assert_eq!(text(auth.create_user(&root, new()).await), "Already exists: User 'x' already exists");
    assert_eq!(text(auth.alter_user(&root, user("x"), email()).await), "User 'x' updated");
    assert_eq!(text(auth.drop_user(&root, user("x"), false).await), "User 'x' dropped (soft delete)");
    assert_eq!(text(auth.drop_user(&root, user("x"), false).await), "Not found: User 'x' not found");
    assert_eq!(text(auth.drop_user(&root, user("x"), true).await), "User 'x' does not exist (skipped)");
    assert_eq!(text(auth.alter_user(&root, user("x"), email()).await), "Not found: User 'x' not found");
    let refused = "Conflict: the mailbox of the dropped user 'x' is being erased; try again in a moment";
    assert_eq!(text(auth.create_user(&root, new()).await), refused);
    bench.erase("x").await;
    assert_eq!(text(auth.create_user(&root, new()).await), "User 'x' created", "the name may be given out again");
}

#[tokio::test]
async fn who_may_manage_whom() {
    let bench = Bench::fresh().await;
    for (name, role) in [("u", Role::User), ("s", Role::Service), ("d", Role::Dba), ("d2", Role::Dba)] {
        bench.add(name, role).await;
    }
    let callers = [principal("u", Role::User), principal("s", Role::Service), principal("d", Role::Dba), root()];
    let new = |role: Role| {
        let user = user(&format!("new {role}"));
        NewUser { user, role, password: None, email: None, storage: Default::default() }
    };
    let reset = || UserChange::Password { new: Secret::new("other-pass"), current: None };
    for (index, caller) in callers.iter().enumerate() {
        let allowed = |least: usize| index >= least;
        let auth = &bench.auth;
        bench.erase("new user").await;
        for (what, least, result) in [
            ("create user", 1, auth.create_user(caller, new(Role::User)).await),
            ("drop it", 2, auth.drop_user(caller, user("new user"), false).await),
            ("create system", 3, auth.create_user(caller, new(Role::System)).await),
            ("demote root", 4, auth.alter_user(caller, UserId::root(), UserChange::Role(Role::User)).await),
            ("promote to system", 3, auth.alter_user(caller, user("d2"), UserChange::Role(Role::System)).await),
            ("password of root", 3, auth.alter_user(caller, UserId::root(), reset()).await),
            ("drop root", 4, auth.drop_user(caller, UserId::root(), true).await),
            ("drop oneself", 4, auth.drop_user(caller, caller.user.clone(), false).await),
            ("email of another", 2, auth.alter_user(caller, user("u"), UserChange::Email("x@y".to_owned())).await),
        ] {
            assert_eq!(result.is_ok(), allowed(least), "{what} by {}: {result:?}", caller.role);
            if let Err(error) = result {
                assert_eq!(error.code().wire(), "PERMISSION_DENIED", "{what} by {}", caller.role);
            }
        }
        // What a service makes it does not drop.
        auth.drop_user(&root(), user("new user"), true).await.unwrap();
    }
}

#[tokio::test]
async fn everyone_may_change_their_own_password_with_the_old_one() {
    let bench = Bench::with_alice(Role::User).await;
    bench.add("d", Role::Dba).await;
    let (alice, dba) = (principal("alice", Role::User), principal("d", Role::Dba));
    let change = |new: &str, current: Option<&str>| UserChange::Password {
        new: Secret::new(new),
        current: current.map(Secret::new),
    };
    for (what, caller, target, change, expected) in [
        ("without the old one", &alice, "alice", change("n", None), "PERMISSION_DENIED"),
        ("wrong old one", &alice, "alice", change("n", Some("wrong")), "PERMISSION_DENIED"),
        ("empty new one", &alice, "alice", change("", Some(PASSWORD)), "WEAK_PASSWORD"),
        ("weak new one", &alice, "alice", change("password", Some(PASSWORD)), "WEAK_PASSWORD"),
        ("another's", &alice, "d", change("n", None), "PERMISSION_DENIED"),
        ("another's, with CURRENT", &alice, "d", change("n", Some(PASSWORD)), "INVALID_INPUT"),
        ("right", &alice, "alice", change("new-pass", Some(PASSWORD)), "ok"),
        ("an administrator's own", &dba, "d", change("new-pass", None), "ok"),
        ("an administrator's own, wrong CURRENT", &dba, "d", change("n", Some("wrong")), "PERMISSION_DENIED"),
        ("an administrator's own, empty", &dba, "d", change("", None), "WEAK_PASSWORD"),
        ("reset, too long for a login", &dba, "alice", change(&"x".repeat(257), None), "WEAK_PASSWORD"),
        ("reset by an administrator", &dba, "alice", change("pw", None), "ok"),
    ] {
        assert_eq!(wire(bench.auth.alter_user(caller, user(target), change).await), expected, "{what}");
    }
    assert_eq!(wire(bench.auth.login("alice", Secret::new("pw"), REMOTE).await), "ok");
    assert_eq!(wire(bench.auth.login("d", Secret::new("new-pass"), REMOTE).await), "ok");
}

#[tokio::test]
async fn guesses_at_the_current_password_lock_the_account() {
    let bench = Bench::with_alice(Role::User).await;
    let alice = principal("alice", Role::User);
    let guess = || UserChange::Password { new: Secret::new("n"), current: Some(Secret::new("wrong")) };
    for _ in 0..5 {
        assert_eq!(wire(bench.auth.alter_user(&alice, user("alice"), guess()).await), "PERMISSION_DENIED");
    }
    assert_eq!(wire(bench.auth.alter_user(&alice, user("alice"), guess()).await), "ACCOUNT_LOCKED");
}
