//! The program itself: how it starts, what it says when it can not, how it stops.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

fn inboxdb(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inboxdb"));
    // Variables of the developer's shell are not the test's.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("INBOXDB_")) {
        command.env_remove(name);
    }
    command.current_dir(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A server on a free port, ended when the test ends.
struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: String,
}

impl Server {
    fn start(folder: &Path, arguments: &[&str]) -> Self {
        let mut child = inboxdb(folder).args(["--port", "0"]).args(arguments).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut said = String::new();
        let address = loop {
            let before = said.len();
            assert_ne!(stdout.read_line(&mut said).unwrap(), 0, "ended early, having said: {said}");
            if let Some((_, url)) = said[before..].split_once("http://") {
                break url.trim().to_owned();
            }
        };
        Self { child, stdout, address }
    }

    fn get(&self, path: &str) -> String {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        write!(socket, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Asks it to stop, and waits until it has.
    fn stop(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        self.child.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already where the test stopped it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn failure(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn starts_answers_and_stops() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path(), &["--data", "d", "--ready-file", "ready.json"]);
    let mut rest = String::new();
    while !rest.contains("Stop it with") {
        assert_ne!(server.stdout.read_line(&mut rest).unwrap(), 0, "{rest}");
    }
    assert!(rest.contains("/v1/api/auth/setup"), "{rest}");
    let health = server.get("/health");
    assert!(health.starts_with("HTTP/1.1 200") && health.contains("\"status\":\"healthy\""), "{health}");
    assert!(server.get("/v1/api/auth/status").contains("\"needs_setup\":true"));
    assert_eq!(server.stop(), Some(0));
    let again = Server::start(folder.path(), &["--data", "d"]);
    assert_eq!(again.stop(), Some(0), "the folder is free again");
}

#[test]
fn the_ready_file_names_the_port() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--ready-file", "ready.json"]);
    assert!(server.get("/readyz").starts_with("HTTP/1.1 200"));
    let address = server.address.clone();
    assert_eq!(server.stop(), Some(0));
    let ready = std::fs::read_to_string(folder.path().join("ready.json")).unwrap();
    assert_eq!(ready.trim(), format!("{{\"address\":\"{address}\"}}"));
}

#[test]
fn says_in_one_sentence_why_it_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path(), &["--data", "d"]);
    let port = server.address.rsplit(':').next().unwrap();
    let run = |arguments: &[&str]| failure(&inboxdb(folder.path()).args(arguments).output().unwrap());

    let same_folder = run(&["--data", "d", "--port", "0"]);
    assert!(same_folder.contains("in use by another process"), "{same_folder}");
    let same_port = run(&["--data", "other", "--port", port]);
    assert!(same_port.contains("can not listen on") && same_port.contains("--port"), "{same_port}");
    assert!(!folder.path().join("other").exists(), "it made nothing before it knew");
    let open_host = run(&["--data", "other", "--host", "0.0.0.0", "--port", "0"]);
    assert!(open_host.contains("INBOXDB_AUTH__JWT_SECRET"), "{open_host}");
    let weak = run(&["--data", "other", "--host", "0.0.0.0", "--port", "0", "--set", "auth.jwt_secret=short"]);
    assert!(weak.contains("at least 32"), "{weak}");
    let file = run(&["--data", "/dev/null", "--port", "0"]);
    assert!(file.contains("can not be used") && file.contains("--data"), "{file}");
    let settings = run(&["--port", "x", "--set", "no.key=1"]);
    assert!(settings.contains("2 faults"), "{settings}");
    for text in [same_folder, same_port, open_host, weak, file] {
        assert_eq!(text.trim().lines().count(), 1, "{text}");
    }
}

#[test]
fn shows_its_settings() {
    let folder = tempfile::tempdir().unwrap();
    let show = |arguments: &[&str]| inboxdb(folder.path()).arg("config").args(arguments).output().unwrap();
    let default = show(&["--default"]);
    assert_eq!(String::from_utf8(default.stdout).unwrap(), include_str!("../../config/default.toml"));
    std::fs::write(folder.path().join("inboxdb.toml"), "[server]\nport = 9\n[auth]\njwt_secret = \"hunter2\"\n")
        .unwrap();
    let effective = String::from_utf8(show(&["--host", "::1"]).stdout).unwrap();
    for expected in ["port = 9", "host = \"::1\"", "jwt_secret = \"***\""] {
        assert!(effective.contains(expected), "{effective}");
    }
}
