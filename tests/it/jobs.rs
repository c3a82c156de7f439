//! Jobs of the real program: cut off by kill -9 at any moment, waited for and cancelled when it stops, killed by SQL.
//!
//! Invariants: what is dropped is gone in the end, whatever happens on the way; who comes later finds nothing of it; what
//! others have is untouched.

use std::path::Path;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use inboxdb::actors::Fatal;
use inboxdb::database::request::{Outcome, SqlRequest};
use inboxdb::database::{Database, DatabaseOptions};
use inboxdb::live::database::LiveDatabase as _;
use inboxdb::live::{Format, Outbox, OutboxLimits, Subscriber};
use inboxdb::model::{Owner, PartitionKey, Principal, TableId, UserId};
use inboxdb::storage::{EraseScope, RecordKind, Store};
use inboxdb::time::Clock;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::http::Client;
use crate::random::Random;
use crate::server::{PASSWORD, Server, eventually};

/// Enough for a job to be cut off in the middle: some hundred steps.
const ROWS: usize = 60_000;
const KILLS: usize = 4;

/// What was cut off goes on at once.
const EAGER: &str = "jobs.retry_backoff=1ms";
/// As often as it is cut off.
const PATIENT: &str = "jobs.max_retries=20";

fn fill(client: &mut Client, table: &str) {
    let rows = ROWS / 4;
    for part in 0..4 {
        let (from, to) = (part * rows + 1, (part + 1) * rows);
        let select = format!("SELECT value, 'row ' || value FROM generate_series({from}, {to})");
        client.sql(&format!("INSERT INTO {table} {select}"));
    }
}

fn count(client: &mut Client, from: &str) -> u64 {
    client.rows(&format!("SELECT count(*) FROM {from}"))[0][0].as_str().unwrap().parse().unwrap()
}

/// `job_type status` of each job, oldest first.
fn jobs(admin: &mut Client) -> Vec<String> {
    let rows = admin.rows("SELECT job_type, status FROM system.jobs ORDER BY created_at, job_id");
    rows.as_array().unwrap().iter().map(|row| format!("{} {}", text(&row[0]), text(&row[1]))).collect()
}

fn text(cell: &Value) -> &str {
    cell.as_str().unwrap()
}

fn table_id(admin: &mut Client, table: &str) -> TableId {
    // The job's parameters are where an id is seen.
    let sql = format!("SELECT parameters FROM system.jobs WHERE parameters LIKE '%\"table_name\":\"{table}\"%'");
    let parameters: Value = serde_json::from_str(text(&admin.rows(&sql)[0][0])).unwrap();
    TableId(u32::try_from(parameters["table_id"].as_u64().unwrap()).unwrap())
}

/// Kills and restarts the server a few times while it is at its jobs; then lets them end.
fn kill_again_and_again(data: &Path, server: Server, settings: &[&str], random: &mut Random) -> Server {
    let mut server = server;
    for _ in 0..KILLS {
        std::thread::sleep(Duration::from_micros(random.within(0..150_000)));
        server.kill();
        server = Server::start_over(data, settings);
    }
    eventually("the jobs end", || (unfinished(&server) == 0).then_some(()));
    let cut_off = server.log_in("admin").rows("SELECT sum(retry_count) > 0 FROM system.jobs");
    assert_eq!(cut_off, json!([[true]]), "no job was cut off while it ran");
    server
}

fn unfinished(server: &Server) -> u64 {
    let open = "system.jobs WHERE status NOT IN ('completed', 'failed', 'skipped', 'cancelled')";
    count(&mut server.log_in("admin"), open)
}

/// Opens the folder of a server that has ended, and finds nothing of `scope`.
fn nothing_is_left(data: &Path, scopes: &[EraseScope]) {
    let (store, _) = Store::open(data, 1 << 20).unwrap();
    for scope in scopes {
        assert!(store.eraser(scope.clone()).next_keys(1).unwrap().is_empty(), "{scope:?}");
    }
    assert!(store.records(RecordKind::DroppedTable).unwrap().is_empty());
}

