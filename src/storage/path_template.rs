//! Where a partition's files lie: `{namespace}/{tableName}/{userId}`, compiled once.
//!
//! Owns which templates are allowed, and how names become path segments.
//! Never touches a disk.
//! Invariants: a path stays inside its storage, and two partitions never share a folder, whatever their names are.
//! For that, a template names everything that tells partitions apart and has at most one placeholder a segment, and a
//! value is written with an alphabet that holds neither `/` nor a name that means something to a file system.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::model::{Owner, TableKind, TableName};

/// Longest path segment that a value fills; a longer value goes on in a folder below. File systems take 255 bytes.
const VALUE_SEGMENT_MAX: usize = 150;
/// Longest template: with the longest values, paths stay below the 1,024 bytes that object stores take.
const TEMPLATE_MAX: usize = 200;

/// Marks an escaped byte, and at a segment's end, that its value goes on below.
const ESCAPE: u8 = b'=';

/// A checked template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    segments: Vec<Segment>,
}

/// `before ∥ value ∥ after`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    before: String,
    value: Option<Placeholder>,
    after: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Placeholder {
    Namespace,
    Table,
    User,
    /// Two hex digits of the user id's hash: spreads many users over 256 folders.
    Shard,
}

const NAMES: &[(&str, Placeholder)] = &[
    ("namespace", Placeholder::Namespace),
    ("tableName", Placeholder::Table),
    ("userId", Placeholder::User),
    ("shard", Placeholder::Shard),
    ("namespace_id", Placeholder::Namespace),
    ("table_name", Placeholder::Table),
    ("user_id", Placeholder::User),
];

impl PathTemplate {
    /// What a storage has until it is given another.
    pub fn default_of(kind: TableKind) -> Self {
        let values = match kind {
            // STREAM tables have no files; where one is named, it is as for other rows of users.
            TableKind::User | TableKind::Stream => &[Placeholder::Namespace, Placeholder::Table, Placeholder::User][..],
            TableKind::Shared => &[Placeholder::Namespace, Placeholder::Table],
        };
        let segment =
            |value: &Placeholder| Segment { before: String::new(), value: Some(*value), after: String::new() };
        Self { segments: values.iter().map(segment).collect() }
    }

    /// Checks and compiles a template for tables of `kind`.
    ///
    /// # Errors
    /// `INVALID_INPUT`: the rule that it breaks.
    pub fn parse(text: &str, kind: TableKind) -> Result<Self> {
        let fault = |why: &str| Error::InvalidInput(format!("Invalid path template '{text}': {why}"));
        if text.len() > TEMPLATE_MAX {
            return Err(fault(&format!("it has {} bytes; {TEMPLATE_MAX} are allowed", text.len())));
        }
        let relative = text.strip_suffix('/').unwrap_or(text);
        if relative.starts_with('/') {
            return Err(fault("it must be relative to the storage's base"));
        }
        let segments: Result<Vec<Segment>> =
            relative.split('/').map(|part| parse_segment(part).map_err(|why| fault(&why))).collect();
        let template = Self { segments: segments? };
        for (needed, name) in [(Placeholder::Namespace, "{namespace}"), (Placeholder::Table, "{tableName}")] {
            if !template.has(needed) {
                return Err(fault(&format!("without {name}, tables would share a folder")));
            }
        }
        match kind {
            TableKind::User if !template.has(Placeholder::User) => {
                Err(fault("a template for USER tables needs {userId}: otherwise users would share a folder"))
            }
            TableKind::Shared if template.has(Placeholder::User) || template.has(Placeholder::Shard) => {
                Err(fault("a template for SHARED tables has no {userId} and no {shard}: their rows have no user"))
            }
            _ => Ok(template),
        }
    }

    fn has(&self, placeholder: Placeholder) -> bool {
        self.segments.iter().any(|segment| segment.value == Some(placeholder))
    }

