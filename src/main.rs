//! The `inboxdb` program: words to command, command to its layer, outcome to exit code.

use std::process::ExitCode;

use clap::Parser as _;
use inboxdb::auth::policy::rights;
use inboxdb::cli::{Cli, Command, ConfigArgs};
use inboxdb::config::keys;
use inboxdb::demo::{self, DemoError};
use inboxdb::failpoint;
use inboxdb::{inspect, restore};

/// As a shell says it of a program that SIGINT ended: 128 + 2.
const INTERRUPTED: u8 = 130;

/// Gives memory back after a million short-lived actors and batches, where glibc's keeps it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    #[expect(clippy::disallowed_methods, reason = "handed to the configuration as one of its sources")]
    let environment: Environment = std::env::vars().collect();
    if let Some((_, words)) = environment.iter().find(|(name, _)| name == "FAILPOINT") {
        failpoint::arm(words);
    }
    let outcome = match cli.command {
        None => serve(&cli.serve, environment),
        Some(Command::Serve(args)) => serve(&args, environment),
        Some(Command::Config(args)) => show_config(&args, environment),
        Some(Command::Roles) => {
            print!("{}", rights::page());
            Ok(())
        }
        Some(Command::Demo(args)) => demo::run(&args).map_err(Into::into),
        Some(Command::Restore(args)) => restore::run(&args).map_err(Into::into),
        Some(Command::Inspect(args)) => inspect::run(&args).map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("inboxdb: {problem}");
            match problem.downcast_ref() {
                Some(DemoError::Interrupted) => ExitCode::from(INTERRUPTED),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

type Environment = Vec<(String, String)>;
type Outcome = Result<(), Box<dyn std::error::Error>>;

fn serve(args: &inboxdb::cli::ServeArgs, environment: Environment) -> Outcome {
    let config = args.settings.load(environment)?;
    Ok(inboxdb::server::run(config, args)?)
}

fn show_config(args: &ConfigArgs, environment: Environment) -> Outcome {
    if args.default {
        print!("{}", keys::default_file());
    } else {
        print!("{}", keys::effective(&args.settings.load(environment)?));
    }
    Ok(())
}
