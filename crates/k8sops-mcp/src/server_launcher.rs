//! The launcher of stdio servers: a process between k8sops and a server, which ends the server and all of its descendants when
//! k8sops dies, even from SIGKILL.
//!
//! ```text
//! k8sops ─▶ launcher ─▶ npx ─▶ sh ─▶ node        (the launcher leads the process group of all of them)
//!    ▲          │
//!    └ death ───┘ SIGTERM to the group, then SIGKILL
//! ```
//!
//! The kernel sends the launcher a signal when its parent dies (`PR_SET_PDEATHSIG`). A server that set this for itself would
//! leave its descendants running (`npx` starts the real server as a grandchild), and would also get the signal when only the
//! thread that started it ends. The launcher stays, so it can look which of both happened, and end the whole group. It copies
//! nothing: the server inherits its pipes.
//!
//! The launcher is this program with a hidden sub-command. A program that has no such sub-command (a test) starts servers
//! without a launcher, and so do other systems than Linux.

use std::{
    ffi::OsString,
    sync::atomic::{AtomicBool, Ordering},
};

use tokio::process::Command;

/// Name of the hidden sub-command, which [`run_mcp_server`] implements.
pub const LAUNCHER_COMMAND: &str = "run-mcp-server";
/// This program, also after its file was replaced by a newer version.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// Whether this program has the sub-command.
static IS_AVAILABLE: AtomicBool = AtomicBool::new(false);

/// Makes all stdio servers that are started from now on start through the launcher. Only a program whose sub-command
/// [`LAUNCHER_COMMAND`] calls [`run_mcp_server`] may do that.
pub fn use_server_launcher() {
    IS_AVAILABLE.store(cfg!(target_os = "linux"), Ordering::Relaxed);
}

/// Returns the command that starts a program, through the launcher if there is one.
pub(crate) fn launch_command(program: &str, args: &[String]) -> Command {
    if !IS_AVAILABLE.load(Ordering::Relaxed) {
        let mut command = Command::new(program);
        command.args(args);
        return command;
    }
    let mut command = Command::new(OWN_PROGRAM);
    command.arg(LAUNCHER_COMMAND).arg(std::process::id().to_string()).arg("--").arg(program).args(args);
    #[cfg(unix)]
    command.arg0("k8sops");
    command
}

/// Runs a server until it exits or the process `parent` dies, and returns the exit code of the launcher.
///
/// It must be called before the process has a second thread.
#[cfg(target_os = "linux")]
#[must_use]
pub fn run_mcp_server(parent: u32, command: &[OsString]) -> u8 {
    linux::run(parent, command).unwrap_or_else(|error| {
        eprintln!("k8sops: {error}");
        linux::EXIT_NOT_STARTED
    })
}

/// Says that servers are started without a launcher here.
#[cfg(not(target_os = "linux"))]
#[must_use]
pub fn run_mcp_server(_: u32, _: &[OsString]) -> u8 {
    eprintln!("k8sops: {LAUNCHER_COMMAND} exists on Linux only");
    1
}

#[cfg(target_os = "linux")]
mod linux {
    use std::{
        ffi::OsString,
        io,
        os::unix::process::ExitStatusExt as _,
        process::{Child, Command, ExitStatus},
        time::{Duration, Instant},
    };

    use nix::{
        sys::{
            prctl::set_pdeathsig,
            resource::{Resource, setrlimit},
            signal::{SigSet, Signal, killpg, raise},
        },
        unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, getpgrp, getppid, setpgid},
    };

    /// Exit code of a launcher that could not start its server, as a shell has it.
    pub(super) const EXIT_NOT_STARTED: u8 = 127;
    /// Time between SIGTERM and SIGKILL.
    const GRACE_PERIOD: Duration = Duration::from_secs(2);
    const POLL_INTERVAL: Duration = Duration::from_millis(20);
    /// Added to the number of a signal that ended the server, as a shell does.
    const SIGNAL_EXIT_BASE: u8 = 128;

    pub(super) fn run(parent: u32, command: &[OsString]) -> io::Result<u8> {
        let Some((program, args)) = command.split_first() else {
            return Err(io::Error::other("no program of an MCP server is given"));
        };
        // Fails if it leads the group already, as it does if k8sops started it.
        let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        if is_orphan(parent) {
            // It died before this process started.
            return Ok(EXIT_NOT_STARTED);
        }
        // The server inherits the signal mask and would keep it: SIGTERM would not reach it or its descendants. So the server
        // starts while nothing is blocked.
        let mut server = Command::new(program).args(args).spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("cannot start `{}`: {error}", program.to_string_lossy()))
        })?;
        supervise_server(&mut server, parent).or_else(|error| {
            eprintln!("k8sops: cannot supervise the MCP server: {error}");
            Ok(end_group(&mut server))
        })
    }

    /// Waits until the server exits or the process `parent` dies, and then ends the group.
    fn supervise_server(server: &mut Child, parent: u32) -> io::Result<u8> {
        // Group signals of k8sops reach the server directly. They must not end the launcher before the server.
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
            signals.add(signal);
        }
        signals.thread_block()?;
        // The signal of the parent's death stays pending from here on, because SIGTERM is blocked already.
        set_pdeathsig(Signal::SIGTERM)?;
        release_pipes()?;
        // Both checks precede the first wait: a server that exited, or a parent that died, before its signal was blocked or
        // requested causes no further signal.
        loop {
            // The signal also comes when only the thread ends that started this process.
            if is_orphan(parent) {
                return Ok(end_group(server));
            }
            if let Some(status) = server.try_wait()? {
                return Ok(exit_like(status));
            }
            signals.wait()?;
        }
    }

    /// Whether the process `parent` has died.
    fn is_orphan(parent: u32) -> bool {
        u32::try_from(getppid().as_raw()) != Ok(parent)
    }

    /// Gives up the pipes, which are the server's: k8sops must notice when the server closes them.
    fn release_pipes() -> io::Result<()> {
        let null = std::fs::File::options().read(true).write(true).open("/dev/null")?;
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        Ok(())
    }

    /// Ends the server and its descendants, and with them this process.
    #[allow(clippy::disallowed_methods, reason = "the launcher has one thread and no runtime")]
    fn end_group(server: &mut Child) -> u8 {
        let group = getpgrp();
        let _ = killpg(group, Signal::SIGTERM);
        let deadline = Instant::now() + GRACE_PERIOD;
        while Instant::now() < deadline && matches!(server.try_wait(), Ok(None)) {
            std::thread::sleep(POLL_INTERVAL);
        }
        let _ = killpg(group, Signal::SIGKILL);
        EXIT_NOT_STARTED
    }

    /// Ends this process as its server ended: by the same signal, or with the code that is returned.
    fn exit_like(status: ExitStatus) -> u8 {
        let Some(signal) = status.signal() else {
            return status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_NOT_STARTED);
        };
        if let Ok(signal) = Signal::try_from(signal) {
            // The server has written its core already, if it was to write one.
            let _ = setrlimit(Resource::RLIMIT_CORE, 0, 0);
            let mut unblocked = SigSet::empty();
            unblocked.add(signal);
            let _ = raise(signal);
            let _ = unblocked.thread_unblock();
        }
        u8::try_from(signal).map_or(EXIT_NOT_STARTED, |signal| SIGNAL_EXIT_BASE.saturating_add(signal))
    }
}
