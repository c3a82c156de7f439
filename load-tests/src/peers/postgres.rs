//! PostgreSQL: a process for each connection; prepared statements over TCP, LISTEN/NOTIFY.
//!
//! Owns its start and its statements. Its configuration is Debian's, but for the port and the number of connections.
//! One table of all users with the primary key (user_id, id): what a chat application would have there.

use std::fs;
use std::future::poll_fn;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls, Statement};

use super::{BATCH_ROWS, Durability, Failure, Launch, READY_WITHIN, Stored, user_name};
use crate::payload::Payload;
use crate::process::{Account, Process, free_port, version_of};

const USER: &str = "postgres";
const INSERT: &str = "INSERT INTO messages (user_id, id, body) VALUES ($1, $2, $3)";
const UPSERT: &str = "INSERT INTO messages (user_id, id, body) VALUES ($1, $2, $3) \
                      ON CONFLICT (user_id, id) DO UPDATE SET body = EXCLUDED.body";
/// One statement, so one round trip and one commit: the notification goes out when the row is durable.
const PUBLISH: &str =
    "WITH row AS (INSERT INTO messages (user_id, id, body) VALUES ($1, $2, $3)) SELECT pg_notify($1, $3)";
const SELECT: &str = "SELECT id, body FROM messages WHERE user_id = $1 AND id = $2";
/// Bounds what a subscription that is not read holds; the driver's task then waits, as the socket would.
const NOTIFICATIONS_WAITING: usize = 1_024;

pub(crate) struct Postgres {
    process: Process,
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    version: String,
    config: Config,
}

impl Postgres {
    pub(crate) async fn start(launch: &Launch<'_>) -> Result<Self> {
        let programs = &launch.programs.postgres_folder;
        let data = launch.folder.join("data");
        fs::create_dir(&data).context("make PostgreSQL's data folder")?;
        let account = Account::for_servers()?;
        if let Some(account) = account {
            fs::set_permissions(launch.folder, fs::Permissions::from_mode(0o755)).context("open the folder")?;
            account.own(&data)?;
        }
        let mut make = Command::new(programs.join("initdb"));
        make.args(["--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync", "--username", USER, "--pgdata"])
            .arg(&data);
        make.current_dir(&data);
        if let Some(account) = account {
            account.apply(&mut make);
        }
        let made = make.output().context("run initdb")?;
        ensure!(made.status.success(), "initdb failed: {}", String::from_utf8_lossy(&made.stderr));

        let (program, port) = (programs.join("postgres"), free_port()?);
        let version = version_of(&program)?;
        let mut config = Config::new();
        config.host("127.0.0.1").port(port).user(USER).dbname("postgres");
        let mut process = spawn(&program, launch.folder, port)?;
        ready(&mut process, &config).await?;
        let folder = launch.folder.to_owned();
        let started = Self { process, program, folder, port, version, config };
        started
            .session()
            .await?
            .batch_execute(
                "CREATE TABLE messages (user_id text NOT NULL, id bigint NOT NULL, body text NOT NULL, PRIMARY KEY (user_id, id))",
            )
            .await
            .context("create PostgreSQL's table")?;
        Ok(started)
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// Ends it in good order. It stays down until it is started again.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.process.stop()
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Starts it again on its folder, until it takes connections.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.program, &self.folder, self.port)?;
        ready(&mut self.process, &self.config).await
    }

    pub(crate) async fn session(&self) -> Result<Client> {
        open(&self.config).await
    }

    /// In another database than the loads'.
    pub(crate) async fn session_in(&self, database: &str) -> Result<Client> {
        open(self.config.clone().dbname(database)).await
    }

    pub(crate) async fn connect(&self, level: Durability) -> Result<PostgresConnection> {
        let client = self.session().await?;
        let synchronous = match level {
            Durability::Sync => "SET synchronous_commit = on",
            Durability::Buffered => "SET synchronous_commit = off",
        };
        client.batch_execute(synchronous).await.context("set PostgreSQL's durability")?;
        let prepare = async |sql: &str| client.prepare(sql).await.with_context(|| format!("prepare {sql:.100}"));
        let (insert, publish, select) = (prepare(INSERT).await?, prepare(PUBLISH).await?, prepare(SELECT).await?);
        let (batch, upsert) = (prepare(&batch_statement()).await?, prepare(UPSERT).await?);
        Ok(PostgresConnection { client, insert, upsert, batch, publish, select })
    }

    pub(crate) async fn stored(&self) -> Result<Stored> {
        let sql = "SELECT count(*), count(DISTINCT (user_id, id)) FROM messages";
        let row = self.session().await?.query_one(sql, &[]).await.context("count PostgreSQL's rows")?;
        let (rows, distinct): (i64, i64) = (row.get(0), row.get(1));
        Ok(Stored { rows: rows.unsigned_abs(), distinct: Some(distinct.unsigned_abs()) })
    }

    pub(super) async fn subscribe(&self, owner: usize) -> Result<PostgresSubscription> {
        let (client, mut connection) = self.config.connect(NoTls).await.context("connect to PostgreSQL")?;
        let (sender, bodies) = mpsc::channel(NOTIFICATIONS_WAITING);
        tokio::spawn(async move {
            while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                if let AsyncMessage::Notification(notification) = message
                    && sender.send(notification.payload().to_owned()).await.is_err()
                {
                    return;
                }
            }
        });
        client.batch_execute(&format!("LISTEN {}", user_name(owner))).await.context("listen")?;
        Ok(PostgresSubscription { bodies, _client: client })
    }
}

