//! How streams begin, go on over crashes, and end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{TABLE, TEXT, World, code, head, next_offset, path, post, produce, put, refused, rows, send, texts};
use crate::http::Client;
use crate::server::{Server, eventually};

#[test]
fn a_stream_with_its_own_time_ends_when_nobody_uses_it() {
    let mut world = World::new(&[]);
    let idle = [TEXT, ("Stream-TTL", "1")];
    send(&mut world.alice, &format!("PUT {}", path("a")), &idle, "text");
    let started = Instant::now();
    // Reading keeps it.
    while started.elapsed() < Duration::from_millis(2_500) {
        assert_eq!(world.alice.get(&path("a")).status, 200);
        thread::sleep(Duration::from_millis(20));
    }
    let idle_since = Instant::now();
    loop {
        let head = head(&world, &world.alice, "a");
        if head.status == 404 {
            break;
        }
        assert_eq!((head.status, head.header("stream-ttl")), (200, Some("1")));
        assert!(idle_since.elapsed() < Duration::from_secs(20), "looking does not keep it");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(idle_since.elapsed() >= Duration::from_millis(950), "{:?}", idle_since.elapsed());
    assert_eq!(refused(&post(&mut world.alice, "a", "x")), code(404, "STREAM_NOT_FOUND"));
    // Its key is free, and nothing of before is read.
    assert_eq!(put(&mut world.alice, "a").status, 201);
    assert_eq!(world.alice.get(&path("a")).body, "");
    let both = [TEXT, ("Stream-TTL", "1"), ("Stream-Expires-At", "2030-01-01T00:00:00Z")];
    let refusal = send(&mut world.alice, &format!("PUT {}", path("b")), &both, "");
    assert_eq!(refused(&refusal), code(400, "INVALID_INPUT"));
}

#[test]
fn a_fork_holds_what_it_reads() {
    let mut world = World::new(&[]);
    put(&mut world.alice, "a");
    let branch = next_offset(&post(&mut world.alice, "a", "one "));
    post(&mut world.alice, "a", "two ");
    let source = path("a");
    let fork = [TEXT, ("Stream-Forked-From", source.as_str()), ("Stream-Fork-Offset", &branch)];
    assert_eq!(send(&mut world.alice, &format!("PUT {}", path("f")), &fork, "").status, 201);
    post(&mut world.alice, "f", "other");
    assert_eq!(world.alice.get(&path("f")).body, "one other");
    assert_eq!(send(&mut world.bob, &format!("PUT {}", path("f")), &fork, "").status, 404, "not his");
    assert_eq!(send(&mut world.alice, &format!("DELETE {}", path("a")), &[], "").status, 204);
    assert_eq!(refused(&world.alice.get(&path("a"))), code(410, "STREAM_GONE"));
    assert_eq!(refused(&put(&mut world.alice, "a")), code(409, "STREAM_CONFLICT"));
    assert_eq!(world.alice.get(&path("f")).body, "one other");
    assert_eq!(send(&mut world.alice, &format!("DELETE {}", path("f")), &[], "").status, 204);
    assert_eq!(world.alice.get(&path("a")).status, 404, "the last one let go");
    assert_eq!(rows(&mut world.alice), json!([]), "and the rows of both are gone");
    assert_eq!(put(&mut world.alice, "a").status, 201);
}

#[test]
fn an_altered_table_serves_its_streams_on() {
    let mut world = World::new(&[]);
    put(&mut world.alice, "a");
    post(&mut world.alice, "a", "before ");
    world.admin.sql("ALTER TABLE s.t ADD COLUMN n INT DEFAULT 5");
    post(&mut world.alice, "a", "behind");
    assert_eq!(world.alice.get(&path("a")).body, "before behind");
    world.admin.sql("DROP TABLE s.t");
    assert_eq!(refused(&world.alice.get(&path("a"))), code(404, "TABLE_NOT_FOUND"));
    world.admin.sql(TABLE);
    assert_eq!(world.alice.get(&path("a")).status, 404, "the name again is another table");
}

#[test]
fn a_dropped_users_streams_are_not_the_next_ones() {
    let mut world = World::new(&["user_management.deletion_grace_period=1s"]);
    put(&mut world.bob, "a");
    post(&mut world.bob, "a", "his");
    world.admin.sql("DROP USER 'bob'");
    let started = Instant::now();
    let mut bob = loop {
        let made =
            world.admin.try_sql(&json!({"sql": "CREATE USER 'bob' WITH PASSWORD 'a long enough password' ROLE user"}));
        if made.is_ok() {
            break world.server.log_in("bob");
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{made:?}");
        thread::sleep(Duration::from_millis(50));
    };
    assert_eq!(refused(&bob.get(&path("a"))), code(404, "STREAM_NOT_FOUND"));
    assert_eq!(rows(&mut bob), json!([]));
}

/// Sends its requests in order, each when the one before is answered, for as long as the server is there.
fn produce_on(client: &mut Client, acknowledged: &AtomicU64) {
    loop {
        let seq = acknowledged.load(Ordering::Acquire);
        let body = format!("{seq};");
        let (number, epoch) = (seq.to_string(), "0");
        let headers = [TEXT, ("Producer-Id", "p"), ("Producer-Epoch", epoch), ("Producer-Seq", &number)];
        match client.request(&format!("POST {}", path("a")), &headers, body.as_bytes()) {
            Ok(answer) if answer.status == 200 || answer.status == 204 => {}
            Ok(answer) => panic!("{answer:?}"),
            Err(_) => return,
        }
        acknowledged.store(seq + 1, Ordering::Release);
    }
}

/// Whatever was acknowledged is there once, whatever was not is there once or not at all; and what is remembered of the
/// producer is of the same moment as the rows.
#[test]
fn a_producer_goes_on_behind_a_crash_without_a_gap_or_a_double() {
    let data = tempfile::tempdir().unwrap();
    let told = AtomicU64::new(0);
    for round in 0..6u64 {
        let acknowledged = told.load(Ordering::Acquire);
        let server = Server::start_over(data.path(), &[]);
        let mut client = if round == 0 {
            let mut admin = server.set_up();
            admin.sql("CREATE NAMESPACE s");
            admin.sql(TABLE);
            put(&mut admin, "a");
            admin
        } else {
            server.log_in("admin")
        };
        // The one before the crash may have been written: it is sent again, and is there once.
        if acknowledged > 0 {
            let again = produce(&mut client, "a", (0, acknowledged - 1), &format!("{};", acknowledged - 1));
            assert_eq!(again.status, 204, "{again:?}");
        }
        thread::scope(|scope| {
            scope.spawn(|| produce_on(&mut client, &told));
            eventually("some are acknowledged", || {
                (told.load(Ordering::Acquire) > acknowledged + 5 * round).then_some(())
            });
            server.kill();
        });
    }
    let acknowledged = told.into_inner();
    let server = Server::start_over(data.path(), &[]);
    let mut admin = server.log_in("admin");
    let read = || -> Vec<u64> {
        let (mut offset, mut read) = ("-1".to_owned(), String::new());
        let mut reader = server.log_in("admin");
        loop {
            let page = reader.get(&format!("{}?offset={offset}", path("a")));
            read += &page.body;
            offset = next_offset(&page);
            if page.header("stream-up-to-date").is_some() {
                break;
            }
        }
        read.split_terminator(';').map(|number| number.parse().unwrap()).collect()
    };
    let numbers = read();
    assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "in order, each once");
    let written = numbers.len() as u64;
    assert!(written == acknowledged || written == acknowledged + 1, "{written} of {acknowledged}");
    // The next request is the next number.
    assert_eq!(produce(&mut admin, "a", (0, written + 1), "x").status, 409);
    assert_eq!(produce(&mut admin, "a", (0, written), "end;").status, 200);
    assert_eq!(admin.rows("SELECT COUNT(*) FROM s.t")[0][0], json!((written + 1).to_string()));
}

#[test]
fn streams_come_back_with_a_restart() {
    let data = tempfile::tempdir().unwrap();
    let mut server = Server::start_over(data.path(), &[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE s");
    admin.sql(TABLE);
    put(&mut admin, "a");
    let tail = next_offset(&produce(&mut admin, "a", (3, 0), "one"));
    send(&mut admin, &format!("POST {}", path("a")), &[("Stream-Closed", "true")], "");
    server.signal(rustix::process::Signal::TERM);
    server.ended();
    drop(server);
    let server = Server::start_over(data.path(), &[]);
    let mut admin = server.log_in("admin");
    let page = admin.get(&path("a"));
    assert_eq!((page.body.as_str(), page.header("stream-closed")), ("one", Some("true")));
    assert_eq!(next_offset(&page), tail);
    let stale = produce(&mut admin, "a", (2, 0), "x");
    assert_eq!((refused(&stale), stale.header("producer-epoch")), (code(403, "PRODUCER_FENCED"), Some("3")));
    assert_eq!(rows(&mut admin), texts(&[("a", "one")]));
}
