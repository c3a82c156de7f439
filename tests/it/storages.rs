//! Storages in a bucket: made, used and lost over the protocol of S3, and their credentials in nobody's sight.
//!
//! The bucket's server is [`bucket`], in this process; with `INBOXDB_TEST_S3=http://127.0.0.1:9000` it is another one, which has an
//! empty bucket `inboxdb-test` and takes the keys of these tests: `tests/s3.sh` starts one that a package provides. What needs a
//! server that breaks has the one in this process.

mod bucket;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use inboxdb::actors::Fatal;
use inboxdb::database::request::{Outcome, SqlRequest};
use inboxdb::database::{Database, DatabaseOptions};
use inboxdb::model::{CellEncoders, Principal, UserId};
use inboxdb::time::Clock;
use object_store::{ObjectStore as _, ObjectStoreExt as _};
use serde_json::{Value, json};

use bucket::{ACCESS_KEY, BUCKET, Bucket};

const SECRET: &str = "hunter2/of+the=bucket";

struct World {
    database: Arc<Database>,
    admin: Principal,
}

impl World {
    async fn open(data: &Path) -> Self {
        let mut options = DatabaseOptions::at(data);
        options.auth.argon2.memory = bytesize::ByteSize::kib(8);
        options.auth.argon2.iterations = 1;
        options.remote_timeouts.connect_timeout = Duration::from_secs(2);
        options.remote_timeouts.request_timeout = Duration::from_secs(2);
        let fatal = Fatal::new(|reason| panic!("the database gave up: {reason}"));
        let database = Database::open(options, Clock::system(), fatal).await.unwrap();
        let admin = database.auth().user(&UserId::root()).unwrap().principal();
        Self { database, admin }
    }

    async fn close(self) {
        self.database.shutdown().await;
    }

    /// The message, or the rows as an array.
    async fn run(&self, sql: &str) -> Result<Value, String> {
        let request = SqlRequest { sql: sql.to_owned(), ..SqlRequest::default() };
        let answer = self.database.execute(&self.admin, request).await.map_err(|e| format!("{e} {e:?}"))?;
        let Outcome::Rows(rows) = answer.results.into_iter().next().unwrap().outcome else {
            return Ok(Value::Null);
        };
        let mut all = Vec::new();
        for batch in rows.batches.try_collect::<Vec<_>>().await.map_err(|e| e.to_string())? {
            let cells = CellEncoders::new(&batch).unwrap();
            let Value::Array(more) = serde_json::to_value(cells.arrays(0..batch.num_rows())).unwrap() else { panic!() };
            all.extend(more);
        }
        Ok(Value::Array(all))
    }

