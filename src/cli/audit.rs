//! `k8sops audit`: verifies an audit trail.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::Subcommand;

use super::CommandOutcome;
use crate::audit::{TrailReport, verify_trail};

/// What to do with an audit trail.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Verify that no line was altered, removed, moved or cut off.
    Verify {
        /// File of the trail. After a rotation, give all its files, oldest first.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// Require that the process that wrote the trail was stopped in order: its last record must say so.
        #[arg(long)]
        closed: bool,
        /// Required hash of the last record, as the service logged it when it stopped.
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
}

/// Runs a command and prints what it found.
///
/// # Errors
/// A file cannot be read, or the output fails.
pub fn run(command: AuditCommand, out: &mut impl Write) -> anyhow::Result<CommandOutcome> {
    let AuditCommand::Verify { files, closed, head } = command;
    let mut text = String::new();
    let mut file_starts = Vec::new();
    for path in files {
        let bytes = std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        file_starts.push((text.matches('\n').count() as u64, path));
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    let report = match verify_trail(&text) {
        Ok(report) => report,
        Err(fault) => {
            let file = file_starts.iter().rev().find(|(lines_before, _)| *lines_before < fault.line);
            let (lines_before, path) = file.map_or((0, Path::new("")), |(before, path)| (*before, path.as_path()));
            writeln!(out, "{} line {}: {}", path.display(), fault.line - lines_before, fault.why)?;
            return Ok(CommandOutcome::Failed);
        }
    };
    if closed && !report.closed {
        writeln!(out, "the last record does not close its chain: later lines are missing, or the process was killed")?;
        return Ok(CommandOutcome::Failed);
    }
    if head.as_ref().is_some_and(|head| *head != report.head) {
        writeln!(out, "the hash of the last record is not the given one: lines after it are missing or were added")?;
        return Ok(CommandOutcome::Failed);
    }
    write_report(&report, out)?;
    Ok(CommandOutcome::Passed)
}

fn write_report(report: &TrailReport, out: &mut impl Write) -> std::io::Result<()> {
    writeln!(out, "{} records in {}, all unaltered", report.records, count_chains(report.chains))?;
    if report.lost > 0 {
        writeln!(out, "{} records could not be written and are missing", report.lost)?;
    }
    if report.broken_off > 0 {
        let chains = count_chains(report.broken_off);
        writeln!(out, "{chains} before the last not closed: the process was killed, or lines were cut off")?;
    }
    if !report.closed {
        writeln!(out, "the last chain is open: its process is running, or was killed")?;
    }
    writeln!(out, "head: {}", report.head)
}

fn count_chains(chains: u64) -> String {
    if chains == 1 { "1 chain".to_owned() } else { format!("{chains} chains") }
}
