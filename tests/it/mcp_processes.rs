//! Processes of stdio servers: none is left behind, however the service ends.

use std::{path::Path, process::Stdio, time::Duration};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{process::Command, time::timeout};

use crate::program::TestProgram;
use k8sops_testing::eventually_within;

/// Longer than a server gets to exit by itself.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Answers `initialize` and `tools/list`.
const ANSWERS: &str = r#"while read -r line; do id=$(printf %s "$line" | sed -n 's/.*"id":\([0-9]*\).*/\1/p'); case "$line" in
*'"initialize"'*) printf '{"jsonrpc":"2.0","id":%s,"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"shell","version":"7"}}}\n' "$id" ;;
*tools/list*) printf '{"jsonrpc":"2.0","id":%s,"result":{"tools":[{"name":"t","inputSchema":{"type":"object"}}]}}\n' "$id" ;;
esac; done"#;

/// Starts the program with a server that runs this script in a shell.
async fn start_with_script(script: &str) -> TestProgram {
    let args = json!(["-c", script]);
    let yaml = format!("mcp:\n  servers:\n  - name: sh\n    command: sh\n    args: {args}\n");
    let env = [("LLM_PROVIDER", "openai"), ("OPENAI_API_KEY", "sk-test"), ("LLM_MODEL", "m")];
    TestProgram::start(&yaml, &env).await
}

fn read_pids(folder: &Path) -> Vec<i32> {
    let files = std::fs::read_dir(folder).unwrap().map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
    files.filter_map(|text| text.strip_suffix('\n')?.parse().ok()).collect()
}

/// Whether a process has ended; its parent may not have collected it yet.
fn has_exited(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_of_the_service_ends_its_servers_and_their_children() {
    // A child that would stay, and a server that ignores SIGTERM and the end of its input.
    let folder = TempDir::new().unwrap();
    let script = format!(
        "trap '' TERM HUP; cd {}; echo $$ > server; sh -c 'echo $$ > child; exec sleep 1000' & {ANSWERS}; sleep 1000",
        folder.path().display()
    );
    let program = start_with_script(&script).await;
    eventually_within(END_TIMEOUT, "the server is connected", async || {
        program.get("/v1/info").await["mcp_connected"] == true && read_pids(folder.path()).len() == 2
    })
    .await;
    let pids = read_pids(folder.path());
    assert!(!pids.iter().any(|pid| has_exited(*pid)));
    program.process.kill().await;
    eventually_within(END_TIMEOUT, "server and child have exited", async || pids.iter().all(|pid| has_exited(*pid)))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn server_that_is_killed_is_reported_and_restarted() {
    let folder = TempDir::new().unwrap();
    let script = format!("cd {}; echo $$ > server; {ANSWERS}", folder.path().display());
    let program = start_with_script(&script).await;
    let is_connected = async || program.get("/v1/info").await["mcp_connected"] == true;
    eventually_within(END_TIMEOUT, "the server is connected", async || is_connected().await).await;
    let first = read_pids(folder.path())[0];
    kill(Pid::from_raw(first), Signal::SIGKILL).unwrap();
    eventually_within(END_TIMEOUT, "another process is connected", async || {
        is_connected().await && read_pids(folder.path()).first().is_some_and(|pid| *pid != first)
    })
    .await;
    let log = [program.process.stdout.lines(), program.process.stderr.lines()].concat().join("\n");
    assert!(log.contains("signal: 9 (SIGKILL)"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_of_a_server_is_explained_through_the_launcher() {
    let program = start_with_script("echo 'Error: no kubeconfig' >&2; exit 3").await;
    let error = async || program.get("/v1/info").await["mcp_servers"][0]["error"].to_string();
    eventually_within(END_TIMEOUT, "the exit is reported", async || error().await.contains("exit status: 3")).await;
    let error = error().await;
    assert!(error.contains("Error: no kubeconfig"), "{error}");
}

/// Runs a program through the launcher until it exits, and returns its standard output.
async fn run_through_launcher(program: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_k8sops"));
    command.arg("run-mcp-server").arg(std::process::id().to_string()).arg("--").args(program);
    command.stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true);
    // A launcher that misses the exit of its server would wait forever.
    let output = timeout(END_TIMEOUT, command.output()).await.expect("the launcher exits with its server").unwrap();
    assert!(output.status.success(), "{}", output.status);
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn server_starts_with_no_signal_blocked() {
    let mask = run_through_launcher(&["grep", "SigBlk", "/proc/self/status"]).await;
    assert_eq!(mask.trim(), "SigBlk:\t0000000000000000");
    // `timeout` sends SIGTERM, and exits with 124 after that.
    let script = "timeout 0.1 sleep 20; echo $?";
    assert_eq!(run_through_launcher(&["sh", "-c", script]).await.trim(), "124");
}
