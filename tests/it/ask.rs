//! `k8sops ask` as a program: what goes to which output, and its exit codes.

use std::{
    path::Path,
    process::{Output, Stdio},
    sync::Arc,
};

use k8sops_core::ChatMessage;
use k8sops_testing::{
    TEST_TIMEOUT,
    counting_server::CountingMcpServer,
    provider::{FakeProviders, GOOD_REPLY},
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use crate::{
    demo::start_demo,
    program::k8sops_command,
    service::{ServiceSetup, TestService},
};

/// What a question printed, and its exit code.
struct AskResult {
    code: i32,
    stdout: String,
    stderr: String,
}

impl AskResult {
    fn new(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

fn ask_command(url: &str, arguments: &[&str]) -> Command {
    let mut command = k8sops_command();
    command.args(["ask", "--url", url]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Asks with `input` as standard input.
async fn ask(url: &str, arguments: &[&str], input: &[u8]) -> AskResult {
    let mut child = ask_command(url, arguments).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // A question that is wrong usage reads no input.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    AskResult::new(timeout(TEST_TIMEOUT, child.wait_with_output()).await.expect("it ends").unwrap())
}

async fn start_service(replies: Vec<Vec<ReplyStep>>) -> (TestService, Arc<ScriptedModel>, CountingMcpServer) {
    let (model, tools) = (ScriptedModel::new(replies), CountingMcpServer::new());
    let yaml = "tools:\n  rules:\n  - {tool: look, approval: ask}\n".to_owned();
    let setup = ServiceSetup {
        model: Some(model.clone()),
        yaml: Some(yaml),
        servers: vec![tools.connector()],
        ..ServiceSetup::default()
    };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    (service, model, tools)
}

/// Returns the messages of the user in the newest request.
fn user_messages(model: &ScriptedModel) -> Vec<String> {
    let request = model.requests().pop().unwrap();
    let texts = request.messages.iter().filter_map(|message| match message.as_ref() {
        ChatMessage::User(message) => Some(message.content.clone()),
        _ => None,
    });
    texts.collect()
}

fn last_user_message(model: &ScriptedModel) -> String {
    format!("{:?}", model.requests().last().unwrap().messages.last().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_and_tool_calls_have_their_own_outputs() {
    let demo = start_demo().await;
    let asked = ask(&demo.url, &["what", "is", "broken?"], b"").await;
    assert_eq!(asked.code, 0, "{}", asked.stderr);
    assert!(asked.stdout.contains("CrashLoopBackOff") && asked.stdout.ends_with('\n'), "{}", asked.stdout);
    assert!(!asked.stdout.contains("pods_list") && asked.stderr.contains("pods_list"), "{}", asked.stderr);
    assert!(!asked.stdout.contains('\u{1b}') && !asked.stderr.contains('\u{1b}'), "no colors in a pipe");
    let quiet = ask(&demo.url, &["--quiet", "what is broken?"], b"").await;
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""));
    let events = ask(&demo.url, &["--json", "-q", "what is broken?"], b"").await;
    let frames: Vec<Value> = events.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&frames[0]["type"], &frames[0]["content"]), (&json!("user_message"), &json!("what is broken?")));
    assert_eq!(frames.last().unwrap()["outcome"], "completed");
    assert!(frames.iter().all(|frame| frame["seq"].is_u64()), "{}", events.stdout);
    // The next question goes to the same session.
    let again = ask(&demo.url, &["-c", "yes"], b"").await;
    assert_eq!(again.code, 3, "a change of the session before waits for approval: {}", again.stderr);
    assert!(again.stdout.is_empty() && again.stderr.contains("k8sops chat --session"), "{}", again.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn standard_input_and_files_are_part_of_the_question() {
    let (service, model, _tools) = start_service(Vec::new()).await;
    let folder = tempfile::tempdir().unwrap();
    let manifest = folder.path().join("pod.yaml");
    std::fs::write(&manifest, "kind: Pod\n").unwrap();
    let path = manifest.to_str().unwrap();
    let asked = ask(&service.base, &["what is wrong here?", "-f", path], b"error: caf\xe9 is down\n").await;
    assert_eq!((asked.code, asked.stdout.as_str()), (0, "ok\n"), "{}", asked.stderr);
    let messages = user_messages(&model);
    assert_eq!(messages.last().unwrap(), "what is wrong here?");
    let sent = messages.join("\n");
    for part in
        ["<attachment name=\"pod.yaml\" media_type=\"application/yaml\">\nkind: Pod", "error: caf\u{fffd} is down"]
    {
        assert!(sent.contains(part), "{part}: {sent}");
    }
    assert!(asked.stderr.contains("not valid UTF-8"), "{}", asked.stderr);
    // More than a message may hold.
    let lines: Vec<String> = (0..2_000_000).map(|n| format!("line {n}")).collect();
    let log = lines.join("\n");
    let asked = ask(&service.base, &["why?"], log.as_bytes()).await;
    assert_eq!(asked.code, 0, "{}", asked.stderr);
    assert!(asked.stderr.contains("from the middle of standard input are left out"), "{}", asked.stderr);
    let sent = user_messages(&model).join("\n");
    assert!(sent.contains("line 0") && sent.contains("line 1999999") && sent.len() < 200_000, "{}", sent.len());
    // The input alone is the question.
    assert_eq!(ask(&service.base, &[], b"why?\n").await.code, 0);
    assert!(last_user_message(&model).contains("why?"));
}

#[tokio::test(flavor = "multi_thread")]
async fn attachments_are_as_large_as_the_service_accepts() {
    let (service, _model, _tools) = start_service(Vec::new()).await;
    let log: String = (0..).map(|n| format!("line {n} is fine\n")).take(60_000).collect();
    // Larger than a frame of a WebSocket, and exactly what fits; then one byte more.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("app.log");
    std::fs::write(&file, &log[..1 << 20]).unwrap();
    let whole = ask(&service.base, &["why?", "-f", file.to_str().unwrap()], b"").await;
    let more = ask(&service.base, &["-c", "and this?"], &log.as_bytes()[..=1 << 20]).await;
    assert_eq!((whole.code, more.code), (0, 0), "{} {}", whole.stderr, more.stderr);
    assert!(!whole.stderr.contains("left out"), "{}", whole.stderr);
    let said = "left out: the service accepts 1.0 MiB with a message";
    assert!(more.stderr.contains(said), "{}", more.stderr);
    let sessions = service.get("/v1/sessions").await;
    let session = sessions["sessions"][0]["session_id"].as_str().unwrap();
    let messages = service.get(&format!("/v1/sessions/{session}/messages")).await;
    let sent: Vec<u64> = messages["messages"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|message| message["attachments"][0]["bytes"].as_u64())
        .collect();
    assert!(sent[0] == 1 << 20 && sent[1] <= 1 << 20 && sent[1] > 1_000_000, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_asks_nothing() {
    let (service, model, _tools) = start_service(Vec::new()).await;
    for (arguments, input, said) in [
        (&[][..], &b""[..], "what is the question?"),
        (&["-f", "/nowhere/x.yaml", "why?"][..], b"", "/nowhere/x.yaml cannot be read"),
        (&["why?"][..], b"\x1f\x8b\x00\x00", "binary data"),
        (&["--model", "gpt", "why?"][..], b"", "provider/model"),
        (&["--session", "nope", "why?"][..], b"", "nope"),
    ] {
        let asked = ask(&service.base, arguments, input).await;
        assert_eq!(asked.code, 2, "{arguments:?}: {}", asked.stderr);
        assert!(asked.stderr.contains(said) && asked.stdout.is_empty(), "{arguments:?}: {}", asked.stderr);
    }
    assert!(model.requests().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_code_says_how_the_run_ended() {
    let (service, model, tools) = start_service(Vec::new()).await;
    model.add_replies([vec![call("change", json!({"replicas": 0}))]]);
    let asked = ask(&service.base, &["change it"], b"").await;
    assert_eq!((asked.code, tools.count_calls("change")), (3, 0), "{}", asked.stderr);
    assert_eq!(service.get("/v1/approvals").await["approvals"].as_array().unwrap().len(), 1, "it stays open");
    // `--yes-read-only` approves a look, and no change.
    model.add_replies([vec![call("look", json!({}))]]);
    let asked = ask(&service.base, &["look"], b"").await;
    assert_eq!(asked.code, 3, "{} {}", asked.stdout, asked.stderr);
    assert_eq!(tools.count_calls("look"), 0);
    model.add_replies([vec![call("look", json!({}))], vec![call("change", json!({"replicas": 0}))]]);
    assert_eq!(ask(&service.base, &["--yes-read-only", "look, and change it"], b"").await.code, 3);
    assert_eq!((tools.count_calls("look"), tools.count_calls("change")), (1, 0));

    let (service, _model, _tools) = start_service(vec![vec![ReplyStep::Fail(k8sops_models::ModelError::new(
        k8sops_models::ModelErrorKind::InvalidRequest,
        "no such \u{1b}[2Jmodel",
    ))]])
    .await;
    let failed = ask(&service.base, &["why?"], b"").await;
    assert_eq!((failed.code, failed.stdout.as_str()), (1, ""), "{}", failed.stderr);
    assert!(!failed.stderr.contains('\u{1b}') && failed.stderr.contains("model"), "{}", failed.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_code_says_that_a_limit_was_reached() {
    let (model, tools) = (ScriptedModel::new([]), CountingMcpServer::new());
    let setup = ServiceSetup {
        model: Some(model.clone()),
        servers: vec![tools.connector()],
        env: vec![("K8SOPS_MAX_STEPS", "1".into()), ("K8SOPS_MAX_RUNS_PER_USER", "1".into())],
        ..ServiceSetup::default()
    };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    // A limit of the run: what the model says of it is the answer.
    model.add_replies([vec![call("look", json!({}))], vec![text("I only looked once.")]]);
    let asked = ask(&service.base, &["look twice"], b"").await;
    assert_eq!((asked.code, asked.stdout.as_str()), (4, "I only looked once.\n"), "{}", asked.stderr);
    // A limit of the user: one run at a time.
    let gate = TestGate::new();
    model.add_replies([vec![text("It "), ReplyStep::Wait(gate.clone())]]);
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "count the atoms"})).await;
    gate.arrived().await;
    let asked = ask(&service.base, &["and this?"], b"").await;
    assert_eq!((asked.code, asked.stdout.as_str()), (4, ""), "{}", asked.stderr);
    gate.open();
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupt_cancels_the_run() {
    let gate = TestGate::new();
    let (service, _model, _tools) = start_service(vec![vec![text("It "), ReplyStep::Wait(gate.clone())]]).await;
    let child = ask_command(&service.base, &["count the atoms"]).stdin(Stdio::null()).spawn().unwrap();
    gate.arrived().await;
    kill(Pid::from_raw(child.id().unwrap().try_into().unwrap()), Signal::SIGINT).unwrap();
    let asked = AskResult::new(timeout(TEST_TIMEOUT, child.wait_with_output()).await.expect("it ends").unwrap());
    assert_eq!(asked.code, 130, "{}", asked.stderr);
    let session = service.get("/v1/sessions").await["sessions"][0].clone();
    assert_eq!(session["status"]["is_processing"], false, "{session}");
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_pipe_is_no_failure() {
    let demo = start_demo().await;
    let mut child = ask_command(&demo.url, &["--json", "what is broken?"]).stdin(Stdio::null()).spawn().unwrap();
    drop(child.stdout.take());
    let asked = AskResult::new(timeout(TEST_TIMEOUT, child.wait_with_output()).await.expect("it ends").unwrap());
    assert_eq!(asked.code, 0, "{}", asked.stderr);
    assert!(!asked.stderr.contains("panicked"), "{}", asked.stderr);
}

/// Returns a command with a configuration of its own and no service.
fn local_command(home: &Path, arguments: &[&str]) -> Command {
    let mut command = k8sops_command();
    command.args(arguments).args(["--url", "http://127.0.0.1:9"]).current_dir(home);
    command.env("HOME", home).env("MEMORY_FILESYSTEM_PATH", home.join("sessions")).env("TMPDIR", home);
    command.stdin(Stdio::null());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_service_one_is_started_for_the_question() {
    let (home, providers) = (tempfile::tempdir().unwrap(), FakeProviders::start().await);
    std::fs::write(home.path().join("k8sops.yaml"), providers.settings_yaml()).unwrap();
    let provider = k8sops_testing::provider::ProviderApi::ALL[0].provider_name();
    let run = async |arguments: &[&str]| {
        let mut command = local_command(home.path(), arguments);
        command.env("K8SOPS_CONFIG", "k8sops.yaml").env("LLM_PROVIDER", &provider).env("LLM_MODEL", "any");
        AskResult::new(timeout(TEST_TIMEOUT, command.output()).await.expect("it ends").unwrap())
    };
    let asked = run(&["ask", "are the pods well?"]).await;
    assert_eq!((asked.code, asked.stdout.trim_end()), (0, GOOD_REPLY), "{}", asked.stderr);
    assert!(asked.stderr.contains("starting one for this command"), "{}", asked.stderr);
    // The session is kept, and the next command finds it.
    let asked = run(&["ask", "-c", "and now?", "--quiet"]).await;
    assert_eq!((asked.code, asked.stdout.trim_end(), asked.stderr.as_str()), (0, GOOD_REPLY, ""));
    let left: Vec<_> = std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(
        left.iter().all(|name| !name.to_string_lossy().starts_with("k8sops-")),
        "the key file is removed: {left:?}"
    );
    let sessions = run(&["chat", "-c"]).await;
    assert!(sessions.code == 0 && sessions.stdout.contains("> and now?"), "{}{}", sessions.stdout, sessions.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_cannot_start_says_what_to_do() {
    let home = tempfile::tempdir().unwrap();
    let output = local_command(home.path(), &["ask", "why?"]).output().await.unwrap();
    let asked = AskResult::new(output);
    assert_eq!(asked.code, 1, "{}", asked.stderr);
    assert!(asked.stderr.contains("has no API key") && asked.stderr.contains("k8sops demo"), "{}", asked.stderr);
    // A service elsewhere is not replaced by one of this machine.
    let output = k8sops_command().args(["ask", "--url", "http://192.0.2.1:1", "why?"]).stdin(Stdio::null()).output();
    let asked = AskResult::new(timeout(TEST_TIMEOUT, output).await.expect("it ends").unwrap());
    assert!(asked.code == 1 && asked.stderr.contains("does not answer"), "{}", asked.stderr);
}
