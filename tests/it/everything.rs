//! Everything at once: writers, subscribers of every kind, workers and streams, while sockets are cut and the server is killed,
//! stopped and started again over its folder.
//!
//! In the end the rows of each subscriber are what SELECT says; each position that anyone was told is a committed change, and
//! in its order; the topic has one entry for each change, all done with; a stream is what was acknowledged. Invariants: PT-2,
//! LQ-1, LQ-2, LQ-4, TP-1, TP-2. `INBOXDB_TEST_ROUNDS=200` for more than a moment's worth.

mod answers;
mod place;
mod subscribers;
mod workers;
mod writers;

use std::collections::BTreeMap;
use std::time::Duration;

use answers::{Appender, Reader};
use place::Place;
use subscribers::Subscriber;
use workers::{Entry, Member, TOPIC, read_topic};
use writers::{Change, Writer};

use crate::proxy::Plan;
use crate::random::Random;
use crate::server::{Server, eventually};

/// About 20 seconds.
const ROUNDS: u64 = 3;
/// As long as a connection is believed in that says nothing.
const PATIENCE: Duration = Duration::from_millis(150);
const TABLES: [&str; 4] = ["e.mail", "e.notes", "e.board", "o.pings"];

/// Whoever plays a part beside the one that makes trouble.
struct Cast {
    writers: Vec<Writer>,
    subscribers: Vec<Subscriber>,
    members: Vec<Member>,
    appender: Appender,
    reader: Reader,
}

impl Cast {
    fn new(random: &mut Random) -> Self {
        let mut next = || Random::new(random.next());
        let writers =
            [("ann", "e.mail"), ("ben", "e.mail"), ("ann", "e.notes"), ("dan", "e.board"), ("ben", "o.pings")];
        Self {
            writers: writers.into_iter().map(|(user, table)| Writer::new(user, table, next())).collect(),
            subscribers: subscribers::all(&mut next),
            members: vec![Member::new(0, next()), Member::new(1, next())],
            appender: Appender::new(next()),
            reader: Reader::new(next()),
        }
    }

    /// Everyone at once, until `trouble` is over or one of them has failed.
    fn play(&mut self, place: &Place, random: &mut Random) {
        std::thread::scope(|scope| {
            let stop = place.until_dropped();
            let mut threads = Vec::new();
            threads.extend(self.writers.iter_mut().map(|writer| scope.spawn(|| writer.run(place))));
            threads.extend(self.subscribers.iter_mut().map(|one| scope.spawn(|| one.run(place))));
            threads.extend(self.members.iter_mut().map(|member| scope.spawn(|| member.run(place))));
            threads.push(scope.spawn(|| self.appender.run(place)));
            threads.push(scope.spawn(|| self.reader.run(place)));
            let failed = || threads.iter().any(|thread| thread.is_finished());
            for _ in 0..random.within(4..11) {
                if failed() {
                    break;
                }
                trouble(place, random);
                let enough = place.acknowledged() + random.within(1..30);
                eventually("writes go on", || (failed() || place.acknowledged() >= enough).then_some(()));
            }
            drop(stop);
        });
    }

    /// All come to the end, and then everything is held against everything else.
    fn finish(mut self, place: &Place) {
        for writer in &mut self.writers {
            writer.mark(place);
        }
        let topic = read_topic(&mut place.client("admin"));
        for writer in &self.writers {
            let of_writer = |entry: &&Entry| {
                entry.table == writer.table
                    && (entry.user == writer.user || writer.user == "dan" && entry.user.is_empty())
            };
            let told = by_key(topic.iter().filter(of_writer).map(|entry| &entry.change));
            assert_eq!(told, by_key(writer.committed.iter()), "{}'s {}", writer.user, writer.table);
        }
        let committed: usize = self.writers.iter().map(|writer| writer.committed.len()).sum();
        assert_eq!(topic.len(), committed, "one entry for each change");
        let mut log = BTreeMap::new();
        for entry in &topic {
            let before = log.insert((entry.table.as_str(), entry.seq), entry);
            assert!(before.is_none(), "a position is given once: {entry:?}, {before:?}");
        }
        for subscriber in &mut self.subscribers {
            subscriber.finish(place, &log);
        }
        for member in &mut self.members {
            member.finish(place, &topic);
        }
        self.reader.finish(place, &self.appender.text);
    }
}

