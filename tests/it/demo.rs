//! `k8sops demo`, as a newcomer runs it: the program itself, curl, and nothing else.

use std::process::Stdio;

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::service::PATIENCE;
use k8sops_testing::testbed;

pub(crate) struct Demo {
    pub(crate) url: String,
    pub(crate) child: Child,
    /// What it printed until it said where it listens.
    printed: String,
}

/// The program under test.
pub(crate) fn k8sops() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_k8sops"));
    command.env_clear().current_dir(std::env::temp_dir()).kill_on_drop(true);
    command
}

impl Demo {
    pub(crate) async fn start() -> Self {
        let mut command = k8sops();
        command.args(["demo", "--port", "0"]);
        Self::start_as(command).await
    }

    async fn start_as(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut printed = String::new();
        let url = loop {
            let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().expect("it says where it listens");
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
async fn the_demo_says_that_no_language_model_is_in_it_and_finds_what_is_broken() {
    let demo = Demo::start().await;
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
async fn serve_never_falls_back_to_the_demo() {
    let data = tempfile::tempdir().unwrap();
    let mut command = k8sops();
    command.arg("serve").env("K8SOPS_PORT", "0").env("MEMORY_FILESYSTEM_PATH", data.path());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = loop {
        let line = timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().expect("it says where it listens");
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
async fn the_demo_listens_where_the_environment_says_and_the_command_line_has_the_last_word() {
    let port = testbed::free_port().to_string();
    let mut command = k8sops();
    command.arg("demo").env("K8SOPS_HOST", "127.0.0.1").env("K8SOPS_PORT", &port).env("MEMORY_BACKEND", "floppy");
    let demo = Demo::start_as(command).await;
    assert_eq!(demo.url, format!("http://127.0.0.1:{port}"));
    // The port is taken by now.
    let mut command = k8sops();
    command.args(["demo", "--port", "0"]).env("K8SOPS_PORT", &port);
    assert_ne!(Demo::start_as(command).await.url, demo.url);
    let output = k8sops().arg("demo").env("K8SOPS_PORT", "x").output().await.unwrap();
    assert!(!output.status.success() && String::from_utf8_lossy(&output.stderr).contains("K8SOPS_PORT"), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_used_is_named_with_the_variable_and_the_remedy() {
    let data = tempfile::tempdir().unwrap();
    let file = data.path().join("file");
    std::fs::write(&file, "").unwrap();
    for path in [file.to_str().unwrap(), "/proc/k8sops", "/proc"] {
        let mut command = k8sops();
        command.arg("serve").env("K8SOPS_PORT", "0").env("MEMORY_FILESYSTEM_PATH", path);
        let output = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        for word in [path, "MEMORY_FILESYSTEM_PATH", "a folder that this user may write to"] {
            assert!(errors.contains(word), "{word} is not in: {errors}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_others_can_reach_it_nobody_unknown_is_let_in_unless_that_is_said_aloud() {
    for arguments in [vec!["serve"], vec!["demo", "--host", "0.0.0.0"]] {
        let data = tempfile::tempdir().unwrap();
        let mut command = k8sops();
        command.args(&arguments).env("K8SOPS_PORT", "0").env("K8SOPS_HOST", "0.0.0.0");
        command.env("MEMORY_FILESYSTEM_PATH", data.path());
        let output = timeout(PATIENCE, command.output()).await.expect("it ends").unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {errors}");
        let refusals = errors.lines().filter(|line| line.contains("0.0.0.0") && !line.contains("warning")).count();
        assert_eq!(refusals, 1, "{arguments:?}: {errors}");
    }
    for (host, insecure, warns) in [("0.0.0.0", "true", 1), ("127.0.0.1", "true", 0), ("localhost", "false", 0)] {
        let data = tempfile::tempdir().unwrap();
        let mut command = k8sops();
        command.arg("serve").env("K8SOPS_PORT", "0").env("K8SOPS_HOST", host).env("AUTH_ALLOW_INSECURE", insecure);
        command.env("MEMORY_FILESYSTEM_PATH", data.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let pid = child.id().unwrap().to_string();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        while !timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap().contains("listens on") {}
        assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
        let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it stops").unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        let warnings: Vec<&str> = errors.lines().filter(|line| line.contains("AUTHENTICATION IS OFF")).collect();
        assert_eq!(warnings.len(), warns, "{host}: {warnings:?}");
        assert!(warnings.iter().all(|line| line.contains(host) && line.contains("K8SOPS_HOST")), "{warnings:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_term_signal_stops_the_program_in_order() {
    let mut demo = Demo::start().await;
    let pid = demo.child.id().unwrap().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().await.unwrap().success());
    let status = timeout(PATIENCE, demo.child.wait()).await.expect("it stops").unwrap();
    assert!(status.success(), "{status}");
}