    /// The partition's folder, relative to the storage's base.
    pub fn folder(&self, table: &TableName, owner: &Owner) -> String {
        let mut path = String::new();
        for segment in &self.segments {
            if !path.is_empty() {
                path.push('/');
            }
            path.push_str(&segment.before);
            match segment.value {
                None => {}
                Some(Placeholder::Namespace) => path.push_str(&escaped(table.namespace().as_str())),
                Some(Placeholder::Table) => path.push_str(&escaped(table.table())),
                Some(Placeholder::User) => path.push_str(&escaped(owner.as_str())),
                Some(Placeholder::Shard) => {
                    path.push_str(&format!("{:02x}", xxh3_64(owner.as_str().as_bytes()) & 0xFF));
                }
            }
            path.push_str(&segment.after);
        }
        path
    }
}

/// The template with today's spelling of its placeholders.
impl fmt::Display for PathTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, segment) in self.segments.iter().enumerate() {
            let slash = if i == 0 { "" } else { "/" };
            write!(f, "{slash}{}", segment.before)?;
            if let Some((name, _)) = NAMES.iter().find(|(_, placeholder)| Some(*placeholder) == segment.value) {
                write!(f, "{{{name}}}")?;
            }
            f.write_str(&segment.after)?;
        }
        Ok(())
    }
}

