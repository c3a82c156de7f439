//! STREAM tables over a clock that a test sets: what has expired is gone for everyone, and buckets go behind it; then the real
//! process dies at each step of that.
//!
//! Invariants: PT-1, PT-2, LQ-1, RC-1.

use std::path::Path;
use std::sync::Arc;

use futures_util::TryStreamExt as _;
use inboxdb::actors::Fatal;
use inboxdb::database::request::{Outcome, SqlRequest};
use inboxdb::database::{Database, DatabaseOptions};
use inboxdb::error::Error;
use inboxdb::live::database::{LiveDatabase, LiveTarget};
use inboxdb::live::pages::{LiveReader, Page, PageJob, PageRequest};
use inboxdb::live::{Format, Wire};
use inboxdb::model::{CellEncoders, Principal, Role, Seq, UserId};
use inboxdb::time::Clock;
use serde_json::{Value, json};

use crate::server::{PASSWORD, Server, eventually};

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400 * SECOND;
/// At the beginning of a minute.
const NOON: i64 = 1_799_971_200 * SECOND;

fn root() -> Principal {
    Principal { user: UserId::root(), role: Role::System, generation: 1 }
}

struct World {
    clock: Clock,
    database: Arc<Database>,
}

impl World {
    async fn open(data: &Path, now_us: i64) -> Self {
        Self::open_with(data, now_us, |_| {}).await
    }

    async fn open_with(data: &Path, now_us: i64, set: impl Fn(&mut DatabaseOptions)) -> Self {
        let fatal = Fatal::new(|reason| panic!("the database gave up: {reason}"));
        let mut options = DatabaseOptions::at(data);
        options.auth.argon2.memory = bytesize::ByteSize::kib(8);
        options.auth.argon2.iterations = 1;
        set(&mut options);
        let clock = Clock::manual(now_us);
        let database = Database::open(options, clock.clone(), fatal).await.unwrap();
        Self { clock, database }
    }

    fn at(&self, seconds: i64) {
        self.clock.set_us(NOON + seconds * SECOND);
    }

    async fn try_run(&self, sql: &str) -> Result<Value, Error> {
        let request = SqlRequest { sql: sql.to_owned(), ..SqlRequest::default() };
        let mut results = self.database.execute(&root(), request).await.map_err(|failed| failed.error)?.results;
        match results.pop().unwrap().outcome {
            Outcome::Done { rows, .. } => Ok(json!(rows)),
            Outcome::Rows(rows) => {
                let batches: Vec<_> = rows.batches.try_collect().await?;
                let mut all = Vec::new();
                for batch in &batches {
                    let cells = CellEncoders::new(batch).unwrap();
                    all.extend((0..batch.num_rows()).map(|row| serde_json::to_value(cells.array(row)).unwrap()));
                }
                Ok(Value::Array(all))
            }
        }
    }

    async fn run(&self, sql: &str) -> Value {
        self.try_run(sql).await.unwrap_or_else(|failed| panic!("{sql}: {failed}"))
    }

    /// What each way of reading finds of `s.t`.
    async fn assert_there(&self, expected: &[i64]) {
        let rows: Vec<Value> = expected.iter().map(|id| json!([id])).collect();
        let count = json!([[expected.len().to_string()]]);
        assert_eq!(self.run("SELECT id FROM s.t").await, json!(rows));
        assert_eq!(self.run("SELECT id FROM s.t WHERE _seq > 0 ORDER BY _seq LIMIT 999").await, json!(rows));
        assert_eq!(self.run("EXECUTE AS USER '*' (SELECT id FROM s.t)").await, json!(rows));
        assert_eq!(self.run("SELECT COUNT(*) FROM s.t").await, count);
        let newest: Vec<&Value> = rows.iter().rev().collect();
        assert_eq!(self.run("SELECT id FROM s.t ORDER BY _seq DESC LIMIT 999").await, json!(newest));
        for sql in [OWN, ALL] {
            let (target, reader) = self.reader(sql).await;
            assert_eq!(self.loaded(&target, &reader).await, [expected.len(); 2], "{sql}");
        }
    }

    async fn reader(&self, sql: &str) -> (LiveTarget, Arc<dyn LiveReader>) {
        let target = LiveDatabase::compile(&*self.database, &root(), sql).await.unwrap();
        let target = target.into_table().unwrap();
        let mut readers = LiveDatabase::open_readers(&*self.database, std::slice::from_ref(&target)).await.unwrap();
        (target, readers.remove(0))
    }

