//! InboxDB: one process; SQL over HTTP/1.1 with a token, live queries over WebSocket (`live.rs`).
//!
//! Owns its start, its first-run set-up and the shape of its requests. Bodies and names of a load hold nothing that
//! JSON or SQL would have to escape, so requests are put together as text.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{BATCH_ROWS, Durability, Failure, Launch, Population, READY_WITHIN, Stored, user_name};
use crate::http::{Answer, HttpClient};
use crate::payload::Payload;
use crate::process::{Process, version_of};

mod live;

pub(super) use live::InboxDbSubscription;

const SQL_PATH: &str = "/v1/api/sql";
const PASSWORD: &str = "a-load-test-password";
const ADMIN: &str = "admin";
const AGENT: &str = "agent";
const USERS_PER_REQUEST: usize = 200;

pub(crate) struct InboxDb {
    process: Process,
    version: String,
    address: SocketAddr,
    population: Population,
    /// Of the users of a pool, or of the one agent.
    tokens: Vec<String>,
}

impl InboxDb {
    pub(super) async fn start(launch: &Launch<'_>) -> Result<Self> {
        let programs = launch.programs;
        let ready_file = launch.folder.join("ready.json");
        let mut command = Command::new(&programs.inboxdb);
        command.args(["serve", "--port", "0", "--data"]).arg(launch.folder.join("data"));
        command.arg("--ready-file").arg(&ready_file);
        command.args(["--set", "auth.query_rate_per_user=1000000"]);
        for setting in &programs.inboxdb_settings {
            command.args(["--set", setting]);
        }
        let version = version_of(&programs.inboxdb)?;
        let mut process = Process::spawn("inboxdb", command, launch.folder, Signal::TERM)?;
        process.wait_until(READY_WITHIN, async || ready_file.exists()).await?;
        let ready: ReadyFile = serde_json::from_slice(&fs::read(&ready_file).context("read the ready file")?)
            .context("read the ready file")?;
        let population = launch.population;
        let mut started = Self { process, version, address: ready.address, population, tokens: Vec::new() };
        let outcome = started.set_up().await;
        outcome.with_context(|| format!("set InboxDB up; its log ends:\n{}", started.process.log_tail()))?;
        Ok(started)
    }

    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    async fn set_up(&mut self) -> Result<()> {
        let mut anyone = HttpClient::connect(self.address, None).await?;
        let account = json!({"user": ADMIN, "password": PASSWORD, "root_password": PASSWORD});
        let answer = anyone.post("/v1/api/auth/setup", account.to_string().as_bytes()).await?;
        ensure!(answer.status == 200, "first-run set-up was answered {answer:?}");
        let token = log_in(&mut anyone, ADMIN).await?;
        let mut admin = HttpClient::connect(self.address, Some(&token)).await?;
        run(&mut admin, "CREATE NAMESPACE chat").await?;
        let table = "CREATE TABLE chat.messages (id BIGINT PRIMARY KEY, body TEXT NOT NULL) WITH (TYPE='USER')";
        run(&mut admin, table).await?;
        match self.population {
            Population::Pool(users) => {
                for user in (0..users).map(user_name) {
                    run(&mut admin, &format!("CREATE USER {user} WITH PASSWORD '{PASSWORD}' ROLE user")).await?;
                    self.tokens.push(log_in(&mut anyone, &user).await?);
                }
            }
            Population::Agents(users) => {
                // Users who never log in have no password, and hashing none is what makes ten thousand of them quick.
                for chunk in (0..users).collect::<Vec<_>>().chunks(USERS_PER_REQUEST) {
                    let statements: Vec<String> = chunk
                        .iter()
                        .map(|&user| format!("CREATE USER {} WITH INTERNAL ROLE user", user_name(user)))
                        .collect();
                    run(&mut admin, &statements.join("; ")).await?;
                }
                run(&mut admin, &format!("CREATE USER {AGENT} WITH PASSWORD '{PASSWORD}' ROLE service")).await?;
                self.tokens.push(log_in(&mut anyone, AGENT).await?);
            }
        }
        Ok(())
    }

    fn token(&self, client: usize) -> Result<&str> {
        let index = match self.population {
            Population::Pool(_) => client,
            Population::Agents(_) => 0,
        };
        self.tokens.get(index).map(String::as_str).with_context(|| format!("there is no user for client {client}"))
    }

    pub(super) async fn connect(&self, client: usize, level: Durability) -> Result<InboxDbConnection> {
        Ok(InboxDbConnection {
            http: HttpClient::connect(self.address, Some(self.token(client)?)).await?,
            level,
            as_agent: matches!(self.population, Population::Agents(_)),
            request: String::new(),
        })
    }

