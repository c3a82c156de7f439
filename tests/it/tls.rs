//! TLS: a real handshake with the certificate that was configured, another one after SIGHUP, and no way in without.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::process::Signal;
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, Stream};

use crate::server::{Server, eventually};

/// Puts a new certificate for `localhost` and its key into the folder.
fn make_certificate(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("cert.pem"), made.cert.pem()).unwrap();
    std::fs::write(folder.join("key.pem"), made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

/// GET of a path by someone who trusts this certificate only. `None`: no handshake came about.
fn get(server: &Server, trusted: &CertificateDer<'static>, path: &str) -> Option<String> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(server.address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut stream = Stream::new(&mut session, &mut socket);
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    // A peer that closes without a TLS goodbye has still answered.
    let _ = stream.read_to_end(&mut answer);
    Some(String::from_utf8_lossy(&answer).into_owned())
}

#[test]
fn a_server_with_a_certificate_speaks_tls_and_takes_a_new_one_at_hangup() {
    let folder = tempfile::tempdir().unwrap();
    let first = make_certificate(folder.path());
    let certificate = format!("tls.certificate_file={}", folder.path().join("cert.pem").display());
    let key = format!("tls.key_file={}", folder.path().join("key.pem").display());
    let server = Server::start(&[&certificate, &key]);
    let answer = get(&server, &first, "/health").expect("a handshake");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("strict-transport-security"), "{answer}");
    assert!(server.log().contains("https://"), "{}", server.log());

    // Clear text gets no answer.
    let mut plain = TcpStream::connect(server.address).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    plain.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));

    let second = make_certificate(folder.path());
    assert!(get(&server, &second, "/health").is_none(), "not before it is told");
    server.signal(Signal::HUP);
    eventually("the new certificate is in use", || get(&server, &second, "/health"));
    assert!(get(&server, &first, "/health").is_none());

    // A pair that can not be used changes nothing.
    std::fs::write(folder.path().join("key.pem"), "no key").unwrap();
    server.signal(Signal::HUP);
    eventually("the fault is told", || server.log().contains("stays as it was").then_some(()));
    assert!(get(&server, &second, "/health").is_some());
}

#[test]
fn files_that_can_not_be_used_are_named_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    make_certificate(folder.path());
    let path = |name: &str| folder.path().join(name).display().to_string();
    let start = |certificate: &str, key: &str| {
        let settings = [format!("tls.certificate_file={certificate}"), format!("tls.key_file={key}")];
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        Server::try_start_over(&folder.path().join("data"), &settings).err().expect("it started")
    };
    assert!(start(&path("absent.pem"), &path("key.pem")).contains("absent.pem"));
    let told = start(&path("cert.pem"), &path("cert.pem"));
    assert!(told.contains("tls.key_file"), "{told}");
    assert!(start(&path("cert.pem"), "").contains("set together"));
    let other = tempfile::tempdir().unwrap();
    make_certificate(other.path());
    let told = start(&path("cert.pem"), &other.path().join("key.pem").display().to_string());
    assert!(told.contains("do not go together"), "{told}");
    assert!(!told.contains("PRIVATE"), "{told}");
}

#[test]
fn clear_text_servers_do_not_mind_a_hangup() {
    let server = Server::start(&[]);
    server.signal(Signal::HUP);
    assert_eq!(server.client().get("/health").status, 200);
}
