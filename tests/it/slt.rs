//! SQL behaviour as sqllogictest files: `tests/slt/*.slt`, each over a new database.
//!
//! A file runs straight over `Database`; one that opens with `# over: database, http` also against the real program.
//! `connection NAME` switches users until the next one: `default` is the administrator, for the others see [`USERS`]. An error is matched
//! as `CODE SQLSTATE: message`. A statement that opens with `-- message` gives its message as a row; a request of several
//! statements gives one line per result, its cells separated by `|`.
//! To fill in results: `INBOXDB_SLT_COMPLETE=1 cargo test --test it slt::NAME`, then read the diff.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use futures_util::TryStreamExt as _;
use inboxdb::actors::Fatal;
use inboxdb::database::request::{Outcome, SqlRequest, StatementError, StatementResult};
use inboxdb::database::{Database, DatabaseOptions};
use inboxdb::model::{CellEncoders, Principal, Role, UserId};
use inboxdb::time::Clock;
use serde_json::{Value, json};
use sqllogictest::{AsyncDB, Connection, DBOutput, DefaultColumnType, MakeConnection, Record, Runner};
use tempfile::TempDir;

use crate::http::{Client, SqlFailure};
use crate::server::{PASSWORD, Server};

/// Who the default connection is.
const ADMIN: &str = "admin";

/// Connection → role. All exist in every database.
const USERS: &[(&str, Role)] = &[
    (ADMIN, Role::Dba),
    ("alice", Role::User),
    ("bob", Role::User),
    ("svc", Role::Service),
    ("anon", Role::Anonymous),
];

macro_rules! slt {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run_file(stringify!($name));
            }
        )*

        const FILES: &[&str] = &[$(stringify!($name)),*];
    };
}

slt! {
    aggregates
    alter_refused
    alter_rights
    alter_table
    checks
    comments
    create_as
    create_table
    defaults
    delete
    dropped_users
    execute_as
    functions
    growing
    information_schema
    insert
    isolation
    jobs
    json
    multi_statement
    namespaces
    operations
    refused
    returning
    roles
    select
    seq
    show
    storages
    streams
    streams_refused
    system_tables
    topics
    topics_refused
    types
    update
    update_from
    upsert
    users
    views
}

#[test]
fn every_file_is_run() {
    let mut found: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, FILES, "tests/slt and the list in slt.rs differ");
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/slt")
}

fn run_file(name: &str) {
    let path = folder().join(format!("{name}.slt"));
    let text = std::fs::read_to_string(&path).unwrap();
    run_over(&path, LocalDatabase::open());
    if text.lines().next().is_some_and(|line| line.contains("over: database, http")) {
        run_over(&path, Remote::start());
    }
}

fn run_over(path: &Path, backend: impl Backend) {
    let backend = Arc::new(backend);
    let user = Arc::new(Mutex::new(ADMIN.to_owned()));
    let (current, sessions) = (user.clone(), backend.clone());
    let mut runner = Runner::new(move || {
        let session = Session { user: current.lock().unwrap().clone(), backend: sessions.clone() };
        async { Ok(session) }
    });
    runner.with_column_validator(sqllogictest::strict_column_validator);
    let mut completed = std::env::var_os("INBOXDB_SLT_COMPLETE").map(|_| String::new());
    let mut connection = Connection::Default;
    for mut record in sqllogictest::parse_file::<DefaultColumnType>(path).unwrap() {
        match &mut record {
            Record::Connection(named) => connection = named.clone(),
            Record::Statement { connection: of, .. }
            | Record::Query { connection: of, .. }
            | Record::Let { connection: of, .. } => of.clone_from(&connection),
            _ => {}
        }
        // The runner opens a connection when it is first used.
        *user.lock().unwrap() = match &connection {
            Connection::Default => ADMIN.to_owned(),
            Connection::Named(name) => name.clone(),
        };
        if let Some(text) = &mut completed {
            *text += &format!("{}\n", complete(&mut runner, record));
        } else if let Err(failure) = runner.run(record) {
            panic!("over {}: {}", backend.label(), failure.display(false));
        }
    }
    if let Some(text) = completed {
        std::fs::write(path, text.trim_end().to_owned() + "\n").unwrap();
    }
    runner.shutdown();
}

/// The record as it should be for what it gives now.
fn complete<D: AsyncDB<ColumnType = DefaultColumnType>, M: MakeConnection<Conn = D>>(
    runner: &mut Runner<D, M>,
    record: Record<DefaultColumnType>,
) -> Record<DefaultColumnType> {
    let output = futures_util::FutureExt::now_or_never(runner.apply_record(record.clone())).expect("backends block");
    let updated = sqllogictest::update_record_with_output(
        &record,
        &output,
        " ",
        sqllogictest::default_validator,
        sqllogictest::default_normalizer,
        sqllogictest::strict_column_validator,
    );
    updated.unwrap_or(record)
}

