//! The server under test: a process of this very program, with a store of its own that is gone afterwards.
//!
//! Owns the process, its folder and its log. Starts it on a free port of this machine, kills it the hard way, starts
//! it again on the same data and port.
//! Never leaves a process behind: dropping kills it.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// A start opens the store and binds a port; a recovery reads the journal.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(10);
/// Lines of the server's log that a failure shows.
const LOG_LINES: usize = 20;

/// Settings that only the demo wants: all its users log in at once from one address and write as fast as they can,
/// and what their passwords cost a thief is of no interest.
const SETTINGS: &[&str] = &[
    "auth.argon2.memory=64 KiB",
    "auth.argon2.iterations=1",
    "auth.login_rate_per_ip=100000",
    "auth.query_rate_per_user=1000000",
];

#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    #[error("{what}: {source}")]
    Io { what: &'static str, source: io::Error },
    #[error("the server ended before it was ready ({status}); its log ends:\n{log}")]
    Ended { status: String, log: String },
    #[error("the server was not ready within {} s; its log ends:\n{log}", START_LIMIT.as_secs())]
    NotReady { log: String },
}

pub(crate) struct ServerProcess {
    child: Child,
    folder: TempDir,
    address: SocketAddr,
}

impl ServerProcess {
    /// # Errors
    /// [`ServerError`].
    pub(crate) async fn start() -> Result<Self, ServerError> {
        let folder = tempfile::Builder::new().prefix("inboxdb-demo-").tempdir();
        let folder = folder.map_err(|source| ServerError::Io { what: "no temporary folder can be made", source })?;
        let mut child = spawn(&folder, 0)?;
        let address = ready(&mut child, &folder).await?;
        Ok(Self { child, folder, address })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// SIGKILL: no destructor runs, nothing is written any more. Returns when the process is gone.
    ///
    /// # Errors
    /// [`ServerError::Io`].
    pub(crate) async fn kill(&mut self) -> Result<(), ServerError> {
        self.child.kill().await.map_err(|source| ServerError::Io { what: "the server can not be killed", source })
    }

    /// Starts it again after [`Self::kill`], on the same data and port; says how long it took.
    ///
    /// # Errors
    /// [`ServerError`].
    pub(crate) async fn start_again(&mut self) -> Result<Duration, ServerError> {
        let started = Instant::now();
        self.child = spawn(&self.folder, self.address.port())?;
        self.address = ready(&mut self.child, &self.folder).await?;
        Ok(started.elapsed())
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) {
        let pid = self.child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        if let Some(pid) = pid
            && rustix::process::kill_process(pid, Signal::TERM).is_ok()
            && timeout(STOP_LIMIT, self.child.wait()).await.is_ok()
        {
            return;
        }
        // It is gone already, or does not listen: the drop kills it.
    }

    /// The last lines of its log.
    pub(crate) fn log(&self) -> String {
        log(&self.folder)
    }
}

fn data_folder(folder: &TempDir) -> PathBuf {
    folder.path().join("data")
}

fn ready_file(folder: &TempDir) -> PathBuf {
    folder.path().join("ready.json")
}

fn log_file(folder: &TempDir) -> PathBuf {
    folder.path().join("server.log")
}

fn spawn(folder: &TempDir, port: u16) -> Result<Child, ServerError> {
    let failed = |what| move |source| ServerError::Io { what, source };
    match fs::remove_file(ready_file(folder)) {
        Err(fault) if fault.kind() != io::ErrorKind::NotFound => {
            return Err(failed("the ready file can not be removed")(fault));
        }
        _ => {}
    }
    let log = File::options().create(true).append(true).open(log_file(folder));
    let log = log.map_err(failed("the server's log can not be opened"))?;
    let errors = log.try_clone().map_err(failed("the server's log can not be opened"))?;
    let program = std::env::current_exe().map_err(failed("this program's own file is unknown"))?;

    let mut command = Command::new(program);
    command.args(["serve", "--host", "127.0.0.1", "--log-level", "warn", "--port"]).arg(port.to_string());
    command.arg("--data").arg(data_folder(folder)).arg("--ready-file").arg(ready_file(folder));
    for setting in SETTINGS {
        command.args(["--set", setting]);
    }
    // Nobody's settings but these: not those of the caller's environment, nor a file in the caller's folder.
    #[expect(clippy::disallowed_methods, reason = "what the child process must not inherit")]
    let own = std::env::vars_os().map(|(name, _)| name);
    for name in own.filter(|name| name.to_string_lossy().starts_with("INBOXDB_")) {
        command.env_remove(name);
    }
    command.current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(log).stderr(errors).kill_on_drop(true);
    command.spawn().map_err(failed("the server can not be started"))
}

/// Waits for the ready file, which the server writes once it answers.
async fn ready(child: &mut Child, folder: &TempDir) -> Result<SocketAddr, ServerError> {
    #[derive(Deserialize)]
    struct Ready {
        address: SocketAddr,
    }
    let deadline = Instant::now() + START_LIMIT;
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(ServerError::Ended { status: status.to_string(), log: log(folder) });
        }
        // Written beside and renamed: where it is, it is whole.
        if let Ok(text) = fs::read(ready_file(folder))
            && let Ok(Ready { address }) = serde_json::from_slice(&text)
        {
            return Ok(address);
        }
        sleep(POLL).await;
    }
    Err(ServerError::NotReady { log: log(folder) })
}

fn log(folder: &TempDir) -> String {
    let text = fs::read(log_file(folder)).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let shown: Vec<String> =
        lines.iter().skip(lines.len().saturating_sub(LOG_LINES)).map(|line| format!("  {line}")).collect();
    shown.join("\n")
}
