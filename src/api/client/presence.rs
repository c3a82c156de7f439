//! Is the client of a request that waits still there?
//!
//! Owns the look at the connection's socket. A client that has closed its end is taken for gone: actix goes on with its
//! request, since it may only have closed its sending half, and whoever waits a minute would wait for nobody.
//! HTTP/2 has no such look: several requests share a connection, and theirs end at their own time limit.

use std::os::fd::{BorrowedFd, RawFd};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::Version;
use actix_web::rt::time;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// How long a client can be gone before that is noticed.
const LOOK: Duration = Duration::from_millis(250);

/// The socket of a connection, for as long as the connection lives.
#[derive(Debug, Clone, Copy)]
pub(super) struct ConnectionSocket(pub RawFd);

/// Returns when the client has closed its end.
///
/// Only a part of the connection may wait for it: the request's future, or its answer's body.
pub(crate) fn gone(request: &HttpRequest) -> impl Future<Output = ()> + use<> {
    let socket = request.conn_data::<ConnectionSocket>().copied();
    let socket = socket.filter(|_| request.version() <= Version::HTTP_11);
    async move {
        let Some(socket) = socket else { return std::future::pending().await };
        loop {
            // Most are answered before the first look.
            time::sleep(LOOK).await;
            if is_closed(socket) {
                return;
            }
        }
    }
}

#[expect(unsafe_code, reason = "actix lends its connections' sockets to nobody")]
fn is_closed(ConnectionSocket(socket): ConnectionSocket) -> bool {
    // SAFETY: an HTTP/1 request's future and its answer's body are parts of its connection's, which owns the socket: while this
    // runs, the socket is open and the connection's.
    let socket = unsafe { BorrowedFd::borrow_raw(socket) };
    let mut next = [0_u8];
    match recv(socket, &mut next, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, read)) => read == 0,
        // Nothing has come, which is what one expects of somebody who waits.
        Err(fault) => fault != Errno::WOULDBLOCK && fault != Errno::INTR,
    }
}