fn stop(mut server: Server) {
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
}

#[test]
fn a_cleanup_goes_on_after_every_kill() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = Random::new(Random::seed("cleanup"));
    let server = Server::start_over(&data, &[EAGER, PATIENT]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE k; CREATE TABLE k.old (id BIGINT PRIMARY KEY, v TEXT)");
    admin.sql("CREATE TABLE k.other (id BIGINT PRIMARY KEY, v TEXT); INSERT INTO k.other VALUES (1, 'x')");
    fill(&mut admin, "k.old");
    admin.sql("DROP TABLE k.old; CREATE TABLE k.old (id BIGINT PRIMARY KEY, v TEXT)");
    admin.sql("INSERT INTO k.old VALUES (7, 'new')");
    let server = kill_again_and_again(&data, server, &[EAGER, PATIENT], &mut random);
    let mut admin = server.log_in("admin");
    let jobs = jobs(&mut admin);
    assert_eq!(jobs.last().map(String::as_str), Some("cleanup completed"), "{jobs:?}");
    assert_eq!(admin.rows("SELECT id, v FROM k.old"), json!([["7", "new"]]), "the new table of that name");
    assert_eq!(count(&mut admin, "k.other"), 1);
    let old = table_id(&mut admin, "old");
    stop(server);
    nothing_is_left(&data, &[EraseScope::Table(old)]);
}

#[test]
fn an_erased_mailbox_is_gone_after_every_kill_and_the_next_one_is_empty() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = Random::new(Random::seed("erase"));
    let at_once = &["user_management.deletion_grace_period=0s", EAGER, PATIENT];
    let server = Server::start_over(&data, at_once);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE k; CREATE USER TABLE k.mail (id BIGINT PRIMARY KEY, v TEXT)");
    admin.sql("CREATE USER TABLE k.notes (id BIGINT PRIMARY KEY, v TEXT)");
    let (mut ann, mut ben) = (server.new_user(&mut admin, "ann", "user"), server.new_user(&mut admin, "ben", "user"));
    fill(&mut ann, "k.mail");
    ann.sql("INSERT INTO k.notes VALUES (1, 'a'), (2, 'b'); UPDATE k.notes SET v = 'c' WHERE id = 1");
    ben.sql("INSERT INTO k.mail VALUES (1, 'of ben'); INSERT INTO k.notes VALUES (1, 'of ben')");
    ann.sql("DELETE FROM k.mail WHERE id < 100");
    admin.sql("DROP USER ann");
    let server = kill_again_and_again(&data, server, at_once, &mut random);
    let mut admin = server.log_in("admin");
    let jobs = jobs(&mut admin);
    assert_eq!(jobs.last().map(String::as_str), Some("user_cleanup completed"), "{jobs:?}");
    let mut ann = server.new_user(&mut admin, "ann", "user");
    let mut ben = server.log_in("ben");
    for (table, feed) in [("k.mail", 1), ("k.notes", 1)] {
        assert_eq!((count(&mut ann, table), count(&mut ben, table)), (0, 1), "{table}");
        assert_eq!(count(&mut ann, &format!("{table} WHERE _deleted")), 0);
        let all = admin.rows(&format!("EXECUTE AS USER '*' (SELECT _user_id FROM {table})"));
        assert_eq!(all.as_array().unwrap().len(), feed, "{table}: {all}");
    }
    ann.sql("INSERT INTO k.mail VALUES (1, 'of the new ann')");
    assert_eq!(ann.rows("SELECT id, v FROM k.mail"), json!([["1", "of the new ann"]]));
    // What the second one wrote goes with her; then nothing of either is there.
    admin.sql("DROP USER ann");
    eventually("the second ann is erased", || (unfinished(&server) == 0).then_some(()));
    stop(server);
    let ann = Owner::User(UserId::parse("ann").unwrap());
    let scopes: Vec<EraseScope> =
        (1..=2).map(|id| EraseScope::Partition(PartitionKey { table: TableId(id), owner: ann.clone() })).collect();
    nothing_is_left(&data, &scopes);
}