    /// How many rows a subscription loads, the oldest first and the newest first.
    async fn loaded(&self, target: &LiveTarget, reader: &Arc<dyn LiveReader>) -> [usize; 2] {
        let (until, limit) = (Seq::MAX, 1_000);
        let requests = [PageRequest::Rows { after: Seq::ZERO, until, limit }, PageRequest::Newest { until, limit }];
        let mut counts = [0; 2];
        for (count, request) in counts.iter_mut().zip(requests) {
            let wire = Wire { format: Format::Json, compress: false };
            let job = PageJob { query: target.query.clone(), reader: reader.clone(), request, wire };
            let Page::Rows(page) = self.database.read_page(job).await.unwrap() else { panic!() };
            *count = page.count;
        }
        counts
    }

    /// The oldest row of `s.t`, whose ids count up.
    async fn first(&self) -> i64 {
        self.run("SELECT MIN(id) FROM s.t").await[0][0].as_i64().unwrap()
    }

    async fn buckets(&self) -> usize {
        let rows = self.run("SELECT metric_value FROM system.stats WHERE metric_name = 'stream_buckets'").await;
        rows[0][0].as_str().unwrap().parse().unwrap()
    }
}

const OWN: &str = "SELECT id FROM s.t";
const ALL: &str = "EXECUTE AS USER '*' (SELECT id FROM s.t)";

fn with_world(now_us: i64, test: impl AsyncFn(&World)) {
    let folder = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let world = World::open(&folder.path().join("data"), now_us).await;
        world.run("CREATE NAMESPACE s").await;
        test(&world).await;
        world.database.shutdown().await;
    });
}

#[test]
fn what_has_expired_is_gone_at_once_and_its_bucket_later() {
    with_world(NOON, async |w| {
        w.run("CREATE STREAM TABLE s.t (id INT) WITH (TTL_SECONDS = 30)").await;
        w.run("INSERT INTO s.t VALUES (1), (2)").await;
        w.at(10);
        w.run("INSERT INTO s.t VALUES (3)").await;
        w.at(29);
        w.assert_there(&[1, 2, 3]).await;
        let (target, before) = w.reader(OWN).await;
        w.at(30);
        w.assert_there(&[3]).await;
        assert_eq!(w.run("DELETE FROM s.t WHERE id = 1").await, json!(0), "nobody can delete it");
        // What is expired was never told to whoever comes now, so nothing is lost to them.
        let (_, reader) = w.reader(OWN).await;
        assert!(reader.replayable_from() > before.replayable_from() && reader.head() >= reader.replayable_from());
        w.at(40);
        w.assert_there(&[]).await;
        let (_, reader) = w.reader(ALL).await;
        // An empty snapshot may be resumed from, also later: nothing has expired behind it.
        let head = reader.head();
        w.at(60);
        let (_, reader) = w.reader(ALL).await;
        assert!(head < reader.head() && head >= reader.replayable_from());
        w.run("INSERT INTO s.t VALUES (9)").await;
        let (_, reader) = w.reader(ALL).await;
        assert!(head >= reader.replayable_from());
        w.at(90);
        for sql in [OWN, ALL] {
            let (_, reader) = w.reader(sql).await;
            assert!(head < reader.replayable_from(), "what came meanwhile is gone: {sql}");
        }
        assert_eq!(w.buckets().await, 2, "this minute's and the next one's");
        w.at(7 * 60);
        w.database.turn_stream_buckets().await.unwrap();
        assert_eq!(w.buckets().await, 2, "those of then");
        w.run("INSERT INTO s.t VALUES (4)").await;
        w.assert_there(&[4]).await;
        // A view stays as it was when it was opened, its bucket with it.
        assert_eq!(w.loaded(&target, &before).await, [3; 2]);
    });
}

#[test]
fn rows_of_many_buckets_come_in_order() {
    with_world(NOON, async |w| {
        w.run("CREATE STREAM TABLE s.t (id INT) WITH (TTL_SECONDS = 300)").await;
        for minute in 0..9 {
            w.at(minute * 60);
            w.run(&format!("INSERT INTO s.t VALUES ({minute}), ({})", minute + 100)).await;
            if minute % 3 == 0 {
                w.database.turn_stream_buckets().await.unwrap();
            }
        }
        let expected: Vec<i64> = (4..9).flat_map(|minute| [minute, minute + 100]).collect();
        w.assert_there(&expected).await;
        assert_eq!(w.run("DELETE FROM s.t WHERE id IN (5, 106)").await, json!(2));
        let left = w.run("SELECT id FROM s.t").await;
        assert_eq!(left, json!([[4], [104], [105], [6], [7], [107], [8], [108]]));
        let middle = w.run("SELECT _seq FROM s.t WHERE id = 6").await[0][0].as_str().unwrap().to_owned();
        let above = w.run(&format!("SELECT id FROM s.t WHERE _seq > {middle} ORDER BY _seq LIMIT 2")).await;
        assert_eq!(above, json!([[7], [107]]));
    });
}

