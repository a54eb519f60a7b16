//! Failovers that lose acknowledged writes: a Redis replica that lags is promoted.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    responses_client::{approve, create, items, said},
    service::{EventStream, ServiceSetup, TestService, frame_types},
};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    redis::{RedisFailoverPair, RedisFlavor},
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
};
use reqwest::Method;

async fn start_service(
    redis: &RedisFailoverPair,
    model: &Arc<ScriptedModel>,
    tools: &CountingMcpServer,
) -> TestService {
    let env = vec![("MEMORY_BACKEND", "redis".into()), ("REDIS_URL", redis.url())];
    let setup =
        ServiceSetup { model: Some(model.clone()), servers: vec![tools.connector()], env, ..ServiceSetup::default() };
    let mut service = TestService::start(setup).await;
    service.repeats_reads = true;
    service.wait_for_mcp_servers().await;
    service
}

fn newest_seq(log: &[Value]) -> u64 {
    log.last().unwrap()["seq"].as_u64().unwrap()
}

/// Checks that no event has the seq of another event of the lost branch.
fn assert_no_seq_is_reused(before: &[Value], after: &[Value]) {
    for event in after {
        let earlier = before.iter().find(|earlier| earlier["seq"] == event["seq"]);
        assert!(earlier.is_none_or(|earlier| earlier == event), "{earlier:?} is now {event}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn lost_turns_are_announced_to_all_watchers() {
    let redis = RedisFailoverPair::start(RedisFlavor::Debian).await;
    let (model, tools) = (ScriptedModel::new([]), CountingMcpServer::new());
    let services = [start_service(&redis, &model, &tools).await, start_service(&redis, &model, &tools).await];
    let session = services[0].create_session().await;
    services[0].turn(&session, "kept").await;
    let kept = services[0].log(&session).await;
    redis.stop_replication().await;
    services[0].turn(&session, "lost").await;
    services[1].turn(&session, "lost as well").await;
    let before = services[0].log(&session).await;
    let mut watchers = Vec::new();
    for service in &services {
        let mut watcher = service.events(&session, &format!("?after={}", newest_seq(&before))).await;
        watcher.until("hello").await;
        watchers.push(watcher);
    }
    redis.promote_replica().await;
    for watcher in &mut watchers {
        let frames = watcher.until("snapshot").await;
        let gap = frames.iter().find(|frame| frame["type"] == "gap").unwrap();
        assert_eq!((&gap["reason"], &gap["requested"]), (&json!("log_truncated"), &json!(newest_seq(&before))));
        assert_eq!(frames.last().unwrap()["as_of_seq"], newest_seq(&kept));
    }

    let turn = services[1].turn(&session, "and now?").await;
    assert_eq!(frame_types(&turn).last(), Some(&"run_finished"));
    let after = services[0].log(&session).await;
    assert_eq!(after[..kept.len()], kept);
    assert_no_seq_is_reused(&before, &after);
    let truncated = &after[kept.len()];
    assert_eq!(truncated["type"], "log_truncated");
    assert_eq!(truncated["from_seq"], newest_seq(&kept) + 1);
    assert_eq!(truncated["lost"], newest_seq(&before) - newest_seq(&kept));
    for watcher in &mut watchers {
        let frames = watcher.until("run_finished").await;
        let logged: Vec<_> = frames.into_iter().filter(|frame| frame["seq"].is_u64()).collect();
        assert_eq!(logged, after[kept.len()..]);
    }
    // A client that was away comes back with a seq of the lost branch.
    for service in &services {
        let frames =
            service.events(&session, &format!("?follow=false&after={}", newest_seq(&before))).await.rest().await;
        assert_eq!(frame_types(&frames)[..4], ["hello", "gap", "snapshot", "log_truncated"]);
        let frames = service.events(&session, &format!("?follow=false&after={}", newest_seq(&kept))).await.rest().await;
        assert_eq!(frame_types(&frames)[..2], ["hello", "log_truncated"]);
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn sent_call_of_a_lost_branch_is_not_sent_again() {
    let redis = RedisFailoverPair::start(RedisFlavor::Debian).await;
    let model = ScriptedModel::new([
        vec![call("change", json!({"replicas": 0}))],
        vec![text("done")],
        vec![text("I look at the state first")],
    ]);
    let tools = CountingMcpServer::new();
    let (owner, other) = (start_service(&redis, &model, &tools).await, start_service(&redis, &model, &tools).await);
    let session = owner.create_session().await;
    owner.post(&format!("{session}/messages"), json!({"content": "change it"})).await;
    let mut watcher = other.events(&session, "").await;
    let asked = watcher.until("approval_requested").await.pop().unwrap();
    redis.stop_replication().await;
    let approval = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
    owner.post(&approval, json!({"decision": "approve"})).await;
    watcher.until("run_finished").await;
    assert_eq!(tools.count_calls("change"), 1);
    redis.promote_replica().await;

    watcher.until("log_truncated").await;
    let end = watcher.until("tool_end").await.pop().unwrap();
    assert_eq!((&end["status"], &end["tool_call_id"]), (&json!("unknown"), &asked["tool_call_id"]));
    watcher.until("run_finished").await;
    assert_eq!(tools.count_calls("change"), 1);
    let log = other.log(&session).await;
    let truncated = log.iter().find(|event| event["type"] == "log_truncated").unwrap();
    assert_eq!(truncated["lost_calls"][0]["tool_call_id"], asked["tool_call_id"]);
    assert_eq!(other.get("/v1/approvals").await["approvals"], json!([]));
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn stream_of_a_lost_message_ends() {
    let redis = RedisFailoverPair::start(RedisFlavor::Debian).await;
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("never"), ReplyStep::Wait(gate.clone())], vec![text("done")]]);
    let tools = CountingMcpServer::new();
    let service = start_service(&redis, &model, &tools).await;
    let session = service.create_session().await;
    redis.stop_replication().await;
    let messages = format!("{session}/messages");
    let request = service.request(Method::POST, &messages).header("accept", "text/event-stream");
    let response = request.json(&json!({"content": "lost"})).send().await.unwrap().error_for_status().unwrap();
    gate.arrived().await;
    redis.promote_replica().await;
    let frames = EventStream::new(response).rest().await;
    let last = frames.last().unwrap();
    assert_eq!((&last["type"], &last["code"]), (&json!("warning"), &json!("message_lost")), "{frames:?}");
    assert_eq!(frame_types(&service.turn(&session, "once more").await).last(), Some(&"run_finished"));
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn owner_that_knows_of_no_loss_uses_no_seq_twice() {
    let redis = RedisFailoverPair::start(RedisFlavor::Debian).await;
    let (model, tools) = (ScriptedModel::new([]), CountingMcpServer::new());
    let (owner, other) = (start_service(&redis, &model, &tools).await, start_service(&redis, &model, &tools).await);
    let (session, unused) = (owner.create_session().await, owner.create_session().await);
    owner.turn(&session, "kept").await;
    let kept = owner.log(&session).await;
    redis.stop_replication().await;
    owner.turn(&session, "lost").await;
    owner.turn(&unused, "lost").await;
    let (before, before_unused) = (owner.log(&session).await, owner.log(&unused).await);
    // The only process that has seen the lost turn ends.
    owner.stop().await;
    redis.promote_replica().await;

    other.turn(&session, "first").await;
    other.turn(&session, "second").await;
    let after = other.log(&session).await;
    assert_eq!(after[..kept.len()], kept);
    assert_no_seq_is_reused(&before, &after);
    other.turn(&unused, "first").await;
    assert_no_seq_is_reused(&before_unused, &other.log(&unused).await);
    let truncated = &after[kept.len()];
    assert_eq!((&truncated["type"], &truncated["lost"]), (&json!("log_truncated"), &json!(0)), "{truncated}");
    assert_eq!(after.iter().filter(|event| event["type"] == "log_truncated").count(), 1, "once per failover");
    let frames = other.events(&session, &format!("?follow=false&after={}", newest_seq(&before))).await.rest().await;
    assert_eq!(frame_types(&frames)[..4], ["hello", "gap", "snapshot", "log_truncated"]);
    let frames = other.events(&session, &format!("?follow=false&after={}", newest_seq(&kept))).await.rest().await;
    assert_eq!(frame_types(&frames)[..2], ["hello", "log_truncated"]);
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn answer_to_a_call_whose_record_is_lost_gets_the_next_response() {
    let redis = RedisFailoverPair::start(RedisFlavor::Debian).await;
    let model = ScriptedModel::new([vec![call("change", json!({}))], vec![text("done")], vec![text("I look first")]]);
    let tools = CountingMcpServer::new();
    let service = start_service(&redis, &model, &tools).await;
    let asked = create(&service, json!({"input": "change it"})).await;
    redis.stop_replication().await;
    let answer = json!({"input": approve(&asked)});
    assert_eq!(said(&create(&service, answer.clone()).await), "done");
    let sessions = service.get("/v1/sessions").await;
    let session = format!("/v1/sessions/{}", sessions["sessions"][0]["session_id"].as_str().unwrap());
    redis.promote_replica().await;

    // The client has not got the response to its answer, and sends it again.
    let mut stream = service.events(&session, "").await;
    stream.until("run_finished").await;
    let next = create(&service, answer).await;
    assert_eq!(said(&next), "I look first", "{next}");
    let call = items(&next, "mcp_call")[0];
    assert!(call["error"].to_string().contains("It is not known whether it took effect"), "{call}");
    assert_eq!(tools.count_calls("change"), 1);
}
