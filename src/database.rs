//! `Database`: the middle boundary. HTTP, WebSocket, the command line and most tests go through its verbs.

pub mod request;
