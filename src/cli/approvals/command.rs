//! The `approvals` subcommand: its options, and which of its commands runs.

use std::{io, process::ExitCode};

use super::{
    decision::{Decision, decide, show},
    listing::{list, watch},
};
use crate::cli::service::{ApiClient, ServiceOptions};

/// Options of `k8sops approvals`.
#[derive(Debug, Clone, clap::Args)]
pub struct ApprovalsOptions {
    #[command(flatten)]
    service: ServiceOptions,
    /// Print the requests as JSON, one per line.
    #[arg(long)]
    json: bool,
    #[command(subcommand)]
    command: Option<ApprovalsCommand>,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum ApprovalsCommand {
    /// List what waits for your decision (the default).
    List {
        /// Print the requests as JSON, one per line.
        #[arg(long)]
        json: bool,
    },
    /// List what waits, and then each new request until Ctrl-C.
    Watch {
        /// Print the requests as JSON, one per line.
        #[arg(long)]
        json: bool,
    },
    /// Show a request with its arguments and the whole diff.
    Show {
        /// Id of the request, or its beginning or end; not needed if one waits.
        id: Option<String>,
    },
    /// Let the call run.
    Approve {
        /// Id of the request, or its beginning or end.
        id: String,
        /// Comment, which the model reads.
        #[arg(long, short = 'm')]
        comment: Option<String>,
    },
    /// Do not let the call run.
    Deny {
        /// Id of the request, or its beginning or end.
        id: String,
        /// Reason, which the model reads.
        #[arg(long, short = 'm')]
        comment: Option<String>,
    },
}

/// Runs the command.
///
/// # Errors
/// The service cannot be reached, rejects the request, or has no such approval.
pub async fn run(options: ApprovalsOptions) -> anyhow::Result<ExitCode> {
    let client = options.service.client()?;
    let done = run_command(&client, options.command.unwrap_or(ApprovalsCommand::List { json: options.json })).await;
    match done {
        // The reader of a pipe has closed it, which is a normal end.
        Err(error)
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            Ok(ExitCode::SUCCESS)
        }
        done => done.map(|()| ExitCode::SUCCESS),
    }
}

async fn run_command(client: &ApiClient, command: ApprovalsCommand) -> anyhow::Result<()> {
    match command {
        ApprovalsCommand::List { json } => list(client, json.into()).await?,
        ApprovalsCommand::Watch { json } => watch(client, json.into()).await?,
        ApprovalsCommand::Show { id } => show(client, id.as_deref()).await?,
        ApprovalsCommand::Approve { id, comment } => decide(client, &id, Decision::Approve, comment).await?,
        ApprovalsCommand::Deny { id, comment } => decide(client, &id, Decision::Deny, comment).await?,
    }
    Ok(())
}
