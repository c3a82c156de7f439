//! DuckDB within a Python process, asked over a pipe: the one analytical engine that reads the same files.
//!
//! Owns its installation (pip, into the scratch folder) and its process. Times are taken in there, without the pipe:
//! the kinder choice for DuckDB.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use serde_json::json;

const PROGRAM: &str = include_str!("duckdb.py");

pub(crate) struct DuckDb {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    seconds: f64,
    #[serde(default)]
    rows: Vec<Vec<String>>,
    error: Option<String>,
}

impl DuckDb {
    /// Installs what `requirement` names into `folder` and starts it with as many threads.
    pub(crate) fn start(requirement: &str, folder: &Path, threads: usize) -> Result<Self> {
        let packages = folder.join("packages");
        let mut install = Command::new("python3");
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target"]).arg(&packages);
        let installed = install.arg(requirement).output().context("run python3 -m pip")?;
        ensure!(
            installed.status.success(),
            "pip could not install {requirement}: {}",
            String::from_utf8_lossy(&installed.stderr)
        );
        let script = folder.join("duckdb_answers.py");
        std::fs::write(&script, PROGRAM).context("write DuckDB's script")?;
        let mut command = Command::new("python3");
        command.arg(&script).env("PYTHONPATH", &packages).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("start DuckDB's process")?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("DuckDB's process has no pipes");
        };
        let mut started = Self { child, requests, answers: BufReader::new(answers) };
        started.query(&format!("SET threads = {threads}"))?;
        Ok(started)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn version(&mut self) -> Result<String> {
        let (_, rows) = self.query("SELECT version()")?;
        Ok(format!("DuckDB {}", rows.concat().concat()))
    }

    /// Makes `name` stand for all of these files.
    pub(crate) fn view(&mut self, name: &str, files: &[PathBuf]) -> Result<()> {
        let list: Vec<String> = files.iter().map(|file| format!("'{}'", file.display())).collect();
        let sql = format!("CREATE VIEW {name} AS SELECT * FROM read_parquet([{}])", list.join(", "));
        self.query(&sql).map(drop)
    }

    /// How long it took, and what came.
    pub(crate) fn query(&mut self, sql: &str) -> Result<(Duration, Vec<Vec<String>>)> {
        writeln!(self.requests, "{}", json!({"sql": sql})).context("ask DuckDB")?;
        self.requests.flush().context("ask DuckDB")?;
        let mut line = String::new();
        let read = self.answers.read_line(&mut line).context("hear DuckDB")?;
        ensure!(read > 0, "DuckDB's process ended; what it said stands above");
        let answer: Answer = serde_json::from_str(&line).context("read DuckDB's answer")?;
        if let Some(error) = answer.error {
            bail!("DuckDB refused {sql:.200}: {error}");
        }
        Ok((Duration::from_secs_f64(answer.seconds), answer.rows))
    }
}

impl Drop for DuckDb {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("could not stop DuckDB (pid {}): {error}", self.child.id());
        }
    }
}
