//! Whatever a network does to the bytes, at whatever stage of the protocol: in the end a client's rows are what SELECT
//! says. For one mailbox, a feed, a feed over a namespace, and the same with groups.

use std::time::Duration;

use serde_json::json;

use crate::follower::{Follower, Subject, Way};
use crate::http::Client;
use crate::proxy::{Fault, Plan, Proxy};
use crate::random::Random;
use crate::server::Server;

const TABLES: [&str; 2] = ["a", "b"];
const FEED: &str = "EXECUTE AS USER '*' (SELECT id, v, _user_id FROM p.* WHERE v >= 3)";
/// Written last: whoever has it has all.
const MARK: i64 = 999;

/// Of its own rows, of all owners of one table, or over all tables; and how many marks there are in it.
fn subjects() -> Vec<(Subject, usize)> {
    let all = |table: &str, name: &str| {
        format!("EXECUTE AS USER '*' (SELECT {name}, _user_id, id, v FROM p.{table} WHERE v >= 3)")
    };
    let own = vec!["SELECT '', '', id, v FROM p.a WHERE v >= 3".to_owned()];
    let mine = "SELECT id, v FROM p.a WHERE v >= 3";
    let everyone = "EXECUTE AS USER '*' (SELECT id, v, _user_id FROM p.a WHERE v >= 3)";
    let tables: Vec<String> = TABLES.iter().map(|table| all(table, "_table")).collect();
    let subject =
        |user, sql, selects: &[String], group| Subject { user, sql, selects: selects.to_vec(), group, way: Way::Json };
    vec![
        (subject("alice", mine, &own, None), 1),
        (subject("alice", mine, &own, Some("mine")), 1),
        (subject("worker", everyone, &[all("a", "''")], None), 2),
        (subject("worker", FEED, &tables, None), 4),
        (subject("worker", FEED, &tables, Some("agent")), 4),
    ]
}

fn has_marks(follower: &Follower, marks: usize) -> bool {
    follower.ready && follower.rows.keys().filter(|key| key.2 == MARK.to_string()).count() == marks
}

fn write(client: &mut Client, random: &mut Random, count: u64) {
    for _ in 0..count {
        let table = TABLES[usize::try_from(random.within(0..2)).unwrap()];
        let (id, v) = (random.within(0..15), random.within(0..8));
        let sql = match random.within(0..4) {
            0 | 1 => format!("INSERT INTO p.{table} VALUES ({id}, {v})"),
            2 => format!("UPDATE p.{table} SET v = {v} WHERE id = {id}"),
            _ => format!("DELETE FROM p.{table} WHERE id = {id}"),
        };
        if let Err(failure) = client.try_sql(&json!({ "sql": sql })) {
            assert_eq!(failure.sqlstate, "23505", "{sql}: {failure}");
        }
    }
}

#[test]
fn rows_are_what_select_says_whatever_the_network_does() {
    let server = Server::start(&["websocket.client_timeout=2s", "websocket.heartbeat_interval=500ms"]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE p");
    for table in TABLES {
        let sql = format!("CREATE USER TABLE p.{table} (id BIGINT PRIMARY KEY, v INT) WITH (DURABILITY = 'buffered')");
        admin.sql(&sql);
    }
    let mut people = [server.new_user(&mut admin, "alice", "user"), server.new_user(&mut admin, "bob", "user")];
    let worker = server.new_user(&mut admin, "worker", "service");
    let seed = Random::seed("faults");
    let mut random = Random::new(seed);
    let mut followers: Vec<_> =
        subjects().into_iter().map(|(subject, marks)| (Follower::new(subject), marks)).collect();
    let proxy = Proxy::before(server.address);
    for round in 0..14 {
        for (follower, _) in &mut followers {
            let person = usize::try_from(random.within(0..2)).unwrap();
            write(&mut people[person], &mut random, 6);
            let plan = Plan::any(&mut random);
            proxy.set(plan);
            // Shown when the test fails.
            println!("round {round} {}: {plan:?}", follower.subject.sql);
            let token = if follower.subject.user == "alice" { people[0].token() } else { worker.token() };
            let frames = random.within(1..40);
            if let Ok(connection) = follower.connect(proxy.address, token, Duration::from_millis(150)) {
                follower.follow(connection, &mut random, frames, |_| false);
            }
        }
    }
    for person in &mut people {
        for table in TABLES {
            person.sql(&format!("INSERT INTO p.{table} VALUES ({MARK}, 7)"));
        }
    }
    proxy.set(Plan { down: Fault::Trickle(seed), up: Fault::None });
    for (follower, marks) in &mut followers {
        let token = if follower.subject.user == "alice" { people[0].token() } else { worker.token() };
        // A word of an earlier connection that comes late may take the group once more.
        for _ in 0..1 + 5 * u32::from(follower.subject.group.is_some()) {
            let connection = follower.connect(proxy.address, token, Duration::from_secs(20)).unwrap();
            follower.follow(connection, &mut random, 100_000, |follower| has_marks(follower, *marks));
            if has_marks(follower, *marks) {
                break;
            }
        }
        let selected = follower.selected(&mut server.log_in(follower.subject.user));
        assert_eq!(follower.rows, selected, "{:?}", follower.subject);
    }
}