#[test]
fn a_clock_that_steps_back_brings_nothing_back() {
    with_world(NOON, async |w| {
        w.run("CREATE STREAM TABLE s.t (id INT) WITH (TTL_SECONDS = 30)").await;
        w.run("INSERT INTO s.t VALUES (1)").await;
        w.at(600);
        w.database.turn_stream_buckets().await.unwrap();
        w.run("INSERT INTO s.t VALUES (2)").await;
        w.at(5);
        w.assert_there(&[2]).await;
        w.run("INSERT INTO s.t VALUES (3)").await;
        w.assert_there(&[2, 3]).await;
        w.database.turn_stream_buckets().await.unwrap();
        w.assert_there(&[2, 3]).await;
        w.at(631);
        w.assert_there(&[]).await;
        // A leap ahead: the bucket is not there yet, the row is taken all the same.
        w.at(100_000);
        w.run("INSERT INTO s.t VALUES (4)").await;
        w.assert_there(&[4]).await;
    });
}

#[test]
fn a_ttl_is_altered() {
    with_world(NOON, async |w| {
        w.run("CREATE STREAM TABLE s.t (id INT) WITH (TTL_SECONDS = 100)").await;
        w.run("INSERT INTO s.t VALUES (1)").await;
        w.at(50);
        w.run("INSERT INTO s.t VALUES (2)").await;
        // A longer one is for what comes; a much longer one lies in other buckets.
        w.run("ALTER TABLE s.t SET TTL_SECONDS = 10000").await;
        w.run("INSERT INTO s.t VALUES (3)").await;
        w.at(99);
        w.assert_there(&[1, 2, 3]).await;
        w.at(100);
        w.assert_there(&[2, 3]).await;
        assert_eq!(w.run("DELETE FROM s.t WHERE id = 2").await, json!(1), "its bucket is one of before");
        w.assert_there_but_marks(&[3]).await;
        w.at(1_000);
        w.database.turn_stream_buckets().await.unwrap();
        w.assert_there_but_marks(&[3]).await;
        // A shorter one is for all.
        w.run("INSERT INTO s.t VALUES (4)").await;
        w.run("ALTER TABLE s.t SET TTL_SECONDS = 60").await;
        assert_eq!(w.run("SELECT id FROM s.t").await, json!([[4]]));
        w.run("INSERT INTO s.t VALUES (5)").await;
        w.at(1_060);
        w.run("INSERT INTO s.t VALUES (6)").await;
        w.assert_there(&[6]).await;
        // And back, in between.
        w.run("ALTER TABLE s.t SET TTL_SECONDS = 10000").await;
        w.assert_there(&[6]).await;
        w.at(1_120);
        w.assert_there(&[]).await;
        for more in 1..=20 {
            w.run("INSERT INTO s.t VALUES (7)").await;
            let altered = w.try_run(&format!("ALTER TABLE s.t SET TTL_SECONDS = {}", 10_000 + more)).await;
            assert_eq!(altered.is_err(), more > 16, "{more}: {altered:?}");
        }
    });
}

impl World {
    /// Of `s.t`, where deletes left their marks for whoever resumes.
    async fn assert_there_but_marks(&self, expected: &[i64]) {
        let rows: Vec<Value> = expected.iter().map(|id| json!([id])).collect();
        for sql in ["SELECT id FROM s.t", "SELECT id FROM s.t WHERE _seq > 0 ORDER BY _seq LIMIT 999", ALL] {
            assert_eq!(self.run(sql).await, json!(rows), "{sql}");
        }
    }
}

