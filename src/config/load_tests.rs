//! Layers and faults, as a user meets them.

use std::io::Write as _;
use std::time::Duration;

use bytesize::ByteSize;

use super::*;
use crate::model::Durability;

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, ConfigFaults> {
    let mut on_disk = tempfile::NamedTempFile::new().unwrap();
    on_disk.write_all(file.as_bytes()).unwrap();
    Config::load(&Sources {
        file: Some(on_disk.path().to_owned()),
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        flags: flags
            .iter()
            .map(|(key, value)| Flag { name: "--set", key: (*key).to_owned(), value: (*value).to_owned() })
            .collect(),
    })
}

#[test]
fn nothing_given_is_the_defaults() {
    assert_eq!(Config::load(&Sources::default()).unwrap(), Config::default());
}

#[test]
fn the_last_layer_wins() {
    let file = "[server]\nport = 1\nworkers = 3\nbacklog = 9\n";
    let environment = [("INBOXDB_SERVER__PORT", "2"), ("INBOXDB_SERVER__WORKERS", "4"), ("PATH", "/bin")];
    let config = load(file, &environment, &[("server.port", "5")]).unwrap();
    assert_eq!((config.server.port, config.server.workers, config.server.backlog), (5, 4, 9));
}

#[test]
fn text_becomes_what_the_key_needs() {
    let config = load(
        "",
        &[
            ("INBOXDB_AUTH__JWT_SECRET", "0123456789012345678901234567890123456789"),
            ("INBOXDB_SECURITY__CORS__ALLOWED_ORIGINS", "https://a.example, https://b.example"),
            ("INBOXDB_SECURITY__TRUSTED_PROXY_RANGES", "[\"10.0.0.0/8\"]"),
            ("INBOXDB_DURABILITY__DEFAULT", "buffered"),
        ],
        &[("server.enable_http2", "false"), ("server.keep_alive", "2m"), ("storage.cache_size", "1 GiB")],
    )
    .unwrap();
    assert_eq!(config.auth.jwt_secret.unwrap().expose(), "0123456789012345678901234567890123456789");
    assert_eq!(config.security.cors.allowed_origins, ["https://a.example", "https://b.example"]);
    assert_eq!(config.security.trusted_proxy_ranges, ["10.0.0.0/8".parse().unwrap()]);
    assert_eq!(config.durability.default, Durability::Buffered);
    assert!(!config.server.enable_http2);
    assert_eq!(config.server.keep_alive, Duration::from_secs(120));
    assert_eq!(config.storage.cache_size, ByteSize::gib(1));
}

#[test]
fn all_faults_are_told_at_once() {
    let file = "\
[server]
port = \"http\"
prot = 80

[durability]
default = \"never\"

[nonsense]
a = 1

[websocket]
heartbeat_interval = \"1m\"
";
    let environment = [("INBOXDB_LIMITS__MAX_RESULT_BYTES", "lots"), ("INBOXDB_SERVER_PORT", "1")];
    let flags = [("storage.node_id", "5000"), ("log.level", "debug")];
    let text = load(file, &environment, &flags).unwrap_err().to_string();
    for expected in [
        "has 9 faults",
        "server.port = \"http\" (",
        ":2): expected a port number, 0 to 65535",
        "server.prot (",
        ":3): there is no such key; did you mean server.port?",
        "durability.default = \"never\"",
        "expected \"sync\" or \"buffered\"",
        "nonsense (",
        "there is no such key; `inboxdb config --default` lists them all",
        "limits.max_result_bytes = lots (environment variable INBOXDB_LIMITS__MAX_RESULT_BYTES): expected a size",
        "INBOXDB_SERVER_PORT (environment): two underscores stand between section and key: INBOXDB_SERVER__PORT",
        "storage.node_id = 5000 (flag --set): expected 0 to 1023",
        "log.level (flag --set): there is no such key; did you mean logging.level?",
        "websocket.heartbeat_interval = \"1m\" (",
        "must be shorter than websocket.client_timeout",
    ] {
        assert!(text.contains(expected), "{text}\nshould say {expected}");
    }
}

#[test]
fn a_file_that_is_no_toml_is_told_with_its_line() {
    let text = load("[server]\nport = \n", &[], &[]).unwrap_err().to_string();
    assert!(text.contains(":2)"), "{text}");
}

#[test]
fn a_section_needs_its_brackets() {
    let text = load("server = 3\n", &[], &[]).unwrap_err().to_string();
    assert!(text.contains("server (") && text.contains("is a section; write [server]"), "{text}");
}

#[test]
fn a_secret_is_not_in_the_message() {
    let text = load("[auth]\njwt_secret = 1234567\njwt_secrets = \"hunter2\"\n", &[], &[]).unwrap_err().to_string();
    assert!(text.contains("auth.jwt_secret = ***") && !text.contains("1234567") && !text.contains("hunter2"), "{text}");
}

#[test]
fn a_missing_file_is_told() {
    let sources = Sources { file: Some(PathBuf::from("/does/not/exist.toml")), ..Sources::default() };
    assert!(Config::load(&sources).unwrap_err().to_string().contains("/does/not/exist.toml"));
}

#[test]
fn the_settings_for_developers_are_good() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/dev.toml");
    let config = Config::load(&Sources { file: Some(path), ..Sources::default() }).unwrap();
    assert_eq!(config.auth.argon2.memory, ByteSize::kib(256));
}
