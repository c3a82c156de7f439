//! Who exists, and what is their password? How often a guess costs the same is told in `auth`'s own tests, and how long it
//! takes is measured by the load tests.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::Target;
use crate::http::Client;
use crate::server::{PASSWORD, Server};

fn log_in(client: &mut Client, user: &str, password: &str) -> (u16, Value) {
    let answer = client.post("/v1/api/auth/login", &json!({ "user": user, "password": password }));
    (answer.status, answer.json())
}

/// Proves that no answer says whether a name is a user's: of a user, a user without a password, a dropped one and nobody,
/// each of nine wrong log-ins is answered alike, the lock included.
#[test]
fn names_are_not_told_apart() {
    let mut target = Target::new(&[]);
    target.admin.sql("CREATE USER 'robot' WITH INTERNAL ROLE service");
    target.admin.sql(&format!("CREATE USER 'gone' WITH PASSWORD '{PASSWORD}' ROLE user"));
    target.admin.sql("DROP USER 'gone'");
    let mut client = target.server.client();
    let mut answers = |user: &str| (0..9).map(|_| log_in(&mut client, user, "wrong")).collect::<Vec<_>>();
    let of_alice = answers("alice");
    assert!(of_alice[4].1["error"] == "unauthorized" && of_alice[5].1["error"] == "account_locked", "{of_alice:?}");
    for user in ["robot", "gone", "nobody", "Alice"] {
        assert_eq!(answers(user), of_alice, "{user}");
    }
}

/// Proves that statements tell those who may not act for others nothing of who exists.
#[test]
fn statements_do_not_tell_names_apart() {
    let mut target = Target::new(&[]);
    let mut told = |sql: String, user: &str| target.alice.refused(&sql).to_string().replace(user, "USER");
    for sql in ["EXECUTE AS USER 'USER' (SELECT 1)", "DROP USER 'USER'", "ALTER USER 'USER' SET ROLE user"] {
        let mut of = |user: &str| told(sql.replace("USER'", &format!("{user}'")), user);
        assert_eq!(of("bob"), of("nobody"), "{sql}");
    }
}

/// Proves that guessing in parallel gains nothing: behind the guess that locks the account, the right password opens nothing
/// either, from any connection, and after a restart.
#[test]
fn guessing_in_parallel_locks_once_and_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_over(folder.path(), &[]);
    let mut admin = server.set_up();
    server.new_user(&mut admin, "alice", "user");
    let wrong = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                let mut client = server.client();
                for _ in 0..5 {
                    // BUSY is an answer as well.
                    if log_in(&mut client, "alice", "wrong").0 == 401 {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert!(wrong.load(Ordering::Relaxed) >= 5);
    let locked = log_in(&mut server.client(), "alice", PASSWORD);
    assert_eq!((locked.0, locked.1["error"].clone()), (401, json!("account_locked")));
    let row =
        admin.rows("SELECT failed_login_attempts, locked_until IS NOT NULL FROM system.users WHERE user_id = 'alice'");
    assert_eq!(row, json!([[5, true]]), "no guess counts behind the lock");
    // A lock is written behind its answer, so that the answer does not tell of it; this comes behind that.
    admin.sql("ALTER USER 'admin' SET EMAIL 'a@b'");
    server.kill();
    let again = Server::start_over(folder.path(), &[]);
    assert_eq!(log_in(&mut again.client(), "alice", PASSWORD).1["error"], "account_locked");
}
