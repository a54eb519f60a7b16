//! The audit log: its records, failing closed, and `k8sops audit verify`.

use std::path::Path;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    program::TestProgram,
    service::{ServiceSetup, TestService},
};
use k8sops_testing::{
    child_program::ChildProgram,
    counting_server::CountingMcpServer,
    eventually,
    provider::{FakeProviders, ProviderApi},
    scripted_model::{ScriptedModel, call, text},
    testbed,
};

async fn verify_trail(arguments: &[&str]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_k8sops")).args(["audit", "verify"]).args(arguments).output();
    let output = output.await.unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

fn read_records(path: &Path) -> Vec<Value> {
    std::fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_log_names_actor_and_approver_without_outputs() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("audit.jsonl");
    let (tools, model) = (CountingMcpServer::new(), ScriptedModel::new([]));
    model.add_replies([
        vec![call("look", json!({"at": "a-secret-place"}))],
        vec![call("change", json!({}))],
        vec![text("well done")],
    ]);
    let env = vec![("AUDIT_LOG", path.to_str().unwrap().to_owned())];
    let setup = ServiceSetup { model: Some(model), servers: vec![tools.connector()], env, ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "a private question"})).await;
    let mut events = service.events(&session, "").await;
    let asked = events.until("approval_requested").await.pop().unwrap();
    let approval = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
    service.post(&approval, json!({"decision": "approve"})).await;
    events.until("run_finished").await;
    service.patch(&format!("{session}/settings"), json!({"max_tokens": 99})).await;
    service.request(reqwest::Method::DELETE, &session).send().await.unwrap().error_for_status().unwrap();
    service.stop().await;

    let all = read_records(&path);
    let actions: Vec<&str> = all.iter().map(|r| r["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "chain_started",
            "session_created",
            "message_accepted",
            "tool_call_started",
            "tool_call_ended",
            "approval_requested",
            "approval_resolved",
            "tool_call_started",
            "tool_call_ended",
            "settings_changed",
            "session_deleted",
            "chain_closed",
        ]
    );
    let change = &all[7];
    for (field, value) in [
        ("actor", "user:default"),
        ("approved_by", "user:default"),
        ("tool", "change"),
        ("server", "counting"),
        ("effect", "mutating"),
        ("session_id", session.rsplit('/').next().unwrap()),
        ("arguments_sha256", &k8sops::audit::canonical_sha256(&json!({}))),
    ] {
        assert_eq!(change[field], value, "{change}");
    }
    assert_eq!(
        (&all[3]["effect"], &all[3]["approved_by"], &all[8]["status"]),
        (&json!("read"), &Value::Null, &json!("ok"))
    );
    assert!(all[3]["run_id"].is_string() && all[3]["tool_call_id"] == all[4]["tool_call_id"]);
    let text = std::fs::read_to_string(&path).unwrap();
    for said in ["a private question", "a-secret-place", "look done", "well done"] {
        assert!(!text.contains(said), "{said}");
    }

    let file = path.to_str().unwrap();
    let (good, says) = verify_trail(&["--closed", file]).await;
    assert!(good && says.contains("12 records in 1 chain"), "{says}");
    // An attacker replaces the approver's name.
    let altered = dir.path().join("altered");
    std::fs::write(&altered, text.replacen("\"approved_by\":\"user:default\"", "\"approved_by\":\"user:boss\"", 1))
        .unwrap();
    let (good, says) = verify_trail(&[altered.to_str().unwrap()]).await;
    assert!(!good && says.contains("line 8"), "{says}");
    let cut = dir.path().join("cut");
    std::fs::write(&cut, text.split_inclusive('\n').take(11).collect::<String>()).unwrap();
    assert!(verify_trail(&[cut.to_str().unwrap()]).await.0, "the trail of a running process has no closing record");
    assert!(!verify_trail(&["--closed", cut.to_str().unwrap()]).await.0);
}

/// Starts a provider that calls a tool until it has a result, and an MCP server with that tool.
async fn start_peers(tool: &str, turns: usize) -> (FakeProviders, ChildProgram, String) {
    let providers = FakeProviders::start().await;
    let replies = (0..turns).flat_map(|_| [ProviderApi::Chat.call(tool, "{}"), ProviderApi::Chat.text("It is said.")]);
    providers.script(ProviderApi::Chat, "m", replies);
    let mut python = Command::new(testbed::path("K8SOPS_TEST_PYTHON"));
    python.arg(testbed::path("K8SOPS_TEST_TRACE_SERVER"));
    let server = ChildProgram::start(&mut python).await;
    let yaml = format!(
        "{}mcp:\n  servers:\n  - {{name: trace, transport: http, url: '{}/mcp'}}\n",
        providers.settings_yaml(),
        server.url
    );
    (providers, server, yaml)
}

