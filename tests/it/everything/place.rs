//! Where the server is at the moment, if anywhere, and who may speak to it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rustix::process::Signal;

use crate::http::Client;
use crate::proxy::{Fault, Plan, Proxy};
use crate::server::{Server, eventually};

const SETTINGS: &[&str] = &[
    "flush.check_interval=1h",
    "jobs.retry_backoff=1ms",
    "websocket.client_timeout=2s",
    "websocket.heartbeat_interval=500ms",
    "topics.visibility_timeout=100ms",
    "streams.long_poll_timeout=100ms",
];

pub struct Place {
    data: PathBuf,
    server: Mutex<Option<Server>>,
    address: Mutex<Option<SocketAddr>>,
    pub proxy: Proxy,
    /// Tokens outlive the server: its secret is in the data folder.
    pub tokens: BTreeMap<&'static str, String>,
    stop: AtomicBool,
    acknowledged: AtomicU64,
}

impl Place {
    pub fn new(data: PathBuf, set_up: impl FnOnce(&Server) -> BTreeMap<&'static str, String>) -> Self {
        let server = Server::start_over(&data, SETTINGS);
        let (address, tokens) = (server.address, set_up(&server));
        Self {
            data,
            server: Mutex::new(Some(server)),
            address: Mutex::new(Some(address)),
            proxy: Proxy::before(address),
            tokens,
            stop: AtomicBool::new(false),
            acknowledged: AtomicU64::new(0),
        }
    }

    /// Waits for a server.
    pub fn address(&self) -> SocketAddr {
        eventually("there is a server", || *self.address.lock().unwrap())
    }

    pub fn client(&self, user: &str) -> Client {
        Client::bearer(self.address(), &self.tokens[user])
    }

    /// Ends the server, by SIGKILL or in good order, and starts the next one.
    pub fn restart(&self, gently: bool) {
        let mut server = self.server.lock().unwrap();
        *self.address.lock().unwrap() = None;
        let mut old = server.take().unwrap();
        if gently {
            old.signal(Signal::TERM);
            old.ended();
        } else {
            old.kill();
        }
        let new = Server::start_over(&self.data, SETTINGS);
        self.proxy.lead_to(new.address);
        *self.address.lock().unwrap() = Some(new.address);
        *server = Some(new);
    }

    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub fn acknowledge(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    /// When it is dropped, also by a panic, everyone stops.
    pub fn until_dropped(&self) -> Stop<'_> {
        Stop(self)
    }
}

pub struct Stop<'a>(&'a Place);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.proxy.set(Plan { down: Fault::None, up: Fault::None });
        self.0.stop.store(true, Ordering::Relaxed);
    }
}
