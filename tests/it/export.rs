//! Exports of the real program: what a user has is in them, as it is, and nobody else gets it.
//!
//! Invariant: LQ-3.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Read as _};
use std::path::PathBuf;

use arrow::array::{Array as _, AsArray as _, RecordBatch};
use arrow::datatypes::Int64Type;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};
use xxhash_rust::xxh3::xxh3_64;

use crate::http::{Client, Response};
use crate::server::{Server, eventually};

const SETTINGS: &[&str] = &["flush.check_interval=1h", "jobs.retry_backoff=1ms"];

fn text(cell: &Value) -> &str {
    cell.as_str().unwrap_or_else(|| panic!("{cell}"))
}

/// Exports what `client` has, and says where that can be fetched.
fn export(client: &mut Client, sql: impl Fn(&str) -> String) -> String {
    let message = client.sql(&sql("EXPORT USER DATA"))[0]["message"].take();
    let (_, job) = text(&message).split_once("Job ID: ").unwrap_or_else(|| panic!("{message}"));
    let job = job.split(". ").next().unwrap().to_owned();
    assert!(job.starts_with("UE-"), "{job}");
    eventually("the export ends", || {
        let rows = client.rows(&sql("SHOW EXPORT"));
        let row = rows.as_array().unwrap().iter().find(|row| row[0] == json!(job))?.clone();
        assert!(!["failed", "cancelled", "skipped"].contains(&text(&row[1])), "{row}");
        row[4].as_str().map(ToOwned::to_owned)
    })
}

fn own(client: &mut Client) -> String {
    export(client, ToOwned::to_owned)
}

fn unzip(response: &Response) -> BTreeMap<String, Vec<u8>> {
    assert_eq!(response.status, 200, "{}", response.body);
    let mut archive = zip::ZipArchive::new(Cursor::new(response.bytes.clone())).unwrap();
    let mut files = BTreeMap::new();
    for i in 0..archive.len() {
        let mut file = archive.by_index(i).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        files.insert(file.name().unwrap().into_owned(), bytes);
    }
    files
}

fn parquet(bytes: &[u8]) -> Vec<RecordBatch> {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(bytes.to_vec())).unwrap().build().unwrap();
    reader.map(Result::unwrap).collect()
}

/// `id`, `v`, `_seq` of each row.
fn rows(batches: &[RecordBatch]) -> Vec<(i64, String, i64)> {
    let mut rows = Vec::new();
    for batch in batches {
        let column = |name: &str| batch.column_by_name(name).unwrap_or_else(|| panic!("no {name}"));
        let (ids, seqs) = (column("id").as_primitive::<Int64Type>(), column("_seq").as_primitive::<Int64Type>());
        let texts = column("v").as_string::<i32>();
        for i in 0..batch.num_rows() {
            rows.push((ids.value(i), texts.value(i).to_owned(), seqs.value(i)));
        }
        assert!(!ids.is_null(0));
    }
    rows
}

fn selected(client: &mut Client, table: &str) -> Vec<(i64, String, i64)> {
    let rows = client.rows(&format!("SELECT id, v, _seq FROM {table} ORDER BY _seq"));
    let number = |cell: &Value| text(cell).parse().unwrap();
    rows.as_array().unwrap().iter().map(|row| (number(&row[0]), text(&row[1]).to_owned(), number(&row[2]))).collect()
}

fn flush(server: &Server, table: &str) {
    let mut admin = server.log_in("admin");
    let message = admin.sql(&format!("STORAGE FLUSH TABLE {table}"))[0]["message"].take();
    let (_, job) = text(&message).split_once("Job ID: ").unwrap();
    let sql = format!("SELECT status FROM system.jobs WHERE job_id = '{job}'");
    eventually("the flush ends", || (admin.rows(&sql) == json!([["completed"]])).then_some(()));
}

/// ann and ben have rows in two tables, hot, cold, changed and deleted; there is a third without rows, and a shared one.
fn world(server: &Server) -> (Client, Client, Client) {
    let mut admin = server.set_up();
    admin.sql("CREATE NAMESPACE e; CREATE USER TABLE e.mail (id BIGINT PRIMARY KEY, v TEXT)");
    admin.sql("CREATE USER TABLE e.notes (id BIGINT PRIMARY KEY, gone INT, v TEXT NOT NULL)");
    admin.sql("CREATE USER TABLE e.empty (id BIGINT PRIMARY KEY)");
    admin.sql("CREATE SHARED TABLE e.news (id BIGINT PRIMARY KEY, v TEXT) WITH (ACCESS_LEVEL = 'public')");
    admin.sql("INSERT INTO e.news VALUES (1, 'for all')");
    let (mut ann, mut ben) = (server.new_user(&mut admin, "ann", "user"), server.new_user(&mut admin, "ben", "user"));
    for (client, of) in [(&mut ann, "ann"), (&mut ben, "ben")] {
        client.sql(&format!("INSERT INTO e.mail SELECT value, '{of} ' || value FROM generate_series(1, 2000)"));
        client.sql(&format!("INSERT INTO e.notes VALUES (1, 1, 'note of {of}'), (2, 2, 'second of {of}')"));
    }
    flush(server, "e.mail");
    ann.sql("UPDATE e.mail SET v = 'changed' WHERE id % 100 = 0; DELETE FROM e.mail WHERE id % 3 = 0");
    ann.sql("INSERT INTO e.mail SELECT value, 'hot ' || value FROM generate_series(3001, 3010)");
    ann.sql("DELETE FROM e.notes WHERE id = 1");
    admin.sql("ALTER TABLE e.notes DROP COLUMN gone");
    (admin, ann, ben)
}

