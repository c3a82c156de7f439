//! NATS with JetStream: a stream on disk behind every subject; subscribers listen to the subject itself.
//!
//! Owns its start and a connection that publishes and waits for the stream's acknowledgement. Level: buffered (a file,
//! synced now and then).

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;
use serde_json::json;

use super::{Failure, Launch, READY_WITHIN};
use crate::line::Line;
use crate::process::{Process, free_port, version_of};
use crate::wire::Framing;

const INBOX: &str = "_INBOX.load";
static NEXT_INBOX: AtomicUsize = AtomicUsize::new(0);

pub(crate) struct Nats {
    process: Process,
    version: String,
    address: SocketAddr,
}

impl Nats {
    pub(crate) async fn start(launch: &Launch<'_>) -> Result<Self> {
        let program = &launch.programs.nats_server;
        let port = free_port()?;
        let mut command = Command::new(program);
        command.args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"]).arg(launch.folder);
        let version = version_of(program)?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut process = Process::spawn("nats", command, launch.folder, Signal::TERM)?;
        process.wait_until(READY_WITHIN, async || NatsPublisher::connect(address).await.is_ok()).await?;
        let started = Self { process, version, address };
        let mut publisher = started.publisher().await?;
        let stream = json!({"name": "LOAD", "subjects": ["room", "mail.*"], "storage": "file", "retention": "limits"});
        let answer = publisher.request("$JS.API.STREAM.CREATE.LOAD", &stream.to_string()).await?;
        ensure!(!answer.contains("\"error\""), "the stream was answered {answer}");
        Ok(started)
    }

    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    pub(crate) fn process(&self) -> &Process {
        &self.process
    }

    pub(crate) async fn line(&self) -> Result<Line> {
        connect(self.address).await
    }

    pub(crate) async fn publisher(&self) -> Result<NatsPublisher> {
        NatsPublisher::connect(self.address).await
    }
}

async fn connect(address: SocketAddr) -> Result<Line> {
    let mut line = Line::connect(address, Framing::Nats).await?;
    line.send(b"CONNECT {\"verbose\":false,\"pedantic\":false}\r\n").await?;
    // INFO.
    line.message().await?;
    Ok(line)
}

/// Subscribes; returns when the server knows.
pub(crate) async fn subscribe(line: &mut Line, subject: &str, id: usize) -> Result<()> {
    line.send(format!("SUB {subject} {id}\r\nPING\r\n").as_bytes()).await?;
    // PONG.
    line.message().await.map(drop)
}

pub(crate) struct NatsPublisher {
    line: Line,
    /// Its own, so that no other publisher hears the answer.
    inbox: String,
}

impl NatsPublisher {
    async fn connect(address: SocketAddr) -> Result<Self> {
        let mut line = connect(address).await?;
        let inbox = format!("{INBOX}.{}", NEXT_INBOX.fetch_add(1, Ordering::Relaxed));
        subscribe(&mut line, &inbox, 1).await?;
        Ok(Self { line, inbox })
    }

    pub(crate) async fn publish(&mut self, subject: &str, body: &str) -> Result<(), Failure> {
        let answer = self.request(subject, body).await.map_err(Failure::Broken)?;
        if answer.contains("\"error\"") { Err(Failure::Refused(answer)) } else { Ok(()) }
    }

    async fn request(&mut self, subject: &str, body: &str) -> Result<String> {
        let request = format!("PUB {subject} {} {}\r\n{body}\r\n", self.inbox, body.len());
        self.line.send(request.as_bytes()).await?;
        let answer = loop {
            // The server also tells of itself.
            let answer = self.line.message().await?;
            if !answer.is_empty() {
                break answer;
            }
        };
        String::from_utf8(answer).context("an answer of NATS is not UTF-8")
    }
}