    /// Asks until the answer is this one.
    async fn until(&self, sql: &str, expected: Value) {
        let started = std::time::Instant::now();
        loop {
            let answer = self.ok(sql).await;
            if answer == expected {
                return;
            }
            assert!(started.elapsed() < Duration::from_secs(60), "{sql}: {answer} in place of {expected}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn ok(&self, sql: &str) -> Value {
        self.run(sql).await.unwrap_or_else(|e| panic!("{sql}: {e}"))
    }
}

fn create(endpoint: &str, access_key: &str) -> String {
    format!(
        "CREATE STORAGE remote TYPE s3 BUCKET '{BUCKET}/a/b' REGION 'eu-central-1' CONFIG '{}' CREDENTIALS '{}'",
        json!({"endpoint": endpoint}),
        json!({"access_key_id": access_key, "secret_access_key": SECRET}),
    )
}

/// Where the bucket is: its endpoint, and the server in this process, if it is that one.
fn bucket() -> (String, Option<Bucket>) {
    match std::env::var("INBOXDB_TEST_S3") {
        Ok(endpoint) => (endpoint, None),
        Err(_) => {
            let bucket = Bucket::start();
            (bucket.endpoint.clone(), Some(bucket))
        }
    }
}

/// All objects' names, as the protocol tells them. The storages of these tests have a prefix each.
async fn names(endpoint: &str, prefix: &str) -> Vec<String> {
    let client = object_store::aws::AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_allow_http(true)
        .with_region("eu-central-1")
        .with_bucket_name(BUCKET)
        .with_access_key_id(ACCESS_KEY)
        .with_secret_access_key(SECRET)
        .build()
        .unwrap();
    let found: Vec<_> = client.list(Some(&prefix.into())).try_collect().await.unwrap();
    let mut names: Vec<String> = found.into_iter().map(|object| object.location.to_string()).collect();
    names.sort();
    names
}

/// The columns of STORAGE CHECK that do not differ from time to time.
fn found(checked: &Value) -> Value {
    json!(checked[0].as_array().unwrap()[..6])
}

fn no_secret_in(text: &str) {
    assert!(!text.contains("hunter2") && !text.contains(ACCESS_KEY), "{text}");
}

#[test]
fn a_bucket_is_a_storage_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let (endpoint, _bucket) = bucket();
    let healthy = json!(["remote", "healthy", true, true, true, true]);
    actix::System::new().block_on(async {
        let world = World::open(&data).await;
        world.ok(&create(&endpoint, ACCESS_KEY)).await;
        assert_eq!(names(&endpoint, "a/b").await, [""; 0], "the probe leaves nothing");
        assert_eq!(found(&world.ok("STORAGE CHECK remote EXTENDED").await), healthy);
        world
            .ok("CREATE NAMESPACE n; CREATE USER TABLE n.mail (id BIGINT PRIMARY KEY) WITH (STORAGE_ID = 'remote')")
            .await;

        // Rows go there, and are read from there.
        world.ok("INSERT INTO n.mail SELECT value FROM generate_series(1, 3000)").await;
        world.ok("STORAGE FLUSH TABLE n.mail").await;
        world.until("SELECT count(*) FROM system.jobs WHERE status = 'completed'", json!([["1"]])).await;
        let stored = names(&endpoint, "a/b").await;
        assert_eq!(stored.len(), 2, "a segment and manifest.json: {stored:?}");
        world.ok("DELETE FROM n.mail WHERE id = 8").await;
        assert_eq!(world.ok("SELECT count(*), sum(id) FROM n.mail").await, json!([["2999", "4501492"]]));
        assert_eq!(world.ok("SELECT id FROM n.mail WHERE id = 2999").await, json!([["2999"]]));

        // What the catalog and the tables show of it.
        for sql in ["SHOW STORAGES", "SELECT * FROM system.storages", "EXPLAIN SELECT * FROM system.storages"] {
            no_secret_in(&world.ok(sql).await.to_string());
        }
        let shown = world.ok("SELECT base_directory, credentials, config_json FROM system.storages ORDER BY 1").await;
        let credentials = r#"{"access_key_id":"***","secret_access_key":"***"}"#;
        let config = json!({"endpoint": endpoint, "region": "eu-central-1"}).to_string();
        assert_eq!(shown[1], json!([format!("s3://{BUCKET}/a/b"), credentials, config]));
        world.close().await;
    });

    // It is there after a restart, with its credentials.
    actix::System::new().block_on(async {
        let world = World::open(&data).await;
        assert_eq!(found(&world.ok("STORAGE CHECK remote").await), healthy);
        let refused = world.run("DROP STORAGE remote").await.unwrap_err();
        assert!(refused.starts_with("Cannot drop storage 'remote': 1 table(s) still using it"), "{refused}");
        assert_eq!(world.ok("SELECT count(*), sum(id) FROM n.mail").await, json!([["2999", "4501492"]]));
        world.ok("DROP TABLE n.mail").await;
        world.until("SELECT status FROM system.jobs WHERE job_type = 'cleanup'", json!([["completed"]])).await;
        assert_eq!(names(&endpoint, "a/b").await, [""; 0], "the table's files are gone");
        world.ok("DROP STORAGE remote").await;
        world.close().await;
    });
}

/// Rows go into a bucket by a move, are backed up out of it, and come back into it where it has lost them.
#[test]
fn a_bucket_is_moved_into_and_backed_up() {
    let folder = tempfile::tempdir().unwrap();
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let (endpoint, _bucket) = bucket();
    let create = create(&endpoint, ACCESS_KEY).replace("/a/b", "/moved");
    let jobs = "SELECT count(*) FROM system.jobs WHERE status NOT IN ('completed', 'skipped')";
    let (counted, there) = ("SELECT count(*), sum(id), max(v) FROM n.t", json!([["1999", "2000993", "v 999"]]));
    actix::System::new().block_on(async {
        let world = World::open(&data).await;
        world.ok(&create).await;
        world.ok("CREATE NAMESPACE n; CREATE TABLE n.t (id BIGINT PRIMARY KEY, v TEXT)").await;
        world.ok("INSERT INTO n.t SELECT value, 'v ' || value FROM generate_series(1, 2000)").await;
        world.ok("STORAGE FLUSH TABLE n.t").await;
        world.until(jobs, json!([["0"]])).await;
        world.ok("DELETE FROM n.t WHERE id = 7").await;
        world.ok("ALTER TABLE n.t SET STORAGE_ID = 'remote'").await;
        world.until(jobs, json!([["0"]])).await;
        let moved = names(&endpoint, "moved").await;
        assert_eq!(moved.iter().filter(|name| name.ends_with(".parquet")).count(), 1, "{moved:?}");
        assert_eq!(world.ok(counted).await, there);

        world.ok(&format!("BACKUP DATABASE TO '{}'", backup.display())).await;
        world.until(jobs, json!([["0"]])).await;
        world.ok("DROP TABLE n.t").await;
        world.until(jobs, json!([["0"]])).await;
        assert_eq!(names(&endpoint, "moved").await, [""; 0], "the table's files are gone");
        world.close().await;
    });
    let restored = folder.path().join("restored");
    let mut restore = std::process::Command::new(env!("CARGO_BIN_EXE_inboxdb"));
    let output = restore.arg("restore").arg("--from").arg(&backup).arg("--data").arg(&restored).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    actix::System::new().block_on(async {
        let world = World::open(&restored).await;
        assert_eq!(world.ok(counted).await, there);
        assert_eq!(world.ok("SELECT v FROM n.t WHERE id = 1234").await, json!([["v 1234"]]));
        world.ok("DROP TABLE n.t").await;
        world.until(jobs, json!([["0"]])).await;
        world.close().await;
    });
}

#[test]
fn files_go_into_the_bucket_and_come_back_in_parts() {
    use inboxdb::config::RemoteTimeouts;
    use inboxdb::model::{StorageCredentials, StorageKind, StorageMeta};
    use inboxdb::storage::{ColdStores, RemoteIo, cold_stores};

    let folder = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let bucket = Bucket::start();
        let mut meta = StorageMeta {
            kind: StorageKind::S3,
            base: cold_stores::parse_base(StorageKind::S3, &format!("{BUCKET}/p")).unwrap(),
            ..ColdStores::local(1)
        };
        meta.config.insert("endpoint".to_owned(), bucket.endpoint.clone());
        let secrets = [("access_key_id", ACCESS_KEY), ("secret_access_key", SECRET)];
        meta.credentials = StorageCredentials::new(secrets.map(|(n, s)| (n.to_owned(), s.to_owned())).into());
        let io = RemoteIo::new(tokio::runtime::Handle::current());
        let stores = ColdStores::new(folder.path(), RemoteTimeouts::default(), io);
        stores.set(Arc::new(meta.clone())).unwrap();
        let store = stores.get(&meta.id).unwrap();

        // More than two parts of an upload.
        let content: Vec<u8> = (0..(17 << 20)).map(|i: u32| (i % 251) as u8).collect();
        store.replace("n/t/1.parquet", &content).await.unwrap();
        store.replace("n/t/manifest.json", b"{}").await.unwrap();
        assert_eq!(bucket.names(), ["p/n/t/1.parquet", "p/n/t/manifest.json"]);
        assert!(store.content("n/t/1.parquet").await.unwrap().unwrap() == content);
        let place = object_store::path::Path::from("n/t/1.parquet");
        let range = store.objects().get_range(&place, 1_000_000..1_000_010).await.unwrap();
        assert_eq!(range[..], content[1_000_000..1_000_010]);
        assert_eq!(store.content("n/t/2.parquet").await.unwrap(), None);
        let files: Vec<_> = store.list("n/t").try_collect().await.unwrap();
        let files: Vec<(&str, u64)> = files.iter().map(|file| (file.path.as_str(), file.bytes)).collect();
        assert_eq!(files, [("n/t/1.parquet", 17 << 20), ("n/t/manifest.json", 2)]);
        store.remove("n/t/1.parquet").await.unwrap();
        store.remove("n/t/1.parquet").await.unwrap();
        assert_eq!(bucket.names(), ["p/n/t/manifest.json"]);
        assert_eq!(
            std::fs::read_dir(folder.path().join("spool/local")).unwrap().count(),
            0,
            "nothing stays on its way"
        );
    });
}

