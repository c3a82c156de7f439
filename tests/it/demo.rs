//! `inboxdb demo`, short: the program plays it against itself and finds that all of it holds.

use std::path::Path;
use std::process::{Command, Output};

fn demo(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inboxdb"));
    command.current_dir(folder).arg("demo").args(arguments).output().unwrap()
}

#[test]
fn the_demo_proves_what_it_claims() {
    let folder = tempfile::tempdir().unwrap();
    // Settings of the folder and the environment are not the demo's server's.
    std::fs::write(folder.path().join("inboxdb.toml"), "nonsense").unwrap();
    let output = demo(folder.path(), &["--users", "8", "--conversations", "48"]);
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{said}{errors}");
    assert!(said.contains("All of it holds.") && !said.contains('✗'), "{said}");
    assert_eq!(said.matches('✓').count(), 6, "{said}");
    assert!(!said.contains('\x1b') && said.lines().all(|line| line.chars().count() <= 80), "{said}");
    assert_eq!(errors, "");
}

#[test]
fn a_demo_without_conversations_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let output = demo(folder.path(), &["--input", "missing.ndjson"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("missing.ndjson"), "{errors}");
}
