//! The house rules that a machine can hold: design.md §6's layer table, file headers, file lengths.
//!
//! Reads the sources as text. What stands behind `#[cfg(test)]` may reach further and is left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A production file, without its tests and comments.
struct Source {
    /// Under `src/`.
    path: String,
    /// First part of the path: `sql` of `sql/bind/key.rs`.
    layer: String,
    text: String,
}

/// Layer → the layers of ours that it may import from, beside itself.
const LAYERS: &[(&str, &[&str])] = &[
    ("model", &["error"]),
    ("error", &["model"]),
    ("time", &[]),
    ("failpoint", &[]),
    ("config", &["model", "error"]),
    ("partition", &["model", "error", "time", "config"]),
    ("live", &["model", "error", "time", "config"]),
    ("topics", &["model", "error", "live"]),
    ("jobs", &["model", "error", "time", "config"]),
    ("streams", &["model", "error"]),
    ("auth", &["model", "error", "time", "config"]),
    ("storage", &["model", "error", "time", "failpoint", "config", "partition"]),
    ("sql", &["model", "error", "time", "config", "storage", "live", "auth", "metrics"]),
    (
        "actors",
        &[
            "model",
            "error",
            "time",
            "config",
            "metrics",
            "partition",
            "live",
            "topics",
            "jobs",
            "auth",
            "storage",
            "sql",
        ],
    ),
    (
        "database",
        &[
            "model",
            "error",
            "time",
            "failpoint",
            "config",
            "metrics",
            "logging",
            "partition",
            "live",
            "topics",
            "jobs",
            "streams",
            "auth",
            "storage",
            "sql",
            "actors",
        ],
    ),
    ("api", &["model", "error", "time", "config", "metrics", "auth", "live", "streams", "database"]),
    ("logging", &["config"]),
    ("metrics", &[]),
];

/// What composes may import everything: it decides nothing.
const COMPOSERS: &[&str] = &["server", "cli", "main", "lib", "demo", "inspect", "restore", "fuzz"];

/// Outside crate → the layers that may name it. A crate that is not here may be used by all.
const OUTSIDE: &[(&str, &[&str])] = &[
    ("fjall", &["storage"]),
    // `database` hands parsed syntax trees on: see `the_database_knows_syntax_trees_only`.
    ("datafusion", &["sql", "database"]),
    ("stacker", &["sql"]),
    ("actix", &["actors", "database", "api"]),
    ("actix_web", &["api"]),
    ("actix_tls", &["api"]),
    ("rustls", &[]),
    ("actix_ws", &["api"]),
    ("actix_cors", &["api"]),
    ("awc", &[]),
    // auth: blocking pool and broadcast; sql: the engine's own runtime; storage and the cores never.
    ("tokio", &["actors", "database", "api", "auth", "sql"]),
    ("argon2", &["auth"]),
    ("jsonwebtoken", &["auth"]),
    ("governor", &["auth"]),
    ("sha2", &["auth"]),
    ("moka", &["auth", "sql", "database", "storage"]),
    ("foldhash", &["partition", "sql"]),
    ("indexmap", &["sql"]),
    ("parquet", &["storage"]),
    ("object_store", &["storage"]),
    ("xxhash_rust", &["storage"]),
    ("arrow_ipc", &["api"]),
    ("prometheus_client", &["metrics"]),
    ("regex", &["sql"]),
    ("zip", &["storage"]),
    ("clap", &[]),
    ("tracing_subscriber", &["logging", "config"]),
    ("toml", &["config"]),
    ("humantime", &["config"]),
    ("rmp_serde", &["live"]),
    ("flate2", &["live"]),
    ("ulid", &["sql"]),
    ("mimalloc", &[]),
    ("indicatif", &[]),
    ("hdrhistogram", &[]),
    ("tempfile", &[]),
];

const MAX_LINES: usize = 500;
const MAX_HEADER_LINES: usize = 25;

