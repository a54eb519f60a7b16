//! Counts that do not depend on the load of the machine: instructions, system calls and context switches of a process.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// Returns how often the threads of a process have been switched, voluntarily or not.
pub(crate) fn count_context_switches(pid: u32) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok());
    statuses.map(|status| status.lines().filter_map(switches_in_line).sum::<u64>()).sum()
}

fn switches_in_line(line: &str) -> Option<u64> {
    let (name, value) = line.split_once(':')?;
    name.ends_with("voluntary_ctxt_switches").then(|| value.trim().parse().ok())?
}

/// Counts the system calls of a process with `perf stat`, which costs the process nearly nothing.
pub(crate) struct SyscallCounter(Child);

impl SyscallCounter {
    /// Starts to count, or returns `None` if `perf` is not installed or may not count.
    pub(crate) async fn start(pid: u32) -> Option<Self> {
        let mut perf = Command::new("perf");
        perf.args(["stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", &pid.to_string()]);
        let mut child = perf.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().ok()?;
        tokio::time::sleep(Duration::from_millis(500)).await;
        child.try_wait().ok()?.is_none().then_some(Self(child))
    }

    /// Returns the number of system calls since the start.
    pub(crate) fn stop(self) -> Option<u64> {
        kill(Pid::from_raw(i32::try_from(self.0.id()).ok()?), Signal::SIGINT).ok()?;
        let output = self.0.wait_with_output().ok()?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        text.lines().find(|line| line.contains("sys_enter"))?.split(',').next()?.parse().ok()
    }
}

/// Counts the instructions that a program executes outside of the kernel, with callgrind of valgrind.
pub(crate) struct InstructionCounter {
    dir: TempDir,
    wrapper: PathBuf,
    /// Number of dumps so far.
    dumps: u32,
}

impl InstructionCounter {
    /// Prepares to count the instructions of a program, or returns `None` if valgrind is not installed.
    pub(crate) fn for_program(program: &str) -> Option<Self> {
        let version = Command::new("valgrind").arg("--version").stdout(Stdio::null()).status();
        version.is_ok_and(|status| status.success()).then_some(())?;
        let dir = TempDir::new().expect("a temporary folder");
        let wrapper = dir.path().join("counted");
        let output = dir.path().join("profile").display().to_string();
        let script = format!(
            "#!/bin/sh\nexec valgrind --quiet --tool=callgrind --callgrind-out-file={output} {program} \"$@\" 2>/dev/null\n"
        );
        std::fs::write(&wrapper, script).expect("the folder is writable");
        std::fs::set_permissions(&wrapper, Permissions::from_mode(0o755)).expect("the file is ours");
        Some(Self { dir, wrapper, dumps: 0 })
    }

    /// The program to start in place of the counted one. It runs about fifty times slower.
    pub(crate) fn wrapper(&self) -> &Path {
        &self.wrapper
    }

    /// Returns the number of instructions since the last call, or since the start.
    pub(crate) fn take(&mut self, pid: u32) -> u64 {
        let dumped = Command::new("callgrind_control").arg("-d").arg(pid.to_string()).output();
        assert!(dumped.is_ok_and(|output| output.status.success()), "callgrind_control reaches the process");
        // Each dump is a file of its own: profile.1, profile.2, …
        self.dumps += 1;
        let newest = self.dir.path().join(format!("profile.{}", self.dumps));
        let profile = std::fs::read_to_string(newest).expect("the dump is text");
        let total = profile.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a total");
        total.trim().parse().expect("a number")
    }
}
