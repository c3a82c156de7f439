//! What the operating system is told about each accepted connection: for how long a peer may be gone.
//!
//! A peer that takes nothing keeps what was written for it in the kernel, and one that vanished without a word looks idle:
//! without a limit of ours TCP holds both for a quarter of an hour or for ever.

use std::any::Any;
use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::sockopt;
use tracing::debug;

use crate::api::client;

/// The least that the system can tell apart.
const LEAST_PROBE: Duration = Duration::from_secs(1);

/// For `HttpServer::on_connect`: has `connection` given up once its peer has taken nothing, or has not answered a probe,
/// for `timeout`.
pub(super) fn give_up_after(timeout: Duration, connection: &dyn Any) {
    if let Some(stream) = client::tcp_of(connection)
        && let Err(error) = set(stream, timeout)
    {
        // It has closed already.
        debug!(%error, "options of a connection were not set");
    }
}

fn set(socket: impl AsFd, timeout: Duration) -> io::Result<()> {
    // What was sent and is not acknowledged, or can not be sent because the peer does not read.
    sockopt::set_tcp_user_timeout(&socket, u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX))?;
    // Where nothing is to be sent, probes find out. The limit above holds for them as well.
    sockopt::set_socket_keepalive(&socket, true)?;
    sockopt::set_tcp_keepidle(&socket, (timeout / 2).max(LEAST_PROBE))?;
    sockopt::set_tcp_keepintvl(&socket, (timeout / 4).max(LEAST_PROBE))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as Client};

    use actix_web::rt::net::TcpStream;

    use super::*;

    #[actix::test]
    async fn an_accepted_connection_has_its_limits() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let _client = Client::connect(listener.local_addr().unwrap()).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let accepted = TcpStream::from_std(accepted).unwrap();
        assert!(!sockopt::socket_keepalive(&accepted).unwrap(), "not by itself");

        give_up_after(Duration::from_secs(8), &accepted);
        assert!(sockopt::socket_keepalive(&accepted).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&accepted).unwrap(), Duration::from_secs(4));
        assert_eq!(sockopt::tcp_keepintvl(&accepted).unwrap(), Duration::from_secs(2));
        assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 8_000);

        give_up_after(Duration::from_millis(10), &accepted);
        assert_eq!(sockopt::tcp_keepidle(&accepted).unwrap(), LEAST_PROBE);
    }

    /// The options are asked of the kernel; that it keeps them, the client sees: its connection is gone.
    #[test]
    fn a_peer_that_does_not_read_is_given_up() {
        use std::io::{Read as _, Write as _};

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::connect(listener.local_addr().unwrap()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        set(&accepted, Duration::from_millis(500)).unwrap();
        // More than both sockets' buffers hold: the write waits for the client, which never reads.
        let error = accepted.write_all(&vec![0; 64 << 20]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(client);
        assert!(accepted.read(&mut [0]).is_ok_and(|read| read == 0), "over for good");
    }
}