#[test]
fn a_restart_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let over = |now_us: i64, test: &dyn Fn(Arc<World>) -> Testing| {
        actix::System::new().block_on(async {
            let world = Arc::new(World::open(&data, now_us).await);
            test(world.clone()).await;
            world.database.shutdown().await;
        });
    };
    over(NOON, &|w| {
        Box::pin(async move {
            w.run("CREATE NAMESPACE s").await;
            w.run("CREATE STREAM TABLE s.t (id INT) WITH (TTL_SECONDS = 30)").await;
            w.run("INSERT INTO s.t VALUES (1)").await;
            w.at(20);
            w.run("INSERT INTO s.t VALUES (2)").await;
        })
    });
    over(NOON + 40 * SECOND, &|w| {
        Box::pin(async move {
            w.assert_there(&[2]).await;
            w.at(600);
            w.database.turn_stream_buckets().await.unwrap();
        })
    });
    // Its rows are gone and the clock says that they were never written: positions go on above them.
    over(NOON - 60 * SECOND, &|w| {
        Box::pin(async move {
            w.assert_there(&[]).await;
            w.run("INSERT INTO s.t VALUES (3)").await;
            w.assert_there(&[3]).await;
            let next = w.run("SELECT _seq FROM s.t").await;
            let next = Seq::new(next[0][0].as_str().unwrap().parse().unwrap()).unwrap();
            assert!(next > Seq::first_at((NOON + 20 * SECOND) / 1_000));
        })
    });
}

type Testing = std::pin::Pin<Box<dyn Future<Output = ()>>>;

/// A folder with a bucket of yesterday, which the next start drops, and a row that is there for long.
fn with_old_bucket(data: &Path) {
    actix::System::new().block_on(async {
        #[expect(clippy::cast_possible_truncation, reason = "it is long until then")]
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64;
        let w = World::open(data, now - DAY).await;
        w.run(&format!("CREATE USER 'admin' WITH PASSWORD '{PASSWORD}' ROLE dba")).await;
        w.run("CREATE NAMESPACE s").await;
        w.run("CREATE STREAM TABLE s.short (id INT) WITH (TTL_SECONDS = 30)").await;
        w.run("CREATE STREAM TABLE s.long (id INT) WITH (TTL_SECONDS = 1000000)").await;
        w.run("INSERT INTO s.short VALUES (1)").await;
        w.run("EXECUTE AS USER 'admin' (INSERT INTO s.long VALUES (1), (2))").await;
        w.database.shutdown().await;
    });
}

#[test]
fn a_turn_of_buckets_that_dies_at_any_step_goes_on() {
    for point in ["bucket_made", "bucket_drop_noted", "bucket_dropping", "bucket_dropped"] {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        with_old_bucket(&data);
        assert!(Server::dies_at_its_start(&data, &[], point, 1), "{point}");
        let server = Server::start_over(&data, &[]);
        let mut admin = server.log_in("admin");
        assert_eq!(admin.rows("SELECT id FROM s.long ORDER BY id"), json!([[1], [2]]), "{point}");
        assert_eq!(admin.rows("SELECT id FROM s.short"), json!([]), "{point}");
        admin.sql("INSERT INTO s.short VALUES (5); INSERT INTO s.long VALUES (3)");
        server.kill();
        let server = Server::start_over(&data, &[]);
        let mut admin = server.log_in("admin");
        assert_eq!(admin.rows("SELECT id FROM s.long ORDER BY id"), json!([[1], [2], [3]]), "{point}");
        assert_eq!(admin.rows("SELECT id FROM s.short"), json!([[5]]), "{point}: acknowledged before the kill");
        server.kill();
    }
}

#[test]
fn the_oldest_of_too_many_rows_give_way() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let bounded = |options: &mut DatabaseOptions| options.streams.max_rows_per_owner = 320;
    let ids = |from: i64, to: i64| (from..=to).map(|id| format!("({id})")).collect::<Vec<_>>().join(", ");
    actix::System::new().block_on(async {
        let w = World::open_with(&data, NOON, bounded).await;
        w.run("CREATE NAMESPACE s").await;
        w.run("CREATE STREAM TABLE s.t (id INT) WITH (TTL_SECONDS = 300)").await;
        for turn in 0..50 {
            // In several buckets.
            w.at(turn * 4);
            w.run(&format!("INSERT INTO s.t VALUES {}", ids(turn * 10, turn * 10 + 9))).await;
            w.database.turn_stream_buckets().await.unwrap();
        }
        let first = w.first().await;
        assert!((180..=200).contains(&first), "{first}");
        w.assert_there(&(first..500).collect::<Vec<_>>()).await;
        // Whoever comes from before is told, also of all owners.
        for sql in [OWN, ALL] {
            let (_, reader) = w.reader(sql).await;
            let oldest = w.run("SELECT MIN(_seq) FROM s.t").await[0][0].as_str().unwrap().parse().unwrap();
            let lost = reader.replayable_from();
            assert!(lost > Seq::first_at(NOON / 1_000) && lost < Seq::new(oldest).unwrap(), "{sql}");
        }
        w.database.shutdown().await;
    });
    actix::System::new().block_on(async {
        let w = World::open_with(&data, NOON + 201 * SECOND, bounded).await;
        let first = w.first().await;
        w.assert_there(&(first..500).collect::<Vec<_>>()).await;
        w.run(&format!("INSERT INTO s.t VALUES {}", ids(500, 599))).await;
        assert!((280..=300).contains(&w.first().await), "the count goes on: {}", w.first().await);
        w.database.shutdown().await;
    });
}

