//! No session holds the thread that it shares with others.

use std::collections::BTreeMap;

use serde_json::json;

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::{
    fake_mcp_server::FakeMcpServer,
    scripted_model::{ScriptedModel, call, text},
};

/// Large in each way that a user has: messages, replies, outputs, and a conversation that must be compacted.
#[tokio::test(flavor = "multi_thread")]
async fn large_sessions_hold_no_worker() {
    let line = |n: usize| {
        format!("2026-11-23T09:{:02}:{:02}Z INFO {n:x} request served in {} ms\n", n / 60 % 60, n % 60, n % 977)
    };
    let log: String = (0..50_000).map(line).collect();
    let cluster = FakeMcpServer::new().read_only_tool("pods_log", "The log of a pod.", move |_| Ok(log.clone()));
    let reply: String = (0..500).map(line).collect();
    let replies = (0..40).map(|n| match n % 4 {
        0 => vec![call("pods_log", json!({}))],
        _ => vec![text(&reply)],
    });
    let model = ScriptedModel::new(replies);
    let servers = vec![cluster.connector("prod")];
    let service = TestService::start(ServiceSetup { model: Some(model), servers, ..ServiceSetup::default() }).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    let message: String = (0..900).map(line).collect();
    for _ in 0..20 {
        let frames = service.turn(&session, &message).await;
        assert_eq!(frames.last().unwrap()["type"], "run_finished", "{:?}", frames.last());
    }
    service.get(&format!("{session}/messages?limit=1000")).await;
    assert_eq!(service.long_holds(), BTreeMap::new());
}
