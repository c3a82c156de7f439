//! B13: a hundred thousand users with ten rows each, in as many mailboxes; PostgreSQL keeps them in one table.
//!
//! Owns the phases: users are made (InboxDB only), rows written through a service account's `EXECUTE AS USER`, one user's
//! rows read; the server is stopped and started, and the same is read again. Then every user's rows are read and checked.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;

use crate::bench::{Bench, latencies};
use crate::drive::{Phases, Tally, repeat};
use crate::options::Options;
use crate::payload::Payload;
use crate::peers::{
    Failure, Instance, Launch, PeerKind, Population, Postgres, Session, Stored, create_agent, create_users, rows_of,
    user_name,
};
use crate::procfs::{self, Pid};
use crate::report::Measure;
use crate::zipf::Random;

const ROWS: i64 = 10;
const CONNECTIONS: usize = 8;
const USERS_A_REQUEST: usize = 100;

const MAKE: &str = "make users";
const WRITE: &str = "write their rows";
const READ: &str = "read one user's rows";
const OPEN: &str = "stop, start → first read";
const READ_AGAIN: &str = "read one user's rows, behind the start";

type Figures = BTreeMap<Measure, f64>;

pub(super) async fn run(options: &Options) -> Result<bool> {
    let mut bench = Bench::open(options, "b13", "many tenants").await?;
    let tenants = Tenants { users: options.tenants, payload: Arc::clone(bench.payload()), phases: options.phases() };
    bench.configure("tenants", format!("{}, {ROWS} rows each, hot", tenants.users));
    bench.configure("writes", format!("buffered (users: sync), {CONNECTIONS} connections, a statement for each user"));
    bench.configure("requests", format!("of {USERS_A_REQUEST} statements (InboxDB), of one (PostgreSQL)"));
    for kind in options.of_these(&[PeerKind::InboxDb, PeerKind::Postgres]) {
        match kind {
            PeerKind::InboxDb => tenants.inboxdb(&mut bench, options).await?,
            _ => tenants.postgres(&mut bench, options).await?,
        }
    }
    bench.close().await
}

struct Tenants {
    users: usize,
    payload: Arc<Payload>,
    phases: Phases,
}

impl Tenants {
    async fn inboxdb(&self, bench: &mut Bench<'_>, options: &Options) -> Result<()> {
        let mut instance = Instance::start(&options.programs(), &bench.folder("inboxdb")?, &[]).await?;
        bench.is_ours(instance.process().pid());
        let (kind, pid, data) = (PeerKind::InboxDb, instance.process().pid(), instance.data());
        let mut admin = instance.admin().await?;
        admin.run("CREATE NAMESPACE chat").await?;
        let table = "CREATE TABLE chat.messages (id BIGINT PRIMARY KEY, body TEXT NOT NULL) WITH (TYPE = 'USER')";
        admin.run(table).await?;
        let token = create_agent(&instance).await?;
        let make = async {
            let began = Instant::now();
            let next = Cell::new(0);
            try_join_all((0..CONNECTIONS).map(|_| self.make_part(&instance, &next))).await?;
            state(pid, &data, began, self.users)
        };
        bench.observe((1, MAKE, kind), make).await?;
        let write = async {
            let began = Instant::now();
            let next = Cell::new(0);
            try_join_all((0..CONNECTIONS).map(|_| self.write_part(&instance, &token, &next))).await?;
            state(pid, &data, began, self.users * ROWS.unsigned_abs() as usize)
        };
        bench.observe((1, WRITE, kind), write).await?;
        let mut tally = Tally::new(self.phases.measured)?;
        let mut session = instance.session(&token).await?;
        self.read(bench, (READ, kind), &mut tally, async |user| self.select(&mut session, user).await).await?;
        for round in 1..=options.rounds {
            instance.stop()?;
            let open = async {
                let began = Instant::now();
                instance.start_again().await?;
                self.select(&mut instance.session(&token).await?, 0).await?;
                state(instance.process().pid(), &data, began, 0)
            };
            bench.observe((round, OPEN, kind), open).await?;
            bench.is_ours(instance.process().pid());
        }
        let mut session = instance.session(&token).await?;
        self.read(bench, (READ_AGAIN, kind), &mut tally, async |user| self.select(&mut session, user).await).await?;
        let mut audit = bench.new_audit(kind, instance.version(), instance.process().settings());
        audit.add_tally(tally);
        audit.acknowledged = self.rows();
        audit.add_stored(self.stored(&mut session).await?);
        audit.peak_memory_kib = procfs::memory(instance.process().pid())?.peak_kib();
        bench.add_audit(audit);
        Ok(())
    }

