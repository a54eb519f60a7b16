//! The `chat` subcommand: its options and its start.

use std::io::IsTerminal as _;

use tokio::sync::mpsc;

use super::{
    line_source::open_line_source,
    terminal_chat::{InitialSession, TerminalChat},
};
use crate::cli::{
    service::ServiceOptions,
    terminal::{InputSource, TerminalCapabilities, TerminalScreen},
};

/// Options of `k8sops chat`.
#[derive(Debug, Clone, clap::Args)]
pub struct ChatOptions {
    #[command(flatten)]
    service: ServiceOptions,
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
    let access = options.service.connect_or_start(|note| eprintln!("k8sops: {note}")).await?;
    let (lines, print_above) = open_line_source();
    // A person is at a terminal without a line editor (`TERM=dumb`), too.
    let is_terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let source = if is_terminal { InputSource::Terminal } else { InputSource::Pipe };
    let has_editor = print_above.is_some();
    let screen = TerminalScreen::new(std::io::stdout(), TerminalCapabilities::detect(&std::io::stdout()), print_above);
    let mut chat = TerminalChat::new(access.client.clone(), lines, screen, source);
    if has_editor {
        chat = chat.with_programs();
    }
    let session = match options.session {
        Some(given) => InitialSession::Given(given),
        None if options.resume => InitialSession::Newest,
        None => InitialSession::New,
    };
    if let Err(error) = chat.start(session).await {
        access.close().await;
        return Err(error);
    }
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
    drop(chat);
    access.close().await;
    match ended {
        // The reader of a pipe has closed it, which is a normal end.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}
