//! The `chat` subcommand: its options and its start.

use secrecy::SecretString;
use tokio::sync::mpsc;

use super::{
    api_client::ApiClient,
    line_source::{InputSource, open_line_source},
    screen::{TerminalCapabilities, TerminalScreen},
    terminal_chat::{InitialSession, TerminalChat},
};
use crate::config::{TOKEN_VARIABLE, URL_VARIABLE};

/// Options of `k8sops chat`.
#[derive(Debug, Clone, clap::Args)]
pub struct ChatOptions {
    /// Base URL of the service.
    #[arg(long, env = URL_VARIABLE, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// API key or token of the user. Prefer the variable: other users of this machine can see command-line arguments.
    #[arg(long, env = TOKEN_VARIABLE, hide_env_values = true)]
    token: Option<SecretString>,
    /// Session to continue: its id, or the start or the end of its id.
    #[arg(long, conflicts_with = "resume")]
    session: Option<String>,
    /// Continue the newest session instead of starting a new one.
    #[arg(long = "continue", short = 'c')]
    resume: bool,
}

/// Runs the chat until the user leaves.
///
/// # Errors
/// The service cannot be reached at the start, the session does not exist, or the output fails.
pub async fn run(options: ChatOptions) -> anyhow::Result<()> {
    let mut client = ApiClient::new(&options.url)?;
    if let Some(token) = options.token {
        client = client.with_token(token);
    }
    let (lines, print_above) = open_line_source();
    let source = if print_above.is_some() { InputSource::Terminal } else { InputSource::Pipe };
    let screen = TerminalScreen::new(std::io::stdout(), TerminalCapabilities::detect(), print_above);
    let mut chat = TerminalChat::new(client, lines, screen, source);
    let session = match options.session {
        Some(given) => InitialSession::Given(given),
        None if options.resume => InitialSession::Newest,
        None => InitialSession::New,
    };
    chat.start(session).await?;
    let (interrupt, interrupts) = mpsc::channel(4);
    let watcher = tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if interrupt.send(()).await.is_err() {
                return;
            }
        }
    });
    let ended = chat.run(interrupts).await;
    watcher.abort();
    match ended {
        // The reader of a pipe has closed it, which is a normal end.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
