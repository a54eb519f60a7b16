use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use rmcp::model::ToolAnnotations;
use serde_json::{Map, json};

use crate::{
    CallError, CallProgress, DeadlineExceeded, McpCallContext, McpHub,
    test_server::{
        TEST_TIMEOUT, TestMcpServer, call_sim, connect_test_hub, eventually, start_test_hub, test_call_context,
        test_options, tool,
    },
};

const REFUSED: &str = "the in-process server did not start: connection refused by the test";

fn tool_names(hub: &McpHub) -> Vec<String> {
    let statuses = hub.statuses();
    statuses.iter().flat_map(|status| status.tools.iter().map(|tool| tool.name.clone())).collect()
}

#[tokio::test]
async fn all_pages_of_tools_are_discovered() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    assert_eq!(tool_names(&hub), ["echo", "steps", "hang", "fail", "big", "silent"]);
    let status = &hub.statuses()[0];
    assert_eq!((status.name.as_str(), status.transport, &status.error), ("sim", "in-process", &None));
    assert_eq!(status.tools[0].hints.read_only, Some(true));
    assert_eq!(status.tools[2].hints.read_only, None);
    hub.close().await;
}

#[tokio::test]
async fn call_returns_the_output_of_the_tool() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let arguments = Map::from_iter([("name".to_owned(), json!("web"))]);
    let output = hub.call_tool("sim", "echo", arguments, test_call_context(TEST_TIMEOUT)).await.unwrap();
    assert_eq!(output.text, r#"{"name":"web"}"#);
    assert!(!output.is_error);
    hub.close().await;
}

#[tokio::test]
async fn tool_failure_differs_from_rejected_request() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let failed = call_sim(&hub, "fail", TEST_TIMEOUT).await.unwrap();
    assert!(failed.is_error);
    assert_eq!(failed.text, "no such pod");
    let rejected = call_sim(&hub, "no-such-tool", TEST_TIMEOUT).await;
    assert_eq!(rejected, Err(CallError::Refused("unknown tool no-such-tool".into())));
    assert!(hub.all_connected());
    let unknown_server = hub.call_tool("other", "echo", Map::new(), test_call_context(TEST_TIMEOUT)).await;
    assert!(matches!(unknown_server, Err(CallError::NotSent(_))), "{unknown_server:?}");
    hub.close().await;
}

#[tokio::test]
async fn only_errors_before_the_tool_ran_are_rejections() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    for (tool, error) in [
        ("crash", CallError::Failed("lost the cluster half-way".into())),
        ("late", CallError::Failed("Request timed out".into())),
        ("stranger", CallError::Refused("Session not found".into())),
    ] {
        assert_eq!(call_sim(&hub, tool, TEST_TIMEOUT).await, Err(error));
    }
    hub.close().await;
}

#[tokio::test]
async fn progress_increases_and_ends_with_the_call() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    for _ in 0..20 {
        let received = Arc::new(Mutex::new(Vec::new()));
        let sink = received.clone();
        let progress = Arc::new(move |progress: CallProgress| sink.lock().push(progress.progress));
        let context = McpCallContext { progress, ..test_call_context(TEST_TIMEOUT) };
        hub.call_tool("sim", "steps", Map::new(), context).await.unwrap();
        let received = received.lock().clone();
        assert!(!received.is_empty());
        assert!(received.is_sorted_by(|a, b| a < b), "{received:?}");
    }
    hub.close().await;
}

#[tokio::test]
async fn timed_out_call_is_cancelled_on_the_server() {
    let server = TestMcpServer::new();
    let hub = connect_test_hub(&server, &test_options()).await;
    let limit = Duration::from_millis(50);
    let outcome = call_sim(&hub, "hang", limit).await;
    assert_eq!(outcome, Err(CallError::Timeout(DeadlineExceeded::Total(limit))));
    eventually("the server is notified", || server.cancelled_calls.load(Ordering::SeqCst) == 1).await;
    assert!(call_sim(&hub, "echo", TEST_TIMEOUT).await.is_ok());
    hub.close().await;
}

#[tokio::test]
async fn dropped_call_is_cancelled_on_the_server() {
    let server = TestMcpServer::new();
    let hub = connect_test_hub(&server, &test_options()).await;
    let running = spawn_call(&hub, "hang");
    eventually("the call runs", || server.call_count("hang") == 1).await;
    running.abort();
    eventually("the server is notified", || server.cancelled_calls.load(Ordering::SeqCst) == 1).await;
    hub.close().await;
}

fn spawn_call(hub: &Arc<McpHub>, tool: &'static str) -> tokio::task::JoinHandle<Result<crate::CallOutput, CallError>> {
    let hub = hub.clone();
    tokio::spawn(async move { call_sim(&hub, tool, TEST_TIMEOUT).await })
}

#[tokio::test]
async fn lost_server_is_reconnected() {
    let server = TestMcpServer::new();
    let hub = connect_test_hub(&server, &test_options()).await;
    let mut changes = hub.changes();
    changes.mark_unchanged();
    server.connections_to_refuse.store(3, Ordering::SeqCst);
    server.cut_connection();
    tokio::time::timeout(TEST_TIMEOUT, changes.changed()).await.unwrap().unwrap();
    let status = hub.statuses()[0].clone();
    assert!(!status.connected);
    assert!(status.error.is_some());
    assert_eq!(status.tools.len(), 6, "the tools stay known while the server is disconnected");
    assert!(call_sim(&hub, "echo", TEST_TIMEOUT).await.is_ok(), "a call waits for the server");
    assert!(hub.all_connected());
    assert_eq!(server.connection_count.load(Ordering::SeqCst), 2);
    assert!(call_sim(&hub, "echo", TEST_TIMEOUT).await.is_ok());
    assert_eq!(hub.statuses()[0].error, None);
    hub.close().await;
}

