//! `tests/live/*.txt`: sessions as the wire has them.
//!
//! `SET section.key=value` for the server · `SQL user statement` · `OPEN name [AS user][?query]` · `C name {…}` sends ·
//! `S name {…}` must be what comes next · `CLOSED name code` · `QUIET name`: nothing is on its way.
//! Other lines continue the one before; `#` opens a comment. In what must come, `"$x"` is a text and `"#x"` a number that
//! is bound to x when it is first seen and must be the same later; `"*"` is anything; `"~…"` is a text that contains …;
//! `"…": true` in an object allows more entries. In what is sent, `"$x"` and `"#x"` stand for what was bound, `"@user"`
//! for the user's token.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::World;
use crate::http::Client;
use crate::socket::Socket;

macro_rules! scripts {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                run(stringify!($name));
            }
        )*

        const SCRIPTS: &[&str] = &[$(stringify!($name)),*];
    };
}

scripts! {
    acting_for
    all_owners
    alter
    authenticate
    bad_order
    changes
    cursors
    ends
    errors
    filters
    initial_rows
    namespace_feed
    objects
    projection
    resume
    revoked
    shared
    streams
    subscriptions
    tombstones
    upserts
    worked_session
}

#[test]
fn every_script_is_run() {
    let mut found: Vec<String> = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, SCRIPTS, "tests/live and the list in script.rs differ");
}

struct Run {
    world: World,
    clients: HashMap<String, Client>,
    sockets: HashMap<String, Socket>,
    bound: HashMap<String, String>,
}

fn run(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/live/{name}.txt"));
    let steps = steps(&std::fs::read_to_string(path).unwrap());
    let settings: Vec<&str> = steps.iter().filter_map(|(_, step)| step.strip_prefix("SET ")).collect();
    let world = World::new(&settings);
    let clients = [("admin", &world.admin), ("alice", &world.alice), ("bob", &world.bob), ("worker", &world.service)];
    let clients = clients.map(|(user, client)| (user.to_owned(), client.again())).into();
    let mut run = Run { world, clients, sockets: HashMap::new(), bound: HashMap::new() };
    for (line, step) in &steps {
        // Shown when the test fails.
        println!("{name}.txt:{line}: {step}");
        run.step(step);
    }
}

/// Line number and text of each step.
fn steps(text: &str) -> Vec<(usize, String)> {
    let mut steps: Vec<(usize, String)> = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        let verb = line.split(' ').next().unwrap_or_default();
        if line.is_empty() || line.starts_with("# ") || line == "#" {
            continue;
        }
        if ["SET", "SQL", "OPEN", "C", "S", "CLOSED", "QUIET"].contains(&verb) {
            steps.push((at + 1, line.to_owned()));
        } else {
            let (_, step) = steps.last_mut().expect("a step to continue");
            *step += &format!(" {line}");
        }
    }
    steps
}

impl Run {
    fn step(&mut self, step: &str) {
        let (verb, rest) = step.split_once(' ').unwrap();
        let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        match verb {
            "SET" => {}
            "SQL" => drop(self.clients.get_mut(name).unwrap_or_else(|| panic!("no user {name}")).sql(rest)),
            "OPEN" => {
                let (user, query) = rest.split_once('?').unwrap_or((rest, ""));
                let query = if query.is_empty() { String::new() } else { format!("?{query}") };
                let address = self.world.server.address;
                let socket = match user.trim().strip_prefix("AS ") {
                    Some(user) => Socket::open_as(address, self.clients[user].token(), &query),
                    None => Socket::open(address),
                };
                self.sockets.insert(name.to_owned(), socket);
            }
            "C" => {
                let message = self.filled(serde_json::from_str(rest).unwrap_or_else(|e| panic!("{e}: {rest}")));
                self.socket(name).send(&message);
            }
            "S" => {
                let expected = serde_json::from_str(rest).unwrap_or_else(|e| panic!("{e}: {rest}"));
                let came = self.socket(name).json();
                if let Err(why) = self.matches(&expected, &came) {
                    panic!("{why}\nexpected {expected}\n    came {came}");
                }
            }
            "CLOSED" => {
                let (code, reason) = self.socket(name).closed();
                assert_eq!(code.to_string(), rest, "{reason}");
            }
            "QUIET" => self.socket(name).quiet(),
            other => panic!("no such step: {other}"),
        }
    }

    fn socket(&mut self, name: &str) -> &mut Socket {
        self.sockets.get_mut(name).unwrap_or_else(|| panic!("no socket {name}"))
    }

    /// What is sent, with what was bound in its places.
    fn filled(&self, message: Value) -> Value {
        match message {
            Value::String(text) => match text.split_at_checked(1) {
                Some(("@", user)) => json!(self.clients[user].token()),
                Some(("$", name)) => json!(self.bound[name]),
                Some(("#", name)) => json!(self.bound[name].parse::<i64>().unwrap()),
                _ => Value::String(text),
            },
            Value::Array(items) => items.into_iter().map(|item| self.filled(item)).collect(),
            Value::Object(entries) => {
                let filled: Map<String, Value> =
                    entries.into_iter().map(|(key, item)| (key, self.filled(item))).collect();
                Value::Object(filled)
            }
            other => other,
        }
    }

    fn matches(&mut self, expected: &Value, came: &Value) -> Result<(), String> {
        let differs = || Err(format!("{came} in place of {expected}"));
        match (expected, came) {
            (Value::String(pattern), _) if pattern == "*" => Ok(()),
            (Value::String(pattern), _) => match (pattern.split_at_checked(1), came) {
                (Some(("$", name)), Value::String(text)) => self.bind(name, text),
                (Some(("#", name)), Value::Number(number)) => self.bind(name, &number.to_string()),
                (Some(("~", part)), Value::String(text)) if text.contains(part) => Ok(()),
                _ if expected == came => Ok(()),
                _ => differs(),
            },
            (Value::Array(expected), Value::Array(came)) if expected.len() == came.len() => {
                expected.iter().zip(came).try_for_each(|(expected, came)| self.matches(expected, came))
            }
            (Value::Object(expected), Value::Object(came)) => {
                let open = expected.contains_key("…");
                for (key, expected) in expected.iter().filter(|(key, _)| *key != "…") {
                    let came = came.get(key).ok_or_else(|| format!("no {key:?}"))?;
                    self.matches(expected, came).map_err(|why| format!("{key}: {why}"))?;
                }
                match came.keys().find(|key| !open && !expected.contains_key(*key)) {
                    Some(more) => Err(format!("there is {more:?}, too")),
                    None => Ok(()),
                }
            }
            _ if expected == came => Ok(()),
            _ => differs(),
        }
    }

    fn bind(&mut self, name: &str, value: &str) -> Result<(), String> {
        match self.bound.get(name) {
            Some(bound) if bound == value => Ok(()),
            Some(bound) => Err(format!("{value} in place of {name}, which is {bound}")),
            None => {
                self.bound.insert(name.to_owned(), value.to_owned());
                Ok(())
            }
        }
    }
}