    fn rows(&self) -> u64 {
        self.users as u64 * ROWS.unsigned_abs()
    }

    async fn make_part(&self, instance: &Instance, next: &Cell<usize>) -> Result<()> {
        let mut admin = instance.admin().await?;
        while next.get() < self.users {
            let users = next.get()..self.users.min(next.get() + USERS_A_REQUEST);
            next.set(users.end);
            create_users(&mut admin, users).await?;
        }
        Ok(())
    }

    async fn write_part(&self, instance: &Instance, token: &str, next: &Cell<usize>) -> Result<()> {
        let mut session = instance.session(token).await?;
        while next.get() < self.users {
            let users = next.get()..self.users.min(next.get() + USERS_A_REQUEST);
            next.set(users.end);
            session.request.clear();
            session.request.push_str("{\"sql\":\"");
            for user in users {
                let name = user_name(user);
                let text = &mut session.request;
                // Writing to a string cannot fail.
                let _ = write!(text, "EXECUTE AS USER '{name}' (INSERT INTO chat.messages (id, body) VALUES ");
                for id in ids(user) {
                    let comma = if id == ids(user).start { "" } else { "," };
                    let _ = write!(text, "{comma}({id},'{}')", self.payload.body(id));
                }
                text.push_str("); ");
            }
            session.request.push_str("\",\"durability\":\"buffered\"}");
            session.send().await?;
        }
        Ok(())
    }

    /// All rows of one user, each of them checked.
    async fn select(&self, session: &mut Session, user: usize) -> Result<(), Failure> {
        session.request.clear();
        let name = user_name(user);
        let sql = format!("EXECUTE AS USER '{name}' (SELECT id, body FROM chat.messages)");
        for part in ["{\"sql\":\"", &sql, "\"}"] {
            session.request.push_str(part);
        }
        let answer = session.send().await?;
        let complete = ids(user).all(|id| answer.body.contains(self.payload.body(id)));
        if complete && answer.body.contains(&format!("\"row_count\":{ROWS}")) {
            return Ok(());
        }
        Err(Failure::Wrong(format!("the rows of {name} were answered {:.300}", answer.body)))
    }

    /// Reads one user's rows after the other's, users evenly drawn.
    async fn read(
        &self,
        bench: &mut Bench<'_>,
        (workload, kind): (&str, PeerKind),
        tally: &mut Tally,
        mut select: impl AsyncFnMut(usize) -> Result<(), Failure>,
    ) -> Result<()> {
        let mut random = Random::new(13);
        let work = async {
            let read = repeat(self.phases, async || select(random.below(self.users)).await).await?;
            let mut figures = latencies(&read);
            figures.insert(Measure::RequestsPerSecond, read.requests as f64 / read.measured.as_secs_f64());
            tally.add(read)?;
            Ok(figures)
        };
        bench.observe((1, workload, kind), work).await
    }

    /// Asks for every user's ids.
    async fn stored(&self, session: &mut Session) -> Result<Stored> {
        let (mut rows, mut right) = (0, 0);
        for first in (0..self.users).step_by(USERS_A_REQUEST) {
            let users = first..self.users.min(first + USERS_A_REQUEST);
            let statement = |user| format!("EXECUTE AS USER '{}' (SELECT id FROM chat.messages)", user_name(user));
            let answer = session.run(&users.clone().map(statement).collect::<Vec<_>>().join("; ")).await?;
            for (index, user) in users.enumerate() {
                let found = rows_of(&answer, index).with_context(|| format!("{answer:.300} lacks results"))?;
                rows += found.len() as u64;
                right += ids(user).filter(|id| found.contains(&vec![id.to_string()])).count() as u64;
            }
        }
        Ok(Stored { rows, distinct: Some(right) })
    }

