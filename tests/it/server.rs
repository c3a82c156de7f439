//! The real program as a child process.
//!
//! Owns starting it (ready when its ready file is there), users on it, and its end: every server is killed when dropped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::http::{Client, PATIENCE};

pub const PASSWORD: &str = "a long enough password";

/// Settings that make password checks cheap, and limits that no test reaches by accident.
const QUICK: &[&str] = &[
    "auth.argon2.memory=8KiB",
    "auth.argon2.iterations=1",
    "auth.login_rate_per_ip=100000",
    "auth.query_rate_per_user=1000000",
    "websocket.max_messages_per_sec=10000",
];

/// A running server over a data folder.
pub struct Server {
    pub address: SocketAddr,
    child: Child,
    log: PathBuf,
    data: PathBuf,
    // Dropped last: the ready file and the log are in it, and the data folder where none was given.
    _folder: TempDir,
}

impl Server {
    /// A server over a new data folder that goes with it. `settings` are `section.key=value`.
    pub fn start(settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        Self::run(folder, &data, settings).unwrap_or_else(|failed| panic!("{failed}"))
    }

    /// A server over `data`, which stays.
    pub fn start_over(data: &Path, settings: &[&str]) -> Self {
        Self::try_start_over(data, settings).unwrap_or_else(|failed| panic!("{failed}"))
    }

    /// # Errors
    /// What it wrote before it ended by itself.
    pub fn try_start_over(data: &Path, settings: &[&str]) -> Result<Self, String> {
        Self::run(tempfile::tempdir().unwrap(), data, settings)
    }

    /// Starts a server over `data` and kills it after `life`, wherever it is by then.
    pub fn start_and_kill(data: &Path, life: Duration) {
        let folder = tempfile::tempdir().unwrap();
        let mut child = command(folder.path(), data, &[]).spawn().unwrap();
        let started = Instant::now();
        while started.elapsed() < life && child.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert_eq!(status.code(), None, "it ended by itself: {log}");
    }

    /// A server over `data` that dies at the `nth` pass of a failpoint, counted from 1.
    pub fn start_to_die(data: &Path, settings: &[&str], point: &str, nth: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(folder.path(), data, settings);
        command.env("FAILPOINT", format!("{point}:{nth}"));
        Self::spawn(folder, data, command).unwrap_or_else(|failed| panic!("{failed}"))
    }

    /// Does it die at that pass before it is ready?
    pub fn dies_at_its_start(data: &Path, settings: &[&str], point: &str, nth: u32) -> bool {
        let folder = tempfile::tempdir().unwrap();
        let mut command = command(folder.path(), data, settings);
        command.env("FAILPOINT", format!("{point}:{nth}"));
        match Self::spawn(folder, data, command) {
            Ok(server) => {
                server.kill();
                false
            }
            Err(failed) => {
                assert!(failed.contains("signal: 9"), "{failed}");
                true
            }
        }
    }

    fn run(folder: TempDir, data: &Path, settings: &[&str]) -> Result<Self, String> {
        let command = command(folder.path(), data, settings);
        Self::spawn(folder, data, command)
    }

    fn spawn(folder: TempDir, data: &Path, mut command: Command) -> Result<Self, String> {
        let (ready, log) = (folder.path().join("ready.json"), folder.path().join("log"));
        let mut child = command.spawn().unwrap();
        let started = Instant::now();
        let address = loop {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                let ready: Value = serde_json::from_str(&text).unwrap();
                break ready["address"].as_str().unwrap().parse().unwrap();
            }
            let log = || std::fs::read_to_string(&log).unwrap_or_default();
            if let Some(status) = child.try_wait().unwrap() {
                return Err(format!("{status}\n{}", log()));
            }
            if started.elapsed() > PATIENCE {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("not ready after {PATIENCE:?}\n{}", log()));
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Ok(Self { address, child, log, data: data.to_owned(), _folder: folder })
    }

    /// A caller without credentials.
    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    /// Does the first-run set-up: the administrator `admin`, role dba.
    pub fn set_up(&self) -> Client {
        let body = json!({ "user": "admin", "password": PASSWORD, "root_password": PASSWORD });
        let response = self.client().post("/v1/api/auth/setup", &body);
        assert_eq!(response.status, 200, "{}", response.body);
        self.log_in("admin")
    }

    /// A user that was made before.
    pub fn log_in(&self, user: &str) -> Client {
        self.log_in_as(user, PASSWORD)
    }

    pub fn log_in_as(&self, user: &str, password: &str) -> Client {
        let response = self.client().post("/v1/api/auth/login", &json!({ "user": user, "password": password }));
        assert_eq!(response.status, 200, "{}", response.body);
        Client::bearer(self.address, response.json()["access_token"].as_str().unwrap())
    }

    /// Makes a user and logs in.
    pub fn new_user(&self, admin: &mut Client, user: &str, role: &str) -> Client {
        admin.sql(&format!("CREATE USER '{user}' WITH PASSWORD '{PASSWORD}' ROLE {role}"));
        self.log_in(user)
    }

    /// Its data folder.
    pub fn data(&self) -> &Path {
        &self.data
    }

    /// What it wrote to stdout and stderr.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL, at once.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits until it has ended by itself.
    pub fn ended(&mut self) -> ExitStatus {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(started.elapsed() < PATIENCE, "still running after {PATIENCE:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the server's log\n{}---", self.log());
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, its ready file and its log in `folder`.
fn command(folder: &Path, data: &Path, settings: &[&str]) -> Command {
    let output = std::fs::File::create(folder.join("log")).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_inboxdb"));
    command.args(["serve", "--port", "0", "--data"]).arg(data).arg("--ready-file").arg(folder.join("ready.json"));
    for setting in QUICK.iter().chain(settings) {
        command.args(["--set", setting]);
    }
    // Variables of the developer's shell are not the test's.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("INBOXDB_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
    command
}

/// Asks until `found` gives something; fails after [`PATIENCE`].
pub fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(value) = found() {
            return value;
        }
        assert!(started.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Set when it is dropped: also by a panic, so that the other threads of a scope end.
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
