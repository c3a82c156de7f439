//! The servers under load, behind one set of verbs: start, connect, insert, read, subscribe, count.
//!
//! Owns the vocabulary that all sides share, and the choice between them. Never measures: `drive.rs` and `turn.rs` do.
//! Each side is used as its users use it: InboxDB over HTTP/1.1 and WebSocket, PostgreSQL with prepared statements,
//! Redis with streams. Start at [`Peer::start`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::Serialize;

use crate::payload::Payload;
use crate::process::Process;

mod inboxdb;
mod nats;
mod postgres;
mod redis;

pub(crate) use inboxdb::{
    Following, Format, InboxDb, InboxDbConnection, Instance, PASSWORD, Session, create_agent, create_users, follow,
    open_socket, rows_of,
};
pub(crate) use nats::{Nats, NatsPublisher, subscribe as subscribe_nats};
pub(crate) use postgres::{Postgres, PostgresConnection};

pub(crate) use redis::Redis;

use inboxdb::InboxDbSubscription;
use postgres::PostgresSubscription;
use redis::{RedisConnection, RedisSubscription};

/// How long a server may take to start.
const READY_WITHIN: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PeerKind {
    #[value(name = "inboxdb")]
    InboxDb,
    Postgres,
    Redis,
    /// With JetStream.
    Nats,
    /// Within this process.
    Sqlite,
    /// Within a Python process.
    #[value(name = "duckdb")]
    DuckDb,
}

impl fmt::Display for PeerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PeerKind::InboxDb => "InboxDB",
            PeerKind::Postgres => "PostgreSQL",
            PeerKind::Redis => "Redis",
            PeerKind::Nats => "NATS",
            PeerKind::Sqlite => "SQLite",
            PeerKind::DuckDb => "DuckDB",
        })
    }
}

/// What an acknowledgement promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Durability {
    /// Given after fdatasync: survives a power loss.
    Sync,
    /// Survives kill -9, not a power loss.
    Buffered,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Durability::Sync => "sync",
            Durability::Buffered => "buffered",
        })
    }
}

/// Whose mailboxes are written.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Population {
    /// One user for each client, who writes to their own mailbox with their own token.
    Pool(usize),
    /// Clients are agents of one service account, who write to the mailboxes of this many users.
    Agents(usize),
}

impl Population {
    pub(crate) fn users(self) -> usize {
        match self {
            Population::Pool(users) | Population::Agents(users) => users,
        }
    }
}

/// Where the programs are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) inboxdb: PathBuf,
    /// `section.key=value`, beside those that every load needs.
    pub(crate) inboxdb_settings: Vec<String>,
    /// Holds `initdb` and `postgres`.
    pub(crate) postgres_folder: PathBuf,
    pub(crate) redis_server: PathBuf,
    pub(crate) nats_server: PathBuf,
}

/// What a server is started with.
pub(crate) struct Launch<'a> {
    pub(crate) programs: &'a Programs,
    /// Empty, of this server alone.
    pub(crate) folder: &'a Path,
    pub(crate) population: Population,
}

/// Why a request brought nothing.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server said no.
    Refused(String),
    /// The server said something, but not what is stored.
    Wrong(String),
    /// No answer came, and none will on this connection.
    Broken(anyhow::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Refused(text) => write!(f, "refused: {text}"),
            Failure::Wrong(text) => write!(f, "a wrong answer: {text}"),
            Failure::Broken(error) => write!(f, "{error:#}"),
        }
    }
}

impl std::error::Error for Failure {}

/// What a server holds after a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) rows: u64,
    /// Rows with different ids; `None` where the server keeps no such key.
    pub(crate) distinct: Option<u64>,
}

pub(crate) enum Peer {
    InboxDb(InboxDb),
    Postgres(Postgres),
    Redis(Redis),
}

impl Peer {
    pub(crate) async fn start(kind: PeerKind, launch: &Launch<'_>) -> Result<Self> {
        Ok(match kind {
            PeerKind::InboxDb => Peer::InboxDb(InboxDb::start(launch).await?),
            PeerKind::Postgres => Peer::Postgres(Postgres::start(launch).await?),
            PeerKind::Redis => Peer::Redis(Redis::start(launch).await?),
            PeerKind::Nats | PeerKind::Sqlite | PeerKind::DuckDb => bail!("{kind} takes no part in this row"),
        })
    }

    pub(crate) fn kind(&self) -> PeerKind {
        match self {
            Peer::InboxDb(_) => PeerKind::InboxDb,
            Peer::Postgres(_) => PeerKind::Postgres,
            Peer::Redis(_) => PeerKind::Redis,
        }
    }

    pub(crate) fn version(&self) -> &str {
        match self {
            Peer::InboxDb(peer) => peer.version(),
            Peer::Postgres(peer) => peer.version(),
            Peer::Redis(peer) => peer.version(),
        }
    }

