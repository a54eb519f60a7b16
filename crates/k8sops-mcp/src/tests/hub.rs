use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use rmcp::model::ToolAnnotations;
use serde_json::{Map, json};

use crate::{
    CallError, DeadlineExceeded, McpCallContext, McpHub,
    test_server::{
        TEST_TIMEOUT, TestMcpServer, call, connect_test_hub, eventually, start_test_hub, test_call_context,
        test_options, tool,
    },
};

fn tool_names(hub: &McpHub) -> Vec<String> {
    hub.statuses().iter().flat_map(|s| s.tools.iter().map(|t| t.name.clone()).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn all_pages_of_tools_are_discovered() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    assert_eq!(tool_names(&hub), ["echo", "steps", "hang", "fail", "big", "silent"]);
    let status = &hub.statuses()[0];
    assert_eq!((status.name.as_str(), status.transport, &status.error), ("sim", "in-process", &None));
    assert_eq!(status.tools[0].hints.read_only, Some(true));
    assert_eq!(status.tools[2].hints.read_only, None);
    hub.close().await;
}

#[tokio::test]
async fn a_call_returns_what_the_tool_says() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let mut arguments = Map::new();
    arguments.insert("name".to_owned(), json!("web"));
    let output = hub.call_tool("sim", "echo", arguments, test_call_context(TEST_TIMEOUT)).await.unwrap();
    assert_eq!(output.text, r#"{"name":"web"}"#);
    assert!(!output.is_error);
    hub.close().await;
}

#[tokio::test]
async fn a_failing_tool_and_a_refused_request_are_two_things() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let failed = call(&hub, "fail", TEST_TIMEOUT).await.unwrap();
    assert!(failed.is_error);
    assert_eq!(failed.text, "no such pod");
    let refused = call(&hub, "no-such-tool", TEST_TIMEOUT).await;
    assert_eq!(refused, Err(CallError::Refused("unknown tool no-such-tool".to_owned())));
    assert!(hub.all_connected());
    let nowhere = hub.call_tool("other", "echo", Map::new(), test_call_context(TEST_TIMEOUT)).await;
    assert!(matches!(nowhere, Err(CallError::NotSent(_))), "{nowhere:?}");
    hub.close().await;
}

#[tokio::test]
async fn an_error_that_does_not_say_that_nothing_was_run_is_no_refusal() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    assert_eq!(call(&hub, "crash", TEST_TIMEOUT).await, Err(CallError::Failed("lost the cluster half-way".to_owned())));
    assert_eq!(call(&hub, "late", TEST_TIMEOUT).await, Err(CallError::Failed("Request timed out".to_owned())));
    assert_eq!(call(&hub, "stranger", TEST_TIMEOUT).await, Err(CallError::Refused("Session not found".to_owned())));
    hub.close().await;
}

#[tokio::test]
async fn progress_only_grows_and_ends_with_the_call() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    for _ in 0..20 {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let progress = Arc::new(move |p: crate::CallProgress| sink.lock().unwrap().push(p.progress));
        hub.call_tool("sim", "steps", Map::new(), McpCallContext { progress, ..test_call_context(TEST_TIMEOUT) })
            .await
            .unwrap();
        let at_end = seen.lock().unwrap().clone();
        assert!(!at_end.is_empty());
        assert!(at_end.is_sorted_by(|a, b| a < b), "{at_end:?}");
    }
    hub.close().await;
}

#[tokio::test]
async fn a_call_without_an_answer_is_cancelled_on_the_server() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    let limit = Duration::from_millis(50);
    assert_eq!(call(&hub, "hang", limit).await, Err(CallError::Timeout(DeadlineExceeded::Total(limit))));
    eventually("the server has heard of it", || world.cancelled_calls.load(Ordering::SeqCst) == 1).await;
    assert!(call(&hub, "echo", TEST_TIMEOUT).await.is_ok());
    hub.close().await;
}

#[tokio::test]
async fn dropping_a_call_cancels_it_on_the_server() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    let running = tokio::spawn({
        let hub = hub.clone();
        async move { call(&hub, "hang", TEST_TIMEOUT).await }
    });
    eventually("the call runs", || world.call_count("hang") == 1).await;
    running.abort();
    eventually("the server has heard of it", || world.cancelled_calls.load(Ordering::SeqCst) == 1).await;
    hub.close().await;
}

#[tokio::test]
async fn a_lost_server_comes_back_by_itself() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    let mut changes = hub.changes();
    changes.mark_unchanged();
    world.connections_to_refuse.store(3, Ordering::SeqCst);
    world.cut_connection();
    tokio::time::timeout(TEST_TIMEOUT, changes.changed()).await.unwrap().unwrap();
    let status = hub.statuses()[0].clone();
    assert!(!status.connected);
    assert!(status.error.is_some());
    assert_eq!(status.tools.len(), 6, "the tools stay known while the server is away");
    assert!(matches!(call(&hub, "echo", TEST_TIMEOUT).await, Err(CallError::NotSent(_))));
    eventually("it is back", || hub.all_connected()).await;
    assert_eq!(world.connection_count.load(Ordering::SeqCst), 2);
    assert!(call(&hub, "echo", TEST_TIMEOUT).await.is_ok());
    assert_eq!(hub.statuses()[0].error, None);
    hub.close().await;
}

