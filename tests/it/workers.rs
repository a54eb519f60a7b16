//! No session holds the thread that it shares with others, however large it is: what is long is done in pieces, or elsewhere.
//!
//! What is measured is the time that a thread computes, so that a busy machine decides nothing. Code without optimization is about
//! twenty times slower: `cargo test --release --features worker-watch --test it -- workers::` measures what users have.

use std::{sync::Arc, time::Duration};

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::{
    service::{ServiceSetup, TestService},
    websocket::TestSocket,
};
use k8sops_models::tokens::unpack_vocabulary;
use k8sops_testing::{
    fake_mcp_server::FakeMcpServer,
    scripted_model::{ScriptedModel, call, text},
};

/// How long a task may compute before it lets others have a turn.
const MAX_HOLD: Duration = Duration::from_millis(if cfg!(debug_assertions) { 100 } else { 5 });

/// Asserts that no task has held its worker too long. The message names those that have, with their requests.
fn assert_no_long_hold(service: &TestService) {
    let mut holds = service.longest_holds();
    println!("longest holds: {holds:#?}");
    holds.retain(|_, held| *held > MAX_HOLD);
    assert!(holds.is_empty(), "held a worker for more than {MAX_HOLD:?}: {holds:#?}");
}

/// Starts a service with an audit trail. It runs in the folder of an earlier one, if there is one.
async fn start(
    model: &Arc<ScriptedModel>,
    cluster: &FakeMcpServer,
    audit: &TempDir,
    data: Option<TempDir>,
) -> TestService {
    // As the program does at its start. It takes longer than anything that is measured.
    spawn_blocking(unpack_vocabulary).await.unwrap();
    let audit = audit.path().join("audit.jsonl");
    let env = vec![
        ("K8SOPS_MAX_REQUESTS_PER_MINUTE", "1000000".to_owned()),
        ("K8SOPS_MAX_STEPS", "60".to_owned()),
        ("AUDIT_LOG", audit.to_str().unwrap().to_owned()),
    ];
    let servers = vec![cluster.connector("prod")];
    let setup = ServiceSetup { model: Some(model.clone()), servers, env, data, ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    service.wait_for_mcp_servers().await;
    service
}

fn log_line(n: usize) -> String {
    format!("2026-11-23T09:{:02}:{:02}Z INFO {n:x} request served in {} ms\n", n / 60 % 60, n % 60, n % 977)
}

fn log_lines(count: usize) -> String {
    (0..count).map(log_line).collect()
}

/// Sends a request and reads its whole response, whatever its status.
async fn read(request: RequestBuilder) -> (u16, usize) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    (status, response.bytes().await.unwrap().len())
}

/// Reads all that can be read of a session.
async fn read_everything(service: &TestService, session: &str) {
    for path in [
        "",
        "/messages?limit=1000",
        "/export?format=md",
        "/export?format=html",
        "/export?format=json",
        "/events?follow=false",
        "/settings",
    ] {
        let (status, _) = read(service.request(Method::GET, &format!("{session}{path}"))).await;
        assert_eq!(status, 200, "{path}");
    }
    service.log(session).await;
    service.events(session, "?snapshot=true").await.until("snapshot").await;
    let mut socket = TestSocket::open(service, session, "?snapshot=true").await;
    socket.until("snapshot").await;
    service.get("/v1/sessions").await;
}

