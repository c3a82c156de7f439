//! A TCP proxy that misbehaves: it delivers in small pieces and late, cuts, and swallows, after a chosen number of bytes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::random::Random;

/// What is done to one direction of a connection.
#[derive(Debug, Clone, Copy)]
pub enum Fault {
    None,
    /// A few bytes at a time, the first of them late.
    Trickle(u64),
    /// Both directions end behind so many bytes.
    Cut(usize),
    /// What comes behind so many bytes is swallowed; the connection stays.
    Hole(usize),
}

/// Of the next connections: from the server to the client, and back.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    pub down: Fault,
    pub up: Fault,
}

impl Plan {
    pub fn any(random: &mut Random) -> Self {
        let fault = |random: &mut Random, most: u64| match random.within(0..5) {
            0 | 1 => Fault::None,
            2 => Fault::Trickle(random.next()),
            3 => Fault::Cut(usize::try_from(random.within(0..most)).unwrap()),
            _ => Fault::Hole(usize::try_from(random.within(0..most)).unwrap()),
        };
        Self { down: fault(random, 6_000), up: fault(random, 1_500) }
    }
}

pub struct Proxy {
    pub address: SocketAddr,
    server: Arc<Mutex<SocketAddr>>,
    plan: Arc<Mutex<Plan>>,
}

impl Proxy {
    /// Its threads end with the process, or with their connections.
    pub fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(Mutex::new(Plan { down: Fault::None, up: Fault::None }));
        let current = plan.clone();
        let server = Arc::new(Mutex::new(server));
        let place = server.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let server = *place.lock().unwrap();
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(server)) else { continue };
                let Plan { down, up } = *current.lock().unwrap();
                for (from, to, fault) in [(&server, &client, down), (&client, &server, up)] {
                    // Either may be gone already.
                    let _ = to.set_nodelay(true);
                    let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || pass(from, to, fault));
                }
            }
        });
        Self { address, server, plan }
    }

    /// Where the next connections lead to.
    pub fn lead_to(&self, server: SocketAddr) {
        *self.server.lock().unwrap() = server;
    }

    pub fn set(&self, plan: Plan) {
        *self.plan.lock().unwrap() = plan;
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, fault: Fault) {
    let mut passed = 0;
    let mut bytes = [0; 4_096];
    while let Ok(count @ 1..) = from.read(&mut bytes) {
        let room = match fault {
            Fault::Cut(most) | Fault::Hole(most) => most.saturating_sub(passed).min(count),
            Fault::None | Fault::Trickle(_) => count,
        };
        let written = match fault {
            Fault::Trickle(seed) => trickle(&mut to, &bytes[..room], seed ^ passed as u64),
            _ => to.write_all(&bytes[..room]),
        };
        passed += count;
        if written.is_err() || room < count && matches!(fault, Fault::Cut(_)) {
            break;
        }
    }
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn trickle(to: &mut TcpStream, bytes: &[u8], seed: u64) -> std::io::Result<()> {
    let mut random = Random::new(seed);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (piece, behind) = rest.split_at(usize::try_from(random.within(1..60)).unwrap().min(rest.len()));
        to.write_all(piece)?;
        // The delay is what is tested; nothing is waited for with it.
        if random.one_in(8) {
            std::thread::sleep(Duration::from_millis(1));
        }
        rest = behind;
    }
    Ok(())
}
