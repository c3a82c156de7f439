//! Bodies of /v1/api/sql.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| inboxdb::fuzz::body(bytes));
