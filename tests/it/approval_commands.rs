//! `k8sops approvals` as a program.

use std::process::Stdio;

use k8sops::auth::UserRole;
use k8sops_testing::{
    TEST_TIMEOUT,
    counting_server::CountingMcpServer,
    eventually,
    scripted_model::{ScriptedModel, call},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    time::timeout,
};

use crate::{
    keys::ApiKeyFile,
    program::k8sops_command,
    service::{ServiceSetup, TestService},
};

/// Runs the command, and returns whether it succeeded, and both outputs.
async fn approvals(service: &TestService, token: &str, arguments: &[&str]) -> (bool, String, String) {
    let mut command = k8sops_command();
    // Where the service is can be said last, as with any other option.
    command.arg("approvals").args(arguments).args(["--url", &service.base]).env("K8SOPS_TOKEN", token);
    let output = timeout(TEST_TIMEOUT, command.output()).await.expect("it ends").unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// Starts a service in which a user's change waits for another user.
async fn start_with_waiting_change(keys: &ApiKeyFile, anna: &str) -> (TestService, CountingMcpServer, Value) {
    let (model, tools) = (ScriptedModel::new([vec![call("change", json!({"replicas": 0}))]]), CountingMcpServer::new());
    let mut env = keys.env();
    env.push(("TOOL_APPROVAL_BY", "approver".to_owned()));
    let setup = ServiceSetup { model: Some(model), servers: vec![tools.connector()], env, ..ServiceSetup::default() };
    let mut service = TestService::start(setup).await;
    service.token = Some(anna.to_owned());
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "change it"})).await;
    let asked = service.events(&session, "").await.until("approval_requested").await.pop().unwrap();
    (service, tools, asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn approver_lists_shows_and_decides() {
    let mut keys = ApiKeyFile::new();
    let anna = keys.add("anna", &[UserRole::User]);
    let ben = keys.add("ben", &[UserRole::User, UserRole::Approver]);
    let (service, tools, asked) = start_with_waiting_change(&keys, &anna).await;
    let id = asked["approval_id"].as_str().unwrap();
    let short = &id[id.len() - 8..];

    // Who may not answer sees nothing, and cannot decide.
    let (succeeded, shown, said) = approvals(&service, &anna, &[]).await;
    assert!(succeeded && shown.is_empty() && said.contains("Nothing waits"), "{shown}{said}");
    let (succeeded, _, said) = approvals(&service, &anna, &["approve", short]).await;
    assert!(!succeeded && said.contains("waits for your decision"), "{said}");

    let (succeeded, shown, said) = approvals(&service, &ben, &[]).await;
    assert!(succeeded && shown.starts_with(&format!("{short}  change changes the cluster")), "{shown}{said}");
    assert!(shown.contains("(anna, ") && shown.lines().count() == 1, "{shown}");
    for arguments in [&["list", "--json"][..], &["--json"]] {
        let (_, json_lines, _) = approvals(&service, &ben, arguments).await;
        assert_eq!(serde_json::from_str::<Value>(&json_lines).unwrap()["approval_id"], id);
    }
    let (succeeded, shown, said) = approvals(&service, &ben, &["show"]).await;
    assert!(succeeded && shown.contains("  replicas: 0\n") && shown.contains(short), "{shown}{said}");

    let (succeeded, _, said) = approvals(&service, &ben, &["approve", "00000000"]).await;
    assert!(!succeeded && said.contains("k8sops approvals"), "{said}");
    let (succeeded, shown, said) = approvals(&service, &ben, &["approve", short, "-m", "after the sale"]).await;
    assert!(succeeded && shown.starts_with("approved by ben: change changes"), "{shown}{said}");
    eventually("the call has run", async || tools.count_calls("change") == 1).await;
    let (succeeded, _, said) = approvals(&service, &ben, &["deny", short]).await;
    assert!(!succeeded && said.contains("waits for your decision"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn watch_prints_each_request_once() {
    let mut keys = ApiKeyFile::new();
    let anna = keys.add("anna", &[UserRole::User]);
    let ben = keys.add("ben", &[UserRole::Approver]);
    let (service, _tools, asked) = start_with_waiting_change(&keys, &anna).await;
    let mut command = k8sops_command();
    command.args(["approvals", "--url", &service.base, "watch", "--json"]).env("K8SOPS_TOKEN", &ben);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = timeout(TEST_TIMEOUT, lines.next_line()).await.expect("a line").unwrap().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&line).unwrap()["approval_id"], asked["approval_id"]);
    child.kill().await.unwrap();
    assert_eq!(lines.next_line().await.unwrap(), None);
}