#[test]
fn an_export_holds_what_the_user_has_and_nothing_else() {
    // One job at a time: what reads files waits for no other.
    let server = Server::start(&[SETTINGS, &["jobs.max_concurrent=1"]].concat());
    let (_, mut ann, _) = world(&server);
    let url = own(&mut ann);
    assert!(url.starts_with("/v1/exports/ann/"), "{url}");
    let response = ann.get(&url);
    assert_eq!(response.header("content-type"), Some("application/zip"));
    let attachment = response.header("content-disposition").unwrap();
    assert!(attachment.starts_with("attachment; filename=\"") && attachment.ends_with(".zip\""), "{attachment}");
    assert_eq!(response.header("content-length").unwrap(), response.bytes.len().to_string());
    let files = unzip(&response);
    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(names, ["e/mail.parquet", "e/notes.parquet", "index.json"]);
    for (file, table) in [("e/mail.parquet", "e.mail"), ("e/notes.parquet", "e.notes")] {
        assert_eq!(rows(&parquet(&files[file])), selected(&mut ann, table), "{table}");
    }
    let schema = parquet(&files["e/notes.parquet"])[0].schema();
    let columns: Vec<&String> = schema.fields().iter().map(|field| field.name()).collect();
    assert_eq!(columns, ["id", "v", "_seq"]);

    let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
    assert_eq!(index["user"], "ann");
    let tables: Vec<&str> = index["tables"].as_array().unwrap().iter().map(|table| text(&table["table"])).collect();
    assert_eq!(tables, ["e.empty", "e.mail", "e.notes"]);
    assert_eq!(
        index["tables"][0],
        json!({
            "table": "e.empty", "schema_version": 1, "rows": 0, "files": [],
            "columns": [
                {"name": "id", "type": "BIGINT", "nullable": false, "primary_key": true},
                {"name": "_seq", "type": "BIGINT", "nullable": false, "primary_key": false},
            ],
        })
    );
    assert_eq!(index["tables"][2]["schema_version"], 2);
    for table in index["tables"].as_array().unwrap() {
        for file in table["files"].as_array().unwrap() {
            let bytes = &files[text(&file["path"])];
            assert_eq!(file["checksum"], json!(format!("xxh3:{:016x}", xxh3_64(bytes))));
            assert_eq!(file["bytes"], json!(bytes.len()));
            assert_eq!(file["rows"], table["rows"]);
        }
    }
    for (path, mode) in [("exports", 0o700), ("exports/ann", 0o700)] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(server.data().join(path)).unwrap().permissions().mode() & 0o777, mode, "{path}");
    }
}

