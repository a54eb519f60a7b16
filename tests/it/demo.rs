//! `k8sops demo` as a new user runs it: the program and curl.

use std::process::Stdio;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{program::k8sops_command, service::PATIENCE};
use k8sops_testing::testbed;

/// A running `k8sops demo`.
pub(crate) struct DemoProgram {
    pub(crate) url: String,
    pub(crate) child: Child,
    /// Its output up to the line with its address.
    printed: String,
}

impl DemoProgram {
    pub(crate) async fn start() -> Self {
        let mut command = k8sops_command();
        command.args(["demo", "--port", "0"]);
        Self::start_as(command).await
    }

    async fn start_as(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut printed = String::new();
        let url = loop {
            let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().expect("a line with the address");
            printed.push_str(&line);
            printed.push('\n');
            if let Some((_, rest)) = line.split_once("http://127.0.0.1:") {
                let port: String = rest.chars().take_while(char::is_ascii_digit).collect();
                break format!("http://127.0.0.1:{port}");
            }
        };
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Self { url, child, printed }
    }
}

async fn curl(args: &[&str]) -> String {
    let output =
        Command::new("curl").args(["-sS", "--noproxy", "*", "--max-time", "60"]).args(args).output().await.unwrap();
    assert!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_finds_what_is_broken_without_a_language_model() {
    let demo = DemoProgram::start().await;
    assert!(demo.printed.to_lowercase().contains("no language model"), "{}", demo.printed);
    let info: Value = serde_json::from_str(&curl(&[&format!("{}/v1/info", demo.url)]).await).unwrap();
    assert_eq!((&info["mode"], &info["language_model"]), (&"demo".into(), &false.into()));
    assert!(info["notice"].as_str().unwrap().contains("no language model"));

    let session: Value = serde_json::from_str(&curl(&["-XPOST", &format!("{}/v1/sessions", demo.url)]).await).unwrap();
    let messages = format!("{}/v1/sessions/{}/messages", demo.url, session["session_id"].as_str().unwrap());
    let stream =
        curl(&["-N", "-H", "accept: text/event-stream", "-d", r#"{"content": "what is broken?"}"#, &messages]).await;
    let frames: Vec<Value> = stream
        .lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect();
    assert!(frames.iter().any(|f| f["type"] == "tool_start" && f["server"] == "demo-cluster"), "{stream}");
    let answer = frames.iter().rfind(|f| f["type"] == "assistant_message").unwrap()["content"].as_str().unwrap();
    for symptom in ["CrashLoopBackOff", "ImagePullBackOff", "Pending", "CreateContainerConfigError"] {
        assert!(answer.contains(symptom), "{symptom} is not in: {answer}");
    }
    assert_eq!(frames.last().unwrap()["outcome"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_does_not_fall_back_to_the_demo() {
    let data = tempfile::tempdir().unwrap();
    let mut command = k8sops_command();
    command.arg("serve").env("K8SOPS_PORT", "0").env("MEMORY_FILESYSTEM_PATH", data.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = loop {
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().expect("a line with the address");
        if let Some((_, rest)) = line.split_once("http://") {
            break format!("http://{}", rest.split_whitespace().next().unwrap().trim_end_matches(['/', '.', ',']));
        }
    };
    let info: Value = serde_json::from_str(&curl(&[&format!("{url}/v1/info")]).await).unwrap();
    assert_eq!((&info["mode"], &info["mcp_connected"]), (&"serve".into(), &false.into()));
    let tools: Value = serde_json::from_str(&curl(&[&format!("{url}/v1/tools")]).await).unwrap();
    assert_eq!(tools["tools"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_options_override_the_environment() {
    let port = testbed::free_port().to_string();
    let mut command = k8sops_command();
    command.arg("demo").env("K8SOPS_HOST", "127.0.0.1").env("K8SOPS_PORT", &port).env("MEMORY_BACKEND", "floppy");
    let demo = DemoProgram::start_as(command).await;
    assert_eq!(demo.url, format!("http://127.0.0.1:{port}"));
    // The port is in use by now.
    let mut command = k8sops_command();
    command.args(["demo", "--port", "0"]).env("K8SOPS_PORT", &port);
    assert_ne!(DemoProgram::start_as(command).await.url, demo.url);
    let output = k8sops_command().arg("demo").env("K8SOPS_PORT", "x").output().await.unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("K8SOPS_PORT"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_stops_the_demo() {
    let mut demo = DemoProgram::start().await;
    let pid = demo.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let status = timeout(PATIENCE, demo.child.wait()).await.expect("the program stops").unwrap();
    assert!(status.success(), "{status}");
}
