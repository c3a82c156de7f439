//! Servers with a crowd of subscribers: one room that all listen to, or a mailbox for each.
//!
//! Owns what the live rows share: the servers' set-up, lines, publishers. Each side is used as its users use it: InboxDB
//! with live queries on tables, Redis with pub/sub, NATS with subjects that JetStream keeps.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use futures_util::future::try_join_all;

use crate::bench::Bench;
use crate::line::Line;
use crate::options::Options;
use crate::peers::{
    Failure, Following, Format, Instance, Launch, Nats, NatsPublisher, PASSWORD, PeerKind, Population, Redis, Session,
    create_agent, create_users, follow, open_socket, subscribe_nats, user_name,
};
use crate::process::Process;
use crate::procfs;
use crate::resp::{RedisClient, Reply};
use crate::wire::Framing;

pub(crate) const ROOM_SQL: &str = "SELECT id, body FROM chat.room";
pub(crate) const MAILBOX_SQL: &str = "SELECT id, body FROM chat.messages";
/// Users log in, each a hash of a password: at the default cost five thousand would take minutes, and tell nothing.
const SETTINGS: [&str; 7] = [
    "auth.argon2.memory=8 KiB",
    "auth.argon2.iterations=1",
    "auth.login_rate_per_ip=1000000",
    "websocket.max_subscriptions_per_user=1000000",
    "websocket.max_messages_per_sec=1000",
    // Thousands of sockets are opened one behind the other, and read from when all are.
    "websocket.client_timeout=2m",
    // A burst is one statement.
    "limits.max_sql_bytes=8 MiB",
];
const USERS_A_REQUEST: usize = 200;
const LOG_INS_AT_A_TIME: usize = 8;

/// What is written to and listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Room,
    Mailbox(usize),
}

impl Channel {
    fn name(self, separator: char) -> String {
        match self {
            Channel::Room => "room".to_owned(),
            Channel::Mailbox(user) => format!("mail{separator}{}", user_name(user)),
        }
    }
}

pub(crate) enum Crowd {
    InboxDb(Box<Tenants>),
    Redis(Redis),
    Nats(Nats),
}

/// An InboxDB with users, of whom the first have tokens.
pub(crate) struct Tenants {
    pub(crate) instance: Instance,
    tokens: Vec<String>,
    pub(crate) agent: String,
}

/// How many users there are, and how many of them listen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) users: usize,
    pub(crate) listeners: usize,
}

impl Crowd {
    pub(crate) async fn start(kind: PeerKind, bench: &mut Bench<'_>, options: &Options, size: Size) -> Result<Self> {
        let programs = options.programs();
        let folder = bench.folder(&format!("{kind}-{}", bench.report().turns.len()))?;
        let launch = Launch { programs: &programs, folder: &folder, population: Population::Pool(1) };
        let crowd = match kind {
            PeerKind::InboxDb => Crowd::InboxDb(Box::new(Tenants::start(&launch, size).await?)),
            PeerKind::Redis => Crowd::Redis(Redis::start(&launch).await?),
            PeerKind::Nats => Crowd::Nats(Nats::start(&launch).await?),
            other => bail!("{other} takes no part in this row"),
        };
        bench.is_ours(crowd.process().pid());
        procfs::reset_peaks(crowd.process().pid())?;
        Ok(crowd)
    }

    pub(crate) fn kind(&self) -> PeerKind {
        match self {
            Crowd::InboxDb(_) => PeerKind::InboxDb,
            Crowd::Redis(_) => PeerKind::Redis,
            Crowd::Nats(_) => PeerKind::Nats,
        }
    }

    pub(crate) fn process(&self) -> &Process {
        match self {
            Crowd::InboxDb(tenants) => tenants.instance.process(),
            Crowd::Redis(redis) => redis.process(),
            Crowd::Nats(nats) => nats.process(),
        }
    }

    fn version(&self) -> &str {
        match self {
            Crowd::InboxDb(tenants) => tenants.instance.version(),
            Crowd::Redis(redis) => redis.version(),
            Crowd::Nats(nats) => nats.version(),
        }
    }

    /// The `number`th connection; in InboxDB it is that listener's, who are taken in turns.
    pub(crate) async fn connect(&self, number: usize, format: Format) -> Result<Line> {
        match self {
            Crowd::InboxDb(tenants) => open_socket(tenants.instance.address(), tenants.token(number)?, format).await,
            Crowd::Redis(redis) => Line::connect(redis.address(), Framing::Redis).await,
            Crowd::Nats(nats) => nats.line().await,
        }
    }

    /// From now on; subscription number `id` of this line.
    pub(crate) async fn subscribe(
        &self,
        line: &mut Line,
        channel: Channel,
        (id, format): (usize, Format),
    ) -> Result<()> {
        match self {
            Crowd::InboxDb(_) => {
                let sql = match channel {
                    Channel::Room => ROOM_SQL,
                    Channel::Mailbox(_) => MAILBOX_SQL,
                };
                follow(line, Following { id, sql, format, from: None }).await.map(drop)
            }
            Crowd::Redis(_) => {
                // A channel for each subscription of a line, as a live query is one.
                let name = if id == 0 { channel.name(':') } else { format!("{}:{id}", channel.name(':')) };
                line.send(format!("*2\r\n$9\r\nSUBSCRIBE\r\n${}\r\n{name}\r\n", name.len()).as_bytes()).await?;
                line.message().await.map(drop)
            }
            Crowd::Nats(_) => subscribe_nats(line, &channel.name('.'), id + 1).await,
        }
    }