    pub(super) async fn stored(&self) -> Result<Stored> {
        let mut stored = Stored { rows: 0, distinct: Some(0) };
        let mut connection = None;
        for owner in 0..self.population.users() {
            // An agent's connection serves for all; a user sees only their own mailbox.
            let connection = match (&self.population, &mut connection) {
                (Population::Agents(_), Some(connection)) => connection,
                (_, slot) => slot.insert(HttpClient::connect(self.address, Some(self.token(owner)?)).await?),
            };
            let count = "SELECT COUNT(*), COUNT(DISTINCT id) FROM chat.messages";
            let sql = match self.population {
                Population::Pool(_) => count.to_owned(),
                Population::Agents(_) => format!("EXECUTE AS USER '{}' ({count})", user_name(owner)),
            };
            let answer = run(connection, &sql).await?;
            let number =
                |column: usize| answer.pointer(&format!("/results/0/rows/0/{column}"))?.as_str()?.parse::<u64>().ok();
            let (Some(rows), Some(distinct)) = (number(0), number(1)) else { bail!("a count was answered {answer}") };
            stored.rows += rows;
            stored.distinct = stored.distinct.map(|sum| sum + distinct);
        }
        Ok(stored)
    }

    pub(super) async fn subscribe(&self, owner: usize) -> Result<InboxDbSubscription> {
        let stream = TcpStream::connect(self.address).await.context("connect a WebSocket")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        InboxDbSubscription::open(stream, self.address, self.token(owner)?).await
    }
}

#[derive(Deserialize)]
struct ReadyFile {
    address: SocketAddr,
}

async fn log_in(client: &mut HttpClient, user: &str) -> Result<String> {
    let credentials = json!({"user": user, "password": PASSWORD}).to_string();
    let answer = loop {
        let answer = client.post("/v1/api/auth/login", credentials.as_bytes()).await?;
        // Logins are limited for each address, and all of ours come from one.
        if answer.status != 429 {
            break answer;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    ensure!(answer.status == 200, "the login of {user} was answered {answer:?}");
    let tokens: Tokens = serde_json::from_str(&answer.body).context("read the login's answer")?;
    Ok(tokens.access_token)
}

#[derive(Deserialize)]
struct Tokens {
    access_token: String,
}

/// One request outside of what is measured.
async fn run(client: &mut HttpClient, sql: &str) -> Result<Value> {
    let answer = client.post(SQL_PATH, json!({"sql": sql}).to_string().as_bytes()).await?;
    ensure!(answer.status == 200, "{sql:.200} was answered {answer:?}");
    serde_json::from_str(&answer.body).context("read an answer")
}

pub(crate) struct InboxDbConnection {
    http: HttpClient,
    level: Durability,
    as_agent: bool,
    /// Kept from request to request, for its memory.
    request: String,
}

impl InboxDbConnection {
    pub(super) async fn insert(&mut self, owner: usize, id: i64, body: &str) -> Result<(), Failure> {
        self.request.clear();
        self.begin_statement(owner);
        self.request.push_str("INSERT INTO chat.messages (id, body) VALUES ($1, $2)");
        self.end_statement();
        for part in [",\"params\":[", &id.to_string(), ",\"", body, "\"]"] {
            self.request.push_str(part);
        }
        self.write().await
    }

    pub(super) async fn insert_batch(&mut self, owner: usize, first_id: i64, payload: &Payload) -> Result<(), Failure> {
        self.request.clear();
        self.begin_statement(owner);
        self.request.push_str("INSERT INTO chat.messages (id, body) VALUES ");
        for id in first_id..first_id + BATCH_ROWS {
            let comma = if id == first_id { "" } else { "," };
            for part in [comma, "(", &id.to_string(), ",'", payload.body(id), "')"] {
                self.request.push_str(part);
            }
        }
        self.end_statement();
        self.write().await
    }

    fn begin_statement(&mut self, owner: usize) {
        self.request.push_str("{\"sql\":\"");
        if self.as_agent {
            for part in ["EXECUTE AS USER '", &user_name(owner), "' ("] {
                self.request.push_str(part);
            }
        }
    }

    fn end_statement(&mut self) {
        self.request.push_str(if self.as_agent { ")\"" } else { "\"" });
    }

    async fn write(&mut self) -> Result<(), Failure> {
        self.request.push_str(match self.level {
            Durability::Sync => ",\"durability\":\"sync\"}",
            Durability::Buffered => ",\"durability\":\"buffered\"}",
        });
        self.send().await.map(drop)
    }

    async fn send(&mut self) -> Result<Answer, Failure> {
        let answer = self.http.post(SQL_PATH, self.request.as_bytes()).await.map_err(Failure::Broken)?;
        if answer.status != 200 {
            return Err(Failure::Refused(format!("{} {:.300}", answer.status, answer.body)));
        }
        Ok(answer)
    }

    pub(super) async fn select(&mut self, id: i64, expected: &str) -> Result<(), Failure> {
        self.request.clear();
        for part in
            ["{\"sql\":\"SELECT id, body FROM chat.messages WHERE id = $1\",\"params\":[", &id.to_string(), "]}"]
        {
            self.request.push_str(part);
        }
        let answer = self.send().await?;
        if answer.body.contains(expected) {
            Ok(())
        } else {
            Err(Failure::Wrong(format!("row {id} was answered {:.300}", answer.body)))
        }
    }
}