/// Where SQL is run. Blocks.
trait Backend: Send + Sync + 'static {
    fn label(&self) -> &'static str;

    /// One list per result: its schema's types, its rows or its message.
    fn run(&self, user: &str, sql: &str) -> Result<Vec<SqlResult>, SqlFailure>;
}

pub enum SqlResult {
    Done { rows: u64, message: String },
    Rows { names: Vec<String>, types: Vec<DefaultColumnType>, rows: Vec<Vec<String>> },
}

struct Session<B> {
    user: String,
    backend: Arc<B>,
}

#[async_trait::async_trait]
impl<B: Backend> AsyncDB for Session<B> {
    type Error = SqlFailure;
    type ColumnType = DefaultColumnType;

    async fn run(&mut self, sql: &str) -> Result<DBOutput<DefaultColumnType>, SqlFailure> {
        let mut results = self.backend.run(&self.user, sql)?;
        if results.len() > 1 {
            let rows = results.into_iter().flat_map(SqlResult::lines).map(|line| vec![line]).collect();
            return Ok(DBOutput::Rows { types: vec![DefaultColumnType::Text], rows });
        }
        Ok(match results.pop().expect("a result for each statement") {
            SqlResult::Rows { types, rows, .. } => DBOutput::Rows { types, rows },
            SqlResult::Done { message, .. } if sql.starts_with("-- message") => {
                DBOutput::Rows { types: vec![DefaultColumnType::Text], rows: vec![vec![message]] }
            }
            SqlResult::Done { rows, .. } => DBOutput::StatementComplete(rows),
        })
    }

    async fn shutdown(&mut self) {}

    fn engine_name(&self) -> &str {
        self.backend.label()
    }

    fn error_sql_state(failure: &SqlFailure) -> Option<String> {
        Some(failure.sqlstate.clone())
    }
}

impl SqlResult {
    fn lines(self) -> Vec<String> {
        match self {
            SqlResult::Done { message, .. } => vec![message],
            SqlResult::Rows { rows, .. } => rows.iter().map(|row| row.join("|")).collect(),
        }
    }

    /// [`SqlResult::lines`], with the columns' names above rows.
    pub fn titled_lines(self) -> Vec<String> {
        let title = match &self {
            SqlResult::Done { .. } => None,
            SqlResult::Rows { names, .. } => Some(names.join("|")),
        };
        title.into_iter().chain(self.lines()).collect()
    }

    /// A result as the wire has it.
    fn of_json(result: &Value) -> Self {
        let count = result["row_count"].as_u64().expect("row_count is always there");
        let Some(rows) = result["rows"].as_array() else {
            let message = result["message"].as_str().expect("a message where there are no rows").to_owned();
            return SqlResult::Done { rows: count, message };
        };
        assert_eq!(count, rows.len() as u64, "row_count counts the rows");
        let columns = result["schema"].as_array().map_or(&[][..], Vec::as_slice);
        let names = columns.iter().map(|column| column["name"].as_str().unwrap().to_owned()).collect();
        let types = columns.iter().map(column_type).collect();
        let rows = rows.iter().map(|row| row.as_array().unwrap().iter().map(cell_text).collect()).collect();
        SqlResult::Rows { names, types, rows }
    }
}

/// I: whole numbers, R: the other numbers, T: everything else.
fn column_type(column: &Value) -> DefaultColumnType {
    match &column["data_type"] {
        Value::String(name) => match name.as_str() {
            "SmallInt" | "Int" | "BigInt" => DefaultColumnType::Integer,
            "Float" | "Double" => DefaultColumnType::FloatingPoint,
            _ => DefaultColumnType::Text,
        },
        of_two if of_two.get("Decimal").is_some() => DefaultColumnType::FloatingPoint,
        _ => DefaultColumnType::Text,
    }
}

