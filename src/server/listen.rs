//! The sockets a server listens on.

use std::io;
use std::net::{SocketAddr, TcpListener};

use actix_web::rt::net::TcpSocket;

use super::StartError;
use crate::config::ServerConfig;

/// The addresses that the host's name stands for.
///
/// # Errors
/// It stands for none.
pub(super) async fn resolve(config: &ServerConfig) -> Result<Vec<SocketAddr>, StartError> {
    let host = config.host.trim().trim_start_matches('[').trim_end_matches(']');
    let unknown = |source| StartError::UnknownHost { host: host.to_owned(), source };
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host((host, config.port)).await.map_err(unknown)?.collect();
    if addresses.is_empty() { Err(unknown(io::ErrorKind::NotFound.into())) } else { Ok(addresses) }
}

/// Binds every address (`localhost` has two). Connections wait in the backlog until the server runs.
///
/// # Errors
/// None can be bound: the first one's fault.
pub(super) fn bind(addresses: &[SocketAddr], backlog: u32) -> Result<Vec<TcpListener>, StartError> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut first_fault = None;
    for address in addresses {
        let mut address = *address;
        // With port 0 all addresses of a name share the port that the first one got.
        if let (0, Some(Ok(bound))) = (address.port(), listeners.first().map(TcpListener::local_addr)) {
            address.set_port(bound.port());
        }
        match bind_one(address, backlog) {
            Ok(listener) => listeners.push(listener),
            Err(source) => {
                first_fault.get_or_insert(StartError::Bind { address, source });
            }
        }
    }
    match first_fault {
        Some(fault) if listeners.is_empty() => Err(fault),
        _ => Ok(listeners),
    }
}

fn bind_one(address: SocketAddr, backlog: u32) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(backlog)?.into_std()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[actix::test]
    async fn a_port_in_use_is_told_and_port_0_is_free() {
        let config = ServerConfig { port: 0, ..ServerConfig::default() };
        let first = bind(&resolve(&config).await.unwrap(), 16).unwrap();
        let taken = first[0].local_addr().unwrap();
        assert_ne!(taken.port(), 0);
        let text = bind(&[taken], 16).unwrap_err().to_string();
        assert!(text.contains(&taken.to_string()) && text.contains("--port"), "{text}");
    }

    #[actix::test]
    async fn a_host_without_addresses_is_told() {
        let config = ServerConfig { host: "not a host".to_owned(), ..ServerConfig::default() };
        assert!(resolve(&config).await.unwrap_err().to_string().contains("not a host"));
    }
}
