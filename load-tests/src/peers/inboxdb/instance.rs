//! One InboxDB process on its data folder: started, stopped, killed, started again; and the administrator's sessions.
//!
//! Owns the process, the first-run set-up and the shape of a request outside of hot loops. Never knows a table.
//! Invariant: a token stays good over restarts, since its secret lies in the data folder.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{Failure, Programs, READY_WITHIN};
use crate::http::{Answer, HttpClient};
use crate::process::{Process, version_of};

pub(super) const SQL_PATH: &str = "/v1/api/sql";
pub(crate) const PASSWORD: &str = "a-load-test-password";
const ADMIN: &str = "admin";
/// How long a flush, a merge or a clean-up may take.
const JOB_WITHIN: Duration = Duration::from_mins(20);
/// How soon is asked after a job; then less and less often, so that asking is no load.
const JOB_LOOK: Duration = Duration::from_millis(4);
const JOB_LOOK_MOST: Duration = Duration::from_millis(128);

pub(crate) struct Instance {
    process: Process,
    version: String,
    program: PathBuf,
    settings: Vec<String>,
    /// Of this server alone: the data folder, the log and the ready file are in it.
    folder: PathBuf,
    address: SocketAddr,
    admin_token: String,
}

impl Instance {
    /// On an empty folder, with `settings` (`section.key=value`) beside those of the command line.
    pub(crate) async fn start(programs: &Programs, folder: &Path, settings: &[&str]) -> Result<Self> {
        let mut all = vec!["auth.query_rate_per_user=1000000".to_owned()];
        all.extend(settings.iter().map(|&setting| setting.to_owned()));
        all.extend(programs.inboxdb_settings.iter().cloned());
        let version = version_of(&programs.inboxdb)?;
        let mut process = spawn(&programs.inboxdb, &all, folder)?;
        let address = ready(&mut process, folder).await?;
        let (program, folder) = (programs.inboxdb.clone(), folder.to_owned());
        let mut started =
            Self { process, version, program, settings: all, folder, address, admin_token: String::new() };
        let outcome = started.set_up().await;
        outcome.with_context(|| format!("set InboxDB up; its log ends:\n{}", started.process.log_tail()))?;
        Ok(started)
    }

    async fn set_up(&mut self) -> Result<()> {
        let mut anyone = HttpClient::connect(self.address, None).await?;
        let account = json!({"user": ADMIN, "password": PASSWORD, "root_password": PASSWORD});
        let answer = anyone.post("/v1/api/auth/setup", account.to_string().as_bytes()).await?;
        ensure!(answer.status == 200, "first-run set-up was answered {answer:?}");
        self.admin_token = self.log_in(ADMIN).await?;
        Ok(())
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

    /// Starts it again on its folder, until it says that it is ready.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        self.process = spawn(&self.program, &self.settings, &self.folder)?;
        self.address = ready(&mut self.process, &self.folder).await?;
        Ok(())
    }

    pub(crate) async fn log_in(&self, user: &str) -> Result<String> {
        let mut client = HttpClient::connect(self.address, None).await?;
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

    pub(crate) async fn session(&self, token: &str) -> Result<Session> {
        Ok(Session { http: HttpClient::connect(self.address, Some(token)).await?, request: String::new() })
    }

    pub(crate) async fn admin(&self) -> Result<Session> {
        self.session(&self.admin_token).await
    }
}

#[derive(Deserialize)]
struct Tokens {
    access_token: String,
}

#[derive(Deserialize)]
struct ReadyFile {
    address: SocketAddr,
}

fn ready_file(folder: &Path) -> PathBuf {
    folder.join("ready.json")
}

fn spawn(program: &Path, settings: &[String], folder: &Path) -> Result<Process> {
    // That of the last start would say where it was.
    let _ = fs::remove_file(ready_file(folder));
    let mut command = Command::new(program);
    command.args(["serve", "--port", "0", "--data"]).arg(folder.join("data"));
    command.arg("--ready-file").arg(ready_file(folder));
    for setting in settings {
        command.args(["--set", setting]);
    }
    Process::spawn("inboxdb", command, folder, Signal::TERM)
}

async fn ready(process: &mut Process, folder: &Path) -> Result<SocketAddr> {
    let file = ready_file(folder);
    process.wait_until(READY_WITHIN, async || file.exists()).await?;
    let text = fs::read(&file).context("read the ready file")?;
    let ready: ReadyFile = serde_json::from_slice(&text).context("read the ready file")?;
    Ok(ready.address)
}

/// One connection of one user. Bodies and names of a load hold nothing that JSON or SQL would have to escape, so hot
/// requests are put together as text in `request`.
pub(crate) struct Session {
    http: HttpClient,
    /// Kept from request to request, for its memory.
    pub(crate) request: String,
}

impl Session {
    /// Sends what stands in `request`.
    pub(crate) async fn send(&mut self) -> Result<Answer, Failure> {
        let answer = self.http.post(SQL_PATH, self.request.as_bytes()).await.map_err(Failure::Broken)?;
        if answer.status != 200 {
            return Err(Failure::Refused(format!("{} {:.300}", answer.status, answer.body)));
        }
        Ok(answer)
    }

