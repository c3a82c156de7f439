//! The command line: what the words mean, and which settings the flags stand for.
//!
//! Owns the names, the help texts and the exit codes' meaning: 0 done, 1 could not, 2 misused, 130 interrupted.
//! Never decides anything about a server: each command calls its layer.
//! A new command is a variant of [`Command`] and a line in `main.rs`.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, ConfigFaults, Flag, Sources};

/// The file that is read when `--config` names none and it exists.
const DEFAULT_FILE: &str = "inboxdb.toml";

const AFTER_HELP: &str = "\
Examples:
  inboxdb                                    start on 127.0.0.1:8080 with the database in ./data
  inboxdb --port 9000 --data /var/lib/inbox  start elsewhere
  inboxdb --set durability.default=buffered  change any setting for this start
  inboxdb config                             show the settings in effect
  inboxdb config --default                   show every setting with what it does
  inboxdb inspect ./data                     show what a data folder holds, and check its files
  inboxdb demo                               watch 100 users and an agent chat, and what is proved of it";

const AFTER_INSPECT: &str = "\
It shows the folder's format and commits, keyspaces, namespaces, storages and tables, with their partitions, hot rows (in
the folder's hot half) and cold rows (in segments, files of a storage). Hot rows are counted by reading them.

A fault is
  a segment that a manifest names and that is missing, has another size or checksum, or rows that are not what was written
  a file of a segment that no manifest names: a flush that was cut off leaves it, and the partition's next one removes it
  a storage that can not be read: its segments are not checked
  a record, a manifest or a hot row that can not be read; commits that were durable and are gone

The folder must not be in use. Nothing in it is changed, but for what opening its storage engine does by itself: it may
replay the journal and compact. Copy the folder first where that matters.

Exit codes: 0 all is sound, 1 there is a fault or the folder can not be opened, 2 misused.

Examples:
  inboxdb inspect /var/lib/inbox                     all of it
  inboxdb inspect /var/lib/inbox --table chat.mail   one table, partition by partition
  inboxdb inspect /var/lib/inbox --no-verify         without reading the segments
  inboxdb inspect /var/lib/inbox --json | jq .faults";

const AFTER_RESTORE: &str = "\
Every file of the backup is checked before anything is changed. What the data folder holds is kept, in a folder
'replaced-<UTC time>' inside it; remove that once it is not needed. Segments of storages that lie elsewhere, in a bucket
or in another folder, are brought there when the server starts.

The folder must not be in use: with a running server, say RESTORE DATABASE FROM 'DIR' in SQL, then restart it.

Exit codes: 0 restored, 1 it could not be, 2 misused.

Example:
  inboxdb restore --from /backups/monday --data /var/lib/inbox";

/// InboxDB: a streaming SQL database in which every user has a mailbox.
///
/// Without a command, it starts a server.
#[derive(Debug, Parser)]
#[command(name = "inboxdb", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub serve: ServeArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a server (what happens without a command, too).
    Serve(ServeArgs),
    /// Show the settings in effect, secrets hidden, and check them.
    Config(ConfigArgs),
    /// Print which role may do what: docs/roles.md.
    Roles,
    /// Play a chat of many users and an agent against a server of its own, kill it on the way, and prove what came of it.
    Demo(DemoArgs),
    /// Show what the data folder of a stopped server holds, and check every file of cold rows.
    #[command(after_help = AFTER_INSPECT)]
    Inspect(InspectArgs),
    /// Bring a backup into the data folder of a stopped server.
    #[command(after_help = AFTER_RESTORE)]
    Restore(RestoreArgs),
}

#[derive(Debug, Clone, Default, Args)]
pub struct ServeArgs {
    #[command(flatten)]
    pub settings: SettingArgs,
    /// Write `{"address":"HOST:PORT"}` to this file once the server answers: for tests and scripts.
    #[arg(long, value_name = "FILE", hide = true)]
    pub ready_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Args)]
pub struct ConfigArgs {
    #[command(flatten)]
    pub settings: SettingArgs,
    /// Show the defaults instead, with a comment for every key: a file to start from.
    #[arg(long)]
    pub default: bool,
}