#[tokio::test]
async fn server_that_starts_late_is_connected() {
    let server = TestMcpServer::new();
    server.connections_to_refuse.store(5, Ordering::SeqCst);
    let hub = start_test_hub(&[("sim", &server)], &test_options());
    eventually("the error is published", || hub.statuses()[0].error.as_deref() == Some(REFUSED)).await;
    assert!(!hub.all_connected());
    eventually("it is connected", || hub.all_connected()).await;
    hub.close().await;
}

#[tokio::test]
async fn broken_call_is_not_retried() {
    let server = TestMcpServer::new();
    let hub = connect_test_hub(&server, &test_options()).await;
    let running = spawn_call(&hub, "hang");
    eventually("the call runs", || server.call_count("hang") == 1).await;
    server.cut_connection();
    let outcome = tokio::time::timeout(TEST_TIMEOUT, running).await.unwrap().unwrap();
    assert!(matches!(outcome, Err(CallError::Broken(_))), "{outcome:?}");
    let is_reconnected = || hub.all_connected() && server.connection_count.load(Ordering::SeqCst) == 2;
    eventually("it is connected again", is_reconnected).await;
    assert!(call_sim(&hub, "echo", TEST_TIMEOUT).await.is_ok());
    assert_eq!(server.call_count("hang"), 1);
    hub.close().await;
}

#[tokio::test]
async fn announced_tool_change_is_discovered() {
    let server = TestMcpServer::new();
    let hub = connect_test_hub(&server, &test_options()).await;
    eventually("the server knows its client", || server.client_peer.lock().is_some()).await;
    server.tools.lock().push(tool("scale", ToolAnnotations::new()));
    let peer = server.client_peer.lock().clone().unwrap();
    peer.notify_tool_list_changed().await.unwrap();
    eventually("the tool is listed", || tool_names(&hub).contains(&"scale".to_owned())).await;
    assert_eq!(server.connection_count.load(Ordering::SeqCst), 1);
    hub.close().await;
}

#[tokio::test]
async fn health_check_discovers_tool_changes() {
    let server = TestMcpServer::new();
    let mut options = test_options();
    options.health_interval = Duration::from_millis(20);
    let hub = connect_test_hub(&server, &options).await;
    server.tools.lock().remove(0);
    eventually("the tool is removed", || !tool_names(&hub).contains(&"echo".to_owned())).await;
    hub.close().await;
}

#[tokio::test]
async fn refresh_discovers_at_once() {
    let server = TestMcpServer::new();
    let hub = connect_test_hub(&server, &test_options()).await;
    server.tools.lock().push(tool("scale", ToolAnnotations::new()));
    hub.refresh_tools().await;
    assert!(tool_names(&hub).contains(&"scale".to_owned()));
    hub.close().await;
}

#[tokio::test]
async fn refresh_skips_the_backoff() {
    let server = TestMcpServer::new();
    server.connections_to_refuse.store(1, Ordering::SeqCst);
    let mut options = test_options();
    options.max_backoff = Duration::from_hours(1);
    let hub = start_test_hub(&[("sim", &server)], &options);
    eventually("the first attempt fails", || hub.statuses()[0].error.as_deref() == Some(REFUSED)).await;
    hub.refresh_tools().await;
    assert!(hub.all_connected());
    hub.close().await;
}

#[tokio::test]
async fn output_of_one_mebibyte_arrives_whole() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let output = call_sim(&hub, "big", TEST_TIMEOUT).await.unwrap();
    assert_eq!(output.text.len(), 1024 * 1024);
    hub.close().await;
}

#[tokio::test]
async fn closed_hub_sends_nothing() {
    let server = TestMcpServer::new();
    let hub = connect_test_hub(&server, &test_options()).await;
    hub.close().await;
    assert!(!hub.all_connected());
    assert!(matches!(call_sim(&hub, "echo", TEST_TIMEOUT).await, Err(CallError::NotSent(_))));
    assert_eq!(server.call_count("echo"), 0);
    hub.close().await;
}

#[tokio::test]
async fn silent_server_stays_connected_during_a_call() {
    let server = TestMcpServer::new();
    let mut options = test_options();
    options.health_interval = Duration::from_millis(10);
    options.connect_timeout = Duration::from_millis(200);
    let hub = connect_test_hub(&server, &options).await;
    let limit = Duration::from_secs(1);
    let running = tokio::spawn({
        let hub = hub.clone();
        async move { call_sim(&hub, "hang", limit).await }
    });
    eventually("the call runs", || server.call_count("hang") == 1).await;
    server.ignores_tool_listing.store(true, Ordering::SeqCst);
    assert_eq!(running.await.unwrap(), Err(CallError::Timeout(DeadlineExceeded::Total(limit))));
    assert_eq!(server.connection_count.load(Ordering::SeqCst), 1, "health checks timed out without a reconnect");
    eventually("it is disconnected without a call", || !hub.all_connected()).await;
    server.ignores_tool_listing.store(false, Ordering::SeqCst);
    eventually("it is connected again", || hub.all_connected()).await;
    hub.close().await;
}
