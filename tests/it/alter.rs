//! ALTER TABLE against everything that goes on beside it: writers, restarts, kill -9, folders of older programs.
//!
//! What one statement does is in `tests/slt/alter_*.slt`; what subscribers are told in `tests/live/alter.txt` and
//! `revoked.txt`.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::Client;
use crate::random::Random;
use crate::server::Server;

mod concurrent;
mod old_folder;
mod stale;

/// How a column of the model shows its cells.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Int,
    BigInt,
    Text,
}

impl Kind {
    fn sql(self) -> &'static str {
        match self {
            Kind::Int => "INT",
            Kind::BigInt => "BIGINT",
            Kind::Text => "TEXT",
        }
    }

    fn cell(self, value: Option<u64>) -> Value {
        match (self, value) {
            (_, None) => Value::Null,
            (Kind::Int, Some(n)) => json!(n),
            (Kind::BigInt | Kind::Text, Some(n)) => json!(n.to_string()),
        }
    }
}

/// The table as it must be: its version, its columns behind `id`, and by id each row's cells in their order.
#[derive(Debug, Clone, PartialEq)]
struct Model {
    version: u64,
    columns: Vec<(String, Kind)>,
    rows: BTreeMap<u64, Vec<Option<u64>>>,
}

const CREATE: &str = "CREATE USER TABLE k.t (id BIGINT PRIMARY KEY, c0 INT)";

impl Model {
    fn new() -> Self {
        Self { version: 1, columns: vec![("c0".to_owned(), Kind::Int)], rows: BTreeMap::new() }
    }

    /// A statement, and the model behind it. `n` is new each time.
    fn step(&self, random: &mut Random, n: u64) -> (String, Model) {
        let mut next = self.clone();
        let column = random.within(0..self.columns.len().max(1) as u64) as usize;
        let id = random.within(0..40);
        let sql = match random.within(0..12) {
            0..=4 => {
                let cells: Vec<Option<u64>> =
                    self.columns.iter().map(|_| (!random.one_in(4)).then(|| random.within(0..1_000))).collect();
                let sql_cells = self.columns.iter().zip(&cells).map(|((_, kind), cell)| match (kind, cell) {
                    (_, None) => ", NULL".to_owned(),
                    (Kind::Text, Some(n)) => format!(", '{n}'"),
                    (_, Some(n)) => format!(", {n}"),
                });
                let sql = format!("INSERT INTO k.t VALUES ({}{})", n + 100, sql_cells.collect::<String>());
                next.rows.insert(n + 100, cells);
                sql
            }
            5 if !self.columns.is_empty() => {
                let key = self.rows.keys().nth(id as usize % self.rows.len().max(1)).copied().unwrap_or(id);
                if let Some(row) = next.rows.get_mut(&key) {
                    row[column] = Some(n);
                }
                let (name, kind) = &self.columns[column];
                let quote = if *kind == Kind::Text { "'" } else { "" };
                format!("UPDATE k.t SET {name} = {quote}{n}{quote} WHERE id = {key}")
            }
            6 => {
                let key = self.rows.keys().nth(id as usize % self.rows.len().max(1)).copied().unwrap_or(id);
                next.rows.remove(&key);
                // By a query, so that it is read, too.
                format!("DELETE FROM k.t WHERE id + 0 = {key}")
            }
            7 | 8 if self.columns.len() < 12 => {
                let kind = [Kind::Int, Kind::BigInt, Kind::Text][random.within(0..3) as usize];
                let default = random.one_in(2).then_some(n);
                for row in next.rows.values_mut() {
                    row.push(default);
                }
                next.columns.push((format!("c{n}"), kind));
                let default = default.map_or_else(String::new, |n| match kind {
                    Kind::Text => format!(" DEFAULT '{n}'"),
                    _ => format!(" DEFAULT {n}"),
                });
                format!("ALTER TABLE k.t ADD COLUMN c{n} {}{default}", kind.sql())
            }
            9 if !self.columns.is_empty() => {
                let (name, _) = next.columns.remove(column);
                for row in next.rows.values_mut() {
                    row.remove(column);
                }
                format!("ALTER TABLE k.t DROP COLUMN {name}")
            }
            10 if !self.columns.is_empty() => {
                let name = std::mem::replace(&mut next.columns[column].0, format!("r{n}"));
                format!("ALTER TABLE k.t RENAME COLUMN {name} TO r{n}")
            }
            _ if !self.columns.is_empty() && self.columns[column].1 != Kind::Text => {
                let (name, kind) = &mut next.columns[column];
                *kind = if *kind == Kind::Int { Kind::BigInt } else { Kind::Text };
                format!("ALTER TABLE k.t MODIFY COLUMN {name} {}", kind.sql())
            }
            _ => {
                let fresh = random.one_in(2);
                format!(
                    "ALTER TABLE k.t SET TBLPROPERTIES (DURABILITY = '{}')",
                    if fresh { "sync" } else { "buffered" }
                )
            }
        };
        if sql.starts_with("ALTER") && !sql.contains("TBLPROPERTIES") {
            next.version += 1;
        }
        (sql, next)
    }

