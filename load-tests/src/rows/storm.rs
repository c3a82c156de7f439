//! B8: thousands of sockets are cut, a hundred events happen, and all come back at once.
//!
//! Every client resumes with `from` = the last `_seq` that it saw, and does as it is told when the server is busy. Once in
//! one room, once in a mailbox for each. A client's time is from the storm's beginning until it has all events.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::task::JoinSet;

use crate::bench::{Bench, latencies};
use crate::crowd::{Channel, Crowd, MAILBOX_SQL, Outcome, ROOM_SQL, Size, Tenants};
use crate::drive::Tally;
use crate::options::Options;
use crate::payload::{Payload, Stamp};
use crate::peers::{Following, Format, PeerKind, Session, follow, open_socket, user_name};
use crate::report::{Limit, Measure};
use crate::wire::{Bodies, position_behind};

const EVENTS: u64 = 100;
const WITHIN: Duration = Duration::from_mins(2);
/// How long is listened, when all is there, for what should not come.
const LISTEN_ON: Duration = Duration::from_secs(2);
const MAILBOXES_A_REQUEST: usize = 20;

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench = Bench::open(options, "b8", "reconnect storm").await?;
    let sockets = options.crowd;
    bench.configure(
        "storm",
        format!("{sockets} sockets, {EVENTS} events behind, all at once; given up after {WITHIN:?}"),
    );
    let size = Size { users: sockets, listeners: sockets };
    let Crowd::InboxDb(tenants) = Crowd::start(PeerKind::InboxDb, &mut bench, options, size).await? else {
        bail!("another server was started");
    };
    let mut storm = Storm { sockets, next_id: 1, outcome: Outcome::default(), payload: Payload::new(), behind: 0 };
    for round in 1..=options.rounds {
        for room in [true, false] {
            let workload = if room { "one room" } else { "a mailbox for each" };
            bench.observe((round, workload, PeerKind::InboxDb), storm.turn(&tenants, room)).await?;
        }
    }
    bench.limit(Limit::new("sockets not caught up", storm.behind as f64, 0.0));
    Crowd::InboxDb(tenants).close(&mut bench, storm.outcome)?;
    bench.close().await
}

struct Storm {
    sockets: usize,
    next_id: i64,
    outcome: Outcome,
    payload: Payload,
    /// Sockets that did not get all in time.
    behind: u64,
}

impl Storm {
    async fn turn(&mut self, tenants: &Tenants, room: bool) -> Result<BTreeMap<Measure, f64>> {
        let channel = |user| if room { Channel::Room } else { Channel::Mailbox(user) };
        let sql = if room { ROOM_SQL } else { MAILBOX_SQL };
        let (mut admin, mut agent) = (tenants.instance.admin().await?, tenants.instance.session(&tenants.agent).await?);
        let mut lines = Vec::with_capacity(self.sockets);
        for user in 0..self.sockets {
            let mut line = open_socket(tenants.address(), tenants.token(user)?, Format::Json).await?;
            follow(&mut line, Following { id: 0, sql, format: Format::Json, from: None }).await?;
            lines.push(line);
        }
        // Number 0 is what each saw last before the cut.
        let session = if room { &mut admin } else { &mut agent };
        self.write(session, channel, 0..1).await?;
        let mut positions = Vec::with_capacity(lines.len());
        for line in &mut lines {
            let mut position = None;
            while position.is_none() {
                let read = line.receive(|message| {
                    position = Bodies(message).next().and_then(|(_, rest)| position_behind(rest));
                    Ok(())
                });
                tokio::time::timeout(WITHIN, read).await.context("the event before the cut did not come")??;
            }
            positions.push(position.context("an event without position")?);
        }
        drop(lines);
        self.write(session, channel, 1..EVENTS + 1).await?;
        self.come_back(tenants, sql, positions).await
    }