#[test]
fn a_bucket_that_refuses_or_is_gone_is_said_without_its_credentials() {
    let folder = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let bucket = Bucket::start();
        let world = World::open(&folder.path().join("data")).await;
        let refused = world.run(&create(&bucket.endpoint, "AKIAWRONG")).await.unwrap_err();
        assert!(refused.contains("InvalidAccessKeyId") && refused.contains("s3://inboxdb-test/a/b"), "{refused}");
        assert!(!refused.contains("AKIAWRONG") && !refused.contains("hunter2"), "{refused}");
        assert_eq!(world.ok("SELECT count(*) FROM system.storages").await, json!([["1"]]));

        world.ok(&create(&bucket.endpoint, ACCESS_KEY)).await;
        let wrong = json!({"access_key_id": "AKIAWRONG", "secret_access_key": SECRET});
        let refused = world.run(&format!("ALTER STORAGE remote SET CREDENTIALS '{wrong}'")).await.unwrap_err();
        assert!(refused.contains("InvalidAccessKeyId") && !refused.contains("hunter2"), "{refused}");
        let checked = world.ok("STORAGE CHECK remote").await;
        assert_eq!(found(&checked)[1], "healthy", "what did not work was not taken over: {checked}");

        // Who alters it while another is still trying out a change is not overwritten.
        let held = bucket.hold();
        let right = json!({"access_key_id": ACCESS_KEY, "secret_access_key": "another"});
        let slow = format!("ALTER STORAGE remote SET NAME 'slow' SET CREDENTIALS '{right}'");
        let (slow, ()) = futures_util::join!(world.run(&slow), async {
            world.ok("ALTER STORAGE remote SET NAME 'fast'").await;
            drop(held);
        });
        assert!(slow.unwrap_err().contains("Conflict: Storage 'remote' was altered by another"));
        let names = world.ok("SELECT storage_name FROM system.storages ORDER BY 1").await;
        assert_eq!(names, json!([["Local"], ["fast"]]));

        bucket.stop().await;
        let checked = world.ok("STORAGE CHECK remote").await;
        assert_eq!(found(&checked), json!(["remote", "unreachable", false, false, false, false]));
        no_secret_in(&checked.to_string());
        assert!(checked[0][9].as_str().unwrap().starts_with("write: "), "{checked}");
        world.close().await;
    });
}
