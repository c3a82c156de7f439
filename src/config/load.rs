//! From the layers to a [`Config`]: defaults, file, environment, flags; the last one wins.
//!
//! Owns the names of variables and flags, and finding **all** faults in one go: each leaf of each layer is tried alone
//! on the defaults, so one bad value hides no other.
//! Never decides what a value means: serde does for one key, `validate.rs` for several.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue};

use super::{Config, keys, secret_files, validate};

/// Variables of settings start with this; `__` stands between section and key.
pub const ENV_PREFIX: &str = "INBOXDB_";

/// Where the settings come from, the weakest first. The caller reads environment and command line.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    pub file: Option<PathBuf>,
    /// All variables; those without [`ENV_PREFIX`] are passed over.
    pub environment: Vec<(String, String)>,
    pub flags: Vec<Flag>,
}

/// A setting from the command line.
#[derive(Debug, Clone)]
pub struct Flag {
    /// As the user typed it: `--port`, `--set`.
    pub name: &'static str,
    pub key: String,
    pub value: String,
}

/// One thing that is wrong, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    pub key: String,
    pub value: Option<String>,
    pub source: String,
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            let hidden = keys::find(&self.key).is_some_and(|key| key.secret);
            write!(f, " = {}", if hidden { "***" } else { value })?;
        }
        write!(f, " ({}): {}", self.source, self.problem)
    }
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFaults(pub Vec<Fault>);

impl fmt::Display for ConfigFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n = self.0.len();
        write!(f, "the configuration has {n} fault{}:", if n == 1 { "" } else { "s" })?;
        for fault in &self.0 {
            write!(f, "\n  {fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigFaults {}

/// One value of one layer. Text from variables and flags can be read in several ways, best first.
struct Leaf {
    key: String,
    readings: Vec<toml::Value>,
    given: String,
    source: String,
}

impl Config {
    /// Puts the layers together and checks the whole.
    ///
    /// # Errors
    /// All faults of all layers.
    pub fn load(sources: &Sources) -> Result<Config, ConfigFaults> {
        let mut leaves = Vec::new();
        let mut faults = Vec::new();
        if let Some(path) = &sources.file {
            read_file(path, &mut leaves, &mut faults);
        }
        read_environment(&sources.environment, &mut leaves, &mut faults);
        read_flags(&sources.flags, &mut leaves, &mut faults);

        let defaults = keys::tree(&Config::default());
        let mut merged = defaults.clone();
        for leaf in &leaves {
            match leaf.readings.iter().find(|value| fits(&defaults, &leaf.key, value)) {
                Some(value) => set(&mut merged, &leaf.key, value.clone()),
                None => faults.push(wrong_value(leaf)),
            }
        }
        // Each leaf fits alone, and keys do not depend on each other's form: the whole fits too.
        let mut config = Config::deserialize(merged).map_err(|error| {
            ConfigFaults(vec![fault("configuration", None, "all layers", error.message().to_owned())])
        })?;
        let unread = secret_files::read(&mut config);
        for (key, problem) in validate::check(&config).into_iter().chain(unread) {
            let given = leaves.iter().rev().find(|leaf| leaf.key == key);
            let default = keys::lookup(&defaults, key).map(ToString::to_string);
            let value = given.map_or(default, |leaf| Some(leaf.given.clone()));
            let source = given.map_or("default", |leaf| &leaf.source);
            // A key with a value that does not fit was told about already.
            if !faults.iter().any(|fault| fault.key == key) {
                faults.push(fault(key, value, source, problem));
            }
        }
        if faults.is_empty() { Ok(config) } else { Err(ConfigFaults(faults)) }
    }
}

fn read_file(path: &Path, leaves: &mut Vec<Leaf>, faults: &mut Vec<Fault>) {
    let shown = path.display().to_string();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return faults.push(fault("--config", Some(shown), "file", format!("can not be read: {error}"))),
    };
    let (document, errors) = DeTable::parse_recoverable(&text);
    for error in &errors {
        let line = error.span().map_or(1, |span| line_of(&text, span.start));
        faults.push(fault("TOML", None, &format!("{shown}:{line}"), error.message().trim().to_owned()));
    }
    // What a broken file says is not worth looking at.
    if errors.is_empty() {
        let mut reader = FileReader { shown: &shown, text: &text, leaves, faults };
        reader.table("", document.get_ref());
    }
}

struct FileReader<'a> {
    shown: &'a str,
    text: &'a str,
    leaves: &'a mut Vec<Leaf>,
    faults: &'a mut Vec<Fault>,
}