    async fn postgres(&self, bench: &mut Bench<'_>, options: &Options) -> Result<()> {
        let (programs, folder) = (options.programs(), bench.folder("postgres")?);
        let launch = Launch { programs: &programs, folder: &folder, population: Population::Pool(1) };
        let mut postgres = Postgres::start(&launch).await?;
        bench.is_ours(postgres.process().pid());
        let (kind, pid, data) = (PeerKind::Postgres, postgres.process().pid(), postgres.data());
        let write = async {
            let began = Instant::now();
            let next = Cell::new(0);
            try_join_all((0..CONNECTIONS).map(|_| self.write_postgres(&postgres, &next))).await?;
            state(pid, &data, began, self.users * ROWS.unsigned_abs() as usize)
        };
        bench.observe((1, WRITE, kind), write).await?;
        let mut tally = Tally::new(self.phases.measured)?;
        let reader = Reader::open(&postgres).await?;
        self.read(bench, (READ, kind), &mut tally, async |user| self.select_postgres(&reader, user).await).await?;
        drop(reader);
        for round in 1..=options.rounds {
            postgres.stop()?;
            let open = async {
                let began = Instant::now();
                postgres.start_again().await?;
                self.select_postgres(&Reader::open(&postgres).await?, 0).await?;
                state(postgres.process().pid(), &data, began, 0)
            };
            bench.observe((round, OPEN, kind), open).await?;
            bench.is_ours(postgres.process().pid());
        }
        let reader = Reader::open(&postgres).await?;
        self.read(bench, (READ_AGAIN, kind), &mut tally, async |user| self.select_postgres(&reader, user).await)
            .await?;
        let mut audit = bench.new_audit(kind, postgres.version(), postgres.process().settings());
        audit.add_tally(tally);
        audit.acknowledged = self.rows();
        audit.add_stored(postgres.stored().await?);
        audit.peak_memory_kib = procfs::memory(postgres.process().pid())?.peak_kib();
        bench.add_audit(audit);
        Ok(())
    }

    async fn write_postgres(&self, postgres: &Postgres, next: &Cell<usize>) -> Result<()> {
        let client = postgres.session().await?;
        client.batch_execute("SET synchronous_commit = off").await.context("set the durability")?;
        let rows: Vec<String> = (0..ROWS).map(|row| format!("($1, ${}, ${})", 2 * row + 2, 2 * row + 3)).collect();
        let sql = format!("INSERT INTO messages (user_id, id, body) VALUES {}", rows.join(", "));
        let insert = client.prepare(&sql).await.context("prepare")?;
        while next.get() < self.users {
            let user = next.replace(next.get() + 1);
            let name = user_name(user);
            let rows: Vec<(i64, &str)> = ids(user).map(|id| (id, self.payload.body(id))).collect();
            let mut params: Vec<&(dyn ToSql + Sync)> = vec![&name];
            for (id, body) in &rows {
                params.extend([id as &(dyn ToSql + Sync), body]);
            }
            client.execute(&insert, &params).await.context("insert a user's rows")?;
        }
        Ok(())
    }

    async fn select_postgres(&self, reader: &Reader, user: usize) -> Result<(), Failure> {
        let name = user_name(user);
        let rows =
            reader.client.query(&reader.select, &[&name]).await.map_err(|error| Failure::Broken(error.into()))?;
        let right = rows.iter().filter(|row| row.get::<_, &str>(1) == self.payload.body(row.get(0))).count();
        if right == rows.len() && right as u64 == ROWS.unsigned_abs() {
            return Ok(());
        }
        Err(Failure::Wrong(format!("of the rows of {name}, {right} of {} were right", rows.len())))
    }
}

struct Reader {
    client: tokio_postgres::Client,
    select: tokio_postgres::Statement,
}

impl Reader {
    async fn open(postgres: &Postgres) -> Result<Self> {
        let client = postgres.session().await?;
        let select = client.prepare("SELECT id, body FROM messages WHERE user_id = $1").await.context("prepare")?;
        Ok(Self { client, select })
    }
}

fn ids(user: usize) -> std::ops::Range<i64> {
    let first = user as i64 * ROWS + 1;
    first..first + ROWS
}

/// What a server takes now, and how long it took to get there; `done`: how much was done meanwhile.
fn state(server: Pid, data: &Path, began: Instant, done: usize) -> Result<Figures> {
    let seconds = began.elapsed().as_secs_f64();
    let (memory, footprint) = (procfs::memory(server)?, procfs::footprint(data));
    let mut figures = Figures::from([
        (Measure::Seconds, seconds),
        (Measure::ProportionalKib, memory.proportional_kib as f64),
        (Measure::Files, footprint.files as f64),
        (Measure::Descriptors, procfs::descriptors(server)? as f64),
    ]);
    if done > 0 {
        figures.insert(Measure::RowsPerSecond, done as f64 / seconds);
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_ids_of_their_own() {
        assert_eq!((ids(0), ids(1)), (1..11, 11..21));
    }
}