    /// The events of these numbers, to the room or to every mailbox.
    async fn write(
        &mut self,
        session: &mut Session,
        channel: impl Fn(usize) -> Channel,
        numbers: std::ops::Range<u64>,
    ) -> Result<()> {
        let mut user = 0;
        while user < self.sockets {
            session.request = "{\"sql\":\"".to_owned();
            for _ in 0..MAILBOXES_A_REQUEST.min(self.sockets - user) {
                let mut rows = String::new();
                for number in numbers.clone() {
                    let comma = if rows.is_empty() { "" } else { "," };
                    let body = self.payload.marked(Stamp { number, due_ns: 0 });
                    // Writing to a string cannot fail.
                    let _ = write!(rows, "{comma}({},'{body}')", self.next_id);
                    self.next_id += 1;
                }
                let insert = |table| format!("INSERT INTO chat.{table} (id, body) VALUES {rows}");
                match channel(user) {
                    Channel::Room => {
                        session.request.push_str(&insert("room"));
                        user = self.sockets;
                    }
                    Channel::Mailbox(owner) => {
                        let name = user_name(owner);
                        let _ = write!(session.request, "EXECUTE AS USER '{name}' ({}); ", insert("messages"));
                        user += 1;
                    }
                }
                self.outcome.acknowledged += numbers.end - numbers.start;
                if user >= self.sockets {
                    break;
                }
            }
            session.request.push_str("\",\"durability\":\"buffered\"}");
            session.send().await.context("write the events")?;
        }
        Ok(())
    }

    async fn come_back(
        &mut self,
        tenants: &Tenants,
        sql: &'static str,
        from: Vec<u64>,
    ) -> Result<BTreeMap<Measure, f64>> {
        let began = Instant::now();
        let mut clients = JoinSet::new();
        for (user, from) in from.into_iter().enumerate() {
            let client =
                Client { address: tenants.address(), token: tenants.token(user)?.to_owned(), sql, from, began };
            clients.spawn(client.run());
        }
        let (mut tally, mut last, mut busy) = (Tally::new(WITHIN)?, Duration::ZERO, 0);
        while let Some(ended) = clients.join_next().await {
            let back = ended.context("a client's task ended badly")?;
            self.outcome.lost += back.counts.iter().filter(|count| **count == 0).count() as u64;
            self.outcome.doubled += back.counts.iter().map(|count| u64::from(count.saturating_sub(1))).sum::<u64>();
            busy += back.busy;
            match back.caught_up {
                Some(after) => {
                    tally.record(after);
                    last = last.max(after);
                }
                None => {
                    self.behind += 1;
                    let why = back.failure.unwrap_or_else(|| "it took too long".to_owned());
                    self.outcome.first_failure.get_or_insert(why);
                }
            }
        }
        let mut figures = latencies(&tally);
        figures.insert(Measure::Seconds, last.as_secs_f64());
        figures.insert(Measure::Busy, f64::from(busy));
        Ok(figures)
    }
}

struct Client {
    address: SocketAddr,
    token: String,
    sql: &'static str,
    from: u64,
    began: Instant,
}

/// What became of a client.
struct Back {
    /// How often each event came.
    counts: Vec<u32>,
    caught_up: Option<Duration>,
    busy: u32,
    failure: Option<String>,
}

impl Client {
    async fn run(self) -> Back {
        let mut back = Back { counts: vec![0; EVENTS as usize], caught_up: None, busy: 0, failure: None };
        match tokio::time::timeout(WITHIN, self.catch_up(&mut back)).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => back.failure = Some(format!("{error:#}")),
        }
        back
    }

    async fn catch_up(&self, back: &mut Back) -> Result<()> {
        let mut line = open_socket(self.address, &self.token, Format::Json).await?;
        let following = Following { id: 0, sql: self.sql, format: Format::Json, from: Some(self.from) };
        back.busy = follow(&mut line, following).await?;
        let counts = &mut back.counts;
        let mut count = |message: &[u8]| {
            for (stamp, _) in Bodies(message) {
                ensure!((1..=EVENTS).contains(&stamp.number), "event {} came behind the cut", stamp.number);
                counts[stamp.number as usize - 1] += 1;
            }
            Ok(counts.iter().all(|count| *count > 0))
        };
        let mut whole = false;
        while !whole {
            line.receive(|message| {
                whole = count(message)?;
                Ok(())
            })
            .await?;
        }
        back.caught_up = Some(self.began.elapsed());
        let listen = async {
            loop {
                line.receive(|message| count(message).map(drop)).await?;
            }
        };
        tokio::time::timeout(LISTEN_ON, listen).await.unwrap_or(Ok(()))
    }
}
