//! InboxDB: one process (`instance.rs`); SQL over HTTP/1.1 with a token, live queries over WebSocket (`live.rs`).
//!
//! Owns the table and the users of most loads, and the shape of their requests. Bodies and names of a load hold nothing
//! that JSON or SQL would have to escape, so requests are put together as text.

use anyhow::{Context, Result, bail};
use tokio::net::TcpStream;

use super::{BATCH_ROWS, Durability, Failure, Launch, Population, Stored, user_name};
use crate::payload::Payload;
use crate::process::Process;

mod instance;
mod live;
mod socket;

pub(crate) use instance::{Instance, PASSWORD, Session, rows_of};
pub(super) use live::InboxDbSubscription;
pub(crate) use socket::{Following, Format, follow, open_socket};

const TABLE: &str = "chat.messages";
const AGENT: &str = "agent";
const USERS_PER_REQUEST: usize = 200;

pub(crate) struct InboxDb {
    instance: Instance,
    population: Population,
    /// Of the users of a pool, or of the one agent.
    tokens: Vec<String>,
}

impl InboxDb {
    pub(crate) async fn start(launch: &Launch<'_>) -> Result<Self> {
        let instance = Instance::start(launch.programs, launch.folder, &[]).await?;
        let mut started = Self { instance, population: launch.population, tokens: Vec::new() };
        let outcome = started.set_up().await;
        outcome.with_context(|| format!("set InboxDB up; its log ends:\n{}", started.process().log_tail()))?;
        Ok(started)
    }

    pub(crate) fn instance(&self) -> &Instance {
        &self.instance
    }

    pub(super) fn version(&self) -> &str {
        self.instance.version()
    }

    pub(crate) fn process(&self) -> &Process {
        self.instance.process()
    }

    async fn set_up(&mut self) -> Result<()> {
        let mut admin = self.instance.admin().await?;
        admin.run("CREATE NAMESPACE chat").await?;
        let table = "CREATE TABLE chat.messages (id BIGINT PRIMARY KEY, body TEXT NOT NULL) WITH (TYPE='USER')";
        admin.run(table).await?;
        match self.population {
            Population::Pool(users) => {
                for user in (0..users).map(user_name) {
                    admin.run(&format!("CREATE USER {user} WITH PASSWORD '{PASSWORD}' ROLE user")).await?;
                    self.tokens.push(self.instance.log_in(&user).await?);
                }
            }
            Population::Agents(users) => {
                for first in (0..users).step_by(USERS_PER_REQUEST) {
                    create_users(&mut admin, first..users.min(first + USERS_PER_REQUEST)).await?;
                }
                self.tokens.push(create_agent(&self.instance).await?);
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

    pub(crate) async fn connect(&self, client: usize, level: Durability) -> Result<InboxDbConnection> {
        Ok(InboxDbConnection {
            session: self.instance.session(self.token(client)?).await?,
            level,
            as_agent: matches!(self.population, Population::Agents(_)),
        })
    }

    /// A session of one of a pool's users.
    pub(crate) async fn session(&self, owner: usize) -> Result<Session> {
        self.instance.session(self.token(owner)?).await
    }

    pub(crate) async fn stored(&self) -> Result<Stored> {
        let mut stored = Stored { rows: 0, distinct: Some(0) };
        let mut connection = None;
        for owner in 0..self.population.users() {
            // An agent's connection serves for all; a user sees only their own mailbox.
            let connection = match (&self.population, &mut connection) {
                (Population::Agents(_), Some(connection)) => connection,
                (_, slot) => slot.insert(self.instance.session(self.token(owner)?).await?),
            };
            let count = "SELECT COUNT(*), COUNT(DISTINCT id) FROM chat.messages";
            let sql = match self.population {
                Population::Pool(_) => count.to_owned(),
                Population::Agents(_) => format!("EXECUTE AS USER '{}' ({count})", user_name(owner)),
            };
            let counted = connection.numbers(&sql).await?;
            let [rows, distinct] = counted[..] else { bail!("a count was answered {counted:?}") };
            stored.rows += rows;
            stored.distinct = stored.distinct.map(|sum| sum + distinct);
        }
        Ok(stored)
    }

    pub(super) async fn subscribe(&self, owner: usize) -> Result<InboxDbSubscription> {
        let address = self.instance.address();
        let stream = TcpStream::connect(address).await.context("connect a WebSocket")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        InboxDbSubscription::open(stream, address, self.token(owner)?).await
    }
}

/// The service account that writes to users' mailboxes; its token.
pub(crate) async fn create_agent(instance: &Instance) -> Result<String> {
    let mut admin = instance.admin().await?;
    admin.run(&format!("CREATE USER {AGENT} WITH PASSWORD '{PASSWORD}' ROLE service")).await?;
    instance.log_in(AGENT).await
}

/// Users who never log in have no password, and hashing none is what makes ten thousand of them quick.
pub(crate) async fn create_users(admin: &mut Session, users: std::ops::Range<usize>) -> Result<()> {
    let create = |user| format!("CREATE USER {} WITH INTERNAL ROLE user", user_name(user));
    admin.run(&users.map(create).collect::<Vec<_>>().join("; ")).await.map(drop)
}

pub(crate) struct InboxDbConnection {
    session: Session,
    level: Durability,
    as_agent: bool,
}

impl InboxDbConnection {
    pub(crate) async fn insert(&mut self, owner: usize, id: i64, body: &str) -> Result<(), Failure> {
        self.write_row(owner, "INSERT INTO chat.messages (id, body) VALUES ($1, $2)", id, body).await
    }

    pub(crate) async fn upsert(&mut self, owner: usize, id: i64, body: &str) -> Result<(), Failure> {
        let sql =
            "INSERT INTO chat.messages (id, body) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body";
        self.write_row(owner, sql, id, body).await
    }

    async fn write_row(&mut self, owner: usize, sql: &str, id: i64, body: &str) -> Result<(), Failure> {
        self.session.request.clear();
        self.begin_statement(owner);
        self.session.request.push_str(sql);
        self.end_statement();
        for part in [",\"params\":[", &id.to_string(), ",\"", body, "\"]"] {
            self.session.request.push_str(part);
        }
        self.write().await
    }

    pub(crate) async fn insert_batch(&mut self, owner: usize, first_id: i64, payload: &Payload) -> Result<(), Failure> {
        self.session.request.clear();
        self.begin_statement(owner);
        self.session.request.push_str("INSERT INTO chat.messages (id, body) VALUES ");
        for id in first_id..first_id + BATCH_ROWS {
            let comma = if id == first_id { "" } else { "," };
            for part in [comma, "(", &id.to_string(), ",'", payload.body(id), "')"] {
                self.session.request.push_str(part);
            }
        }
        self.end_statement();
        self.write().await
    }

    fn begin_statement(&mut self, owner: usize) {
        self.session.request.push_str("{\"sql\":\"");
        if self.as_agent {
            for part in ["EXECUTE AS USER '", &user_name(owner), "' ("] {
                self.session.request.push_str(part);
            }
        }
    }

    fn end_statement(&mut self) {
        self.session.request.push_str(if self.as_agent { ")\"" } else { "\"" });
    }

    async fn write(&mut self) -> Result<(), Failure> {
        self.session.request.push_str(match self.level {
            Durability::Sync => ",\"durability\":\"sync\"}",
            Durability::Buffered => ",\"durability\":\"buffered\"}",
        });
        self.session.send().await.map(drop)
    }

    pub(crate) async fn select(&mut self, id: i64, expected: &str) -> Result<(), Failure> {
        self.session.select_row(TABLE, id, expected).await
    }
}
