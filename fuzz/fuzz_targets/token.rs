//! Tokens: none of a fuzzer's making is taken.

#![no_main]

use libfuzzer_sys::fuzz_target;

use std::sync::LazyLock;

use inboxdb::fuzz::Tokens;

static TOKENS: LazyLock<Tokens> = LazyLock::new(|| Tokens::new().expect("random bytes"));

fuzz_target!(|token: &str| assert!(!TOKENS.takes(token)));
