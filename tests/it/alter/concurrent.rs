//! Writers, readers and a subscriber beside a table that is altered all the time: none fails, nothing is lost, nothing is
//! there twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::json;

use crate::http::Client;
use crate::random::Random;
use crate::server::{Server, Stop};
use crate::socket::Socket;

const WRITERS: u64 = 6;
const ALTERS: u64 = 60;

/// What a writer knows of its rows: by id, the value of `v`.
type Rows = BTreeMap<u64, String>;

/// Statements that name no column which is altered. Each must succeed, with the count that the model says.
fn write(client: &mut Client, first: u64, random: &mut Random, stop: &AtomicBool) -> Rows {
    let mut rows = Rows::new();
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) || n < 30 {
        n += 1;
        let id = first + n;
        let some = rows.keys().nth(random.within(0..rows.len().max(1) as u64) as usize).copied().unwrap_or(first);
        let (sql, expected) = match random.within(0..6) {
            0 => {
                rows.insert(id, format!("i{n}"));
                (format!("INSERT INTO c.t (id, v) VALUES ({id}, 'i{n}')"), 1)
            }
            1 => {
                rows.insert(id, format!("p{n}"));
                rows.insert(id + 500_000, format!("q{n}"));
                (format!("INSERT INTO c.t (id, v) VALUES ({id}, 'p{n}'), ({}, 'q' || '{n}')", id + 500_000), 2)
            }
            2 => {
                let count = rows.get_mut(&some).map(|v| *v = format!("u{n}"));
                (format!("UPDATE c.t SET v = 'u{n}' WHERE id = {some}"), u64::from(count.is_some()))
            }
            3 => {
                let count = rows.get_mut(&some).map(|v| *v += "+");
                (format!("UPDATE c.t SET v = v || '+' WHERE id = {some}"), u64::from(count.is_some()))
            }
            4 => (format!("DELETE FROM c.t WHERE id = {some}"), u64::from(rows.remove(&some).is_some())),
            _ => match rows.get(&some).cloned() {
                Some(v) => {
                    rows.insert(id, v);
                    (format!("INSERT INTO c.t (id, v) SELECT {id}, v FROM c.t WHERE id + 0 = {some}"), 1)
                }
                None => continue,
            },
        };
        let results = client.try_sql(&json!({ "sql": sql, "durability": "buffered" }));
        let results = results.unwrap_or_else(|failure| panic!("{sql}: {failure}"));
        assert_eq!(results[0]["row_count"], expected, "{sql}");
    }
    rows
}

/// Queries of every path. Each must succeed, whatever the table is at the moment.
fn read(client: &mut Client, random: &mut Random, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let id = (1 + random.within(0..WRITERS)) * 1_000_000 + random.within(0..100);
        client.sql(&format!("SELECT * FROM c.t WHERE id = {id}"));
        client.sql("SELECT * FROM c.t ORDER BY _seq DESC LIMIT 20");
        client.sql("SELECT * FROM c.t WHERE v LIKE 'u%' OR _deleted");
        client.sql("DESCRIBE TABLE c.t");
    }
}

/// Follows the table, coming back with the last position each time it ends, until row 0 is there. What it knows then.
fn follow(mut socket: Socket, told: &AtomicU64) -> Rows {
    let mut rows = Rows::new();
    let mut last = "0".to_owned();
    let subscribe = |socket: &mut Socket, from: &str| {
        socket.subscribe("s", "SELECT id, v FROM c.t", json!({ "from": from }));
    };
    subscribe(&mut socket, &last);
    while !rows.contains_key(&0) {
        let frame = socket.json();
        match frame["type"].as_str().unwrap() {
            "subscription_ack" => {}
            "change" => {
                let deleted = frame["change_type"] == "delete";
                let row = &frame[if deleted { "old_values" } else { "rows" }][0];
                let seq = row["_seq"].as_str().unwrap().to_owned();
                assert!(seq.parse::<u64>().unwrap() > last.parse().unwrap(), "{seq} after {last}: {frame}");
                last = seq;
                let id = row["id"].as_str().unwrap().parse().unwrap();
                if deleted {
                    rows.remove(&id);
                } else {
                    rows.insert(id, row["v"].as_str().unwrap().to_owned());
                }
            }
            _ => {
                assert_eq!(frame["code"], "TABLE_ALTERED", "{frame}");
                told.fetch_add(1, Ordering::Relaxed);
                subscribe(&mut socket, &last);
            }
        }
    }
    rows.remove(&0);
    rows
}