/// The changes of each row, in their order.
fn by_key<'a>(changes: impl Iterator<Item = &'a Change>) -> BTreeMap<u64, Vec<&'a Change>> {
    let mut keys: BTreeMap<u64, Vec<&Change>> = BTreeMap::new();
    for change in changes {
        keys.entry(change.key).or_default().push(change);
    }
    keys
}

/// One thing that happens to the server or its network.
fn trouble(place: &Place, random: &mut Random) {
    let table = TABLES[random.within(0..3) as usize];
    let job = if random.one_in(3) { "COMPACT" } else { "FLUSH" };
    let sql = format!("STORAGE {job} TABLE {table}");
    let what = random.within(0..8);
    // Shown when the test fails.
    println!("{:?}: trouble {what}, {sql}", place.acknowledged());
    match what {
        0..=2 => place.proxy.set(Plan::any(random)),
        3 | 4 => drop(place.client("admin").sql(&sql)),
        5 => {
            // It dies somewhere in it.
            let body = serde_json::json!({ "sql": sql }).to_string();
            place.client("admin").abandon("POST /v1/api/sql", &[], body.as_bytes());
            place.restart(false);
        }
        6 => place.restart(false),
        _ => place.restart(true),
    }
}

fn set_up(server: &Server) -> BTreeMap<&'static str, String> {
    let mut admin = server.set_up();
    let columns = "(id BIGINT PRIMARY KEY, v TEXT NOT NULL, n INT)";
    for sql in [
        "CREATE NAMESPACE e; CREATE NAMESPACE o".to_owned(),
        format!("CREATE USER TABLE e.mail {columns}"),
        format!("CREATE USER TABLE e.notes {columns}"),
        format!("CREATE SHARED TABLE e.board {columns} WITH (ACCESS_LEVEL = 'PUBLIC')"),
        "CREATE STREAM TABLE o.pings (id BIGINT, v TEXT NOT NULL, n INT) WITH (TTL_SECONDS = 86400)".to_owned(),
        "CREATE STREAM TABLE o.answers (stream TEXT NOT NULL, data TEXT NOT NULL) WITH (TTL_SECONDS = 86400)"
            .to_owned(),
        format!("CREATE TOPIC {TOPIC} PARTITIONS 2"),
    ] {
        admin.sql(&sql);
    }
    for table in TABLES {
        for op in ["INSERT", "UPDATE", "DELETE"] {
            if (table, op) != ("o.pings", "UPDATE") {
                admin.sql(&format!("ALTER TOPIC {TOPIC} ADD SOURCE {table} ON {op}"));
            }
        }
    }
    for partition in 0..2 {
        Member::new(partition, Random::new(0)).begin(&mut admin);
    }
    let people = [("ann", "user"), ("ben", "user"), ("dan", "service"), ("worker", "service")];
    let mut tokens: BTreeMap<_, _> = people
        .into_iter()
        .map(|(user, role)| (user, server.new_user(&mut admin, user, role).token().to_owned()))
        .collect();
    tokens.insert("admin", admin.token().to_owned());
    tokens
}

#[test]
fn nothing_is_lost_doubled_or_out_of_order_whatever_happens() {
    let rounds = std::env::var("INBOXDB_TEST_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let first = Random::seed("everything");
    for seed in (0..rounds).map(|round| first.wrapping_add(round)) {
        let started = std::time::Instant::now();
        // Shown when the test fails.
        println!("everything: INBOXDB_TEST_SEED={seed} INBOXDB_TEST_ROUNDS=1");
        let mut random = Random::new(seed);
        let folder = tempfile::tempdir().unwrap();
        let place = Place::new(folder.path().join("data"), set_up);
        Appender::begin(&place);
        let mut cast = Cast::new(&mut random);
        cast.play(&place, &mut random);
        cast.finish(&place);
        println!("{} writes, {:?}", place.acknowledged(), started.elapsed());
    }
}
