//! `k8sops demo` as a new user runs it: the program and curl.

use k8sops_testing::{child_program::ChildProgram, testbed};
use serde_json::Value;
use tokio::process::Command;

use crate::program::k8sops_command;

/// Starts `k8sops demo` on a free port.
pub(crate) async fn start_demo() -> ChildProgram {
    ChildProgram::start(k8sops_command().args(["demo", "--port", "0"])).await
}

async fn run_curl(args: &[&str]) -> String {
    let output =
        Command::new("curl").args(["-sS", "--noproxy", "*", "--max-time", "60"]).args(args).output().await.unwrap();
    assert!(output.status.success(), "curl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_finds_what_is_broken_without_a_language_model() {
    let demo = start_demo().await;
    let printed = demo.stdout.lines().join("\n");
    assert!(printed.to_lowercase().contains("no language model"), "{printed}");
    let info: Value = serde_json::from_str(&run_curl(&[&format!("{}/v1/info", demo.url)]).await).unwrap();
    assert_eq!((&info["mode"], &info["language_model"]), (&"demo".into(), &false.into()));
    assert!(info["notice"].as_str().unwrap().contains("no language model"));

    let session: Value =
        serde_json::from_str(&run_curl(&["-XPOST", &format!("{}/v1/sessions", demo.url)]).await).unwrap();
    let messages = format!("{}/v1/sessions/{}/messages", demo.url, session["session_id"].as_str().unwrap());
    let stream =
        run_curl(&["-N", "-H", "accept: text/event-stream", "-d", r#"{"content": "what is broken?"}"#, &messages])
            .await;
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
async fn crash_tour_loses_nothing_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = k8sops_command();
    command.args(["demo", "--crash"]).env("TMPDIR", folder.path()).current_dir(folder.path());
    let toured = tokio::time::timeout(2 * k8sops_testing::TEST_TIMEOUT, command.output()).await.unwrap().unwrap();
    let (said, failed) = (String::from_utf8_lossy(&toured.stdout), String::from_utf8_lossy(&toured.stderr));
    assert!(toured.status.success(), "{said}{failed}");
    for part in ["kill -9", "the run is resumed", "without a gap", "The answer is whole"] {
        assert!(said.contains(part), "{part}: {said}{failed}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the folder is empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_does_not_fall_back_to_the_demo() {
    let data = tempfile::tempdir().unwrap();
    let mut command = k8sops_command();
    command.arg("serve").env("K8SOPS_PORT", "0").env("MEMORY_FILESYSTEM_PATH", data.path());
    let program = ChildProgram::start(&mut command).await;
    let url = &program.url;
    let info: Value = serde_json::from_str(&run_curl(&[&format!("{url}/v1/info")]).await).unwrap();
    assert_eq!((&info["mode"], &info["mcp_connected"]), (&"serve".into(), &false.into()));
    let tools: Value = serde_json::from_str(&run_curl(&[&format!("{url}/v1/tools")]).await).unwrap();
    assert_eq!(tools["tools"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn demo_options_override_the_environment() {
    let port = testbed::free_port().to_string();
    let mut command = k8sops_command();
    command.arg("demo").env("K8SOPS_HOST", "127.0.0.1").env("K8SOPS_PORT", &port).env("MEMORY_BACKEND", "floppy");
    command.env("K8SOPS_CORS_ORIGINS", "http://127.0.0.1:5173");
    let demo = ChildProgram::start(&mut command).await;
    assert_eq!(demo.url, format!("http://127.0.0.1:{port}"));
    let info = format!("{}/v1/info", demo.url);
    let answer = run_curl(&["-i", "-H", "origin: http://127.0.0.1:5173", &info]).await;
    assert!(answer.contains("access-control-allow-origin: http://127.0.0.1:5173"), "{answer}");
    // The port is in use now.
    let mut command = k8sops_command();
    command.args(["demo", "--port", "0"]).env("K8SOPS_PORT", &port);
    assert_ne!(ChildProgram::start(&mut command).await.url, demo.url);
    let output = k8sops_command().arg("demo").env("K8SOPS_PORT", "x").output().await.unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("K8SOPS_PORT"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_stops_the_demo() {
    let mut demo = start_demo().await;
    let status = demo.stop().await;
    assert!(status.success(), "{status}");
}
