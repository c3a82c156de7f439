//! Stored rows.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    inboxdb::fuzz::stored_row(bytes).expect("its own table is one");
});
