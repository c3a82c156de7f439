//! Durable Streams: the rules of the open HTTP protocol for resumable streams, on rows of a STREAM table.
//!
//! Owns offsets, what a stream's record holds, who may create, append and close when, how messages become a body or
//! events, and the cursors of live reads.
//! Never performs I/O, never reads a clock, never knows HTTP's types: the database brings records and the time and carries
//! out what is decided here, the API brings headers as text.
//! Start at [`append::decide`] and [`create::decide`].

pub mod append;
pub mod body;
pub mod content_type;
pub mod create;
pub mod cursor;
pub mod expiry;
pub mod offset;
pub mod record;
