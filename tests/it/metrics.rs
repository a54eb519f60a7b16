//! Metrics: valid format, bounded cardinality, and all series of the dashboard and the alerts.

use std::{collections::BTreeSet, process::Stdio, time::Duration};

use k8sops_telemetry::{Metrics, RecallOutcome};
use reqwest::Method;
use serde_json::json;
use tokio::{io::AsyncWriteExt as _, process::Command};

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    scripted_model::{ScriptedModel, call, text},
    testbed,
};

async fn scrape_metrics(service: &TestService) -> String {
    service.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap()
}

/// Starts a service and uses most of its features. Returns the path of its session.
async fn start_busy_service() -> (TestService, String) {
    let (tools, model) = (CountingMcpServer::new(), ScriptedModel::new([]));
    model.add_replies([
        vec![call("look", json!({}))],
        vec![text("fine")],
        vec![call("change", json!({}))],
        vec![text("done")],
    ]);
    let setup = ServiceSetup { model: Some(model), servers: vec![tools.connector()], ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    service.turn(&session, "look").await;
    service.post(&format!("{session}/messages"), json!({"content": "change"})).await;
    let mut events = service.events(&session, "").await;
    events.until("approval_requested").await;
    let text = scrape_metrics(&service).await;
    for line in [
        "k8sops_approvals_waiting 1",
        "k8sops_runs_open 1",
        "k8sops_streams_open{kind=\"sse\"} 1",
        "k8sops_streams_open{kind=\"ws\"} 0",
        "k8sops_mcp_server_connected{server=\"counting\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let log = service.log(&session).await;
    let asked = log.iter().find(|event| event["type"] == "approval_requested").unwrap();
    let approval = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
    service.post(&approval, json!({"decision": "approve"})).await;
    events.until("run_finished").await;
    service.refused(service.request(Method::GET, "/v1/sessions/none-of-ours/messages")).await;
    service.refused(service.request(Method::GET, "/no/such/path")).await;
    (service, session)
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn promtool_accepts_metrics_and_labels_hold_no_ids() {
    let (service, session) = start_busy_service().await;
    let text = scrape_metrics(&service).await;
    let mut promtool = Command::new(testbed::path("K8SOPS_TEST_PROMTOOL"))
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).await.unwrap();
    let said = promtool.wait_with_output().await.unwrap();
    assert!(said.status.success() && said.stdout.is_empty() && said.stderr.is_empty(), "{said:?}\n{text}");
    for line in [
        "k8sops_http_requests_total{method=\"POST\",route=\"/v1/sessions/{session_id}/messages\",status=\"2xx\"} 2",
        "k8sops_http_requests_total{method=\"GET\",route=\"none\",status=\"4xx\"} 1",
        "k8sops_tool_calls_total{effect=\"read\",server=\"counting\",status=\"ok\"} 1",
        "k8sops_tool_calls_total{effect=\"mutating\",server=\"counting\",status=\"ok\"} 1",
        "k8sops_tool_call_duration_seconds_count{effect=\"read\",server=\"counting\"} 1",
        "k8sops_runs_total{outcome=\"completed\"} 2",
        "k8sops_time_to_first_event_seconds_count 2",
        "k8sops_approvals_waiting 0",
        "k8sops_runs_open 0",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let replies: u64 = text
        .lines()
        .filter(|line| line.starts_with("k8sops_model_requests_total{") && line.contains("outcome=\"ok\""))
        .map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(replies, 4);
    let id = session.rsplit('/').next().unwrap();
    assert!(!text.contains(id) && !text.contains("none-of-ours"), "{text}");
    service.stop().await;
}

/// Returns the names of metrics in a text.
fn metric_names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("k8sops_") || word.starts_with("process_"));
    let family = |word: &str| {
        let ends = ["_bucket", "_count", "_sum"];
        ends.iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word).to_owned()
    };
    ours.map(family).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn dashboard_and_alert_metrics_exist() {
    let (service, _) = start_busy_service().await;
    let rare = Metrics::new();
    rare.record_memory_recall(RecallOutcome::Found, Duration::from_millis(3));
    rare.count_message_feedback("up");
    rare.count_door_turn("openai", "finished");
    rare.count_notification("delivered");
    rare.set_open_circuits(&[("openai".into(), "m".into())]);
    let scraped = scrape_metrics(&service).await + &rare.render();
    // Retries are labeled by their cause, and none has happened.
    let mut there: BTreeSet<String> =
        scraped.lines().filter_map(|l| l.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned)).collect();
    there.insert("k8sops_model_retries_total".into());
    let dashboard = metric_names(include_str!("../../deploy/grafana/k8sops.json"));
    let alerts = metric_names(include_str!("../../deploy/prometheus/k8sops-rules.yaml"));
    assert!(dashboard.len() > 25 && alerts.len() > 8);
    let missing: Vec<_> = dashboard.union(&alerts).filter(|name| !there.contains(*name)).collect();
    assert!(missing.is_empty(), "{missing:?} of {there:?}");
    // The dashboard shows each metric of k8sops.
    let unseen: Vec<_> = there.difference(&dashboard).filter(|name| !name.starts_with("process_")).collect();
    assert!(unseen.is_empty(), "{unseen:?}");
    service.stop().await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test]
async fn alert_rules_fire_when_expected() {
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/k8sops-rules.yaml");
    let tests = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/prometheus/k8sops-rules.test.yaml");
    for arguments in [["check", "rules", rules], ["test", "rules", tests]] {
        let said = Command::new(testbed::path("K8SOPS_TEST_PROMTOOL")).args(arguments).output().await.unwrap();
        assert!(said.status.success(), "{said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn request_id_is_in_response_and_problem() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let ask = async |path: &str, id: &str| {
        let answer = service.request(Method::GET, path).header("x-request-id", id).send().await.unwrap();
        let header = answer.headers()["x-request-id"].to_str().unwrap().to_owned();
        (header, answer.json::<serde_json::Value>().await.unwrap())
    };
    assert_eq!(ask("/healthz", "mine-1").await.0, "mine-1");
    for path in ["/v1/sessions?limit=none", "/no/such/path"] {
        let (header, problem) = ask(path, "mine-2").await;
        assert_eq!((header.as_str(), problem["request_id"].as_str()), ("mine-2", Some("mine-2")), "{problem}");
    }
    let (made, _) = ask("/healthz", "not one; of ours").await;
    assert_eq!(made.len(), 36, "{made}");
    service.stop().await;
}