    pub(crate) async fn publisher(&self) -> Result<Publisher> {
        Ok(match self {
            Crowd::InboxDb(tenants) => Publisher::InboxDb(Box::new(Writer {
                admin: tenants.instance.admin().await?,
                agent: tenants.instance.session(&tenants.agent).await?,
            })),
            Crowd::Redis(redis) => Publisher::Redis(RedisClient::connect(redis.address()).await?),
            Crowd::Nats(nats) => Publisher::Nats(nats.publisher().await?),
        })
    }

    /// What became of all that was published, and the server's end.
    pub(crate) fn close(self, bench: &mut Bench<'_>, outcome: Outcome) -> Result<()> {
        let mut audit = bench.new_audit(self.kind(), self.version(), self.process().settings());
        audit.acknowledged = outcome.acknowledged;
        audit.lost = outcome.lost;
        audit.doubled = Some(outcome.doubled);
        audit.refused = outcome.refused;
        audit.first_failure = outcome.first_failure;
        audit.peak_memory_kib = procfs::memory(self.process().pid())?.peak_kib();
        bench.add_audit(audit);
        Ok(())
    }
}

/// What became of the messages of one server, over all turns.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) acknowledged: u64,
    /// Deliveries that did not come, and such as came again or out of order.
    pub(crate) lost: u64,
    pub(crate) doubled: u64,
    pub(crate) refused: u64,
    pub(crate) first_failure: Option<String>,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: Outcome) {
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.doubled += other.doubled;
        self.refused += other.refused;
        self.first_failure = self.first_failure.take().or(other.first_failure);
    }

    pub(crate) fn fail(&mut self, failure: &Failure) {
        self.refused += 1;
        self.first_failure.get_or_insert(failure.to_string());
    }
}

impl Tenants {
    async fn start(launch: &Launch<'_>, size: Size) -> Result<Self> {
        let instance = Instance::start(launch.programs, launch.folder, &SETTINGS).await?;
        let mut admin = instance.admin().await?;
        admin.run("CREATE NAMESPACE chat").await?;
        let columns = "(id BIGINT PRIMARY KEY, body TEXT NOT NULL)";
        admin.run(&format!("CREATE TABLE chat.messages {columns} WITH (TYPE = 'USER')")).await?;
        admin.run(&format!("CREATE TABLE chat.room {columns} WITH (TYPE = 'SHARED', ACCESS_LEVEL = 'PUBLIC')")).await?;
        let agent = create_agent(&instance).await?;
        let mut tokens = Vec::with_capacity(size.listeners);
        for first in (0..size.listeners).step_by(USERS_A_REQUEST) {
            let users = first..size.listeners.min(first + USERS_A_REQUEST);
            let create = |user| format!("CREATE USER {} WITH PASSWORD '{PASSWORD}' ROLE user", user_name(user));
            admin.run(&users.clone().map(create).collect::<Vec<_>>().join("; ")).await?;
            for first in users.clone().step_by(LOG_INS_AT_A_TIME) {
                let some: Vec<String> = (first..users.end.min(first + LOG_INS_AT_A_TIME)).map(user_name).collect();
                tokens.extend(try_join_all(some.iter().map(|user| instance.log_in(user))).await?);
            }
        }
        for first in (size.listeners..size.users).step_by(USERS_A_REQUEST) {
            create_users(&mut admin, first..size.users.min(first + USERS_A_REQUEST)).await?;
        }
        Ok(Self { instance, tokens, agent })
    }

    pub(crate) fn token(&self, number: usize) -> Result<&str> {
        let index = number.checked_rem(self.tokens.len()).context("nobody listens")?;
        Ok(&self.tokens[index])
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.instance.address()
    }
}

pub(crate) enum Publisher {
    InboxDb(Box<Writer>),
    Redis(RedisClient),
    Nats(NatsPublisher),
}

pub(crate) struct Writer {
    admin: Session,
    agent: Session,
}

impl Publisher {
    /// Returns when the server has acknowledged it (buffered).
    pub(crate) async fn publish(&mut self, channel: Channel, id: i64, body: &str) -> Result<(), Failure> {
        match self {
            Publisher::InboxDb(writer) => writer.insert(channel, id, body).await,
            Publisher::Redis(client) => {
                match client.command(&["PUBLISH", &channel.name(':'), body]).await.map_err(Failure::Broken)? {
                    Reply::Integer(_) => Ok(()),
                    other => Err(Failure::Refused(format!("{other:?}"))),
                }
            }
            Publisher::Nats(publisher) => publisher.publish(&channel.name('.'), body).await,
        }
    }
}

impl Writer {
    async fn insert(&mut self, channel: Channel, id: i64, body: &str) -> Result<(), Failure> {
        let (session, sql) = match channel {
            Channel::Room => (&mut self.admin, "INSERT INTO chat.room (id, body) VALUES ($1, $2)".to_owned()),
            Channel::Mailbox(user) => {
                let name = user_name(user);
                let sql = format!("EXECUTE AS USER '{name}' (INSERT INTO chat.messages (id, body) VALUES ($1, $2))");
                (&mut self.agent, sql)
            }
        };
        session.request = format!("{{\"sql\":\"{sql}\",\"params\":[{id},\"{body}\"],\"durability\":\"buffered\"}}");
        session.send().await.map(drop)
    }
}