    /// Sends a request, and gives back whatever is answered.
    pub(crate) async fn ask(&mut self, request: &str) -> Result<Answer> {
        self.http.post(SQL_PATH, request.as_bytes()).await
    }

    /// One row by its key; its body is held against `expected`.
    pub(crate) async fn select_row(&mut self, table: &str, id: i64, expected: &str) -> Result<(), Failure> {
        self.request.clear();
        for part in ["{\"sql\":\"SELECT id, body FROM ", table, " WHERE id = $1\",\"params\":[", &id.to_string(), "]}"]
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

    /// Any statements, outside of what is measured by the microsecond.
    pub(crate) async fn run(&mut self, sql: &str) -> Result<Value> {
        self.request = json!({"sql": sql}).to_string();
        let answer = self.send().await.with_context(|| format!("{sql:.200}"))?;
        serde_json::from_str(&answer.body).context("read an answer")
    }

    /// The rows of a SELECT, each value as text.
    pub(crate) async fn rows(&mut self, sql: &str) -> Result<Vec<Vec<String>>> {
        let answer = self.run(sql).await?;
        rows_of(&answer, 0).with_context(|| format!("{sql:.200} was answered {answer:.300}"))
    }

    /// The first row's numbers.
    pub(crate) async fn numbers(&mut self, sql: &str) -> Result<Vec<u64>> {
        let rows = self.rows(sql).await?;
        let first = rows.first().with_context(|| format!("{sql:.200} brought no row"))?;
        first.iter().map(|text| text.parse().with_context(|| format!("{text:?} is not a number"))).collect()
    }

    /// Does `STORAGE {statement}` and waits for its job. What it said at the end; `None` where nothing was to be done.
    pub(crate) async fn storage(&mut self, statement: &str) -> Result<Option<String>> {
        let answer = self.run(&format!("STORAGE {statement}")).await?;
        let message = answer.pointer("/results/0/message").and_then(Value::as_str).unwrap_or_default();
        let Some((_, job)) = message.split_once("Job ID: ") else { return Ok(None) };
        let sql = format!("SELECT status, message FROM system.jobs WHERE job_id = '{job}'");
        let give_up = Instant::now() + JOB_WITHIN;
        let mut pause = JOB_LOOK;
        loop {
            let rows = self.rows(&sql).await?;
            let [status, message] = rows.first().map_or(&[][..], Vec::as_slice) else {
                bail!("job {job} is not in system.jobs");
            };
            match status.as_str() {
                "completed" | "skipped" => return Ok(Some(message.clone())),
                "failed" | "cancelled" => bail!("job {job} of STORAGE {statement} {status}: {message}"),
                _ => {}
            }
            ensure!(Instant::now() < give_up, "STORAGE {statement} takes more than {JOB_WITHIN:?}");
            tokio::time::sleep(pause).await;
            pause = JOB_LOOK_MOST.min(pause * 2);
        }
    }

    /// Waits until no job is under way or waits for its turn.
    pub(crate) async fn jobs_done(&mut self) -> Result<()> {
        let sql = "SELECT COUNT(*) FROM system.jobs WHERE status IN ('new', 'queued', 'running', 'retrying')";
        let give_up = Instant::now() + JOB_WITHIN;
        while self.numbers(sql).await? != [0] {
            ensure!(Instant::now() < give_up, "jobs take more than {JOB_WITHIN:?}");
            tokio::time::sleep(JOB_LOOK_MOST).await;
        }
        Ok(())
    }

    /// The files of a table's segments, relative to its storage, of all owners.
    pub(crate) async fn segments(&mut self, namespace: &str, table: &str) -> Result<Vec<Segment>> {
        let sql = format!(
            "SELECT manifest_json FROM system.manifest WHERE namespace_id = '{namespace}' AND table_name = '{table}'"
        );
        let mut segments = Vec::new();
        for row in self.rows(&sql).await? {
            let text = row.first().context("a manifest without text")?;
            let manifest: Manifest = serde_json::from_str(text).context("read a manifest")?;
            segments.extend(manifest.segments);
        }
        Ok(segments)
    }
}

#[derive(Deserialize)]
struct Manifest {
    segments: Vec<Segment>,
}

/// What a manifest says of a file, as far as it is of use here.
#[derive(Debug, Deserialize)]
pub(crate) struct Segment {
    pub(crate) path: String,
    pub(crate) rows: u64,
    pub(crate) deleted_rows: u64,
}

/// The rows of statement number `statement`, each value as text. `None` where the answer has no such result.
pub(crate) fn rows_of(answer: &Value, statement: usize) -> Option<Vec<Vec<String>>> {
    let rows = answer.pointer(&format!("/results/{statement}/rows"))?.as_array()?;
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    rows.iter().map(|row| Some(row.as_array()?.iter().map(text).collect())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_text() {
        let answer = json!({"results": [{"message": "done"}, {"rows": [["1", 2, null], ["a", true, 0.5]]}]});
        let expected = [["1", "2", "null"], ["a", "true", "0.5"]];
        assert_eq!(rows_of(&answer, 1).expect("it has rows"), expected);
        assert_eq!(rows_of(&answer, 0), None);
    }
}