/// Large in each way that a user has: messages, replies, outputs, and a conversation that must be compacted.
#[tokio::test(flavor = "multi_thread")]
async fn large_sessions_hold_no_worker() {
    let audit = TempDir::new().unwrap();
    let log = log_lines(50_000);
    let cluster = FakeMcpServer::new().read_only_tool("pods_log", "The log of a pod.", move |_| Ok(log.clone()));
    let reply = log_lines(500);
    let replies = (0..40).map(|n| match n % 4 {
        0 => vec![call("pods_log", json!({}))],
        _ => vec![text(&reply)],
    });
    let service = start(&ScriptedModel::new(replies), &cluster, &audit, None).await;
    let session = service.create_session().await;
    let message = log_lines(900);
    for _ in 0..20 {
        let frames = service.turn(&session, &message).await;
        assert_eq!(frames.last().unwrap()["type"], "run_finished", "{:?}", frames.last());
    }
    read_everything(&service, &session).await;
    assert_no_long_hold(&service);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_outputs_hold_no_worker() {
    let audit = TempDir::new().unwrap();
    let pods: Vec<Value> = (0..14_000)
        .map(|n| {
            json!({
                "apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": format!("shop-{n:x}"), "namespace": format!("team-{}", n % 50), "labels": {"app": "shop", "n": n.to_string()}},
                "spec": {"nodeName": format!("node-{}", n % 300), "containers": [{"name": "shop", "image": format!("shop:{}", n % 9)}]},
                "status": {"phase": if n % 991 == 0 { "Pending" } else { "Running" }, "podIP": format!("10.0.{}.{}", n / 250, n % 250)},
            })
        })
        .collect();
    let pods = json!({"kind": "PodList", "items": pods}).to_string();
    let row = |n: usize| format!("team-{}  shop-{n:x}  1/1  Running  {}  5d\n", n % 50, n % 3);
    let table: String = (0..14_000).map(row).collect();
    let table = format!("NAMESPACE  NAME  READY  STATUS  RESTARTS  AGE\n{table}");
    let log = log_lines(5_000_000 / log_line(1).len());
    let cluster = FakeMcpServer::new()
        .read_only_tool("pods_log", "The log of a pod.", move |_| Ok(log.clone()))
        .read_only_tool("pods_list", "All pods, as a table.", move |_| Ok(table.clone()))
        .read_only_tool("pods_json", "All pods, as JSON.", move |_| Ok(pods.clone()));
    let tools = ["pods_log", "pods_list", "pods_json"];
    let model = ScriptedModel::new([tools.map(|tool| call(tool, json!({}))).into(), vec![text("That is a lot.")]]);
    let service = start(&model, &cluster, &audit, None).await;
    let session = service.create_session().await;
    let frames = service.turn(&session, "show me everything").await;
    let ends: Vec<&Value> = frames.iter().filter(|frame| frame["type"] == "tool_end").collect();
    let ids: Vec<&str> = ends.iter().filter_map(|end| end["tool_call_id"].as_str()).collect();
    assert_eq!(ids.len(), 3, "{frames:?}");
    for id in &ids {
        for query in ["?limit=1000000", "?offset=1000000&limit=1000000", ""] {
            service.get(&format!("{session}/tool_calls/{id}/output{query}")).await;
        }
    }
    let searches = ids.iter().map(|id| call("search_output", json!({"call": id, "pattern": "shop-2[0-9]+|in 7.7 ms"})));
    let pages = ids.iter().map(|id| call("read_output", json!({"call": id, "offset": 100_000})));
    model.add_replies([searches.chain(pages).collect(), vec![text("done")]]);
    service.turn(&session, "look closer").await;
    read_everything(&service, &session).await;
    assert_no_long_hold(&service);
}

/// A session of 2,500 messages and 5,000 events.
#[tokio::test(flavor = "multi_thread")]
async fn long_sessions_hold_no_worker() {
    const TURNS: usize = 1_250;
    let audit = TempDir::new().unwrap();
    let reply = log_lines(2);
    let model = ScriptedModel::new((0..=TURNS).map(|_| vec![text(&reply)]));
    let cluster = FakeMcpServer::new().read_only_tool("pods_list", "All pods.", |_| Ok("none".into()));
    let service = start(&model, &cluster, &audit, None).await;
    let session = service.create_session().await;
    for turn in 0..TURNS {
        service.turn(&session, &format!("{turn}: {}", log_line(turn))).await;
    }
    read_everything(&service, &session).await;
    assert_no_long_hold(&service);

    let service = start(&model, &cluster, &audit, Some(service.stop().await)).await;
    read_everything(&service, &session).await;
    service.turn(&session, "still there?").await;
    assert_no_long_hold(&service);
}

/// Bodies of the largest size that is accepted, and some that are refused.
#[tokio::test(flavor = "multi_thread")]
async fn large_requests_hold_no_worker() {
    let audit = TempDir::new().unwrap();
    let model = ScriptedModel::new([]);
    let cluster = FakeMcpServer::new().read_only_tool("pods_list", "All pods.", |_| Ok("none".into()));
    let service = start(&model, &cluster, &audit, None).await;
    let session = service.create_session().await;
    let attachment =
        |n: usize| json!({"name": format!("{n}.log"), "media_type": "text/plain", "text": log_lines(1_700)});
    let message = json!({"content": log_lines(900), "attachments": (0..10).map(attachment).collect::<Vec<_>>()});
    service.post(&format!("{session}/messages"), message).await;
    service.events(&session, "").await.until("run_finished").await;
    let said =
        |n: usize| json!({"role": if n.is_multiple_of(2) { "user" } else { "assistant" }, "content": log_lines(35)});
    let mut said: Vec<Value> = (0..3_000).map(said).collect();
    said.push(json!({"role": "user", "content": "what is broken?"}));
    let deep = [vec![b'['; 4_000_000], vec![b']'; 4_000_000]].concat();
    for (path, body) in [
        ("/v1/chat/completions", json!({"model": "k8sops", "messages": said}).to_string().into_bytes()),
        ("/v1/responses", json!({"model": "k8sops", "input": said}).to_string().into_bytes()),
        ("/v1/chat/completions", deep.clone()),
        ("/v1/responses", json!({"model": "k8sops", "input": vec![1; 2_000_000]}).to_string().into_bytes()),
        ("/agui", deep.clone()),
        ("/a2a", deep.clone()),
        ("/mcp", deep),
    ] {
        let request = service.request(Method::POST, path).header("content-type", "application/json").body(body);
        let (status, bytes) = read(request).await;
        println!("{path}: {status}, {bytes} bytes");
    }
    read_everything(&service, &session).await;
    assert_no_long_hold(&service);
}
