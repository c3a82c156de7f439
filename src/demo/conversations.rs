//! The conversations that the demo plays.
//!
//! Owns the input's form: one message a line, `{"conversation","turn","role","language","content"}`, turns from 0 up,
//! the first one the user's. Some conversations of our own come with the program.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

const BUILT_IN: &str = include_str!("conversations.ndjson");

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conversation {
    pub(crate) name: String,
    pub(crate) language: String,
    /// Never empty, and the first one is the user's.
    pub(crate) turns: Vec<Turn>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) speaker: Speaker,
    pub(crate) content: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Speaker {
    User,
    Assistant,
}

impl Speaker {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Speaker::User => "user",
            Speaker::Assistant => "assistant",
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("the conversations in {} can not be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("line {line} of the conversations: {fault}")]
    Line { line: usize, fault: String },
    #[error("there is no conversation in {}", path.display())]
    Empty { path: PathBuf },
}

#[derive(Deserialize)]
struct Line {
    conversation: String,
    turn: usize,
    role: Speaker,
    language: String,
    content: String,
}

/// The conversations of `path`, or our own.
///
/// # Errors
/// The file can not be read, has no conversation, or a line that is not as the form says.
pub(crate) fn read(path: Option<&Path>) -> Result<Vec<Conversation>, InputError> {
    let Some(path) = path else {
        return parse(BUILT_IN);
    };
    let unreadable = |source| InputError::Unreadable { path: path.to_owned(), source };
    let conversations = parse(&fs::read_to_string(path).map_err(unreadable)?)?;
    if conversations.is_empty() { Err(InputError::Empty { path: path.to_owned() }) } else { Ok(conversations) }
}

fn parse(text: &str) -> Result<Vec<Conversation>, InputError> {
    let mut conversations: Vec<Conversation> = Vec::new();
    let mut place: HashMap<String, usize> = HashMap::new();
    for (index, text) in text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let refuse = |fault: String| InputError::Line { line: index + 1, fault };
        let line: Line = serde_json::from_str(text).map_err(|fault| refuse(fault.to_string()))?;
        let place = *place.entry(line.conversation).or_insert_with_key(|name| {
            let language = line.language;
            conversations.push(Conversation { name: name.clone(), language, turns: Vec::new() });
            conversations.len() - 1
        });
        let conversation = &mut conversations[place];
        let expected = conversation.turns.len();
        if line.turn != expected {
            let name = &conversation.name;
            return Err(refuse(format!("{name} has turn {} where turn {expected} comes next", line.turn)));
        }
        if expected == 0 && line.role == Speaker::Assistant {
            return Err(refuse(format!("{} begins with the assistant, whom nobody has asked", conversation.name)));
        }
        conversation.turns.push(Turn { speaker: line.role, content: line.content });
    }
    Ok(conversations)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn our_own_conversations_are_well_formed_and_in_many_languages() {
        let conversations = parse(BUILT_IN).unwrap();
        assert!(conversations.len() >= 20);
        let languages: HashSet<&str> = conversations.iter().map(|each| each.language.as_str()).collect();
        assert!(languages.len() >= 15, "{languages:?}");
        assert!(conversations.iter().all(|each| each.turns.len() >= 2));
    }

    #[test]
    fn a_line_that_breaks_the_form_is_named() {
        let line = |turn: usize, role: &str| {
            format!(r#"{{"conversation":"a","turn":{turn},"role":"{role}","language":"en","content":"x"}}"#)
        };
        let cases = [
            ("{".to_owned(), "line 1"),
            (format!("{}\n\n{}", line(0, "user"), line(2, "assistant")), "line 3 of the conversations: a has turn 2"),
            (line(0, "assistant"), "begins with the assistant"),
            (line(0, "robot"), "unknown variant `robot`"),
        ];
        for (text, expected) in cases {
            let fault = parse(&text).unwrap_err().to_string();
            assert!(fault.contains(expected), "{fault}");
        }
    }

    #[test]
    fn lines_of_several_conversations_may_be_mixed() {
        let line = |name: &str, turn: usize| {
            format!(
                r#"{{"conversation":"{name}","turn":{turn},"role":"user","language":"en","content":"{name}{turn}"}}"#
            )
        };
        let text = [line("a", 0), line("b", 0), line("a", 1), line("b", 1)].join("\n");
        let conversations = parse(&text).unwrap();
        let contents = |index: usize| -> Vec<&str> {
            conversations[index].turns.iter().map(|turn| turn.content.as_str()).collect()
        };
        assert_eq!((contents(0), contents(1)), (vec!["a0", "a1"], vec!["b0", "b1"]));
    }

    #[test]
    fn a_missing_and_an_empty_file_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing.ndjson");
        assert!(read(Some(&missing)).unwrap_err().to_string().contains("missing.ndjson"));
        let empty = folder.path().join("empty.ndjson");
        fs::write(&empty, "\n").unwrap();
        assert!(read(Some(&empty)).unwrap_err().to_string().contains("no conversation"));
    }
}
