//! The `ask` subcommand: its options, and the way from them to an exit code.

use std::{io, path::PathBuf, process::ExitCode};

use tokio::sync::mpsc;

use super::{
    outcome::AskOutcome,
    output::{AskOutput, SideNotes},
    run_watcher::{ReadApprovals, RunWatcher},
};
use crate::cli::{
    question::{ComposedQuestion, QuestionLimits, compose_question, read_inputs},
    service::{ApiClientError, FoundSession, ModelSelection, ServiceAccess, ServiceOptions, SessionConnection},
    terminal::{LineStyle, short_id},
};

/// Options of `k8sops ask`.
#[derive(Debug, Clone, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "flags of the command line")]
pub struct AskOptions {
    /// The question. What comes by a pipe goes with it.
    question: Vec<String>,
    #[command(flatten)]
    service: ServiceOptions,
    /// File that goes with the question; may be given several times.
    #[arg(long, short = 'f', value_name = "PATH")]
    file: Vec<PathBuf>,
    /// Print the events of the run instead of the answer, one JSON object per line.
    #[arg(long)]
    json: bool,
    /// Print no tool calls and notes on standard error, only failures.
    #[arg(long, short = 'q')]
    quiet: bool,
    /// Approve calls that only read, where the policy asks for them, too.
    #[arg(long)]
    yes_read_only: bool,
    /// Session to continue: its id, or the start or the end of its id.
    #[arg(long, conflicts_with = "resume")]
    session: Option<String>,
    /// Continue the newest session instead of starting a new one.
    #[arg(long = "continue", short = 'c')]
    resume: bool,
    /// Model for a new session, as provider/model.
    #[arg(long, value_parser = parse_model, conflicts_with_all = ["session", "resume"])]
    model: Option<ModelSelection>,
}

fn parse_model(text: &str) -> Result<ModelSelection, String> {
    match text.split_once('/') {
        Some((provider, model)) if !provider.is_empty() && !model.is_empty() => {
            Ok(ModelSelection { provider: provider.to_owned(), model: model.to_owned() })
        }
        _ => Err("expected provider/model".to_owned()),
    }
}

/// Asks the question, and returns 0 if it was answered, 1 if the run failed, 2 for wrong usage, 3 if it waits for an approval,
/// 4 at a limit.
///
/// # Errors
/// There is no service, and none can be started.
pub async fn run(options: AskOptions) -> anyhow::Result<ExitCode> {
    let words = options.question.join(" ");
    let inputs = match read_inputs(&options.file).await {
        Ok(inputs) => inputs,
        Err(error) => return Ok(report_wrong_usage(&error)),
    };
    // Before anything is started for a question that is none.
    if let Err(error) = compose_question(&words, inputs.clone(), QuestionLimits::NONE) {
        return Ok(report_wrong_usage(&error));
    }
    let (interrupt, mut interrupts) = mpsc::channel(4);
    let notes = if options.quiet { SideNotes::Quiet } else { SideNotes::Shown };
    let connecting = options.service.connect_or_start(|note| {
        if notes == SideNotes::Shown {
            eprintln!("k8sops: {note}");
        }
    });
    let access = connecting.await?;
    // Only now: before, Ctrl-C ends the program, as nothing has been asked yet.
    let watcher = tokio::spawn(async move {
        while tokio::signal::ctrl_c().await.is_ok() {
            if interrupt.send(()).await.is_err() {
                return;
            }
        }
    });
    let asked = async {
        let limits = QuestionLimits::fetch(&access.client).await?;
        match compose_question(&words, inputs, limits) {
            Ok(question) => ask_service(&options, &access, &question, notes, &mut interrupts).await,
            Err(error) => {
                eprintln!("k8sops: {error}");
                Ok(AskOutcome::WrongUsage)
            }
        }
    };
    let asked = asked.await;
    watcher.abort();
    access.close().await;
    match asked {
        Ok(outcome) => Ok(outcome.into()),
        Err(error) if is_broken_pipe(&error) => Ok(ExitCode::SUCCESS),
        Err(error) => match error.downcast_ref::<ApiClientError>() {
            Some(ApiClientError::Rejected { code: Some(code), .. }) => {
                eprintln!("k8sops: {error}");
                Ok(AskOutcome::of_rejection(code).into())
            }
            Some(ApiClientError::AmbiguousSession { .. } | ApiClientError::NoSuchSession { .. }) => {
                Ok(report_wrong_usage(&error))
            }
            _ => Err(error),
        },
    }
}

async fn ask_service(
    options: &AskOptions,
    access: &ServiceAccess,
    question: &ComposedQuestion,
    notes: SideNotes,
    interrupts: &mut mpsc::Receiver<()>,
) -> anyhow::Result<AskOutcome> {
    let client = &access.client;
    let session = match &options.session {
        Some(given) => Some(client.find_session(given).await?),
        None if options.resume => client.newest_session().await?,
        None => None,
    };
    let session = match session {
        Some(session) => session,
        None => FoundSession { id: client.create_session(None, options.model.as_ref()).await?, last_seq: 0 },
    };
    let mut output = AskOutput::of_process(options.json, notes);
    for note in &question.notes {
        output.show_line(LineStyle::Note, note.clone())?;
    }
    let mut connection = SessionConnection::open(client.clone(), session.id.clone(), Some(session.last_seq));
    let read_approvals = if options.yes_read_only { ReadApprovals::Given } else { ReadApprovals::Asked };
    let watcher = RunWatcher::new(&mut connection, &mut output, read_approvals);
    let outcome = watcher.ask(question, interrupts).await?;
    let short = short_id(&session.id);
    let url = if access.is_local() { String::new() } else { format!(" --url {}", client.address()) };
    match outcome {
        AskOutcome::Waiting => {
            output.show_line(
                LineStyle::Failure,
                format!("it waits for a decision; answer with: k8sops chat --session {short}{url}"),
            )?;
        }
        AskOutcome::Answered | AskOutcome::LimitReached => {
            output.show_line(LineStyle::Note, format!("session {short} (continue with --session {short})"))?;
        }
        AskOutcome::Failed | AskOutcome::WrongUsage | AskOutcome::Cancelled => {}
    }
    Ok(outcome)
}

fn report_wrong_usage(error: &impl std::fmt::Display) -> ExitCode {
    eprintln!("k8sops: {error}");
    AskOutcome::WrongUsage.into()
}

/// The reader of a pipe has closed it.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