    pub(crate) fn process(&self) -> &Process {
        match self {
            Peer::InboxDb(peer) => peer.process(),
            Peer::Postgres(peer) => peer.process(),
            Peer::Redis(peer) => peer.process(),
        }
    }

    /// To be called before connections at `level` are used; one level at a time.
    pub(crate) async fn set_durability(&self, level: Durability) -> Result<()> {
        match self {
            // These are told with each request or session.
            Peer::InboxDb(_) | Peer::Postgres(_) => Ok(()),
            Peer::Redis(peer) => peer.set_durability(level).await,
        }
    }

    /// The connection of client number `client`, who in a pool writes as user number `client`.
    pub(crate) async fn connect(&self, client: usize, level: Durability) -> Result<Connection> {
        Ok(match self {
            Peer::InboxDb(peer) => Connection::InboxDb(peer.connect(client, level).await?),
            Peer::Postgres(peer) => Connection::Postgres(peer.connect(level).await?),
            Peer::Redis(peer) => Connection::Redis(peer.connect().await?),
        })
    }

    /// Everything that is published to the mailbox of user `owner` from now on.
    pub(crate) async fn subscribe(&self, owner: usize) -> Result<Subscription> {
        Ok(match self {
            Peer::InboxDb(peer) => Subscription::InboxDb(Box::new(peer.subscribe(owner).await?)),
            Peer::Postgres(peer) => Subscription::Postgres(peer.subscribe(owner).await?),
            Peer::Redis(peer) => Subscription::Redis(peer.subscribe(owner).await?),
        })
    }

    pub(crate) async fn stored(&self) -> Result<Stored> {
        match self {
            Peer::InboxDb(peer) => peer.stored().await,
            Peer::Postgres(peer) => peer.stored().await,
            Peer::Redis(peer) => peer.stored().await,
        }
    }
}

pub(crate) enum Connection {
    InboxDb(InboxDbConnection),
    Postgres(PostgresConnection),
    Redis(RedisConnection),
}

impl Connection {
    pub(crate) async fn insert(&mut self, owner: usize, id: i64, body: &str) -> Result<(), Failure> {
        match self {
            Connection::InboxDb(connection) => connection.insert(owner, id, body).await,
            Connection::Postgres(connection) => connection.insert(owner, id, body).await,
            Connection::Redis(connection) => connection.insert(owner, id, body).await,
        }
    }

    /// The rows `first_id` and the `BATCH_ROWS − 1` after it, in one statement.
    pub(crate) async fn insert_batch(&mut self, owner: usize, first_id: i64, payload: &Payload) -> Result<(), Failure> {
        match self {
            Connection::InboxDb(connection) => connection.insert_batch(owner, first_id, payload).await,
            Connection::Postgres(connection) => connection.insert_batch(owner, first_id, payload).await,
            Connection::Redis(_) => Err(Failure::Refused("a stream takes one entry a command".to_owned())),
        }
    }

    /// Inserts a row, or gives the one with its key another body.
    pub(crate) async fn upsert(&mut self, owner: usize, id: i64, body: &str) -> Result<(), Failure> {
        match self {
            Connection::InboxDb(connection) => connection.upsert(owner, id, body).await,
            Connection::Postgres(connection) => connection.upsert(owner, id, body).await,
            Connection::Redis(_) => Err(Failure::Refused("a stream has no rows to replace by key".to_owned())),
        }
    }

    /// Inserts, so that subscribers of the owner's mailbox receive the body.
    pub(crate) async fn publish(&mut self, owner: usize, id: i64, body: &str) -> Result<(), Failure> {
        match self {
            Connection::Postgres(connection) => connection.publish(owner, id, body).await,
            // These tell subscribers of every insert.
            Connection::InboxDb(connection) => connection.insert(owner, id, body).await,
            Connection::Redis(connection) => connection.insert(owner, id, body).await,
        }
    }

    /// Reads one row by its key and holds its body against `expected`.
    pub(crate) async fn select(&mut self, owner: usize, id: i64, expected: &str) -> Result<(), Failure> {
        match self {
            Connection::InboxDb(connection) => connection.select(id, expected).await,
            Connection::Postgres(connection) => connection.select(owner, id, expected).await,
            Connection::Redis(_) => Err(Failure::Refused("a stream has no rows to read by key".to_owned())),
        }
    }
}

pub(crate) enum Subscription {
    InboxDb(Box<InboxDbSubscription>),
    Postgres(PostgresSubscription),
    Redis(RedisSubscription),
}

impl Subscription {
    /// The body of the next message.
    pub(crate) async fn next(&mut self) -> Result<String> {
        match self {
            Subscription::InboxDb(subscription) => subscription.next().await,
            Subscription::Postgres(subscription) => subscription.next().await,
            Subscription::Redis(subscription) => subscription.next().await,
        }
    }
}

/// Rows of one statement of a batch insert.
pub(crate) const BATCH_ROWS: i64 = 100;

pub(crate) fn user_name(owner: usize) -> String {
    format!("u{owner}")
}
