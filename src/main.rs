//! The command line of k8sops: parses, calls, exits. 0: done, 1: it failed, 2: wrong usage.

use std::{io::Write as _, process::ExitCode};

use clap::{Parser, Subcommand};
use k8sops::{
    api, app,
    auth::{NewKey, UserRole},
    cli::{audit, chat, doctor},
    config::{Config, Loaded, Sources},
};
use k8sops_telemetry::logs;

/// A headless Kubernetes-operations agent.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service.
    Serve,
    /// Run the service on a simulated cluster, with rules in place of a language model; needs no key, cluster or network.
    Demo {
        /// The address to listen on, if not that in K8SOPS_HOST.
        #[arg(long)]
        host: Option<String>,
        /// The port, if not that in K8SOPS_PORT; 0 takes a free one and prints it.
        #[arg(long)]
        port: Option<u16>,
    },
    /// Talk to a running service in the terminal.
    Chat(chat::Options),
    /// Try the configuration, the callers' identity, the provider, the MCP servers and the store, and say what to do.
    Doctor(doctor::Options),
    /// Make a key for a user, and its entry for AUTH_API_KEYS_FILE; the key is shown once and kept nowhere.
    Key {
        /// Whose it is.
        #[arg(long)]
        user: String,
        /// What it allows; may be given several times.
        #[arg(long, value_enum, required = true)]
        role: Vec<UserRole>,
        /// What it is called, to tell a user's keys from each other.
        #[arg(long)]
        name: Option<String>,
    },
    /// Print the settings in force and where each comes from; secrets masked.
    Config,
    /// Look through an audit trail.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Print the OpenAPI description of the API.
    Openapi,
    /// Print the AsyncAPI description of the WebSocket.
    Asyncapi,
}

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::anyhow!("the runtime cannot start: {error}")),
    };
    let code = runtime.block_on(execute(command)).unwrap_or_else(|error| failed(&error));
    // A thread that reads the terminal does not come back before the next key; nobody waits for it.
    runtime.shutdown_background();
    code
}

async fn execute(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve => {
            let loaded = load()?;
            for warning in &loaded.warnings {
                eprintln!("k8sops: warning: {warning}");
            }
            let exporter = logs::install_subscriber(&loaded.config.log, Some(&loaded.config.telemetry))?;
            let served = app::serve(loaded).await;
            exporter.shutdown().await;
            served?;
        }
        Command::Demo { host, port } => app::serve_demo(app::DemoOptions { host, port }).await?,
        Command::Chat(options) => chat::run(options).await?,
        Command::Key { user, role, name } => {
            anyhow::ensure!(!user.trim().is_empty(), "--user must not be empty");
            let new = NewKey::generate(user.trim(), &role, name.as_deref())?;
            // To standard error what is for people, so that `>> keys.yaml` takes the entry alone.
            eprintln!("The key, which is not shown again:\n\n{}\n\nIts entry for AUTH_API_KEYS_FILE:\n", new.key);
            print(&new.entry)?;
        }
        Command::Doctor(options) => {
            let loaded = Sources::from_process().and_then(Config::load);
            if !doctor::run(doctor::checks(&loaded, options).await, &mut std::io::stdout()).await? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Config => {
            let loaded = load()?;
            print(&loaded.render())?;
            for warning in &loaded.warnings {
                eprintln!("k8sops: warning: {warning}");
            }
        }
        Command::Audit(command) => {
            if !audit::run(command, &mut std::io::stdout())? {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Openapi => print(api::openapi_json())?,
        Command::Asyncapi => print(&api::asyncapi_yaml())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn load() -> anyhow::Result<Loaded> {
    Ok(Sources::from_process().and_then(Config::load)?)
}

/// Writes a text to standard output; that nobody reads on (`| head`) is no fault.
fn print(text: &str) -> anyhow::Result<()> {
    let written = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

fn failed(error: &anyhow::Error) -> ExitCode {
    // A configuration says each of its faults in a line of its own.
    for line in format!("{error:#}").lines() {
        eprintln!("k8sops: {line}");
    }
    ExitCode::FAILURE
}
