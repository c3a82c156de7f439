//! The `inboxdb` program: words to command, command to its layer, outcome to exit code.

use std::process::ExitCode;

use clap::Parser as _;
use inboxdb::cli::{Cli, Command, ConfigArgs};
use inboxdb::config::keys;

/// Gives memory back after a million short-lived actors and batches, where glibc's keeps it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    #[expect(clippy::disallowed_methods, reason = "handed to the configuration as one of its sources")]
    let environment = std::env::vars().collect();
    let outcome = match cli.command {
        None => serve(&cli.serve, environment),
        Some(Command::Serve(args)) => serve(&args, environment),
        Some(Command::Config(args)) => show_config(&args, environment),
        Some(Command::Demo(args)) => inboxdb::demo::run(&args).map_err(Into::into),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("inboxdb: {problem}");
            ExitCode::FAILURE
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
