//! Several replicas on one Redis: each serves all requests, and takes over the runs of a replica that ended.

use std::sync::Arc;

use k8sops::auth::UserRole;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    keys::ApiKeyFile,
    service::{ServiceSetup, TestService, assert_gapless, frame_types, shown_text},
};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    eventually,
    nginx::NginxProxy,
    redis::{RedisFlavor, RedisSentinel, RedisServer},
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
    testbed,
};

async fn start_replica(redis: &RedisServer, model: &Arc<ScriptedModel>, tools: &CountingMcpServer) -> TestService {
    let service = start_replica_with(redis, model, tools, Vec::new()).await;
    service.wait_for_mcp_servers().await;
    service
}

async fn start_replica_with(
    redis: &RedisServer,
    model: &Arc<ScriptedModel>,
    tools: &CountingMcpServer,
    mut env: Vec<(&'static str, String)>,
) -> TestService {
    env.extend([("MEMORY_BACKEND", "redis".into()), ("REDIS_URL", redis.url())]);
    let setup =
        ServiceSetup { model: Some(model.clone()), servers: vec![tools.connector()], env, ..ServiceSetup::default() };
    TestService::start(setup).await
}

fn logged_events(frames: &[Value]) -> Vec<Value> {
    frames.iter().filter(|frame| frame["seq"].is_u64()).cloned().collect()
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn turn_is_followed_and_controlled_from_another_replica() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let gate = TestGate::new();
    let model = ScriptedModel::new([
        vec![text("I will "), ReplyStep::Wait(gate.clone()), text("change it"), call("change", json!({}))],
        vec![text("done")],
    ]);
    let tools = CountingMcpServer::new();
    let (one, other) = (start_replica(&redis, &model, &tools).await, start_replica(&redis, &model, &tools).await);
    let session = one.create_session().await;
    assert_eq!(other.get("/v1/sessions").await["sessions"][0]["session_id"], one.get(&session).await["session_id"]);
    let (mut here, mut there) = (one.events(&session, "").await, other.events(&session, "").await);
    one.post(&format!("{session}/messages"), json!({"content": "change it"})).await;
    // The text so far, before it is committed.
    gate.arrived().await;
    let mut seen = there.until("token").await;
    assert_eq!(seen.last().unwrap()["content"], "I will ");
    // A late subscriber gets the text so far.
    let mut late = other.events(&session, "").await;
    assert_eq!(late.until("token").await.last().unwrap()["content"], "I will ");
    gate.open();
    seen.extend(there.until("approval_requested").await);
    let approval = seen.last().unwrap()["approval_id"].as_str().unwrap().to_owned();
    let resolved = other.post(&format!("{session}/approvals/{approval}"), json!({"decision": "approve"})).await;
    assert_eq!(resolved["decision"], "approve");
    seen.extend(there.until("run_finished").await);
    let frames = here.until("run_finished").await;
    assert_eq!(logged_events(&frames), logged_events(&seen));
    assert_eq!((shown_text(&frames), shown_text(&seen)), ("done".to_owned(), "done".to_owned()));
    assert_gapless(&seen, 1);
    assert_eq!(tools.count_calls("change"), 1);
    // Settings and a whole turn through the replica that does not own the session.
    let settings = other.patch(&format!("{session}/settings"), json!({"temperature": 0.5})).await;
    assert_eq!(settings["temperature"], 0.5);
    let turn = other.turn(&session, "and now?").await;
    assert_eq!(frame_types(&turn).last(), Some(&"run_finished"));
    assert_eq!(one.log(&session).await, other.log(&session).await);
    // A session that one replica deletes is gone on the other.
    one.request(Method::DELETE, &session).send().await.unwrap().error_for_status().unwrap();
    assert!(there.rest().await.iter().all(|frame| frame["type"] != "gap"), "the stream ends");
    let (status, _) = other.refused(other.request(Method::GET, &session)).await;
    assert_eq!(status, 404);
    let keys = format!("*{{{}}}*", session.trim_start_matches("/v1/sessions/"));
    eventually("no key of the session is left", async || redis.cli(&["keys", &keys]).await.is_empty()).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn approval_is_answered_on_another_replica() {
    for by_approver in [false, true] {
        let redis = RedisServer::start(RedisFlavor::Debian).await;
        let (model, tools) =
            (ScriptedModel::new([vec![call("change", json!({"replicas": 3}))]]), CountingMcpServer::new());
        let mut keys = ApiKeyFile::new();
        let anna = keys.add("anna", &[UserRole::User, UserRole::Approver]);
        let (ben, cleo) = (keys.add("ben", &[UserRole::Approver]), keys.add("cleo", &[UserRole::User]));
        let mut env = keys.env();
        env.push(("TOOL_APPROVAL_BY", if by_approver { "approver" } else { "owner" }.into()));
        let mut one = start_replica_with(&redis, &model, &tools, env.clone()).await;
        let mut other = start_replica_with(&redis, &model, &tools, env).await;
        for service in [&mut one, &mut other] {
            service.token = Some(anna.clone());
            service.wait_for_mcp_servers().await;
        }
        let session = one.create_session().await;
        one.post(&format!("{session}/messages"), json!({"content": "change it"})).await;
        let asked = one.events(&session, "").await.until("approval_requested").await.pop().unwrap();
        let path = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
        let yes = json!({"decision": "approve"});
        let answerer = if by_approver { ("ben", ben) } else { ("anna", anna.clone()) };
        if by_approver {
            // On every replica: the owner must not answer, even as an approver, and other users need the role.
            for service in [&mut one, &mut other] {
                for (token, status) in [(&anna, 403), (&cleo, 404)] {
                    service.token = Some(token.clone());
                    let request = service.request(Method::POST, &path).json(&yes);
                    assert_eq!(service.refused(request).await.0, status);
                    assert_eq!(service.get("/v1/approvals").await["approvals"], json!([]));
                }
            }
        }
        other.token = Some(answerer.1.clone());
        one.token = Some(answerer.1);
        for service in [&one, &other] {
            let found = async || service.get("/v1/approvals").await["approvals"][0].clone();
            eventually("the approval is listed", async || found().await.is_object()).await;
            let found = found().await;
            assert_eq!((&found["user_id"], &found["approval_id"]), (&json!("anna"), &asked["approval_id"]), "{found}");
        }
        assert_eq!(tools.count_calls("change"), 0);
        let resolved = other.post(&path, yes.clone()).await;
        assert!(resolved["by"].to_string().contains(answerer.0), "{resolved}");
        one.token = Some(anna);
        let frames = one.events(&session, "").await.until("run_finished").await;
        let logged = frames.iter().find(|frame| frame["type"] == "approval_resolved").unwrap();
        assert!(logged["by"].to_string().contains(answerer.0), "{logged}");
        assert_eq!(tools.count_calls("change"), 1);
        eventually("nothing is listed any more", async || other.get("/v1/approvals").await["approvals"] == json!([]))
            .await;
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn cancel_on_another_replica_ends_the_run() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("half"), ReplyStep::Wait(gate.clone())]]);
    let tools = CountingMcpServer::new();
    let (one, other) = (start_replica(&redis, &model, &tools).await, start_replica(&redis, &model, &tools).await);
    let session = one.create_session().await;
    one.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    gate.arrived().await;
    other.post(&format!("{session}/cancel"), json!({})).await;
    let frames = other.events(&session, "").await.until("run_finished").await;
    assert_eq!(frames.last().unwrap()["outcome"], "cancelled");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn stopping_replica_hands_over_its_runs() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("half"), ReplyStep::Wait(gate.clone())], vec![text("whole")]]);
    let tools = CountingMcpServer::new();
    let (one, other) = (start_replica(&redis, &model, &tools).await, start_replica(&redis, &model, &tools).await);
    let session = one.create_session().await;
    one.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    gate.arrived().await;
    let mut watching = other.events(&session, "").await;
    let half = watching.until("token").await;
    // No other replica takes up a session that is only open.
    let idle = one.create_session().await;
    one.patch(&idle, json!({"title": "has an owner"})).await;
    let key = format!("k8sops:{{{}}}:meta", idle.trim_start_matches("/v1/sessions/"));
    assert_eq!(redis.cli(&["HEXISTS", &key, "holder"]).await.trim(), "1");
    let (_, frames) = tokio::join!(one.stop(), watching.until("run_finished"));
    assert_eq!(redis.cli(&["HEXISTS", &key, "holder"]).await.trim(), "0", "a lease outlives its owner");
    assert_gapless(&[half.clone(), frames.clone()].concat(), 1);
    let recovered = frames.iter().find(|f| f["type"] == "run_recovered").unwrap();
    assert_eq!(
        (&recovered["attempt"], &recovered["superseded"]),
        (&json!(2), &json!([half.last().unwrap()["message_id"]]))
    );
    assert_eq!(shown_text(&frames), "whole");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn redis_outage_is_reported_and_recovered() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let gate = TestGate::new();
    let model = ScriptedModel::new([
        vec![text("half"), ReplyStep::Wait(gate.clone()), text("lost")],
        vec![text("whole")],
        vec![text("again")],
    ]);
    let tools = CountingMcpServer::new();
    let service = start_replica(&redis, &model, &tools).await;
    let session = service.create_session().await;
    let mut stream = service.events(&session, "").await;
    service.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    gate.arrived().await;
    let mut frames = stream.until("token").await;
    redis.wait_until_written().await;
    redis.kill().await;
    gate.open();
    let (status, problem) = service.refused(service.request(Method::GET, &session)).await;
    assert_eq!((status, &problem["code"]), (503, &json!("store_unavailable")), "{problem}");
    let response = service.request(Method::GET, "/readyz").send().await.unwrap();
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert!(response.text().await.unwrap().contains("store"));
    frames.extend(stream.until("warning").await);
    assert_eq!(frames.last().unwrap()["code"], "store_unavailable");
    assert!(frames.iter().all(|frame| frame["type"] != "assistant_message"), "nothing is shown that is not stored");
    redis.restart().await;
    frames.extend(stream.until("run_finished").await);
    // The commit that had no answer may have been seen by others, and lost.
    let truncated = frames.iter().position(|frame| frame["type"] == "log_truncated").unwrap();
    assert_eq!(frames[truncated]["lost"], 0);
    assert_gapless(&frames[..truncated], 1);
    assert_gapless(&frames[truncated..], frames[truncated]["seq"].as_u64().unwrap());
    assert_eq!(shown_text(&frames), "whole");
    eventually("the replica is ready again", async || {
        service.request(Method::GET, "/readyz").send().await.unwrap().status() == 200
    })
    .await;
    // While Redis is paused, connections stay open and nothing responds.
    redis.pause().await;
    let (status, problem) = service.refused(service.request(Method::GET, &session)).await;
    assert_eq!((status, &problem["code"]), (503, &json!("store_unavailable")), "{problem}");
    redis.resume().await;
    eventually("it answers again", async || {
        service.request(Method::GET, &session).send().await.unwrap().status() == 200
    })
    .await;
    assert_eq!(shown_text(&service.turn(&session, "once more").await), "again");
}

