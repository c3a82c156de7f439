//! docs/sql.md: its examples are run, and each kind of statement has its place on it.
//!
//! A block of `sql` is a request, the block behind it its answer: a line for each result as the files of `slt` have it where a
//! request has several, with the columns' names above rows; an error as `ERROR CODE SQLSTATE: message`. A first line `-- NAME` says
//! whose request it is, else it is the administrator's; `-- params […]` behind it gives its parameters. `…` in an answer stands for
//! what is another each time, within a line. Requests run in the page's order, against one server; what only reads is asked until
//! it answers so, since jobs take their time. Where the page comes to EXPLAIN LIVE, alice has a subscription open.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;

use inboxdb::sql::parse::parse;
use inboxdb::sql::statement::Statement;
use serde_json::{Value, json};

use crate::server::eventually;
use crate::slt::{Remote, SqlResult};
use crate::socket::Socket;

/// Where backups of the page's examples lie.
const BACKUPS: &str = "/backups";

/// Statements whose answer others may still change, and that change nothing themselves.
const READS: &[&str] = &["SELECT", "SHOW EXPORT", "SHOW CURSORS", "EXPLAIN LIVE"];

/// What the page calls the live query that is open.
const LIVE_ID: &str = "c17-2";

/// The page's text, and what it stands for in this run.
type Names = Vec<(&'static str, String)>;

struct Example {
    /// Of the request's fence, from 1.
    line: usize,
    /// The heading of the statement that it is of.
    heading: String,
    user: String,
    body: Value,
    answer: Vec<String>,
}

impl Example {
    fn sql(&self) -> &str {
        self.body["sql"].as_str().unwrap()
    }

    /// Does asking again change nothing?
    fn only_reads(&self) -> bool {
        let kinds = parse(self.sql()).unwrap_or_default();
        !kinds.is_empty() && kinds.iter().all(|parsed| READS.contains(&parsed.statement.kind()))
    }

    fn is_answer(&self, text: &str) -> bool {
        let lines: Vec<&str> = text.lines().collect();
        lines.len() == self.answer.len()
            && self.answer.iter().zip(lines).all(|(expected, line)| answers(expected, line))
    }
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/docs"))
}

fn page() -> String {
    std::fs::read_to_string(folder().join("sql.md")).unwrap()
}

fn examples(page: &str) -> Vec<Example> {
    let lines: Vec<&str> = page.lines().collect();
    let (mut heading, mut at, mut found) = ("", 0, Vec::new());
    while at < lines.len() {
        if lines[at].starts_with("## ") {
            heading = "";
        }
        heading = lines[at].strip_prefix("### ").unwrap_or(heading);
        if lines[at] != "```sql" {
            at += 1;
            continue;
        }
        let request = block(&lines, at);
        let mut behind = request.end + 1;
        while lines.get(behind) == Some(&"") {
            behind += 1;
        }
        assert_eq!(lines.get(behind), Some(&"```"), "docs/sql.md:{}: an example needs its answer", at + 1);
        let answer = block(&lines, behind);
        found.push(example(at + 1, heading, &lines[request], &lines[answer.clone()]));
        at = answer.end + 1;
    }
    found
}

/// The lines between the fence at `open` and the one that closes it.
fn block(lines: &[&str], open: usize) -> Range<usize> {
    let length = lines[open + 1..].iter().position(|line| *line == "```");
    open + 1..open + 1 + length.unwrap_or_else(|| panic!("docs/sql.md:{}: the block has no end", open + 1))
}

fn example(line: usize, heading: &str, request: &[&str], answer: &[&str]) -> Example {
    let mut comments = request.iter().map_while(|line| line.strip_prefix("-- "));
    let first = comments.next().unwrap_or("admin");
    let (user, params) = match first.strip_prefix("params ") {
        Some(params) => ("admin", Some(params)),
        None => (first, comments.next().and_then(|second| second.strip_prefix("params "))),
    };
    let params: Value = params.map_or_else(|| json!([]), |params| serde_json::from_str(params).unwrap());
    Example {
        line,
        heading: heading.to_owned(),
        user: user.to_owned(),
        body: json!({ "sql": request.join("\n"), "params": params }),
        answer: answer.iter().map(|line| (*line).to_owned()).collect(),
    }
}

/// `…` stands for any text.
fn answers(expected: &str, line: &str) -> bool {
    let pieces: Vec<&str> = expected.split('…').collect();
    let [first, middle @ .., last] = pieces.as_slice() else { return expected == line };
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for piece in middle {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

#[test]
fn every_example_is_answered_as_it_says() {
    let page = page();
    let backups = tempfile::tempdir().unwrap();
    let server = Remote::start();
    let mut names: Names = vec![(BACKUPS, backups.path().to_str().unwrap().to_owned())];
    let mut live = None;
    for example in examples(&page) {
        if example.heading == "EXPLAIN LIVE" && live.is_none() {
            let (socket, id) = open_inbox(&server);
            names.push((LIVE_ID, id));
            live = Some(socket);
        }
        let mut text = ask(&server, &example, &names);
        if !example.is_answer(&text) && example.only_reads() {
            let told = format!("docs/sql.md:{}: it was first answered\n{text}", example.line);
            let answer = || Some(ask(&server, &example, &names)).filter(|text| example.is_answer(text));
            text = eventually(&told, answer);
        }
        assert!(example.is_answer(&text), "docs/sql.md:{}: {}\nis answered\n{text}", example.line, example.sql());
    }
}

/// Alice's subscription of the page, and its id; beside it one with a group.
fn open_inbox(server: &Remote) -> (Socket, String) {
    let alice = server.server().log_in("alice");
    let mut socket = Socket::open_as(server.server().address, alice.token(), "?compress=false");
    socket.follow("inbox", "SELECT id, body FROM shop.notes");
    socket.subscribe("phone", "SELECT id, body FROM shop.notes", json!({ "group": "phone", "last_rows": 0 }));
    assert_eq!(socket.json()["type"], "subscription_ack");
    let ids = "SELECT live_id FROM system.live WHERE subscription_id = 'inbox'";
    let id = server.server().log_in("admin").rows(ids)[0][0].take();
    (socket, id.as_str().unwrap().to_owned())
}

/// What an example is answered now, in the page's words.
fn ask(server: &Remote, example: &Example, names: &Names) -> String {
    let mut body = example.body.clone();
    body["sql"] = names.iter().fold(example.sql().to_owned(), |sql, (ours, real)| sql.replace(ours, real)).into();
    let text = match server.request(&example.user, &body) {
        Ok(results) => results.into_iter().flat_map(SqlResult::titled_lines).collect::<Vec<_>>().join("\n"),
        Err(failure) => format!("ERROR {failure}"),
    };
    names.iter().fold(text, |text, (ours, real)| text.replace(real, ours))
}

#[test]
fn every_kind_of_statement_has_its_place_and_an_example() {
    let page = page();
    let headings: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let kinds: BTreeSet<&str> = Statement::KINDS.iter().copied().collect();
    assert_eq!(headings.iter().copied().collect::<BTreeSet<_>>(), kinds, "headings of docs/sql.md, and statements");
    assert_eq!(headings.len(), kinds.len(), "a statement has one place");
    let examples = examples(&page);
    for kind in kinds {
        let mut statements =
            examples.iter().filter(|e| e.heading == kind).flat_map(|e| parse(e.sql()).unwrap_or_default());
        assert!(statements.any(|parsed| parsed.statement.kind() == kind), "{kind} has no example of its own");
        let link = format!("](#{})", kind.to_lowercase().replace(' ', "-"));
        assert!(page.contains(&link), "{kind} is not among the contents: {link}");
    }
}

#[test]
fn links_lead_somewhere() {
    let page = page();
    let heads: BTreeSet<String> =
        page.lines().filter_map(|line| line.trim_start_matches('#').strip_prefix(' ')).map(anchor).collect();
    let links = page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or_default());
    for link in links.filter(|link| !link.starts_with("https://")) {
        let there = match link.split_once('#') {
            Some(("", head)) => heads.contains(head),
            Some((file, _)) => folder().join(file).exists(),
            None => folder().join(link).exists(),
        };
        assert!(there, "docs/sql.md links to {link}");
    }
}

/// As the page's readers make it of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .collect::<String>();
    kept.replace(' ', "-")
}

#[test]
fn an_ellipsis_stands_for_any_text() {
    for (expected, line) in [("a", "a"), ("a…", "abc"), ("…c", "abc"), ("a…c", "ac"), ("a…b…c", "axbyc"), ("…", "")]
    {
        assert!(answers(expected, line), "{expected} {line}");
    }
    for (expected, line) in [("a", "ab"), ("a…", "ba"), ("a…b…c", "axcyb"), ("…c", "cb")] {
        assert!(!answers(expected, line), "{expected} {line}");
    }
}
