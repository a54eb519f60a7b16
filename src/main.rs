//! The command line of k8sops: parses the arguments, runs the command, exits.
//!
//! Exit codes: 0 for success, 1 for failure, 2 for wrong usage. `ask` has more.

use std::{
    ffi::OsString,
    io::{ErrorKind, Write as _},
    path::PathBuf,
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use k8sops::{
    api, app,
    auth::{NewKey, UserRole},
    cli::{ApiClientError, approvals, ask, audit, chat, crash_tour, doctor, mcp_stdio, prompt},
    config::{GeneratedDocument, LoadedConfig},
};
use k8sops_mcp::{LAUNCHER_COMMAND, run_mcp_server, use_server_launcher};
use k8sops_telemetry::logs;

/// glibc keeps the memory of closed connections for the process; mimalloc returns it, see `app::process_memory`.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A headless Kubernetes operations agent.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct CliArguments {
    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Run the service.
    Serve,
    /// Run the service with a simulated cluster and rules instead of a language model; needs no API key, cluster or network.
    Demo {
        /// Address to listen on; overrides K8SOPS_HOST.
        #[arg(long)]
        host: Option<String>,
        /// Port to listen on; overrides K8SOPS_PORT. With 0, a free port is chosen and printed.
        #[arg(long)]
        port: Option<u16>,
        /// Folder that keeps the sessions; without it they are in memory.
        #[arg(long, value_name = "PATH")]
        data: Option<PathBuf>,
        /// Show what a crash costs: starts the demo, kills it with SIGKILL in the middle of a run, starts it again, and ends.
        #[arg(long, conflicts_with_all = ["host", "port", "data"])]
        crash: bool,
    },
    /// Ask one question and print the answer. Exits with 0 if it was answered, 1 if the run failed, 2 for wrong usage, 3 if a call
    /// waits for an approval, 4 at a limit.
    Ask(ask::AskOptions),
    /// See what waits for your decision, over all sessions, and decide it.
    Approvals(approvals::ApprovalsOptions),
    /// Chat in the terminal with a service, or with one that is started for it.
    Chat(chat::ChatOptions),
    /// Serve a program that starts its MCP servers, such as a desktop host: the tools `ask` and `get_session` over standard input and
    /// output.
    Mcp(mcp_stdio::McpOptions),
    /// Check the configuration, authentication, model providers, MCP servers and the store, and say what to do.
    Doctor(doctor::DoctorOptions),
    /// Print what the model of a new session is sent before the first message, with the tokens of each part.
    Prompt(prompt::PromptOptions),
    /// Create an API key for a user, and its entry for AUTH_API_KEYS_FILE; the key is shown once and not stored.
    Key {
        /// User of the key.
        #[arg(long)]
        user: String,
        /// Role of the key; may be given several times.
        #[arg(long, value_enum, required = true)]
        role: Vec<UserRole>,
        /// Name of the key, to distinguish the keys of a user.
        #[arg(long)]
        name: Option<String>,
    },
    /// Print the settings in effect and where each comes from, secrets masked; or a document about all settings.
    Config(DocumentChoice),
    /// Inspect an audit trail.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Print the OpenAPI description of the API.
    Openapi,
    /// Print the AsyncAPI description of the WebSocket.
    Asyncapi,
    /// Run an MCP server, and end it when the process that started this one dies.
    #[command(name = LAUNCHER_COMMAND, hide = true)]
    RunMcpServer {
        /// Process that started this one.
        parent: u32,
        /// Program of the server, and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// The document that `config` prints instead of the settings in effect.
#[derive(Debug, clap::Args)]
#[group(multiple = false)]
#[allow(clippy::struct_excessive_bools, reason = "flags of the command line")]
struct DocumentChoice {
    /// Print the reference of all settings (Markdown).
    #[arg(long)]
    reference: bool,
    /// Print a `.env` file with all variables.
    #[arg(long)]
    env_example: bool,
    /// Print a YAML file with all settings and their defaults.
    #[arg(long)]
    yaml: bool,
    /// Print the JSON schema of the YAML file.
    #[arg(long)]
    schema: bool,
}

impl DocumentChoice {
    fn document(&self) -> Option<GeneratedDocument> {
        let choices = [
            (self.reference, GeneratedDocument::Reference),
            (self.env_example, GeneratedDocument::EnvExample),
            (self.yaml, GeneratedDocument::YamlDefaults),
            (self.schema, GeneratedDocument::JsonSchema),
        ];
        choices.into_iter().find(|(is_chosen, _)| *is_chosen).map(|(_, document)| document)
    }
}

fn main() -> ExitCode {
    let CliArguments { command } = CliArguments::parse();
    // Before the runtime starts its threads.
    if let CliCommand::RunMcpServer { parent, command } = &command {
        app::choose_page_size(app::PageSize::SystemDefault);
        return run_mcp_server(*parent, command).into();
    }
    if matches!(command, CliCommand::Serve | CliCommand::Demo { .. }) {
        app::choose_page_size(app::PageSize::Small);
    }
    use_server_launcher();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report_failure(&anyhow::Error::new(error).context("the async runtime cannot start")),
    };
    let code = runtime.block_on(run_command(command)).unwrap_or_else(|error| report_failure(&error));
    // A thread that reads the terminal is blocked until the next key press, so the exit does not wait for it.
    runtime.shutdown_background();
    code
}

async fn run_command(command: CliCommand) -> anyhow::Result<ExitCode> {
    match command {
        CliCommand::Serve => {
            let loaded = load_config()?;
            print_warnings(&loaded);
            let exporter = logs::install_subscriber(&loaded.config.log, Some(&loaded.config.telemetry))?;
            let served = app::serve(loaded).await;
            exporter.shutdown().await;
            served?;
        }
        CliCommand::Demo { crash: true, .. } => return crash_tour::run().await,
        CliCommand::Demo { host, port, data, .. } => app::serve_demo(app::DemoOptions { host, port, data }).await?,
        CliCommand::Ask(options) => return ask::run(options).await,
        CliCommand::Approvals(options) => return approvals::run(options).await,
        CliCommand::Chat(options) => chat::run(options).await?,
        CliCommand::Mcp(options) => mcp_stdio::run(options).await?,
        CliCommand::Key { user, role, name } => {
            anyhow::ensure!(!user.trim().is_empty(), "--user must not be empty");
            let new = NewKey::generate(user.trim(), &role, name.as_deref())?;
            // The text for people goes to standard error, so that `>> keys.yaml` receives the entry alone.
            eprintln!("The key, which is not shown again:\n\n{}\n\nIts entry for AUTH_API_KEYS_FILE:\n", new.key);
            print_output(&new.entry)?;
        }
        CliCommand::Doctor(options) => {
            let loaded = LoadedConfig::load_from_process();
            let checks = doctor::build_checks(&loaded, options).await;
            return Ok(doctor::run_checks(checks, &mut std::io::stdout()).await?.into());
        }
        CliCommand::Prompt(options) => {
            let loaded = load_config()?;
            print_warnings(&loaded);
            let mut text = Vec::new();
            prompt::run(&loaded.config, options, &mut text).await?;
            print_output(&String::from_utf8_lossy(&text))?;
        }
        CliCommand::Config(choice) => {
            if let Some(document) = choice.document() {
                print_output(&document.render())?;
            } else {
                let loaded = load_config()?;
                print_output(&loaded.render())?;
                print_warnings(&loaded);
            }
        }
        CliCommand::Audit(command) => return Ok(audit::run(command, &mut std::io::stdout())?.into()),
        CliCommand::Openapi => print_output(api::openapi_json())?,
        CliCommand::Asyncapi => print_output(&api::asyncapi_yaml())?,
        CliCommand::RunMcpServer { parent, command } => return Ok(run_mcp_server(parent, &command).into()),
    }
    Ok(ExitCode::SUCCESS)
}

fn load_config() -> anyhow::Result<LoadedConfig> {
    Ok(LoadedConfig::load_from_process()?)
}

fn print_warnings(loaded: &LoadedConfig) {
    for warning in &loaded.warnings {
        eprintln!("k8sops: warning: {warning}");
    }
}

/// Writes a text to standard output. A closed pipe (`| head`) is not an error.
fn print_output(text: &str) -> anyhow::Result<()> {
    let written = std::io::stdout().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush());
    match written {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        other => other.context("standard output cannot be written"),
    }
}

fn report_failure(error: &anyhow::Error) -> ExitCode {
    let text = match error.downcast_ref::<ApiClientError>() {
        // It names the root cause of a failed request itself.
        Some(error) => error.to_string(),
        None => format!("{error:#}"),
    };
    // A configuration error has one line for each problem.
    for line in text.lines() {
        eprintln!("k8sops: {line}");
    }
    ExitCode::FAILURE
}
