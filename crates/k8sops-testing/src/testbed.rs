//! Programs of others that tests talk to; `tests/testbed/setup.sh` installs them and `tests/run.sh` names them.

use std::{
    process::{ExitCode, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    sync::mpsc,
    time::timeout,
};

/// The path in an environment variable of the test bed.
pub fn path(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set; run the tests with: bash tests/run.sh"))
}

/// Reports that a test binary with a runner of its own is skipped, if the test bed lacks a program that it needs.
///
/// The exit code is that of a failure with `K8SOPS_TEST_SKIP=fail`, which `tests/run.sh` sets. `None`: nothing is missing.
/// All other tests that need the test bed have `#[ignore = "needs the test bed: bash tests/run.sh"]`.
pub fn skip_without(test: &str, variables: &[&str]) -> Option<ExitCode> {
    let missing = variables.iter().find(|variable| std::env::var_os(variable).is_none())?;
    let is_failure = std::env::var("K8SOPS_TEST_SKIP").is_ok_and(|value| value == "fail");
    let outcome = if is_failure { "FAILED" } else { "ok" };
    println!("\ntest {test} ... ignored, needs the test bed: bash tests/run.sh ({missing} is not set)");
    println!("\ntest result: {outcome}. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n");
    Some(if is_failure { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// A free port on the loopback interface. Another program may take it first; who needs it says so at its start.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program that runs as long as this lives.
pub struct Peer {
    pub url: String,
    child: Child,
}

impl Peer {
    /// Starts a program and waits until it says on which `http://127.0.0.1:PORT` it listens.
    pub async fn start(mut command: Command) -> Self {
        let mut child = spawn(&mut command);
        let (found, mut url) = mpsc::channel(1);
        watch(child.stdout.take().unwrap(), found.clone());
        watch(child.stderr.take().unwrap(), found);
        let url = timeout(Duration::from_secs(120), url.recv()).await;
        let url = url.ok().flatten().unwrap_or_else(|| panic!("{command:?} did not say where it listens"));
        Self { url, child }
    }

    /// Starts a program that does not say where it listens, and waits until `health` answers with success.
    pub async fn start_at(mut command: Command, url: String, health: &str) -> Self {
        let mut child = spawn(&mut command);
        let (nobody, _) = mpsc::channel(1);
        watch(child.stdout.take().unwrap(), nobody.clone());
        watch(child.stderr.take().unwrap(), nobody);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let healthy = async {
            while !client.get(format!("{url}{health}")).send().await.is_ok_and(|r| r.status().is_success()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(Duration::from_secs(120), healthy)
            .await
            .unwrap_or_else(|_| panic!("{command:?} did not become healthy"));
        Self { url, child }
    }

    pub async fn kill(mut self) {
        self.child.kill().await.unwrap();
    }
}

fn spawn(command: &mut Command) -> Child {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// Drains an output, and sends the first URL that is listened on.
fn watch(output: impl AsyncRead + Unpin + Send + 'static, found: mpsc::Sender<String>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let url = ["listening on http://127.0.0.1:", "running on http://127.0.0.1:"].iter().find_map(|words| {
                let port = line.split_once(words)?.1;
                let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
                (!digits.is_empty() && digits != "0").then(|| format!("http://127.0.0.1:{digits}"))
            });
            if let Some(url) = url {
                let _ = found.try_send(url);
            }
        }
    });
}