    /// What the server says the table is. The version of the model counts no options.
    fn read(client: &mut Client, admin: &mut Client) -> (Vec<(String, String)>, Vec<Value>) {
        let columns = admin.rows(
            "SELECT column_name, data_type FROM system.columns WHERE namespace_id = 'k' AND table_name = 't' ORDER BY ordinal",
        );
        let columns: Vec<(String, String)> = serde_json::from_value(columns).unwrap();
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let Value::Array(rows) = client.rows(&format!("SELECT {} FROM k.t ORDER BY id", names.join(", "))) else {
            panic!("no rows")
        };
        (columns, rows)
    }

    fn shown(&self) -> (Vec<(String, String)>, Vec<Value>) {
        let id = ("id".to_owned(), "BIGINT".to_owned());
        let columns =
            std::iter::once(id).chain(self.columns.iter().map(|(name, kind)| (name.clone(), kind.sql().to_owned())));
        let row = |(id, cells): (&u64, &Vec<Option<u64>>)| {
            let cells = self.columns.iter().zip(cells).map(|((_, kind), cell)| kind.cell(*cell));
            Value::Array(std::iter::once(json!(id.to_string())).chain(cells).collect())
        };
        (columns.collect(), self.rows.iter().map(row).collect())
    }
}

/// Runs statements until the server is gone; the last one may have happened or not.
fn run(client: &mut Client, model: &mut Model, random: &mut Random, done: &AtomicU64) -> Option<Model> {
    loop {
        let (sql, next) = model.step(random, random_id(done));
        let body = json!({ "sql": sql }).to_string();
        let Ok(response) = client.request("POST /v1/api/sql", &[], body.as_bytes()) else { return Some(next) };
        match crate::http::results(&response) {
            Ok(_) => *model = next,
            Err(failure) => panic!("{sql}: {failure}"),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// New for each statement of the test.
fn random_id(done: &AtomicU64) -> u64 {
    done.load(Ordering::Relaxed) + 1
}

#[test]
fn rows_of_all_versions_survive_kill_9_between_alters() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut random = Random::new(Random::seed("alter"));
    let token = {
        let server = Server::start_over(&data, &[]);
        let mut admin = server.set_up();
        admin.sql("CREATE NAMESPACE k");
        admin.sql(CREATE);
        admin.token().to_owned()
    };
    let mut model = Model::new();
    let done = AtomicU64::new(0);
    for round in 0..12 {
        let server = Server::start_over(&data, &[]);
        let mut client = Client::bearer(server.address, &token);
        let enough = done.load(Ordering::Relaxed) + random.within(1..60);
        let delay = Duration::from_micros(random.within(0..3_000));
        let pending = std::thread::scope(|scope| {
            let (done, random, model) = (&done, &mut random, &mut model);
            let writer = scope.spawn(move || run(&mut client, model, random, done));
            while done.load(Ordering::Relaxed) < enough && !writer.is_finished() {
                std::thread::sleep(Duration::from_micros(200));
            }
            std::thread::sleep(delay);
            server.kill();
            writer.join().unwrap()
        });
        // The unanswered one takes a number, too.
        done.fetch_add(1, Ordering::Relaxed);
        let server = Server::start_over(&data, &[]);
        let (mut client, mut admin) = (Client::bearer(server.address, &token), Client::bearer(server.address, &token));
        let stored = Model::read(&mut client, &mut admin);
        if stored != model.shown() {
            let pending = pending.unwrap();
            assert_eq!(
                stored,
                pending.shown(),
                "round {round}: neither without nor with the unanswered statement: {model:?}"
            );
            model = pending;
        }
    }
    assert!(model.version > 20 && model.rows.len() > 20, "too little happened to mean anything: {model:?}");
    println!("{} versions of columns, {} rows", model.version, model.rows.len());
}

/// A server over `data`, stopped when the work is done, so that the folder is free.
fn with_server<T>(data: &Path, work: impl FnOnce(&Server) -> T) -> T {
    let server = Server::start_over(data, &[]);
    let result = work(&server);
    server.kill();
    result
}
