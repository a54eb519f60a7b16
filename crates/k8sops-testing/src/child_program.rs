//! A program as a process of its own, which prints the URL that it listens on.

use parking_lot::Mutex;
use std::{
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    net::TcpStream,
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use crate::{TEST_TIMEOUT, eventually};

/// What a program prints in front of its URL: k8sops, Node servers, and uvicorn.
const ANNOUNCEMENTS: [&str; 3] = ["listens on http://", "listening on http://", "running on http://"];

/// The lines that a program has printed to one of its outputs. A clone is the same output.
#[derive(Debug, Clone, Default)]
pub struct CapturedOutput(Arc<Mutex<Vec<String>>>);

/// How long the outputs may take to end after their program. A process that the program has left behind may hold them
/// open.
const OUTPUT_END_TIMEOUT: Duration = Duration::from_secs(5);

impl CapturedOutput {
    /// Captures an output in the background. The task ends with the output.
    fn capture(output: impl AsyncRead + Unpin + Send + 'static) -> (Self, JoinHandle<()>) {
        let captured = Self::default();
        let lines_so_far = captured.0.clone();
        let task = tokio::spawn(async move {
            let mut lines = BufReader::new(output).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                lines_so_far.lock().push(line);
            }
        });
        (captured, task)
    }

    /// Returns the lines so far.
    pub fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }

    /// Returns the first URL that the program says it listens on.
    fn announced_url(&self) -> Option<String> {
        self.0.lock().iter().find_map(|line| {
            let address = ANNOUNCEMENTS.iter().find_map(|words| Some(line.split_once(words)?.1))?;
            let (host, rest) = address.split_once(':')?;
            let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
            (!port.is_empty() && port != "0").then(|| format!("http://{host}:{port}"))
        })
    }
}

/// A running program. It is killed when this is dropped.
pub struct ChildProgram {
    /// Scheme, host and port that the program listens on.
    pub url: String,
    /// Standard output.
    pub stdout: CapturedOutput,
    /// Standard error.
    pub stderr: CapturedOutput,
    child: Child,
    output_tasks: Vec<JoinHandle<()>>,
}

impl ChildProgram {
    /// Starts a program and waits until it prints which `http://HOST:PORT` it listens on.
    ///
    /// # Panics
    /// If the program ends, or does not print its URL in time.
    pub async fn start(command: &mut Command) -> Self {
        let mut program = Self::spawn(command);
        program.url = eventually(&format!("{command:?} prints its URL"), async || {
            program.assert_running();
            program.stdout.announced_url().or_else(|| program.stderr.announced_url())
        })
        .await;
        program
    }

    /// Starts a program that does not print its URL, and waits until a GET request for `health_path` succeeds.
    ///
    /// # Panics
    /// If the program ends, or does not become healthy in time.
    pub async fn start_at(command: &mut Command, url: String, health_path: &str) -> Self {
        let mut program = Self { url, ..Self::spawn(command) };
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let health_url = format!("{}{health_path}", program.url);
        eventually(&format!("{command:?} is healthy"), async || {
            program.assert_running();
            client.get(&health_url).send().await.is_ok_and(|response| response.status().is_success())
        })
        .await;
        program
    }

    /// Starts a program that does not print its URL, and waits until it accepts connections on a port.
    ///
    /// # Panics
    /// If the program ends, or does not listen in time.
    pub async fn start_listening(command: &mut Command, port: u16) -> Self {
        let mut program = Self { url: format!("http://127.0.0.1:{port}"), ..Self::spawn(command) };
        eventually(&format!("{command:?} listens"), async || {
            program.assert_running();
            TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        program
    }

    fn spawn(command: &mut Command) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let (stdout, stdout_task) = CapturedOutput::capture(child.stdout.take().expect("the output is piped"));
        let (stderr, stderr_task) = CapturedOutput::capture(child.stderr.take().expect("the output is piped"));
        Self { url: String::new(), stdout, stderr, child, output_tasks: vec![stdout_task, stderr_task] }
    }

    fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("the program ended during its start, {status}: {:?}", self.stderr.lines());
        }
    }

    /// Returns the process id.
    ///
    /// # Panics
    /// If the program has ended.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("the program runs")
    }

    /// Sends a signal to the program.
    pub fn send_signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().expect("a process id")), signal).unwrap();
    }

    /// Waits until the program has ended and its outputs are captured.
    ///
    /// # Panics
    /// If it does not end in time.
    pub async fn wait(&mut self) -> ExitStatus {
        let status = timeout(TEST_TIMEOUT, self.child.wait()).await.expect("the program ends").unwrap();
        let outputs_end = async {
            for task in self.output_tasks.drain(..) {
                let _ = task.await;
            }
        };
        let _ = timeout(OUTPUT_END_TIMEOUT, outputs_end).await;
        status
    }

    /// Asks the program to stop, and waits until it has ended.
    pub async fn stop(&mut self) -> ExitStatus {
        self.send_signal(Signal::SIGTERM);
        self.wait().await
    }

    /// Kills the program and waits until it has ended.
    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }

    /// Returns the resident memory in bytes.
    pub fn resident_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number of KiB") * 1024
    }

    /// Returns how many files and sockets are open.
    pub fn open_descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap().count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn url_is_read_from_the_output() {
        let script = "echo starting; echo 'it listens on http://127.0.0.1:81 (docs: http://x/docs)'; exec sleep 60";
        let mut program = ChildProgram::start(&mut shell(script)).await;
        assert_eq!(program.url, "http://127.0.0.1:81");
        assert_eq!(program.stdout.lines()[0], "starting");
        assert!(!program.stop().await.success());
    }

    #[tokio::test]
    #[should_panic(expected = "no such setting")]
    async fn failed_start_shows_standard_error() {
        ChildProgram::start(&mut shell("echo 'no such setting' >&2; sleep 0.1; exit 1")).await;
    }
}