fn parse_segment(part: &str) -> Result<Segment, String> {
    let plain = |text: &str| match text.chars().find(|c| !is_plain(*c)) {
        Some(bad) => Err(format!("{bad:?} is not allowed; use letters, digits, '-', '_', '.', '/' and placeholders")),
        None => Ok(text.to_owned()),
    };
    let segment = match part.split_once('{') {
        None => Segment { before: plain(part)?, value: None, after: String::new() },
        Some((before, rest)) => {
            let Some((name, after)) = rest.split_once('}') else { return Err("a '{' has no '}'".to_owned()) };
            if after.contains('{') {
                return Err(format!("'{part}' has two placeholders; put a '/' between them"));
            }
            let Some((_, value)) = NAMES.iter().find(|(known, _)| *known == name) else {
                return Err(format!(
                    "there is no placeholder {{{name}}}; there are {{namespace}}, {{tableName}}, {{userId}} and {{shard}}"
                ));
            };
            Segment { before: plain(before)?, value: Some(*value), after: plain(after)? }
        }
    };
    if segment.value.is_none() && segment.before.is_empty() {
        return Err("it has an empty part".to_owned());
    }
    if segment.before.starts_with('.') {
        return Err(format!("'{part}' begins with '.'"));
    }
    Ok(segment)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// A value as a path: safe characters as they are, every other byte as `=` and two hex digits.
///
/// One value, one path, and no path is the beginning of another's at a `/`: only a segment that goes on below ends in `=`
/// without digits behind it.
pub(super) fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut segment = 0;
    for (i, byte) in value.bytes().enumerate() {
        // A leading dot hides a file, and `..` is no name.
        let safe = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'@' | b'+') || (byte == b'.' && i > 0);
        if segment + 3 > VALUE_SEGMENT_MAX {
            out.push(char::from(ESCAPE));
            out.push('/');
            segment = 0;
        }
        if safe && !(byte == b'.' && segment == 0) {
            out.push(char::from(byte));
            segment += 1;
        } else {
            out.push_str(&format!("{}{byte:02x}", char::from(ESCAPE)));
            segment += 3;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;
    use crate::model::{NamespaceName, UserId};

    fn table(name: &str) -> TableName {
        TableName::new(NamespaceName::parse("chat").unwrap(), name).unwrap()
    }

    fn user(id: &str) -> Owner {
        Owner::User(UserId::parse(id).unwrap())
    }

    #[test]
    fn fills_in_the_names() {
        let cases = [
            ("{namespace}/{tableName}/{userId}", "chat/msgs/alice@example.com"),
            ("v1/{namespace_id}/{table_name}/u-{user_id}.d/", "v1/chat/msgs/u-alice@example.com.d"),
            ("{userId}/{namespace}/{tableName}", "alice@example.com/chat/msgs"),
            ("{shard}/{namespace}/{tableName}/{userId}", "ff/chat/msgs/alice@example.com"),
        ];
        for (text, expected) in cases {
            let template = PathTemplate::parse(text, TableKind::User).unwrap();
            assert_eq!(template.folder(&table("msgs"), &user("alice@example.com")), expected, "{text}");
            assert_eq!(PathTemplate::parse(&template.to_string(), TableKind::User).unwrap(), template);
        }
        let default = PathTemplate::default_of(TableKind::Shared);
        assert_eq!(default.folder(&table("notes"), &Owner::Shared), "chat/notes");
        for kind in [TableKind::User, TableKind::Shared] {
            let default = PathTemplate::default_of(kind);
            assert_eq!(PathTemplate::parse(&default.to_string(), kind).unwrap(), default);
        }
    }

    #[test]
    fn refuses_what_could_escape_or_collide() {
        let cases = [
            ("{namespace}/{tableName}", "needs {userId}"),
            ("{userId}/{tableName}", "without {namespace}"),
            ("{namespace}/{userId}", "without {tableName}"),
            ("/{namespace}/{tableName}/{userId}", "relative"),
            ("../{namespace}/{tableName}/{userId}", "begins with '.'"),
            ("{namespace}/./{tableName}/{userId}", "begins with '.'"),
            (".{namespace}/{tableName}/{userId}", "begins with '.'"),
            ("{namespace}//{tableName}/{userId}", "empty part"),
            ("{namespace}_{tableName}/{userId}", "two placeholders"),
            ("{namespace}/{tableName}/{userId", "no '}'"),
            ("{namespace}/{tableName}/{user}", "no placeholder {user}"),
            ("{namespace}/{tableName}/{userId}/a b", "' ' is not allowed"),
            ("{namespace}/{tableName}/{userId}\\x", "is not allowed"),
            ("", "empty part"),
        ];
        for (text, expected) in cases {
            let error = PathTemplate::parse(text, TableKind::User).unwrap_err();
            assert!(matches!(error, Error::InvalidInput(_)));
            assert!(error.to_string().contains(expected), "{text}: {error} should say {expected}");
        }
        let shared = PathTemplate::parse("{namespace}/{tableName}/{shard}", TableKind::Shared).unwrap_err();
        assert!(shared.to_string().contains("no {shard}"), "{shared}");
        let long = format!("{}/{{namespace}}/{{tableName}}/{{userId}}", "x".repeat(TEMPLATE_MAX));
        assert!(PathTemplate::parse(&long, TableKind::User).unwrap_err().to_string().contains("200 are allowed"));
    }

    /// Ids as odd as they come, and close to each other.
    fn user_id() -> impl Strategy<Value = String> {
        prop_oneof![
            "[a-c.=%~ -]{1,4}",
            "\\PC{1,40}",
            "(é|=|a){60,64}",
            Just("manifest.json".to_owned()),
            Just("=2e".to_owned()),
        ]
        .prop_filter("a user id", |id| UserId::parse(id).is_ok())
    }

    fn template() -> impl Strategy<Value = &'static str> {
        prop_oneof![
            Just("{namespace}/{tableName}/{userId}"),
            Just("{userId}/{namespace}/{tableName}"),
            Just("{namespace}/u{userId}x/{tableName}/z"),
            Just("{shard}/{namespace}/{tableName}/{userId}"),
        ]
    }

    proptest! {
        #[test]
        fn distinct_owners_have_distinct_folders_inside_the_base(
            text in template(), a in user_id(), b in user_id()
        ) {
            let template = PathTemplate::parse(text, TableKind::User).unwrap();
            let folder = |id: &str| template.folder(&table("msgs"), &user(id));
            let (fa, fb) = (folder(&a), folder(&b));
            prop_assert_eq!(a == b, fa == fb, "{:?} and {:?}: {} and {}", a, b, fa, fb);
            if a != b {
                prop_assert!(!Path::new(&fa).starts_with(&fb), "{fa} lies in {fb}");
            }
            prop_assert!(Path::new(&fa).components().all(|c| matches!(c, Component::Normal(_))), "{fa}");
            prop_assert!(fa.split('/').all(|part| !part.is_empty() && part.len() <= 200), "{fa}");
            prop_assert!(fa.len() < 700);
            let parsed = object_store::path::Path::parse(&fa).unwrap();
            prop_assert_eq!(parsed.as_ref(), fa.as_str());
        }
    }
}