const MODEL: [(&str, &str); 3] = [("LLM_PROVIDER", "test-openai-chat"), ("LLM_MODEL", "m"), ("TOOL_APPROVAL", "auto")];

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn change_is_refused_when_audit_write_fails() {
    let (providers, _server, yaml) = start_peers("change", 40).await;
    // The file may grow to 8 KiB; further writes fail, as on a full disk.
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("trap '' XFSZ; ulimit -f 8; exec {} serve", env!("CARGO_BIN_EXE_k8sops"))]);
    let env = [&MODEL[..], &[("AUDIT_LOG", "audit.jsonl")]].concat();
    let program = TestProgram::start_as(&mut shell, &yaml, &env).await;
    program.wait_for_mcp_servers().await;
    let session = program.create_session().await;
    let mut done = 0;
    let refused = loop {
        let frames = program.turn(&session, &[]).await;
        let end = frames.into_iter().find(|frame| frame["type"] == "tool_end").unwrap();
        if end["status"] != "ok" {
            break end;
        }
        done += 1;
        assert_eq!(end["content"], format!("changed {done} times"));
        assert!(done < 40, "the file is never full");
    };
    assert!(done > 0);
    let why = refused["content"].as_str().unwrap();
    assert!(refused["status"] == "error" && why.starts_with("not run: the audit trail cannot be written"), "{refused}");
    // The log line has the ids of the call.
    let line = eventually("the error is logged", async || {
        program.log().into_iter().find(|line| line.contains("tool call not sent"))
    });
    let line: Value = serde_json::from_str(&line.await).unwrap();
    assert_eq!(line["span"]["session_id"], refused["session_id"], "{line}");
    assert_eq!(line["span"]["run_id"], refused["run_id"]);
    let metrics = program.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(!metrics.contains("k8sops_audit_errors_total 0"), "{metrics}");

    // A read-only call runs without an audit record.
    let looking = program.create_session().await;
    providers.script(
        ProviderApi::Chat,
        "l",
        [ProviderApi::Chat.call("whence", "{}"), ProviderApi::Chat.text("It is said.")],
    );
    let settings = program.request(reqwest::Method::PATCH, &format!("{looking}/settings"));
    settings.json(&json!({"model": "l"})).send().await.unwrap().error_for_status().unwrap();
    let frames = program.turn(&looking, &[]).await;
    assert_eq!(frames.iter().find(|frame| frame["type"] == "tool_end").unwrap()["status"], "ok");

    let (_, dir) = program.stop().await;
    let path = dir.path().join("audit.jsonl");
    let started = read_records(&path).iter().filter(|r| r["action"] == "tool_call_started").count();
    assert_eq!(started, done, "each change that was made is in it");
    let (good, says) = verify_trail(&[path.to_str().unwrap()]).await;
    assert!(good && says.contains("is open"), "{says}");
}

#[tokio::test(flavor = "multi_thread")]
async fn unwritable_audit_log_fails_the_start() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_k8sops"));
    command.arg("serve").env_clear().envs([
        ("K8SOPS_PORT", "0"),
        ("MEMORY_BACKEND", "memory"),
        ("MEMORY_FILESYSTEM_PATH", "."),
    ]);
    let output = command.env("AUDIT_LOG", "/dev/full").output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("the audit trail cannot be written"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_rotates_the_audit_log() {
    let program = TestProgram::start("", &[("AUDIT_LOG", "audit.jsonl")]).await;
    let (new, old) = (program.dir.path().join("audit.jsonl"), program.dir.path().join("audit.1"));
    program.create_session().await;
    std::fs::rename(&new, &old).unwrap();
    program.process.send_signal(Signal::SIGHUP);
    eventually("there is a new file", async || new.exists()).await;
    program.create_session().await;
    let (log, dir) = program.stop().await;
    let (new, old) = (dir.path().join("audit.jsonl"), dir.path().join("audit.1"));
    let (new, old) = (new.to_str().unwrap(), old.to_str().unwrap());
    let (good, says) = verify_trail(&["--closed", old, new]).await;
    assert!(good && says.contains("6 records in 1 chain"), "{says}");
    assert!(!verify_trail(&["--closed", new, old]).await.0, "in another order");
    // `verify` accepts the logged head.
    let head = says.lines().find_map(|line| line.strip_prefix("head: ")).unwrap();
    assert!(log.iter().any(|line| line.contains(head)), "{log:?}");
    assert!(verify_trail(&["--head", head, old, new]).await.0 && !verify_trail(&["--head", head, old]).await.0);
}