#[tokio::test]
async fn a_server_that_starts_late_is_found() {
    let world = TestMcpServer::new();
    world.connections_to_refuse.store(5, Ordering::SeqCst);
    let hub = start_test_hub(&[("sim", &world)], &test_options());
    eventually("an error is shown", || {
        hub.statuses()[0].error.as_deref() == Some("the server did not start: no server today")
    })
    .await;
    assert!(!hub.all_connected());
    eventually("it is connected", || hub.all_connected()).await;
    hub.close().await;
}

#[tokio::test]
async fn a_call_in_flight_breaks_with_the_connection_and_is_not_sent_again() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    let running = tokio::spawn({
        let hub = hub.clone();
        async move { call(&hub, "hang", TEST_TIMEOUT).await }
    });
    eventually("the call runs", || world.call_count("hang") == 1).await;
    world.cut_connection();
    let outcome = tokio::time::timeout(TEST_TIMEOUT, running).await.unwrap().unwrap();
    assert!(matches!(outcome, Err(CallError::Broken(_))), "{outcome:?}");
    eventually("it is connected anew", || hub.all_connected() && world.connection_count.load(Ordering::SeqCst) == 2)
        .await;
    assert!(call(&hub, "echo", TEST_TIMEOUT).await.is_ok());
    assert_eq!(world.call_count("hang"), 1);
    hub.close().await;
}

#[tokio::test]
async fn changed_tools_are_noticed_when_the_server_says_so() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    eventually("the server knows its client", || world.client_peer.lock().unwrap().is_some()).await;
    world.tools.lock().unwrap().push(tool("scale", ToolAnnotations::new()));
    let peer = world.client_peer.lock().unwrap().clone().unwrap();
    peer.notify_tool_list_changed().await.unwrap();
    eventually("the tool is there", || tool_names(&hub).contains(&"scale".to_owned())).await;
    assert_eq!(world.connection_count.load(Ordering::SeqCst), 1);
    hub.close().await;
}

#[tokio::test]
async fn changed_tools_are_noticed_by_the_health_check() {
    let world = TestMcpServer::new();
    let mut config = test_options();
    config.health_interval = Duration::from_millis(20);
    let hub = connect_test_hub(&world, &config).await;
    world.tools.lock().unwrap().remove(0);
    eventually("the tool is gone", || !tool_names(&hub).contains(&"echo".to_owned())).await;
    hub.close().await;
}

#[tokio::test]
async fn a_refresh_discovers_now() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    world.tools.lock().unwrap().push(tool("scale", ToolAnnotations::new()));
    hub.refresh_tools().await;
    assert!(tool_names(&hub).contains(&"scale".to_owned()));
    hub.close().await;
}

#[tokio::test]
async fn a_refresh_does_not_wait_out_the_backoff() {
    let world = TestMcpServer::new();
    world.connections_to_refuse.store(1, Ordering::SeqCst);
    let mut config = test_options();
    config.max_backoff = Duration::from_hours(1);
    let hub = start_test_hub(&[("sim", &world)], &config);
    eventually("the first attempt failed", || {
        hub.statuses()[0].error.as_deref() == Some("the server did not start: no server today")
    })
    .await;
    hub.refresh_tools().await;
    assert!(hub.all_connected());
    hub.close().await;
}

#[tokio::test]
async fn a_megabyte_comes_through() {
    let hub = connect_test_hub(&TestMcpServer::new(), &test_options()).await;
    let output = call(&hub, "big", TEST_TIMEOUT).await.unwrap();
    assert_eq!(output.text.len(), 1024 * 1024);
    hub.close().await;
}

#[tokio::test]
async fn after_closing_nothing_is_connected_and_nothing_is_sent() {
    let world = TestMcpServer::new();
    let hub = connect_test_hub(&world, &test_options()).await;
    hub.close().await;
    assert!(!hub.all_connected());
    assert!(matches!(call(&hub, "echo", TEST_TIMEOUT).await, Err(CallError::NotSent(_))));
    assert_eq!(world.call_count("echo"), 0);
    hub.close().await;
}

#[tokio::test]
async fn a_server_that_is_busy_with_a_call_is_not_taken_for_dead() {
    let world = TestMcpServer::new();
    let mut config = test_options();
    config.health_interval = Duration::from_millis(10);
    config.connect_timeout = Duration::from_millis(200);
    let hub = connect_test_hub(&world, &config).await;
    let running = tokio::spawn({
        let hub = hub.clone();
        async move { call(&hub, "hang", Duration::from_secs(1)).await }
    });
    eventually("the call runs", || world.call_count("hang") == 1).await;
    world.ignores_tool_listing.store(true, Ordering::SeqCst);
    assert_eq!(running.await.unwrap(), Err(CallError::Timeout(DeadlineExceeded::Total(Duration::from_secs(1)))));
    assert_eq!(world.connection_count.load(Ordering::SeqCst), 1, "several checks have gone unanswered");
    eventually("silence without a call is death", || !hub.all_connected()).await;
    world.ignores_tool_listing.store(false, Ordering::SeqCst);
    eventually("it is connected anew", || hub.all_connected()).await;
    hub.close().await;
}