fn cell_text(cell: &Value) -> String {
    match cell {
        Value::Null => "NULL".to_owned(),
        Value::String(text) if text.is_empty() => "(empty)".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A database in this process, on a thread of its own.
struct LocalDatabase {
    arbiter: actix::ArbiterHandle,
    database: Arc<Database>,
    thread: Option<JoinHandle<()>>,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    _folder: TempDir,
}

impl LocalDatabase {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut options = DatabaseOptions::at(folder.path().join("data"));
        options.auth.argon2.memory = bytesize::ByteSize::kib(8);
        options.auth.argon2.iterations = 1;
        let (opened, database) = channel();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let thread = std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                let fatal = Fatal::new(|reason| panic!("the database gave up: {reason}"));
                let database = Database::open(options, Clock::system(), fatal).await.unwrap();
                opened.send((actix::Arbiter::current(), database.clone())).unwrap();
                // An error means that the test panicked: then it ends, too.
                let _ = stopped.await;
                database.shutdown().await;
            });
        });
        let (arbiter, database) = database.recv().unwrap();
        let local = Self { arbiter, database, thread: Some(thread), stop: Some(stop), _folder: folder };
        for (user, role) in USERS {
            local.run("root", &create_user(user, *role)).unwrap_or_else(|failure| panic!("{user}: {failure}"));
        }
        local
    }
}

impl Backend for LocalDatabase {
    fn label(&self) -> &'static str {
        "database"
    }

    fn run(&self, user: &str, sql: &str) -> Result<Vec<SqlResult>, SqlFailure> {
        let principal = self.database.auth().user(&UserId::parse(user).unwrap()).unwrap().principal();
        let (database, request) = (self.database.clone(), SqlRequest { sql: sql.to_owned(), ..SqlRequest::default() });
        let (reply, answer): (_, Receiver<Result<Vec<SqlResult>, StatementError>>) = channel();
        let running = self.arbiter.spawn_fn(move || {
            actix::spawn(async move {
                let results = execute(&database, &principal, request).await;
                reply.send(results).unwrap();
            });
        });
        assert!(running, "the database's thread has ended");
        answer.recv().expect("an answer").map_err(|failed| SqlFailure {
            status: failed.error.code().http_status(),
            code: failed.error.code().wire().to_owned(),
            sqlstate: failed.error.code().sqlstate().to_owned(),
            message: failed.to_string(),
        })
    }
}

async fn execute(
    database: &Database,
    principal: &Principal,
    request: SqlRequest,
) -> Result<Vec<SqlResult>, StatementError> {
    let response = database.execute(principal, request).await?;
    let mut results = Vec::new();
    for StatementResult { outcome, .. } in response.results {
        results.push(match outcome {
            Outcome::Done { rows, message } => SqlResult::Done { rows, message },
            Outcome::Rows(stream) => {
                let schema = serde_json::to_value(&stream.schema).unwrap();
                let mut rows: Vec<Value> = Vec::new();
                for batch in stream.batches.try_collect::<Vec<_>>().await? {
                    let cells = CellEncoders::new(&batch)?;
                    let Value::Array(more) = serde_json::to_value(cells.arrays(0..batch.num_rows())).unwrap() else {
                        panic!("rows are an array");
                    };
                    rows.extend(more);
                }
                SqlResult::of_json(&json!({ "schema": schema, "row_count": rows.len(), "rows": rows }))
            }
        });
    }
    Ok(results)
}

impl Drop for LocalDatabase {
    fn drop(&mut self) {
        // Gone already: the thread panicked, which joining tells.
        let _ = self.stop.take().expect("dropped once").send(());
        let ended = self.thread.take().expect("dropped once").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the database's thread panicked");
    }
}

/// The real program.
pub struct Remote {
    clients: Mutex<HashMap<String, Client>>,
    server: Server,
}

impl Remote {
    pub fn start() -> Self {
        let server = Server::start(&[]);
        let admin = server.set_up();
        let mut root = server.log_in("root");
        let mut clients = HashMap::from([(ADMIN.to_owned(), admin)]);
        for (user, role) in USERS.iter().filter(|(user, _)| *user != ADMIN) {
            root.sql(&create_user(user, *role));
            clients.insert((*user).to_owned(), server.log_in(user));
        }
        clients.insert("root".to_owned(), root);
        Self { clients: Mutex::new(clients), server }
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    /// The results of a request. A user who was made since logs in first, with the [`PASSWORD`].
    ///
    /// # Errors
    /// What the server answered instead.
    pub fn request(&self, user: &str, body: &Value) -> Result<Vec<SqlResult>, SqlFailure> {
        let mut clients = self.clients.lock().unwrap();
        let client = clients.entry(user.to_owned()).or_insert_with(|| self.server.log_in(user));
        Ok(client.try_sql(body)?.iter().map(SqlResult::of_json).collect())
    }
}

impl Backend for Remote {
    fn label(&self) -> &'static str {
        "http"
    }

    fn run(&self, user: &str, sql: &str) -> Result<Vec<SqlResult>, SqlFailure> {
        self.request(user, &json!({ "sql": sql }))
    }
}

fn create_user(user: &str, role: Role) -> String {
    format!("CREATE USER {user} WITH PASSWORD '{PASSWORD}' ROLE {role}")
}
