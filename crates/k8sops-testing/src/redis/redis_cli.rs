//! Runs redis-cli and other commands.

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::testbed;

/// Upper bound of a command on the loopback interface. A server that takes longer hangs.
pub(super) const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);

/// Returns a redis-cli command that ignores the environment's password.
pub(super) fn redis_cli() -> Command {
    let mut command = Command::new(testbed::path("K8SOPS_TEST_REDIS_CLI"));
    command.env_remove("REDISCLI_AUTH");
    command
}

/// Runs a program to its end, and returns its output. The error is what the program printed.
pub(super) async fn run_command(command: &mut Command, limit: Duration) -> Result<String, String> {
    let running = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match timeout(limit, running).await {
        Ok(output) => output.map_err(|error| error.to_string())?,
        Err(_) => return Err(format!("no answer within {limit:?}")),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(format!("{} {}", text(&output.stdout), text(&output.stderr)).trim().to_owned()),
    }
}
