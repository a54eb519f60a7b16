//! `GET /v1/events`: what changes of all sessions of a caller, and what waits for the caller.

use futures_util::{SinkExt as _, StreamExt as _};
use k8sops::auth::UserRole;
use reqwest::{Method, Response};
use serde_json::{Value, json};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{self, Message},
};

use crate::{
    identity::{start_waiting_session, with_change},
    keys::ApiKeyFile,
    service::{ServiceSetup, TestService},
};
use k8sops_testing::{
    TEST_TIMEOUT,
    counting_server::CountingMcpServer,
    redis::{RedisFlavor, RedisServer},
    scripted_model::{ReplyStep, ScriptedModel, TestGate, text},
};

/// A stream of an account as NDJSON.
struct AccountStream {
    body: futures_util::stream::BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: String,
}

impl AccountStream {
    async fn open(service: &TestService, query: &str) -> Self {
        let response = request_stream(service, query).await;
        assert_eq!(response.status(), 200);
        Self { body: response.bytes_stream().boxed(), buffer: String::new() }
    }

    async fn next(&mut self) -> Option<Value> {
        loop {
            while let Some(end) = self.buffer.find('\n') {
                let line: String = self.buffer.drain(..=end).collect();
                if !line.trim().is_empty() {
                    return Some(serde_json::from_str(&line).unwrap());
                }
            }
            let piece = tokio::time::timeout(TEST_TIMEOUT, self.body.next()).await.expect("the stream continues")?;
            self.buffer.push_str(std::str::from_utf8(&piece.ok()?).unwrap());
        }
    }

    /// Reads frames up to the first of this type, inclusive.
    async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let frame = self.next().await.unwrap_or_else(|| panic!("the stream ended before {kind}: {frames:?}"));
            let is_last = frame["type"] == kind;
            frames.push(frame);
            if is_last {
                return frames;
            }
        }
    }

    async fn rest(mut self) -> Vec<Value> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}

async fn request_stream(service: &TestService, query: &str) -> Response {
    let request = service.request(Method::GET, &format!("/v1/events{query}"));
    request.header("accept", "application/x-ndjson").send().await.unwrap()
}

fn kinds(frames: &[Value]) -> Vec<&str> {
    frames.iter().map(|frame| frame["type"].as_str().unwrap()).collect()
}