impl FileReader<'_> {
    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        // In the file's order, which the map does not keep.
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let path =
                if prefix.is_empty() { name.get_ref().to_string() } else { format!("{prefix}.{}", name.get_ref()) };
            let source = format!("{}:{}", self.shown, line_of(self.text, name.span().start));
            match value.get_ref() {
                DeValue::Table(inner) if keys::is_section(&path) => self.table(&path, inner),
                DeValue::Table(_) => self.faults.push(unknown(&path, &source)),
                _ if keys::is_section(&path) => {
                    self.faults.push(fault(&path, None, &source, format!("is a section; write [{path}]")));
                }
                _ => self.leaf(path, &self.text[value.span()], source),
            }
        }
    }

    fn leaf(&mut self, key: String, given: &str, source: String) {
        if keys::find(&key).is_none() {
            return self.faults.push(unknown(&key, &source));
        }
        let readings = parse_value(given).into_iter().collect();
        self.leaves.push(Leaf { key, readings, given: given.to_owned(), source });
    }
}

fn read_environment(variables: &[(String, String)], leaves: &mut Vec<Leaf>, faults: &mut Vec<Fault>) {
    let mut ours: Vec<_> = variables.iter().filter(|(name, _)| name.starts_with(ENV_PREFIX)).collect();
    ours.sort();
    for (name, value) in ours {
        let source = format!("environment variable {name}");
        let rest = name[ENV_PREFIX.len()..].to_ascii_lowercase();
        let key = rest.replace("__", ".");
        if keys::find(&key).is_some() {
            leaves.push(text_leaf(key, value, source));
        } else if let Some(meant) = keys::KEYS.iter().find(|key| key.path.replace('.', "_") == rest) {
            // Other variables with our prefix belong to the client commands, or to scripts around us; this one does not.
            let problem = format!("two underscores stand between section and key: {}", variable_of(meant.path));
            faults.push(fault(name, None, "environment", problem));
        } else if rest.contains("__") {
            faults.push(unknown(&key, &source));
        }
    }
}

fn read_flags(flags: &[Flag], leaves: &mut Vec<Leaf>, faults: &mut Vec<Fault>) {
    for Flag { name, key, value } in flags {
        let source = format!("flag {name}");
        if keys::find(key).is_some() {
            leaves.push(text_leaf(key.clone(), value, source));
        } else {
            faults.push(unknown(key, &source));
        }
    }
}

/// The environment variable of a key.
fn variable_of(path: &str) -> String {
    format!("{ENV_PREFIX}{}", path.replace('.', "__").to_ascii_uppercase())
}

/// Text has no type: it is tried as text first (a secret may look like a number), then as TOML, then as a list.
fn text_leaf(key: String, given: &str, source: String) -> Leaf {
    let mut readings = vec![toml::Value::String(given.to_owned())];
    readings.extend(parse_value(given));
    let items = given.split(',').map(str::trim).filter(|item| !item.is_empty());
    readings.push(toml::Value::Array(items.map(|item| toml::Value::String(item.to_owned())).collect()));
    Leaf { key, readings, given: given.to_owned(), source }
}

fn parse_value(text: &str) -> Option<toml::Value> {
    let mut table: toml::Table = toml::from_str(&format!("value = {text}")).ok()?;
    table.remove("value")
}

/// Does the key, alone on the defaults, take this value?
fn fits(defaults: &toml::Table, key: &str, value: &toml::Value) -> bool {
    let mut tree = defaults.clone();
    set(&mut tree, key, value.clone());
    Config::deserialize(tree).is_ok()
}

fn set(tree: &mut toml::Table, path: &str, value: toml::Value) {
    match path.split_once('.') {
        Some((section, rest)) => {
            if let Some(toml::Value::Table(inner)) = tree.get_mut(section) {
                set(inner, rest, value);
            }
        }
        None => {
            tree.insert(path.to_owned(), value);
        }
    }
}

fn wrong_value(leaf: &Leaf) -> Fault {
    let allowed = keys::find(&leaf.key).map_or("another value", |key| key.allowed);
    fault(&leaf.key, Some(leaf.given.clone()), &leaf.source, format!("expected {allowed}"))
}

/// The value is left out: a secret under a mistyped key is still a secret.
fn unknown(key: &str, source: &str) -> Fault {
    let problem = match closest(key) {
        Some(meant) => format!("there is no such key; did you mean {meant}?"),
        None => "there is no such key; `inboxdb config --default` lists them all".to_owned(),
    };
    fault(key, None, source, problem)
}

fn fault(key: &str, value: Option<String>, source: &str, problem: String) -> Fault {
    Fault { key: key.to_owned(), value, source: source.to_owned(), problem }
}

fn line_of(text: &str, offset: usize) -> usize {
    text.as_bytes().iter().take(offset).filter(|byte| **byte == b'\n').count() + 1
}

/// The key that was probably meant: the same name in another section, or a few letters away.
fn closest(given: &str) -> Option<&'static str> {
    let same_name = keys::KEYS.iter().find(|key| keys::last_segment(key.path) == keys::last_segment(given));
    let nearest = || keys::KEYS.iter().min_by_key(|key| distance(key.path, given));
    same_name.or_else(|| nearest().filter(|key| distance(key.path, given) <= 3)).map(|key| key.path)
}

/// Levenshtein's distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.bytes().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
