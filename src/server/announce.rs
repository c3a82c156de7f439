//! What a server says when it is up: to people on stdout, to programs in the ready file.

use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The facts of a start.
pub(super) struct Announcement<'a> {
    pub(super) addresses: &'a [SocketAddr],
    pub(super) scheme: &'static str,
    pub(super) data_folder: &'a Path,
    pub(super) config_file: Option<PathBuf>,
    pub(super) durability: &'a str,
    pub(super) needs_setup: bool,
}

impl Announcement<'_> {
    /// Nobody may be reading; that is no reason to stop.
    pub(super) fn print(&self) {
        let _ = io::stdout().lock().write_all(self.text().as_bytes());
    }

    fn text(&self) -> String {
        let urls: Vec<String> = self.addresses.iter().map(|address| format!("{}://{address}", self.scheme)).collect();
        let settings = match &self.config_file {
            Some(file) => format!("{} (`inboxdb config` shows all)", file.display()),
            None => "defaults (`inboxdb config` shows all)".to_owned(),
        };
        let mut text = format!(
            "InboxDB {} is ready\n  listening on  {}\n  data folder   {}\n  settings      {settings}\n  durability    {}\n",
            env!("CARGO_PKG_VERSION"),
            urls.join(", "),
            self.data_folder.display(),
            self.durability,
        );
        if let (true, Some(address)) = (self.needs_setup, self.addresses.first()) {
            text += &setup_text(self.scheme, *address);
        }
        text += "\nStop it with Ctrl+C.\n";
        text
    }
}

/// A command that works as it stands: nobody is sent away to think of passwords first.
fn setup_text(scheme: &str, address: SocketAddr) -> String {
    let mut reachable = address;
    if address.ip().is_unspecified() {
        reachable.set_ip([127, 0, 0, 1].into());
    }
    format!(
        "\nThis database has no users yet. Make the administrator (change the passwords if you like):\n\n  \
         curl -s {scheme}://{reachable}/v1/api/auth/setup -H 'Content-Type: application/json' \\\n    \
         -d '{{\"user\":\"admin\",\"password\":\"{}\",\"root_password\":\"{}\"}}'\n",
        random_password(),
        random_password(),
    )
}

fn random_password() -> String {
    let mut bytes = [0; 12];
    match getrandom::fill(&mut bytes) {
        Ok(()) => URL_SAFE_NO_PAD.encode(bytes),
        Err(_) => "choose-a-password".to_owned(),
    }
}

/// Written beside and renamed: whoever sees the file sees all of it.
pub(super) fn write_ready_file(path: &Path, address: SocketAddr) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".tmp");
    std::fs::write(&beside, format!("{{\"address\":\"{address}\"}}\n"))?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_where_it_is_and_what_to_do_first() {
        let announcement = Announcement {
            scheme: "http",
            addresses: &["0.0.0.0:8080".parse().unwrap()],
            data_folder: Path::new("/var/lib/inbox"),
            config_file: None,
            durability: "sync",
            needs_setup: true,
        };
        let text = announcement.text();
        for expected in ["http://0.0.0.0:8080", "/var/lib/inbox", "curl -s http://127.0.0.1:8080/v1/api/auth/setup"] {
            assert!(text.contains(expected), "{text}");
        }
        assert!(!Announcement { needs_setup: false, ..announcement }.text().contains("curl"));
    }

    #[test]
    fn the_ready_file_is_json() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ready.json");
        write_ready_file(&path, "127.0.0.1:4711".parse().unwrap()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(value["address"], "127.0.0.1:4711");
    }
}