fn newest_cursor(frames: &[Value]) -> String {
    frames.iter().rev().find_map(|frame| frame["cursor"].as_str()).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_all_own_sessions_are_streamed_and_resumed() {
    let mut keys = ApiKeyFile::new();
    let (anna, ben) = (keys.add("anna", &[UserRole::User]), keys.add("ben", &[UserRole::User]));
    let model = Some(ScriptedModel::new([]) as _);
    let env = keys.env().into_iter().chain([("MAX_SESSIONS", "3".to_owned())]).collect();
    let mut service = TestService::start(ServiceSetup { env, model, ..ServiceSetup::default() }).await;
    service.token = Some(ben.clone());
    let mut others = AccountStream::open(&service, "?follow=true").await;
    service.token = Some(anna.clone());
    let mut stream = AccountStream::open(&service, "?follow=true").await;
    let hello = stream.next().await.unwrap();
    assert_eq!((&hello["type"], &hello["user_id"]), (&json!("hello"), &json!("anna")));
    let first = service.create_session().await;
    service.turn(&first, "why is it slow?").await;
    let frames = stream.until("run_finished").await;
    assert_eq!(kinds(&frames), ["session_created", "title_changed", "run_started", "run_finished"]);
    assert!(frames.iter().all(|frame| frame["user_id"] == "anna" && frame["cursor"].is_string()), "{frames:?}");
    assert_eq!(frames[1]["title"], "why is it slow?");
    service.request(Method::DELETE, &first).send().await.unwrap();
    let deleted = stream.until("session_deleted").await.pop().unwrap();
    assert_eq!((&deleted["reason"], &deleted["session_id"]), (&json!("deleted"), &frames[0]["session_id"]));
    let cursor = newest_cursor(&[deleted]);
    // What happens while no stream is open, also while the service is stopped, is in the next one.
    drop(stream);
    let sessions: Vec<String> = futures_util::future::join_all((0..3).map(|_| service.create_session())).await;
    service.turn(&sessions[2], "again").await;
    service.create_session().await;
    let data = Some(service.stop().await);
    let model = Some(ScriptedModel::new([]) as _);
    let mut service =
        TestService::start(ServiceSetup { model, env: keys.env(), data, ..ServiceSetup::default() }).await;
    service.token = Some(anna);
    let missed = AccountStream::open(&service, &format!("?after={cursor}")).await.rest().await;
    let missed_kinds = kinds(&missed);
    for kind in ["session_created", "title_changed", "run_started", "run_finished", "session_deleted"] {
        assert!(missed_kinds.contains(&kind), "{kind}: {missed_kinds:?}");
    }
    assert!(missed.iter().any(|frame| frame["reason"] == "evicted"), "{missed:?}");
    assert!(!missed_kinds.contains(&"gap"), "{missed_kinds:?}");
    let old = AccountStream::open(&service, "?after=1").await.rest().await;
    assert!(kinds(&old).contains(&"gap"), "{old:?}");
    for wrong in ["?after=x", "?after=-1", "?since=1"] {
        assert_eq!(request_stream(&service, wrong).await.status(), 400, "{wrong}");
    }
    // Another user saw nothing of it.
    assert_eq!(others.next().await.unwrap()["type"], "hello");
    assert_eq!(others.next().await, None, "the service was stopped");
    service.token = Some(ben);
    let none = AccountStream::open(&service, &format!("?after={cursor}")).await.rest().await;
    assert_eq!(kinds(&none), ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn websocket_has_the_same_frames_and_is_opened_with_a_ticket() {
    let mut keys = ApiKeyFile::new();
    let anna = keys.add("anna", &[UserRole::User]);
    let model = Some(ScriptedModel::new([]) as _);
    let mut service = TestService::start(ServiceSetup { env: keys.env(), model, ..ServiceSetup::default() }).await;
    service.token = Some(anna);
    let address = service.base.replacen("http", "ws", 1) + "/v1/events";
    let refused = connect_async(&address).await.unwrap_err();
    assert!(matches!(refused, tungstenite::Error::Http(answer) if answer.status() == 401));
    let open = async |query: &str| {
        let ticket = service.post("/v1/tickets", json!({})).await["ticket"].as_str().unwrap().to_owned();
        connect_async(format!("{address}?ticket={ticket}{query}")).await.unwrap().0
    };
    let next = async |socket: &mut WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>| loop {
        let message = tokio::time::timeout(TEST_TIMEOUT, socket.next()).await.expect("the stream continues");
        match message {
            Some(Ok(Message::Text(text))) => break serde_json::from_str::<Value>(&text).unwrap(),
            Some(Ok(Message::Close(reason))) => break json!({"closed": reason.map(|reason| u16::from(reason.code))}),
            Some(Ok(_)) => {}
            other => panic!("{other:?}"),
        }
    };
    let mut socket = open("").await;
    let hello = next(&mut socket).await;
    assert_eq!((&hello["type"], &hello["user_id"]), (&json!("hello"), &json!("anna")));
    let session = service.create_session().await;
    service.turn(&session, "why is it slow?").await;
    let mut frames = Vec::new();
    while frames.last().is_none_or(|frame: &Value| frame["type"] != "run_finished") {
        frames.push(next(&mut socket).await);
    }
    assert_eq!(kinds(&frames), ["session_created", "title_changed", "run_started", "run_finished"]);
    // It is resumed by a cursor, also without following.
    let cursor = frames[2]["cursor"].as_str().unwrap();
    let mut known = open(&format!("&follow=false&after={cursor}")).await;
    let mut rest = Vec::new();
    while rest.last().is_none_or(|frame: &Value| frame["closed"].is_null()) {
        rest.push(next(&mut known).await);
    }
    assert_eq!(rest.pop().unwrap()["closed"], 1000);
    assert!(kinds(&rest).contains(&"run_finished"), "{rest:?}");
    // It takes no commands.
    socket.send(Message::Text("{}".into())).await.unwrap();
    assert_eq!(next(&mut socket).await["closed"], 1008);
    let mut last = open("").await;
    next(&mut last).await;
    service.stop().await;
    assert_eq!(next(&mut last).await["closed"], 1001);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_is_announced_with_who_answered() {
    let tools = CountingMcpServer::new();
    let service = TestService::start(with_change(Vec::new(), &tools)).await;
    let mut stream = AccountStream::open(&service, "?follow=true").await;
    assert_eq!(stream.next().await.unwrap()["approvals"], json!([]));
    let (session, asked) = start_waiting_session(&service).await;
    let waiting = stream.until("approval_requested").await.pop().unwrap();
    assert_eq!((&waiting["approval_id"], &waiting["name"]), (&asked["approval_id"], &json!("change")));
    let hello = AccountStream::open(&service, "").await.next().await.unwrap();
    assert_eq!(hello["approvals"], json!([asked["approval_id"]]));
    // A message that waits behind the run.
    service.post(&format!("{session}/messages"), json!({"content": "and then?"})).await;
    let queued = stream.until("message_queued").await.pop().unwrap();
    assert_eq!(session.rsplit('/').next(), queued["session_id"].as_str());
    let path = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
    service.post(&path, json!({"decision": "deny"})).await;
    let answered = stream.until("approval_resolved").await.pop().unwrap();
    assert_eq!((&answered["decision"], &answered["by"]), (&json!("deny"), &json!("user:default")));
    stream.until("run_finished").await;
    let info = service.get("/v1/info").await;
    assert_eq!((&info["user_id"], &info["approvals_by"]), (&json!("default"), &json!("owner")));
    assert!(info["roles"].as_array().unwrap().contains(&json!("user")), "{info}");
}

#[tokio::test(flavor = "multi_thread")]
async fn approver_sees_the_approvals_of_others() {
    let mut keys = ApiKeyFile::new();
    let (anna, ben) = (keys.add("anna", &[UserRole::User]), keys.add("ben", &[UserRole::Approver]));
    let tools = CountingMcpServer::new();
    let env = keys.env().into_iter().chain([("TOOL_APPROVAL_BY", "approver".to_owned())]).collect();
    let mut service = TestService::start(with_change(env, &tools)).await;
    service.token = Some(ben);
    let mut stream = AccountStream::open(&service, "?follow=true").await;
    stream.next().await.unwrap();
    service.token = Some(anna);
    let (session, asked) = start_waiting_session(&service).await;
    assert_eq!(asked["answered_by"], "approver");
    let seen = stream.next().await.unwrap();
    assert_eq!((&seen["type"], &seen["user_id"]), (&json!("approval_requested"), &json!("anna")), "and nothing else");
    assert_eq!(seen["approval_id"], asked["approval_id"]);
    service.post(&format!("{session}/cancel"), json!({})).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn changes_are_streamed_and_resumed_on_other_replicas() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![ReplyStep::Wait(gate.clone()), text("done")], vec![text("more")]]);
    let start = async || {
        let env = vec![("MEMORY_BACKEND", "redis".to_owned()), ("REDIS_URL", redis.url())];
        TestService::start(ServiceSetup { model: Some(model.clone() as _), env, ..ServiceSetup::default() }).await
    };
    let (one, other) = (start().await, start().await);
    let mut stream = AccountStream::open(&other, "?follow=true").await;
    stream.next().await.unwrap();
    let session = one.create_session().await;
    stream.until("session_created").await;
    one.post(&format!("{session}/messages"), json!({"content": "think"})).await;
    stream.until("run_started").await;
    gate.arrived().await;
    one.post(&format!("{session}/messages"), json!({"content": "next"})).await;
    stream.until("message_queued").await;
    gate.open();
    let frames = stream.until("run_finished").await;
    let cursor = newest_cursor(&frames);
    drop(stream);
    one.events(&session, "").await.until("run_finished").await;
    one.request(Method::DELETE, &session).send().await.unwrap();
    let missed = AccountStream::open(&other, &format!("?after={cursor}")).await.rest().await;
    assert!(kinds(&missed).contains(&"session_deleted"), "{missed:?}");
    // A ticket and a link of one replica are known to the other.
    let session = one.create_session().await;
    let ticket = one.post("/v1/tickets", json!({})).await["ticket"].as_str().unwrap().to_owned();
    let share = one.post(&format!("{session}/shares"), json!({})).await["path"].as_str().unwrap().to_owned();
    for (path, status) in
        [(format!("{session}?ticket={ticket}"), 200), (format!("{session}?ticket={ticket}"), 401), (share, 200)]
    {
        assert_eq!(other.request(Method::GET, &path).send().await.unwrap().status(), status, "{path}");
    }
    let create = async |service: &TestService| {
        let request = service.request(Method::POST, "/v1/sessions").header("idempotency-key", "k");
        request.send().await.unwrap().json::<Value>().await.unwrap()["session_id"].clone()
    };
    assert_eq!(create(&one).await, create(&other).await);
}