/// Adds, widens, tightens, loosens, renames and drops columns, and opens and closes the table to others.
fn alter(admin: &mut Client, altered: &AtomicU64) {
    for n in 0..ALTERS {
        let sql = match n % 6 {
            0 => format!("ALTER TABLE c.t ADD COLUMN a{n} INT NOT NULL DEFAULT {n}"),
            1 => format!("ALTER TABLE c.t MODIFY COLUMN a{} BIGINT", n - 1),
            2 => format!("ALTER TABLE c.t ALTER COLUMN a{} DROP NOT NULL", n - 2),
            3 => format!("ALTER TABLE c.t ALTER COLUMN a{} SET NOT NULL", n - 3),
            4 => format!("ALTER TABLE c.t RENAME COLUMN a{} TO b{n}", n - 4),
            _ => format!("ALTER TABLE c.t DROP COLUMN b{}", n - 1),
        };
        admin.sql(&sql);
        altered.fetch_add(1, Ordering::Relaxed);
    }
}

fn table_under_change(kind: &str) {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c");
    admin.sql(&format!("CREATE {kind} TABLE c.t (id BIGINT PRIMARY KEY, v TEXT NOT NULL)"));
    let seed = Random::seed(&format!("alter beside writers of a {kind} table"));
    let stop = AtomicBool::new(false);
    let (altered, told) = (AtomicU64::new(0), AtomicU64::new(0));
    let socket = Socket::open_as(server.address, admin.token(), "");
    let (written, known): (Vec<Rows>, Rows) = std::thread::scope(|scope| {
        let _stop = Stop(&stop);
        let follower = scope.spawn(|| follow(socket, &told));
        for n in 0..2 {
            let (mut client, stop) = (admin.again(), &stop);
            scope.spawn(move || read(&mut client, &mut Random::new(seed + 100 + n), stop));
        }
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| {
                let (mut client, stop) = (admin.again(), &stop);
                scope.spawn(move || write(&mut client, (n + 1) * 1_000_000, &mut Random::new(seed + n), stop))
            })
            .collect();
        // A second one, so that alterations follow each other without a pause.
        let mut other = admin.again();
        let options = scope.spawn({
            let stop = &stop;
            move || {
                for n in 0..200 {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    other.sql(&format!("ALTER TABLE c.t ALTER COLUMN v SET DEFAULT 'd{n}'"));
                }
            }
        });
        alter(&mut admin, &altered);
        stop.store(true, Ordering::Relaxed);
        options.join().unwrap();
        let written = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        admin.sql("INSERT INTO c.t (id, v) VALUES (0, 'the end')");
        (written, follower.join().unwrap())
    });
    assert!(told.load(Ordering::Relaxed) > 5, "the subscriber was hardly ever told of an ALTER");
    assert_eq!(altered.load(Ordering::Relaxed), ALTERS);
    let expected: Rows = written.into_iter().flatten().collect();
    let stored = admin.rows("SELECT id, v FROM c.t WHERE id > 0");
    let stored: Rows = stored
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row[0].as_str().unwrap().parse().unwrap(), row[1].as_str().unwrap().to_owned()))
        .collect();
    assert_eq!(stored, expected);
    assert_eq!(known, expected, "what the subscriber was told");
    assert!(expected.len() as u64 > WRITERS * 10, "{} rows are too few to mean anything", expected.len());
}

#[test]
fn writers_of_a_user_table_lose_nothing() {
    table_under_change("USER");
}

#[test]
fn writers_of_a_shared_table_lose_nothing() {
    table_under_change("SHARED");
}

#[test]
fn a_column_that_becomes_not_null_has_no_null_behind_it() {
    let server = Server::start(&[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE c; CREATE USER TABLE c.t (id BIGINT PRIMARY KEY, v TEXT)");
    let stop = AtomicBool::new(false);
    for round in 0..8 {
        stop.store(false, Ordering::Relaxed);
        std::thread::scope(|scope| {
            let _stop = Stop(&stop);
            let (mut client, stop) = (admin.again(), &stop);
            let writer = scope.spawn(move || {
                let mut n = round * 100_000;
                while !stop.load(Ordering::Relaxed) {
                    n += 1;
                    let outcome = client.try_sql(&json!({ "sql": format!("INSERT INTO c.t VALUES ({n}, NULL)") }));
                    match outcome {
                        Ok(_) => client.sql(&format!("UPDATE c.t SET v = 'x' WHERE id = {n}")),
                        Err(failure) => {
                            assert_eq!(failure.sqlstate, "23502", "{failure}");
                            break;
                        }
                    };
                }
            });
            loop {
                match admin.try_sql(&json!({ "sql": "ALTER TABLE c.t ALTER COLUMN v SET NOT NULL" })) {
                    Ok(_) => break,
                    Err(failure) => assert_eq!(failure.sqlstate, "23502", "{failure}"),
                }
            }
            assert_eq!(admin.rows("SELECT COUNT(*) FROM c.t WHERE v IS NULL"), json!([["0"]]));
            writer.join().unwrap();
        });
        admin.sql("ALTER TABLE c.t ALTER COLUMN v DROP NOT NULL");
    }
}