#[test]
fn nobody_but_the_owner_and_administrators_gets_it() {
    let server = Server::start(SETTINGS);
    let (mut admin, mut ann, mut ben) = world(&server);
    let mut bot = server.new_user(&mut admin, "bot", "service");
    let url = own(&mut ann);
    let whole = ann.get(&url);
    for (who, mut client) in [("ben", server.log_in("ben")), ("bot", server.log_in("bot"))] {
        let response = client.get(&url);
        assert_eq!((response.status, &response.json()["code"]), (403, &json!("PERMISSION_DENIED")), "{who}");
        let nothing = client.get("/v1/exports/ann/1-0197aaaa-0000-7000-8000-000000000000");
        assert_eq!(nothing.status, 403, "{who} is not told what there is");
        assert_eq!(client.rows("SHOW EXPORT"), json!([]), "{who}");
    }
    assert_eq!(unzip(&admin.get(&url)), unzip(&whole));
    assert_eq!(server.client().get(&url).status, 401);
    let missing = ann.get("/v1/exports/ann/1-0197aaaa-0000-7000-8000-000000000000");
    assert_eq!(missing.json(), json!({"error": "Export not found", "code": "EXPORT_NOT_FOUND"}));
    assert_eq!(missing.status, 404);
    let export = url.rsplit('/').next().unwrap().to_owned();
    for path in [
        "/v1/exports/ann/..%2F..%2Fjwt.secret".to_owned(),
        "/v1/exports/ann/%2e%2e%2fjwt.secret".to_owned(),
        format!("/v1/exports/ann/{}", export.to_uppercase()),
        format!("/v1/exports/ann/{export}.zip"),
        format!("/v1/exports/ann/.%2F{export}"),
        format!("/v1/exports/nobody/{export}"),
        format!("/v1/exports/..%2Fexports%2Fann/{export}"),
    ] {
        let response = admin.get(&path);
        assert_eq!(response.status, 404, "{path}: {}", response.body);
        assert!([403, 404].contains(&ben.get(&path).status), "{path}");
    }
    assert_eq!(ann.request(&format!("POST {url}"), &[], b"").unwrap().status, 405);

    // Who may act for ann may have her data exported, and does not get it.
    let as_ann = |sql: &str| format!("EXECUTE AS USER 'ann' ({sql})");
    let second = self::export(&mut bot, as_ann);
    assert!(second.starts_with("/v1/exports/ann/") && second != url, "{second}");
    assert_eq!(bot.get(&second).status, 403);
    assert_eq!(unzip(&ann.get(&second)).len(), 3);
    let shown = ann.rows("SHOW EXPORT");
    assert_eq!(shown.as_array().unwrap().len(), 2);
    assert_eq!((text(&shown[0][4]), text(&shown[1][4])), (second.as_str(), url.as_str()), "the newest first");
    assert_eq!(ben.refused(&as_ann("EXPORT USER DATA")).code, "PERMISSION_DENIED");
    assert_eq!(bot.refused("EXECUTE AS USER '*' (EXPORT USER DATA)").code, "INVALID_INPUT");
}

#[test]
fn who_has_the_name_next_gets_nothing_of_it() {
    let server = Server::start(SETTINGS);
    let (mut admin, mut ann, _) = world(&server);
    let url = own(&mut ann);
    let (whole, export) = (ann.get(&url).bytes, url.rsplit('/').next().unwrap().to_owned());
    let file: PathBuf = server.data().join("exports/ann").join(format!("{export}.zip"));
    assert!(file.exists());
    admin.sql("DROP USER ann");
    assert!(!file.exists(), "DROP USER removes them");
    assert_eq!(ann.get(&url).status, 401);
    assert_eq!(admin.get(&url).status, 404);
    // Even where a file was left.
    fs::write(&file, &whole).unwrap();
    let mut next = server.new_user(&mut admin, "ann", "user");
    assert!(!file.exists(), "the erasure removes what is left");
    fs::write(&file, &whole).unwrap();
    assert_eq!(next.rows("SHOW EXPORT"), json!([]));
    assert_eq!(next.get(&url).json()["code"], "EXPORT_NOT_FOUND");
    let own = own(&mut next);
    let index: Value = serde_json::from_slice(&unzip(&next.get(&own))["index.json"]).unwrap();
    assert!(index["tables"].as_array().unwrap().iter().all(|table| table["rows"] == 0), "{index}");
}

#[test]
fn old_exports_and_halves_of_them_go() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = Server::start_over(&data, SETTINGS);
    let (_, mut ann, _) = world(&server);
    let url = own(&mut ann);
    server.kill();
    let half = data.join("exports/ann/1-0197aaaa-0000-7000-8000-000000000000.zip.partial");
    fs::write(&half, "half").unwrap();
    let server = Server::start_over(&data, SETTINGS);
    assert!(!half.exists());
    assert_eq!(server.log_in("ann").get(&url).status, 200, "a restart keeps them");
    server.kill();
    let server = Server::start_over(&data, &[SETTINGS, &["exports.retention=1ms"]].concat());
    let mut ann = server.log_in("ann");
    assert_eq!(ann.get(&url).json()["code"], "EXPORT_NOT_FOUND");
    let shown = ann.rows("SHOW EXPORT");
    assert_eq!((&shown[0][1], &shown[0][4]), (&json!("completed"), &Value::Null));
}

#[test]
fn many_rows_come_as_several_files_worth_of_batches() {
    let server = Server::start(SETTINGS);
    let (_, mut ann, _) = world(&server);
    for part in 0..3 {
        let (from, to) = (part * 20_000 + 10_001, (part + 1) * 20_000 + 10_000);
        ann.sql(&format!("INSERT INTO e.mail SELECT value, 'many ' || value FROM generate_series({from}, {to})"));
    }
    let url = own(&mut ann);
    let files = unzip(&ann.get(&url));
    assert_eq!(rows(&parquet(&files["e/mail.parquet"])), selected(&mut ann, "e.mail"));
}