#[test]
fn layers_import_downwards_only() {
    let mut faults = Vec::new();
    for source in sources() {
        if COMPOSERS.contains(&source.layer.as_str()) {
            continue;
        }
        let Some((_, allowed)) = LAYERS.iter().find(|(layer, _)| *layer == source.layer) else {
            faults.push(format!("{}: the layer table has no '{}'", source.path, source.layer));
            continue;
        };
        for import in imports(&source) {
            if import != source.layer && !allowed.contains(&import.as_str()) {
                faults.push(format!("{}: {} must not import crate::{import}", source.path, source.layer));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn outside_crates_stay_in_their_layer() {
    let mut faults = Vec::new();
    for source in sources() {
        if COMPOSERS.contains(&source.layer.as_str()) {
            continue;
        }
        for (name, allowed) in OUTSIDE {
            if names_crate(&source.text, name) && !allowed.contains(&source.layer.as_str()) {
                faults.push(format!("{}: {name} is for {allowed:?}, not for {}", source.path, source.layer));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_database_knows_syntax_trees_only() {
    let other = |source: &Source| {
        let rest = source.text.replace("datafusion::sql::sqlparser", "");
        names_crate(&rest, "datafusion")
    };
    let faults: Vec<String> =
        sources().into_iter().filter(|s| s.layer == "database" && other(s)).map(|s| s.path).collect();
    assert!(faults.is_empty(), "these use more of DataFusion than sqlparser: {faults:?}");
}

#[test]
fn the_tables_name_real_things() {
    let sources = sources();
    let layers: BTreeSet<&str> = sources.iter().map(|source| source.layer.as_str()).collect();
    for (layer, _) in LAYERS {
        assert!(layers.contains(layer), "there is no layer {layer}");
    }
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for (name, _) in OUTSIDE {
        // Most crates are spelled with a hyphen there.
        let spellings = [format!("{name} ="), format!("{} =", name.replace('_', "-"))];
        let named = |line: &str| spellings.iter().any(|spelling| line.starts_with(spelling));
        assert!(manifest.lines().any(named), "Cargo.toml has no {name}");
    }
}

#[test]
fn files_say_what_they_are_and_stay_short() {
    let mut faults = Vec::new();
    for source in sources() {
        let path = format!("src/{}", source.path);
        let text = std::fs::read_to_string(root().join(&path)).unwrap();
        let header = text.lines().take_while(|line| line.starts_with("//!")).count();
        if header == 0 {
            faults.push(format!("{path}: does not open with //!"));
        } else if header > MAX_HEADER_LINES {
            faults.push(format!("{path}: its header has {header} lines; {MAX_HEADER_LINES} are allowed"));
        }
        let lines = source.text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{path}: {lines} lines; {MAX_LINES} are allowed"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn folders_are_named_for_what_is_in_them() {
    let banned = ["utils", "util", "common", "helpers", "helper", "manager", "misc", "mod"];
    let stem = |path: &PathBuf| path.file_stem().unwrap().to_string_lossy().into_owned();
    let faults: Vec<PathBuf> =
        files(&root().join("src")).into_iter().filter(|path| banned.contains(&stem(path).as_str())).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The production files, those declared `#[cfg(test)] mod …;` left out.
fn sources() -> Vec<Source> {
    let src = root().join("src");
    let files = files(&src);
    let mut tests = Vec::new();
    for path in &files {
        let text = std::fs::read_to_string(path).unwrap();
        let folder = match path.file_stem().unwrap().to_str().unwrap() {
            "lib" | "main" => src.clone(),
            _ => path.with_extension(""),
        };
        tests.extend(test_modules(&text).into_iter().map(|name| match name.strip_prefix("../") {
            Some(beside) => path.with_file_name(beside),
            None => folder.join(name),
        }));
    }
    let is_test = |path: &Path| tests.iter().any(|test| path.with_extension("") == *test || path.starts_with(test));
    let read = |path: &PathBuf| {
        let relative = path.strip_prefix(&src).unwrap().display().to_string();
        let layer = relative.split(['/', '.']).next().unwrap().to_owned();
        Source { path: relative, layer, text: without_tests(&std::fs::read_to_string(path).unwrap()) }
    };
    files.iter().filter(|path| !is_test(path)).map(read).collect()
}

/// Names of the modules that a file declares for tests only.
fn test_modules(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut for_tests, mut file) = (false, None);
    for line in text.lines().map(str::trim) {
        if line.starts_with("#[cfg(test)]") {
            for_tests = true;
        } else if let Some(path) = line.strip_prefix("#[path = \"") {
            file = path.strip_suffix(".rs\"]").map(|name| format!("../{name}"));
        } else if !line.starts_with("#[") {
            let declared = line.rsplit_once("mod ").and_then(|(_, rest)| rest.strip_suffix(';'));
            if let (true, Some(name)) = (for_tests, declared) {
                names.push(file.take().unwrap_or_else(|| name.to_owned()));
            }
            (for_tests, file) = (false, None);
        }
    }
    names
}

/// The text up to its inline tests, comment lines emptied.
fn without_tests(text: &str) -> String {
    let mut kept = Vec::new();
    let lines: Vec<&str> = text.lines().collect();
    for (i, line) in lines.iter().enumerate() {
        let opens_tests =
            line.trim() == "#[cfg(test)]" && lines.get(i + 1).is_some_and(|next| next.trim_end().ends_with('{'));
        if opens_tests {
            break;
        }
        kept.push(if line.trim_start().starts_with("//") { "" } else { line });
    }
    kept.join("\n")
}

/// The top modules that a file names: `crate::x…`, `crate::{x, y}`, and `super::` chains that climb out.
fn imports(source: &Source) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in source.text.match_indices("crate::") {
        if source.text[..at].ends_with(is_word) {
            continue;
        }
        let rest = &source.text[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.extend(head(rest)),
        }
    }
    let depth = source.path.matches('/').count() + 1;
    let climb = "super::".repeat(depth);
    for (at, _) in source.text.match_indices(&climb) {
        if !source.text[..at].ends_with("super::") {
            found.extend(head(&source.text[at + climb.len()..]).filter(|name| name != "super"));
        }
    }
    found
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn head(path: &str) -> Option<String> {
    let name: String = path.chars().take_while(|c| is_word(*c)).collect();
    (!name.is_empty()).then_some(name)
}

/// First names of the items of `a::b, c::{d, e}, f}`.
fn group_heads(group: &str) -> Vec<String> {
    let mut heads = Vec::new();
    let (mut depth, mut start) = (1, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            heads.extend(head(group[start..at].trim_start()));
            start = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    heads
}

fn names_crate(text: &str, name: &str) -> bool {
    let path = format!("{name}::");
    text.match_indices(&path).any(|(at, _)| !text[..at].ends_with(|c: char| is_word(c) || c == ':'))
}

#[test]
fn the_reader_sees_what_is_imported() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), layer: String::new(), text: text.to_owned() };
    let cases = [
        (source("a/b.rs", "use crate::model::{Seq, x::Y};"), vec!["model"]),
        (source("a/b.rs", "use crate::{api, sql::{bind, parse}, time::Clock};"), vec!["api", "sql", "time"]),
        (source("a/b.rs", "fn f() -> crate::error::Result<()> { super::super::live::x() }"), vec!["error", "live"]),
        (source("a.rs", "use super::live::x; use notcrate::y::z;"), vec!["live"]),
        (source("a/b.rs", "use super::sibling::x;"), vec![]),
    ];
    for (source, expected) in cases {
        assert_eq!(imports(&source).into_iter().collect::<Vec<_>>(), expected, "{}", source.text);
    }
    assert!(names_crate("use fjall::Db;", "fjall") && names_crate("x: fjall::Db", "fjall"));
    assert!(!names_crate("use my::fjall::Db;", "fjall") && !names_crate("use lsm_fjall::Db;", "fjall"));
    assert_eq!(without_tests("a\n// b\n#[cfg(test)]\nmod tests {\n c\n}"), "a\n");
    assert_eq!(
        test_modules("mod a;\n#[cfg(test)]\nmod tests;\n#[cfg(test)]\npub(crate) mod testing;\nmod b;"),
        ["tests", "testing"]
    );
}