#[test]
fn create_user_waits_for_the_mailbox_of_the_one_before() {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE k; CREATE USER TABLE k.mail (id BIGINT PRIMARY KEY, v TEXT)");
    let mut old = server.new_user(&mut admin, "ann", "user");
    fill(&mut old, "k.mail");
    admin.sql("DROP USER ann");
    assert_eq!(old.refused("SELECT * FROM k.mail").code, "INVALID_CREDENTIALS");
    let create = json!({ "sql": format!("CREATE USER ann WITH PASSWORD '{PASSWORD}' ROLE user") });
    // A slow machine may not make it in the five seconds that the statement waits: then it says to come again.
    eventually("the name is free", || match admin.try_sql(&create) {
        Ok(_) => Some(()),
        Err(failure) => {
            assert_eq!(failure.sqlstate, "40001", "{failure}");
            None
        }
    });
    assert_eq!(count(&mut server.log_in("ann"), "k.mail"), 0);
    assert_eq!(old.refused("SELECT * FROM k.mail").code, "INVALID_CREDENTIALS", "the old token is not the new one's");
    assert_eq!(jobs(&mut admin), ["user_cleanup completed"]);
}

/// What a statement answers: rows, or its error's code.
async fn run(database: &Database, principal: &Principal, sql: &str) -> String {
    let request = SqlRequest { sql: sql.to_owned(), ..SqlRequest::default() };
    match database.execute(principal, request).await {
        Err(failed) => failed.error.code().wire().to_owned(),
        Ok(mut response) => match response.results.remove(0).outcome {
            Outcome::Done { message, .. } => message,
            Outcome::Rows(rows) => {
                let batches: Vec<_> = rows.batches.try_collect().await.unwrap();
                format!("{} row(s)", batches.iter().map(|batch| batch.num_rows()).sum::<usize>())
            }
        },
    }
}

/// A request that was authenticated before its user was dropped may come to run after the name has another holder.
#[test]
fn a_late_statement_of_the_one_before_reaches_nothing_of_the_next() {
    let folder = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let mut options = DatabaseOptions::at(folder.path());
        options.auth.argon2.memory = bytesize::ByteSize::kib(8);
        options.auth.argon2.iterations = 1;
        let fatal = Fatal::new(|reason| panic!("the database gave up: {reason}"));
        let database = Database::open(options, Clock::system(), fatal).await.unwrap();
        let of = |user: &str| database.auth().user(&UserId::parse(user).unwrap()).unwrap().principal();
        let root = of("root");
        for sql in [
            "CREATE NAMESPACE k",
            "CREATE USER TABLE k.mail (id BIGINT PRIMARY KEY, v TEXT)",
            "CREATE USER ann WITH PASSWORD 'a good long password' ROLE user",
        ] {
            run(&database, &root, sql).await;
        }
        let old = of("ann");
        assert_eq!(run(&database, &old, "INSERT INTO k.mail VALUES (1, 'old')").await, "Inserted 1 row(s)");
        let target = database.compile(&old, "SELECT * FROM k.mail").await.unwrap().into_table().unwrap();
        assert!(database.open_readers(std::slice::from_ref(&target)).await.is_ok());

        run(&database, &root, "DROP USER ann").await;
        let create = "CREATE USER ann WITH PASSWORD 'a good long password' ROLE user";
        assert_eq!(run(&database, &root, create).await, "User 'ann' created");
        let new = of("ann");
        assert_eq!(run(&database, &new, "SELECT * FROM k.mail").await, "0 row(s)");
        assert_eq!(run(&database, &new, "INSERT INTO k.mail VALUES (1, 'new')").await, "Inserted 1 row(s)");
        for sql in [
            "INSERT INTO k.mail VALUES (2, 'late')",
            "UPDATE k.mail SET v = 'late' WHERE id = 1",
            "UPDATE k.mail SET v = v || '!' WHERE v LIKE '%'",
            "DELETE FROM k.mail WHERE id = 1",
            "SELECT * FROM k.mail WHERE id = 1",
            "SELECT * FROM k.mail",
            "EXECUTE AS USER 'ann' (SELECT count(*) FROM k.mail)",
        ] {
            let (late, right) = (run(&database, &old, sql).await, run(&database, &new, sql).await);
            assert_eq!(late, "INVALID_CREDENTIALS", "{sql}");
            assert_ne!(right, "INVALID_CREDENTIALS", "{sql}");
        }
        let view = database.open_readers(std::slice::from_ref(&target)).await;
        assert!(view.is_err(), "it would read the new one's rows");
        let outbox = Outbox::new(OutboxLimits { events: 9, bytes: 999 });
        let key = database.live().next_key();
        let subscriber = Subscriber { key, format: Format::Json, outbox, of_many: false };
        assert!(database.attach(&target, subscriber).await.is_err(), "it would be told of them");
        assert!(database.compile(&old, "SELECT * FROM k.mail").await.is_err());
        database.shutdown().await;
    });
}

