//! A child process and all of its descendants.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use process_wrap::tokio::{ChildWrapper, CommandWrap, KillOnDrop, ProcessGroup};
use tokio::process::{ChildStderr, ChildStdin, ChildStdout, Command};

use crate::ConnectionHandler;

/// Grace period for a server to exit by itself after its input is closed, and again after SIGTERM.
pub(super) const GRACE_PERIOD: Duration = Duration::from_secs(2);
const SIGTERM: i32 = 15;

/// A child process in its own process group. Dropping it kills the group.
///
/// The SDK's own child transport ends only the direct child. With `npx` and `sh -c` that would leave the real server running.
pub(super) struct ChildProcess {
    child: Box<dyn ChildWrapper>,
    is_killed: bool,
}

/// The pipes of a child process.
pub(super) struct ChildPipes {
    pub(super) stdin: ChildStdin,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
}

impl ChildProcess {
    /// Starts a process with pipes for its standard streams.
    pub(super) fn spawn(mut command: Command) -> io::Result<(Self, ChildPipes)> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut command = CommandWrap::from(command);
        command.wrap(ProcessGroup::leader()).wrap(KillOnDrop);
        let mut process = Self { child: command.spawn()?, is_killed: false };
        let child = &mut process.child;
        let (Some(stdin), Some(stdout), Some(stderr)) =
            (child.stdin().take(), child.stdout().take(), child.stderr().take())
        else {
            return Err(io::Error::other("the process has no pipes"));
        };
        Ok((process, ChildPipes { stdin, stdout, stderr }))
    }

    /// Waits until the direct child has exited.
    pub(super) async fn wait_for_exit(&mut self) -> io::Result<ExitStatus> {
        // The wrapper's own `wait` blocks a thread until the descendants have exited.
        self.child.inner_mut().wait().await
    }

    /// Ends the group, whose input is closed: waits for the child to exit, sends SIGTERM, then kills what is left. On immediate
    /// shutdown it kills at once.
    pub(super) async fn stop_group(&mut self, handler: &ConnectionHandler) {
        if self.is_killed {
            return;
        }
        let graceful_exit = async {
            let exited = tokio::time::timeout(GRACE_PERIOD, self.wait_for_exit()).await;
            if exited.is_err() && self.child.signal(SIGTERM).is_ok() {
                let _ = tokio::time::timeout(GRACE_PERIOD, self.wait_for_exit()).await;
            }
        };
        tokio::select! {
            biased;
            () = handler.wait_for_immediate_shutdown() => {}
            () = graceful_exit => {}
        }
        self.kill_group();
        let _ = tokio::time::timeout(GRACE_PERIOD, self.wait_for_exit()).await;
    }

    fn kill_group(&mut self) {
        if !self.is_killed {
            // Fails if no process of the group is left.
            let _ = self.child.start_kill();
            self.is_killed = true;
        }
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        self.kill_group();
    }
}
