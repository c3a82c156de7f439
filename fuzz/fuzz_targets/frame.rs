//! Messages of clients on a socket.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| inboxdb::fuzz::frame(bytes));