#[derive(Debug, Clone, Args)]
pub struct DemoArgs {
    /// Conversations to play, one message a line: {"conversation","turn","role","language","content"}
    #[arg(long, value_name = "FILE.ndjson")]
    pub input: Option<PathBuf>,
    /// How many users take part
    #[arg(long, value_name = "N", default_value = "100")]
    pub users: NonZeroUsize,
    /// How many conversations they hold [default: all of the input, at least five each]
    #[arg(long, value_name = "N")]
    pub conversations: Option<NonZeroUsize>,
}

#[derive(Debug, Clone, Args)]
pub struct InspectArgs {
    /// The data folder
    #[arg(value_name = "DIR")]
    pub data: PathBuf,
    /// Only this table, with its partitions
    #[arg(long, value_name = "NAMESPACE.TABLE")]
    pub table: Option<String>,
    /// Look for the segments' files and their sizes, but do not read them
    #[arg(long)]
    pub no_verify: bool,
    /// One JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Args)]
pub struct RestoreArgs {
    /// The backup: the folder that BACKUP DATABASE TO made
    #[arg(long, value_name = "DIR")]
    pub from: PathBuf,
    /// The data folder; it may be empty, or not there yet
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
}

/// Flags that are settings. They win over the environment (INBOXDB_SERVER__PORT), and that over the file.
#[derive(Debug, Clone, Default, Args)]
pub struct SettingArgs {
    /// Read settings from this file [default: ./inboxdb.toml, where there is one]
    #[arg(long, value_name = "FILE", env = "INBOXDB_CONFIG")]
    pub config: Option<PathBuf>,
    /// Address to listen on [default: 127.0.0.1]
    #[arg(long)]
    pub host: Option<String>,
    /// Port to listen on; 0 takes a free one [default: 8080]
    #[arg(long)]
    pub port: Option<String>,
    /// Folder of the database [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data: Option<String>,
    /// error, warn, info, debug, trace, or a filter by module [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// Any setting, as section.key=value; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = parse_setting)]
    pub set: Vec<(String, String)>,
}

impl SettingArgs {
    /// The settings of all layers, put together.
    ///
    /// # Errors
    /// All faults of all layers.
    pub fn load(&self, environment: Vec<(String, String)>) -> Result<Config, ConfigFaults> {
        Config::load(&Sources { file: self.file(), environment, flags: self.flags() })
    }

    /// The file that the settings come from, if any.
    pub fn file(&self) -> Option<PathBuf> {
        let default = || Path::new(DEFAULT_FILE).exists().then(|| PathBuf::from(DEFAULT_FILE));
        self.config.clone().or_else(default)
    }

    fn flags(&self) -> Vec<Flag> {
        let named = [
            ("--host", "server.host", &self.host),
            ("--port", "server.port", &self.port),
            ("--data", "storage.data_path", &self.data),
            ("--log-level", "logging.level", &self.log_level),
        ];
        let set = self.set.iter().map(|(key, value)| Flag { name: "--set", key: key.clone(), value: value.clone() });
        let named = named.into_iter().filter_map(|(name, key, value)| {
            value.as_ref().map(|value| Flag { name, key: key.to_owned(), value: value.clone() })
        });
        set.chain(named).collect()
    }
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err("write section.key=value, like server.port=9000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_the_default_and_flags_are_settings() {
        for line in
            ["inboxdb --port 9000 --set auth.jwt_expiry=1h", "inboxdb serve --port 9000 --set auth.jwt_expiry=1h"]
        {
            let cli = Cli::try_parse_from(line.split(' ')).unwrap();
            let args = match cli.command {
                Some(Command::Serve(args)) => args,
                None => cli.serve,
                Some(other) => panic!("{other:?}"),
            };
            let config = args.settings.load(Vec::new()).unwrap();
            assert_eq!(config.server.port, 9_000);
            assert_eq!(config.auth.jwt_expiry.as_secs(), 3_600);
        }
    }

    #[test]
    fn a_bad_flag_is_named() {
        let cli = Cli::try_parse_from(["inboxdb", "--port", "many"]).unwrap();
        let text = cli.serve.settings.load(Vec::new()).unwrap_err().to_string();
        assert!(text.contains("server.port = many (flag --port): expected a port number"), "{text}");
        assert!(Cli::try_parse_from(["inboxdb", "--set", "port"]).is_err());
    }
}
