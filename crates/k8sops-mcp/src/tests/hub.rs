use std::{
    sync::{Arc, Mutex, atomic::Ordering},
    time::Duration,
};

use rmcp::model::ToolAnnotations;
use serde_json::{Map, json};

use crate::{
    CallContext, CallError, McpHub, Overrun,
    test_server::{LIMIT, World, call, config, connected, hub_of, tool, until, unwatched},
};

fn tool_names(hub: &McpHub) -> Vec<String> {
    hub.statuses().iter().flat_map(|s| s.tools.iter().map(|t| t.name.clone()).collect::<Vec<_>>()).collect()
}

#[tokio::test]
async fn all_pages_of_tools_are_discovered() {
    let world = World::new();
    let hub = connected(&world, &config()).await;
    assert_eq!(tool_names(&hub), ["echo", "steps", "hang", "fail", "big", "silent"]);
    let status = &hub.statuses()[0];
    assert_eq!((status.name.as_str(), status.transport, &status.error), ("sim", "in-process", &None));
    assert_eq!(status.tools[0].hints.read_only, Some(true));
    assert_eq!(status.tools[2].hints.read_only, None);
    hub.close().await;
}

#[tokio::test]
async fn a_call_returns_what_the_tool_says() {
    let hub = connected(&World::new(), &config()).await;
    let mut arguments = Map::new();
    arguments.insert("name".to_owned(), json!("web"));
    let output = hub.call("sim", "echo", arguments, unwatched(LIMIT)).await.unwrap();
    assert_eq!(output.text, r#"{"name":"web"}"#);
    assert!(!output.is_error);
    hub.close().await;
}

#[tokio::test]
async fn a_failing_tool_and_a_refused_request_are_two_things() {
    let hub = connected(&World::new(), &config()).await;
    let failed = call(&hub, "fail", LIMIT).await.unwrap();
    assert!(failed.is_error);
    assert_eq!(failed.text, "no such pod");
    let refused = call(&hub, "no-such-tool", LIMIT).await;
    assert_eq!(refused, Err(CallError::Refused("unknown tool no-such-tool".to_owned())));
    assert!(hub.all_connected());
    let nowhere = hub.call("other", "echo", Map::new(), unwatched(LIMIT)).await;
    assert!(matches!(nowhere, Err(CallError::NotSent(_))), "{nowhere:?}");
    hub.close().await;
}

#[tokio::test]
async fn an_error_that_does_not_say_that_nothing_was_run_is_no_refusal() {
    let hub = connected(&World::new(), &config()).await;
    assert_eq!(call(&hub, "crash", LIMIT).await, Err(CallError::Failed("lost the cluster half-way".to_owned())));
    assert_eq!(call(&hub, "late", LIMIT).await, Err(CallError::Failed("Request timed out".to_owned())));
    assert_eq!(call(&hub, "stranger", LIMIT).await, Err(CallError::Refused("Session not found".to_owned())));
    hub.close().await;
}

#[tokio::test]
async fn progress_only_grows_and_ends_with_the_call() {
    let hub = connected(&World::new(), &config()).await;
    for _ in 0..20 {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = seen.clone();
        let progress = Arc::new(move |p: crate::CallProgress| sink.lock().unwrap().push(p.progress));
        hub.call("sim", "steps", Map::new(), CallContext { progress, ..unwatched(LIMIT) }).await.unwrap();
        let at_end = seen.lock().unwrap().clone();
        assert!(!at_end.is_empty());
        assert!(at_end.is_sorted_by(|a, b| a < b), "{at_end:?}");
    }
    hub.close().await;
}

#[tokio::test]
async fn a_call_without_an_answer_is_cancelled_on_the_server() {
    let world = World::new();
    let hub = connected(&world, &config()).await;
    let limit = Duration::from_millis(50);
    assert_eq!(call(&hub, "hang", limit).await, Err(CallError::Timeout(Overrun::Total(limit))));
    until("the server has heard of it", || world.cancelled.load(Ordering::SeqCst) == 1).await;
    assert!(call(&hub, "echo", LIMIT).await.is_ok());
    hub.close().await;
}

#[tokio::test]
async fn dropping_a_call_cancels_it_on_the_server() {
    let world = World::new();
    let hub = connected(&world, &config()).await;
    let running = tokio::spawn({
        let hub = hub.clone();
        async move { call(&hub, "hang", LIMIT).await }
    });
    until("the call runs", || world.calls_of("hang") == 1).await;
    running.abort();
    until("the server has heard of it", || world.cancelled.load(Ordering::SeqCst) == 1).await;
    hub.close().await;
}

#[tokio::test]
async fn a_lost_server_comes_back_by_itself() {
    let world = World::new();
    let hub = connected(&world, &config()).await;
    let mut changes = hub.changes();
    changes.mark_unchanged();
    world.refusals.store(3, Ordering::SeqCst);
    world.cut();
    tokio::time::timeout(LIMIT, changes.changed()).await.unwrap().unwrap();
    let status = hub.statuses()[0].clone();
    assert!(!status.connected);
    assert!(status.error.is_some());
    assert_eq!(status.tools.len(), 6, "the tools stay known while the server is away");
    assert!(matches!(call(&hub, "echo", LIMIT).await, Err(CallError::NotSent(_))));
    until("it is back", || hub.all_connected()).await;
    assert_eq!(world.lives.load(Ordering::SeqCst), 2);
    assert!(call(&hub, "echo", LIMIT).await.is_ok());
    assert_eq!(hub.statuses()[0].error, None);
    hub.close().await;
}

#[tokio::test]
async fn a_server_that_starts_late_is_found() {
    let world = World::new();
    world.refusals.store(5, Ordering::SeqCst);
    let hub = hub_of(&[("sim", &world)], &config());
    until("an error is shown", || {
        hub.statuses()[0].error.as_deref() == Some("the server did not start: no server today")
    })
    .await;
    assert!(!hub.all_connected());
    until("it is connected", || hub.all_connected()).await;
    hub.close().await;
}

#[tokio::test]
async fn a_call_in_flight_breaks_with_the_connection_and_is_not_sent_again() {
    let world = World::new();
    let hub = connected(&world, &config()).await;
    let running = tokio::spawn({
        let hub = hub.clone();
        async move { call(&hub, "hang", LIMIT).await }
    });
    until("the call runs", || world.calls_of("hang") == 1).await;
    world.cut();
    let outcome = tokio::time::timeout(LIMIT, running).await.unwrap().unwrap();
    assert!(matches!(outcome, Err(CallError::Broken(_))), "{outcome:?}");
    until("it is connected anew", || hub.all_connected() && world.lives.load(Ordering::SeqCst) == 2).await;
    assert!(call(&hub, "echo", LIMIT).await.is_ok());
    assert_eq!(world.calls_of("hang"), 1);
    hub.close().await;
}

#[tokio::test]
async fn changed_tools_are_noticed_when_the_server_says_so() {
    let world = World::new();
    let hub = connected(&world, &config()).await;
    until("the server knows its client", || world.peer.lock().unwrap().is_some()).await;
    world.tools.lock().unwrap().push(tool("scale", ToolAnnotations::new()));
    let peer = world.peer.lock().unwrap().clone().unwrap();
    peer.notify_tool_list_changed().await.unwrap();
    until("the tool is there", || tool_names(&hub).contains(&"scale".to_owned())).await;
    assert_eq!(world.lives.load(Ordering::SeqCst), 1);
    hub.close().await;
}

#[tokio::test]
async fn changed_tools_are_noticed_by_the_health_check() {
    let world = World::new();
    let mut config = config();
    config.health_interval = Duration::from_millis(20);
    let hub = connected(&world, &config).await;
    world.tools.lock().unwrap().remove(0);
    until("the tool is gone", || !tool_names(&hub).contains(&"echo".to_owned())).await;
    hub.close().await;
}

#[tokio::test]
async fn a_refresh_discovers_now() {
    let world = World::new();
    let hub = connected(&world, &config()).await;
    world.tools.lock().unwrap().push(tool("scale", ToolAnnotations::new()));
    hub.refresh().await;
    assert!(tool_names(&hub).contains(&"scale".to_owned()));
    hub.close().await;
}

#[tokio::test]
async fn a_refresh_does_not_wait_out_the_backoff() {
    let world = World::new();
    world.refusals.store(1, Ordering::SeqCst);
    let mut config = config();
    config.max_backoff = Duration::from_hours(1);
    let hub = hub_of(&[("sim", &world)], &config);
    until("the first attempt failed", || {
        hub.statuses()[0].error.as_deref() == Some("the server did not start: no server today")
    })
    .await;
    hub.refresh().await;
    assert!(hub.all_connected());
    hub.close().await;
}

#[tokio::test]
async fn a_megabyte_comes_through() {
    let hub = connected(&World::new(), &config()).await;
    let output = call(&hub, "big", LIMIT).await.unwrap();
    assert_eq!(output.text.len(), 1024 * 1024);
    hub.close().await;
}

#[tokio::test]
async fn after_closing_nothing_is_connected_and_nothing_is_sent() {
    let world = World::new();
    let hub = connected(&world, &config()).await;
    hub.close().await;
    assert!(!hub.all_connected());
    assert!(matches!(call(&hub, "echo", LIMIT).await, Err(CallError::NotSent(_))));
    assert_eq!(world.calls_of("echo"), 0);
    hub.close().await;
}

#[tokio::test]
async fn a_server_that_is_busy_with_a_call_is_not_taken_for_dead() {
    let world = World::new();
    let mut config = config();
    config.health_interval = Duration::from_millis(10);
    config.connect_timeout = Duration::from_millis(200);
    let hub = connected(&world, &config).await;
    let running = tokio::spawn({
        let hub = hub.clone();
        async move { call(&hub, "hang", Duration::from_secs(1)).await }
    });
    until("the call runs", || world.calls_of("hang") == 1).await;
    world.mute.store(true, Ordering::SeqCst);
    assert_eq!(running.await.unwrap(), Err(CallError::Timeout(Overrun::Total(Duration::from_secs(1)))));
    assert_eq!(world.lives.load(Ordering::SeqCst), 1, "several checks have gone unanswered");
    until("silence without a call is death", || !hub.all_connected()).await;
    world.mute.store(false, Ordering::SeqCst);
    until("it is connected anew", || hub.all_connected()).await;
    hub.close().await;
}
