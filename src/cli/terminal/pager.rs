//! Long texts in the user's pager.

use std::{
    env,
    io::{self, Write as _},
    process::{Command, Stdio},
};

/// The pager of a user who has set none.
const USUAL_PAGER: &str = "less";

/// Shows a text in the pager of `PAGER`, and returns when the user leaves it. The text must be safe to print.
///
/// # Errors
/// The pager cannot be started.
pub(in crate::cli) async fn show_in_pager(text: String) -> io::Result<()> {
    let paged = tokio::task::spawn_blocking(move || run_pager(&text));
    paged.await.map_err(io::Error::other)?
}

fn run_pager(text: &str) -> io::Result<()> {
    let pager = env::var("PAGER").ok().filter(|pager| !pager.trim().is_empty());
    let pager = pager.unwrap_or_else(|| USUAL_PAGER.to_owned());
    let mut command = Command::new("sh");
    command.args(["-c", &pager]).stdin(Stdio::piped());
    if env::var_os("LESS").is_none() {
        // A short text is printed without a pager; colors are kept, long lines are not wrapped, and what was read stays.
        command.env("LESS", "FRSX");
    }
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // The user may leave before the end.
        let _ = stdin.write_all(text.as_bytes());
    }
    let status = child.wait()?;
    // 127: the shell has found no such program.
    if status.code() == Some(127) { Err(io::Error::new(io::ErrorKind::NotFound, pager)) } else { Ok(()) }
}
