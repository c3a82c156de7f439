//! Content types: which are alike, and which have a meaning to a stream.

use crate::error::{Error, Result};

/// What a stream has whose creation named none.
pub const DEFAULT: &str = "application/octet-stream";
const MAX_BYTES: usize = 256;

/// The media type without its parameters, in lower case: what is compared.
pub fn media_type(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

pub fn alike(a: &str, b: &str) -> bool {
    media_type(a) == media_type(b)
}

/// Are its messages told apart?
pub fn is_json(content_type: &str) -> bool {
    media_type(content_type) == "application/json"
}

/// Does it go into an event as it is? All others go as base64.
pub fn is_text(content_type: &str) -> bool {
    is_json(content_type) || media_type(content_type).starts_with("text/")
}

/// # Errors
/// `INVALID_INPUT`.
pub fn check(content_type: &str) -> Result<()> {
    let media_type = media_type(content_type);
    let token = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_graphic() && !b"/;,\"".contains(&b));
    let formed = media_type.split_once('/').is_some_and(|(kind, name)| token(kind) && token(name));
    if formed && content_type.len() <= MAX_BYTES && content_type.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        Ok(())
    } else {
        Err(Error::InvalidInput(format!("'{content_type}' is no content type, such as text/plain")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_do_not_count() {
        assert!(alike("Text/Plain; charset=utf-8", "text/plain"));
        assert!(!alike("text/plain", "text/html"));
        assert!(is_json("application/JSON; charset=utf-8") && !is_json("application/ndjson"));
        assert!(is_text("text/csv") && is_text("application/json") && !is_text("application/octet-stream"));
        for good in ["text/plain", "application/vnd.x+json;v=1", "a/b"] {
            check(good).unwrap();
        }
        for bad in ["", "text", "/plain", "text/", "te xt/plain", "text/plain\n", "a/b/c"] {
            check(bad).unwrap_err();
        }
    }
}
