//! Redis: one process with an append-only file; a stream for each user.
//!
//! Owns its start and its commands. `appendfsync always` stands for the level sync, `everysec` for buffered.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::{Durability, Failure, Launch, READY_WITHIN, Stored, user_name};
use crate::process::{Process, free_port, version_of};
use crate::resp::{RedisClient, Reply};

pub(crate) struct Redis {
    process: Process,
    version: String,
    address: SocketAddr,
    users: usize,
}

impl Redis {
    pub(crate) async fn start(launch: &Launch<'_>) -> Result<Self> {
        let program = &launch.programs.redis_server;
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
        command.args(["--appendfsync", "always", "--dir"]).arg(launch.folder);
        let version = version_of(program)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut process = Process::spawn("redis", command, launch.folder, Signal::TERM)?;
        process
            .wait_until(READY_WITHIN, async || {
                let Ok(mut client) = RedisClient::connect(address).await else { return false };
                client.command(&["PING"]).await.is_ok_and(|reply| reply == Reply::Text("PONG".to_owned()))
            })
            .await?;
        Ok(Self { process, version, address, users: launch.population.users() })
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) async fn set_durability(&self, level: Durability) -> Result<()> {
        let policy = match level {
            Durability::Sync => "always",
            Durability::Buffered => "everysec",
        };
        let mut client = RedisClient::connect(self.address).await?;
        match client.command(&["CONFIG", "SET", "appendfsync", policy]).await? {
            Reply::Text(_) => Ok(()),
            other => bail!("Redis answered {other:?} to CONFIG SET appendfsync {policy}"),
        }
    }

    pub(super) async fn connect(&self) -> Result<RedisConnection> {
        Ok(RedisConnection { client: RedisClient::connect(self.address).await? })
    }

    pub(super) async fn stored(&self) -> Result<Stored> {
        let mut client = RedisClient::connect(self.address).await?;
        let mut rows = 0;
        for owner in 0..self.users {
            match client.command(&["XLEN", &stream_of(owner)]).await? {
                Reply::Integer(length) => rows += length.unsigned_abs(),
                other => bail!("Redis answered {other:?} to XLEN"),
            }
        }
        Ok(Stored { rows, distinct: None })
    }

    pub(super) async fn subscribe(&self, owner: usize) -> Result<RedisSubscription> {
        let mut client = RedisClient::connect(self.address).await?;
        let stream = stream_of(owner);
        let newest = client.command(&["XREVRANGE", &stream, "+", "-", "COUNT", "1"]).await?;
        let entries = entries_of(newest).context("read the newest entry of a stream")?;
        let last_id = entries.into_iter().next().map_or_else(|| "0-0".to_owned(), |entry| entry.id);
        Ok(RedisSubscription { client, stream, last_id, waiting: VecDeque::new() })
    }
}

fn stream_of(owner: usize) -> String {
    format!("messages:{}", user_name(owner))
}

pub(crate) struct RedisConnection {
    client: RedisClient,
}

impl RedisConnection {
    pub(super) async fn insert(&mut self, owner: usize, id: i64, body: &str) -> Result<(), Failure> {
        let words = ["XADD", &stream_of(owner), "*", "id", &id.to_string(), "body", body];
        match self.client.command(&words).await.map_err(Failure::Broken)? {
            Reply::Error(text) => Err(Failure::Refused(text)),
            _ => Ok(()),
        }
    }
}

pub(crate) struct RedisSubscription {
    client: RedisClient,
    stream: String,
    last_id: String,
    waiting: VecDeque<String>,
}

impl RedisSubscription {
    pub(super) async fn next(&mut self) -> Result<String> {
        loop {
            if let Some(body) = self.waiting.pop_front() {
                return Ok(body);
            }
            let words = ["XREAD", "COUNT", "1000", "BLOCK", "0", "STREAMS", &self.stream, &self.last_id];
            // One pair of name and entries for the one stream that was asked for.
            let Reply::List(mut streams) = self.client.command(&words).await? else { continue };
            let Some(Reply::List(mut pair)) = streams.pop() else { bail!("XREAD answered without a stream") };
            let entries = pair.pop().and_then(entries_of).context("read what XREAD answered")?;
            for entry in entries {
                self.last_id = entry.id;
                self.waiting.push_back(entry.body);
            }
        }
    }
}

struct Entry {
    id: String,
    body: String,
}

/// The entries of a stream as commands answer them: `[[id, [name, value, …]], …]`, the body last.
fn entries_of(reply: Reply) -> Option<Vec<Entry>> {
    let Reply::List(entries) = reply else { return None };
    entries
        .into_iter()
        .map(|entry| {
            let Reply::List(mut entry) = entry else { return None };
            let Some(Reply::List(mut fields)) = entry.pop() else { return None };
            let (Some(Reply::Text(body)), Some(Reply::Text(id))) = (fields.pop(), entry.pop()) else { return None };
            Some(Entry { id, body })
        })
        .collect()
}