/// A server with a large table, dropped this moment, and its job running.
fn with_running_cleanup(data: &Path) -> (Server, Client, String) {
    let server = Server::start_over(data, &[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE k; CREATE TABLE k.t (id BIGINT PRIMARY KEY, v TEXT)");
    fill(&mut admin, "k.t");
    admin.sql("DROP TABLE k.t");
    let running = "SELECT job_id FROM system.jobs WHERE status = 'running'";
    let id = eventually("the job runs", || Some(admin.rows(running)[0][0].as_str()?.to_owned()));
    (server, admin, id)
}

#[test]
fn a_stop_waits_for_running_jobs_and_says_which() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (mut server, _, id) = with_running_cleanup(&data);
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(0), "{}", server.log());
    let log = server.log();
    assert!(log.lines().any(|line| line.contains("waiting for a job") && line.contains(&id)), "{log}");
    let server = Server::start_over(&data, &[]);
    assert_eq!(jobs(&mut server.log_in("admin")), ["cleanup completed"]);
}

#[test]
fn a_second_signal_cancels_them_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (mut server, _, id) = with_running_cleanup(&data);
    server.signal(Signal::TERM);
    eventually("it waits for the job", || server.log().contains("waiting for a job").then_some(()));
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(130), "{}", server.log());
    let server = Server::start_over(&data, &[]);
    let mut admin = server.log_in("admin");
    let row = admin.rows(&format!("SELECT status, message FROM system.jobs WHERE job_id = '{id}'"));
    assert_eq!(row, json!([["cancelled", "a second signal stopped the server"]]));
    eventually("another job does the rest", || {
        (jobs(&mut admin) == ["cleanup cancelled", "cleanup completed"]).then_some(())
    });
}

#[test]
fn a_killed_job_stays_so_until_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (server, mut admin, id) = with_running_cleanup(&data);
    let killed = admin.sql(&format!("KILL JOB '{id}'"));
    assert_eq!(killed[0]["message"], format!("Job {id} killed: cancelled"));
    let row =
        admin.rows(&format!("SELECT status, message, finished_at IS NULL FROM system.jobs WHERE job_id = '{id}'"));
    assert_eq!(row, json!([["cancelled", "killed by admin", false]]));
    assert_eq!(admin.refused(&format!("KILL JOB '{id}'")).sqlstate, "22023");
    let nodes = admin.rows("SELECT job_id, status FROM system.job_nodes");
    assert_eq!(nodes, json!([[id, "cancelled"]]));
    stop(server);
    let server = Server::start_over(&data, &[]);
    let mut admin = server.log_in("admin");
    eventually("another job does the rest", || {
        (jobs(&mut admin) == ["cleanup cancelled", "cleanup completed"]).then_some(())
    });
    let old = table_id(&mut admin, "t");
    stop(server);
    nothing_is_left(&data, &[EraseScope::Table(old)]);
}
