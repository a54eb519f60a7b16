//! `k8sops audit`: is the trail as it was written?

use std::{io::Write, path::PathBuf};

use clap::Subcommand;

use crate::audit::verify_trail;

/// What to do with an audit trail.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Find out whether lines were altered, taken out, moved or cut off.
    Verify {
        /// The file; where it was rotated all files of it, the oldest first.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// The process that wrote it has ended in order: its last record must say so.
        #[arg(long)]
        closed: bool,
        /// The hash that the last record must have, as the service logged it when it stopped.
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
}

/// Does it, and says what was found; whether all is well.
///
/// # Errors
/// A file cannot be read, or nothing can be said.
pub fn run(command: Command, out: &mut impl Write) -> anyhow::Result<bool> {
    let Command::Verify { files, closed, head } = command;
    let (mut text, mut begins) = (String::new(), Vec::new());
    for path in files {
        let bytes = std::fs::read(&path).map_err(|error| anyhow::anyhow!("cannot read {}: {error}", path.display()))?;
        begins.push((text.matches('\n').count() as u64, path));
        text.push_str(&String::from_utf8_lossy(&bytes));
    }
    let report = match verify_trail(&text) {
        Ok(report) => report,
        Err(fault) => {
            let at = begins.iter().rev().find(|(before, _)| *before < fault.line);
            let (before, path) = at.map_or((0, std::path::Path::new("")), |(before, path)| (*before, path.as_path()));
            writeln!(out, "{} line {}: {}", path.display(), fault.line - before, fault.why)?;
            return Ok(false);
        }
    };
    if closed && !report.closed {
        writeln!(out, "the last record does not end its chain: lines after it are missing, or its process was killed")?;
        return Ok(false);
    }
    if head.as_ref().is_some_and(|head| *head != report.head) {
        writeln!(out, "the last record is not the one of that hash: lines after it are missing, or there are more")?;
        return Ok(false);
    }
    let chains = if report.chains == 1 { "1 chain".to_owned() } else { format!("{} chains", report.chains) };
    writeln!(out, "{} records in {chains}, each as it was written", report.records)?;
    if report.lost > 0 {
        writeln!(out, "{} records could not be written at the time, and are not in it", report.lost)?;
    }
    if report.broken_off > 0 {
        writeln!(
            out,
            "{} before the last did not end in order: the process was killed, or lines were cut off before the next began",
            if report.broken_off == 1 { "1 chain".to_owned() } else { format!("{} chains", report.broken_off) }
        )?;
    }
    if !report.closed {
        writeln!(out, "the last chain is open: its process runs, or was killed")?;
    }
    writeln!(out, "head: {}", report.head)?;
    Ok(true)
}