/// Starts nginx with the shipped configuration in front of these ports.
async fn start_shipped_nginx(ports: &[u16]) -> NginxProxy {
    let mut config = include_str!("../../deploy/nginx/k8sops.conf").to_owned();
    for (index, port) in ports.iter().enumerate() {
        let server = format!("127.0.0.1:808{}", index + 1);
        assert!(config.contains(&server));
        config = config.replace(&server, &format!("127.0.0.1:{port}"));
    }
    NginxProxy::start_with(&testbed::path("K8SOPS_TEST_NGINX"), |port| {
        config.replace("listen 8080;", &format!("listen 127.0.0.1:{port};"))
    })
    .await
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn nginx_keeps_a_session_on_one_replica() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let (model, tools) = (ScriptedModel::new([]), CountingMcpServer::new());
    let mut replicas = Vec::new();
    for _ in 0..3 {
        replicas.push(start_replica(&redis, &model, &tools).await);
    }
    let port = |service: &TestService| service.base.rsplit(':').next().unwrap().parse::<u16>().unwrap();
    let nginx = start_shipped_nginx(&replicas.iter().map(port).collect::<Vec<_>>()).await;
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let upstream = |response: &reqwest::Response| response.headers()["x-upstream"].to_str().unwrap().to_owned();
    let metrics = client.get(format!("{}/metrics", nginx.url)).send().await.unwrap();
    assert_eq!(metrics.status(), 404, "metrics are not exposed");
    // Before a session exists, nginx hashes the client.
    let first = client.get(format!("{}/v1/info", nginx.url)).send().await.unwrap();
    let cookie = first.headers()["set-cookie"].to_str().unwrap().split(';').next().unwrap().to_owned();
    for _ in 0..5 {
        let again = client.get(format!("{}/v1/info", nginx.url)).header("cookie", &cookie).send().await.unwrap();
        assert_eq!(upstream(&again), upstream(&first));
        assert!(!again.headers().contains_key("set-cookie"));
    }
    let mut homes = Vec::new();
    for _ in 0..8 {
        let created = client.post(format!("{}/v1/sessions", nginx.url)).json(&json!({})).send().await.unwrap();
        let created: Value = created.error_for_status().unwrap().json().await.unwrap();
        let session = format!("{}/v1/sessions/{}", nginx.url, created["session_id"].as_str().unwrap());
        let looked = client.get(&session).send().await.unwrap().error_for_status().unwrap();
        let home = upstream(&looked);
        let turn = client.post(format!("{session}/messages")).header("accept", "text/event-stream");
        let turn = turn.json(&json!({"content": "hi"})).send().await.unwrap();
        assert_eq!(upstream(&turn), home);
        assert!(turn.text().await.unwrap().contains("event: run_finished"));
        let log = client.get(format!("{session}/events?follow=false")).send().await.unwrap();
        assert_eq!(upstream(&log), home);
        homes.push((session, home));
    }
    let distinct: std::collections::BTreeSet<&String> = homes.iter().map(|(_, home)| home).collect();
    assert!(distinct.len() > 1, "{distinct:?}");
    // One replica stops: its sessions move to others, and all other sessions stay.
    let gone = replicas.remove(0);
    let address = gone.base.trim_start_matches("http://").to_owned();
    gone.stop().await;
    for (session, home) in &homes {
        let turn = client.post(format!("{session}/messages")).header("accept", "text/event-stream");
        let turn = turn.json(&json!({"content": "again"})).send().await.unwrap();
        // After a failed attempt nginx names both.
        let now = upstream(&turn);
        assert!(*home == address || now == *home, "{home} -> {now}");
        assert!(turn.text().await.unwrap().contains("event: run_finished"), "{home} -> {now}");
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn watchers_share_redis_connections() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let (model, tools) = (ScriptedModel::new([]), CountingMcpServer::new());
    let (one, other) = (start_replica(&redis, &model, &tools).await, start_replica(&redis, &model, &tools).await);
    let (mut sessions, mut watchers) = (Vec::new(), Vec::new());
    for n in 0..10 {
        let session = one.create_session().await;
        for _ in 0..20 {
            watchers.push((n, if n % 2 == 0 { &one } else { &other }.events(&session, "").await));
        }
        sessions.push(session);
    }
    for session in &sessions {
        one.post(&format!("{session}/messages"), json!({"content": "hi"})).await;
    }
    for (_, watcher) in &mut watchers {
        assert_gapless(&watcher.until("run_finished").await, 1);
    }
    let clients = redis.cli(&["client", "list"]).await.lines().count();
    // Each replica has connections for commits, reads and notifications, and up to 8 each for large reads and large writes;
    // redis-cli has one.
    assert!(clients <= 2 * (3 + 8 + 8) + 1, "{clients} connections for {} watchers", watchers.len());
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn service_survives_a_redis_failover() {
    let sentinel = RedisSentinel::start(RedisFlavor::Debian).await;
    let (model, tools) = (ScriptedModel::new([]), CountingMcpServer::new());
    let env = vec![
        ("MEMORY_BACKEND", "redis".into()),
        ("REDIS_URL", sentinel.urls().join(",")),
        ("REDIS_TOPOLOGY", "sentinel".into()),
        ("REDIS_SENTINEL_MASTER", sentinel.service_name().into()),
    ];
    let setup =
        ServiceSetup { model: Some(model.clone()), servers: vec![tools.connector()], env, ..ServiceSetup::default() };
    let service = TestService::start(setup).await;
    let session = service.create_session().await;
    service.turn(&session, "before").await;
    let mut watching = service.events(&session, "").await;
    watching.until("run_finished").await;
    let before = service.log(&session).await;
    sentinel.wait_until_replicated().await;
    let master = sentinel.master_port().await;
    sentinel.kill_master().await;
    sentinel.wait_for_failover(master).await;
    eventually("the replica is ready again", async || {
        service.request(Method::GET, "/readyz").send().await.unwrap().status() == 200
    })
    .await;
    service.turn(&session, "after").await;
    let after = service.log(&session).await;
    assert_eq!(after[..before.len()], before);
    assert_gapless(&before, 1);
    let continued = &after[before.len()..];
    // A failover that takes longer than the lease leaves out seqs which another owner may have used.
    if continued[0]["type"] == "log_truncated" {
        assert_eq!(continued[0]["lost"], 0);
    } else {
        assert_gapless(&after, 1);
    }
    assert_gapless(continued, continued[0]["seq"].as_u64().unwrap());
    let watched = watching.until("run_finished").await;
    assert_gapless(&watched, continued[0]["seq"].as_u64().unwrap());
}