#[test]
fn what_is_dropped_leaves_nothing_in_the_buckets() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let settings = &["user_management.deletion_grace_period=0s", "streams.max_rows_per_owner=100"];
    let server = Server::start_over(&data, settings);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE s");
    admin.sql("CREATE STREAM TABLE s.kept (id INT) WITH (TTL_SECONDS = 3000)");
    admin.sql("CREATE STREAM TABLE s.gone (id INT) WITH (TTL_SECONDS = 3000)");
    let mut ann = server.new_user(&mut admin, "ann", "user");
    for table in ["kept", "gone"] {
        for client in [&mut ann, &mut admin] {
            for _ in 0..3 {
                client.sql(&format!("INSERT INTO s.{table} SELECT value FROM generate_series(1, 60)"));
            }
        }
    }
    admin.sql("DROP STREAM TABLE s.gone");
    admin.sql("DROP USER 'ann'");
    let unfinished = "SELECT count(*) FROM system.jobs WHERE status <> 'completed'";
    eventually("the jobs end", || (admin.rows(unfinished) == json!([["0"]])).then_some(()));
    let jobs = admin.rows("SELECT count(*) FROM system.jobs");
    assert_eq!(jobs, json!([["2"]]));
    // Of three statements of sixty, the last one: two of them are more than the bound.
    assert_eq!(admin.rows("SELECT COUNT(*) FROM s.kept"), json!([["60"]]));
    assert_eq!(admin.rows("EXECUTE AS USER '*' (SELECT COUNT(*) FROM s.kept)"), json!([["60"]]));
    admin.sql("DELETE FROM s.kept WHERE id > 0");
    admin.sql("DROP NAMESPACE s");
    eventually("the jobs end", || (admin.rows(unfinished) == json!([["0"]])).then_some(()));
    server.kill();
    let mut inspect = std::process::Command::new(env!("CARGO_BIN_EXE_inboxdb"));
    let inspected = inspect.arg("inspect").arg("--json").arg(&data).output().unwrap();
    let found: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(found["faults"], json!([]), "{found}");
    let keyspaces = found["hot"]["keyspaces"].as_array().unwrap();
    let buckets: Vec<&Value> =
        keyspaces.iter().filter(|keyspace| keyspace["name"].as_str().unwrap().starts_with("stream-")).collect();
    assert!(!buckets.is_empty(), "{found}");
    assert!(buckets.iter().all(|bucket| bucket["entries"] == 0), "{buckets:?}");
}

#[test]
fn a_backup_has_streams_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let (data, backup, new) = (folder.path().join("data"), folder.path().join("backup"), folder.path().join("new"));
    let server = Server::start_over(&data, &[]);
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE s; CREATE STREAM TABLE s.t (id INT) WITH (TTL_SECONDS = 3000)");
    admin.sql("INSERT INTO s.t VALUES (1), (2), (3)");
    admin.sql("DELETE FROM s.t WHERE id = 2");
    admin.sql(&format!("BACKUP DATABASE TO '{}'", backup.display()));
    eventually("the backup ends", || {
        (admin.rows("SELECT status FROM system.jobs WHERE job_type = 'backup'") == json!([["completed"]])).then_some(())
    });
    server.kill();
    let mut restore = std::process::Command::new(env!("CARGO_BIN_EXE_inboxdb"));
    let restored = restore.arg("restore").arg("--from").arg(&backup).arg("--data").arg(&new).output().unwrap();
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let server = Server::start_over(&new, &[]);
    let mut admin = server.log_in("admin");
    assert_eq!(admin.rows("SELECT id FROM s.t ORDER BY _seq"), json!([[1], [3]]));
    admin.sql("INSERT INTO s.t VALUES (4)");
    assert_eq!(admin.rows("SELECT id FROM s.t ORDER BY _seq"), json!([[1], [3], [4]]));
}