async fn open(config: &Config) -> Result<Client> {
    let (client, connection) = config.connect(NoTls).await.context("connect to PostgreSQL")?;
    tokio::spawn(async move {
        // An error reaches the client through the request that it fails.
        let _ = connection.await;
    });
    Ok(client)
}

fn spawn(program: &Path, folder: &Path, port: u16) -> Result<Process> {
    let data = folder.join("data");
    let mut command = Command::new(program);
    command.arg("-D").arg(&data).current_dir(&data);
    for setting in [
        format!("port={port}"),
        "listen_addresses=127.0.0.1".into(),
        "unix_socket_directories=".into(),
        "max_connections=300".into(),
    ] {
        command.args(["-c", &setting]);
    }
    if let Some(account) = Account::for_servers()? {
        account.apply(&mut command);
    }
    // Interrupt: end all sessions and stop in good order.
    Process::spawn("postgres", command, folder, Signal::INT)
}

async fn ready(process: &mut Process, config: &Config) -> Result<()> {
    process.wait_until(READY_WITHIN, async || config.connect(NoTls).await.is_ok()).await
}

fn batch_statement() -> String {
    let rows: Vec<String> =
        (0..BATCH_ROWS).map(|row| format!("(${}, ${}, ${})", 3 * row + 1, 3 * row + 2, 3 * row + 3)).collect();
    format!("INSERT INTO messages (user_id, id, body) VALUES {}", rows.join(", "))
}

pub(crate) struct PostgresConnection {
    client: Client,
    insert: Statement,
    upsert: Statement,
    batch: Statement,
    publish: Statement,
    select: Statement,
}

impl PostgresConnection {
    pub(super) async fn insert(&mut self, owner: usize, id: i64, body: &str) -> Result<(), Failure> {
        self.client.execute(&self.insert, &[&user_name(owner), &id, &body]).await.map(drop).map_err(failure)
    }

    pub(super) async fn upsert(&mut self, owner: usize, id: i64, body: &str) -> Result<(), Failure> {
        self.client.execute(&self.upsert, &[&user_name(owner), &id, &body]).await.map(drop).map_err(failure)
    }

    pub(crate) async fn insert_batch(&mut self, owner: usize, first_id: i64, payload: &Payload) -> Result<(), Failure> {
        let owner = user_name(owner);
        let rows: Vec<(i64, &str)> = (first_id..first_id + BATCH_ROWS).map(|id| (id, payload.body(id))).collect();
        let mut params: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(3 * rows.len());
        for (id, body) in &rows {
            params.extend([&owner as &(dyn ToSql + Sync), id, body]);
        }
        self.client.execute(&self.batch, &params).await.map(drop).map_err(failure)
    }

    pub(super) async fn publish(&mut self, owner: usize, id: i64, body: &str) -> Result<(), Failure> {
        self.client.query_one(&self.publish, &[&user_name(owner), &id, &body]).await.map(drop).map_err(failure)
    }

    pub(crate) async fn select(&mut self, owner: usize, id: i64, expected: &str) -> Result<(), Failure> {
        let row = self.client.query_opt(&self.select, &[&user_name(owner), &id]).await.map_err(failure)?;
        match row.as_ref().map(|row| row.get::<_, &str>(1)) {
            Some(body) if body == expected => Ok(()),
            other => Err(Failure::Wrong(format!("row {id} was answered {other:?}"))),
        }
    }
}

fn failure(error: tokio_postgres::Error) -> Failure {
    match error.as_db_error() {
        Some(refusal) => Failure::Refused(refusal.to_string()),
        None => Failure::Broken(error.into()),
    }
}

pub(crate) struct PostgresSubscription {
    bodies: mpsc::Receiver<String>,
    /// The session ends with it.
    _client: Client,
}

impl PostgresSubscription {
    pub(super) async fn next(&mut self) -> Result<String> {
        self.bodies.recv().await.context("PostgreSQL closed the listening connection")
    }
}
