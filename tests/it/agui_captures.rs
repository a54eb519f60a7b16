//! What others' validator says of the streams of whole turns over AG-UI.

use std::sync::Arc;

use nix::sys::signal::Signal;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    agui_client::{RunRequest, approve, open_run, outcome, parse_events, types},
    clients::run_in_folder,
    service::{ServiceSetup, TestService},
    two_replicas::TwoReplicas,
};
use k8sops_models::{ModelError, ModelErrorKind};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    provider::ProviderApi,
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
    testbed,
};

/// Validates a recorded stream: no finding of any severity. Returns its events.
async fn validate(name: &str, response: Response) -> Vec<Value> {
    let folder = TempDir::new().unwrap();
    let stream = response.text().await.unwrap();
    std::fs::write(folder.path().join(name), &stream).unwrap();
    let mut validator = Command::new(testbed::path("K8SOPS_TEST_AGUI_VALIDATE"));
    validator.args([name, "--max-warnings", "0", "--no-color"]);
    run_in_folder(&mut validator, folder.path()).await;
    parse_events(&stream)
}

async fn open(service: &TestService, request: &RunRequest<'_>) -> Response {
    open_run(service.request(Method::POST, "/agui"), request).await
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn turns_with_a_question_for_the_user_are_valid() {
    let tools = CountingMcpServer::new();
    let change = |replicas| {
        vec![ReplyStep::Reasoning("hm".into()), text("I change it. "), call("change", json!({"replicas": replicas}))]
    };
    let model: Arc<ScriptedModel> = ScriptedModel::new([
        vec![text("I look. "), call("look", json!({}))],
        vec![text("All is well.")],
        change(3),
        vec![text("Done.")],
        change(4),
        vec![text("I leave it.")],
    ]);
    let setup = ServiceSetup { model: Some(model), servers: vec![tools.connector()], ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    let read = validate("read", open(&service, &RunRequest::message("t-1", "m-1", "how is it?")).await).await;
    assert!(types(&read).contains(&"TOOL_CALL_RESULT"));

    let asked = validate("approval", open(&service, &RunRequest::message("t-1", "m-2", "change it")).await).await;
    assert_eq!(outcome(&asked)["type"], "interrupt");
    let resume = RunRequest { resume: approve(&asked), ..RunRequest::attach("t-1") };
    let resumed = validate("resume", open(&service, &resume).await).await;
    assert_eq!((&outcome(&resumed)["type"], tools.count_calls("change")), (&json!("success"), 1));

    let asked = validate("approval", open(&service, &RunRequest::message("t-1", "m-3", "more")).await).await;
    let interrupt = &outcome(&asked)["interrupts"][0]["id"];
    let deny = json!([{"interruptId": interrupt, "status": "resolved", "payload": {"approved": false}}]);
    let resume = RunRequest { resume: deny, ..RunRequest::attach("t-1") };
    let denied = validate("denied", open(&service, &resume).await).await;
    assert_eq!((&outcome(&denied)["type"], tools.count_calls("change")), (&json!("success"), 1));
    validate("attached", open(&service, &RunRequest::attach("t-1")).await).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn runs_that_end_early_are_valid() {
    let gate = TestGate::new();
    let failure = ModelError::new(ModelErrorKind::InvalidRequest, "no such model");
    let model = ScriptedModel::new([
        vec![text("long "), ReplyStep::Wait(gate.clone()), text("end")],
        vec![ReplyStep::Reasoning("hm".into()), text("I "), ReplyStep::Fail(failure)],
    ]);
    let service = TestService::with(&model).await;
    let running = open(&service, &RunRequest::message("t-1", "m-1", "hi")).await;
    gate.arrived().await;
    let session = service.get("/v1/sessions").await["sessions"][0]["session_id"].as_str().unwrap().to_owned();
    service.post(&format!("/v1/sessions/{session}/cancel"), json!({})).await;
    let cancelled = validate("cancelled", running).await;
    assert_eq!(outcome(&cancelled)["type"], "cancelled");
    let failed = validate("failed", open(&service, &RunRequest::message("t-1", "m-2", "hi")).await).await;
    assert_eq!(failed.last().unwrap()["type"], "RUN_ERROR");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn run_that_another_replica_takes_over_is_valid() {
    let TwoReplicas { redis: _redis, providers, one, other } = TwoReplicas::start().await;
    let replies = [ProviderApi::Chat.truncated(2).stall(), ProviderApi::Chat.text("the final word")];
    providers.script(ProviderApi::Chat, "m", replies);
    let request = RunRequest::message("t-1", "m-1", "hi");
    let mut first = open_run(one.request(Method::POST, "/agui"), &request).await;
    let mut received = String::new();
    while !received.contains("TEXT_MESSAGE_CONTENT") {
        received.push_str(&String::from_utf8_lossy(&first.chunk().await.unwrap().unwrap()));
    }
    let attached = open_run(other.request(Method::POST, "/agui"), &RunRequest::attach("t-1")).await;
    one.process.send_signal(Signal::SIGKILL);
    let taken_over = validate("takeover", attached).await;
    let seen = types(&taken_over);
    assert!(taken_over.iter().any(|event| event["name"] == "k8sops:run_recovered"), "{seen:?}");
    let last = taken_over.iter().rfind(|event| event["type"] == "MESSAGES_SNAPSHOT").unwrap();
    assert!(!last.to_string().contains("void"), "{last}");
    assert_eq!(outcome(&taken_over)["type"], "success");
    other.stop().await;
}
