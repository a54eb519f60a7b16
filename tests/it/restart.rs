//! Restarts: durable data is kept, runs in progress are resumed, no tool call runs twice.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    program::k8sops_command,
    service::{ServiceSetup, TestService, assert_gapless, problem},
};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    eventually,
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
};

fn setup_with(model: &Arc<ScriptedModel>) -> ServiceSetup {
    ServiceSetup { model: Some(model.clone()), ..ServiceSetup::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn conversation_continues_after_restart() {
    let model = ScriptedModel::new([]);
    let first = TestService::start(setup_with(&model)).await;
    let session = first.create_session().await;
    first.turn(&session, "remember me").await;
    let (view, log) = (first.get(&session).await, first.log(&session).await);
    let data = first.stop().await;

    let second = TestService::start(ServiceSetup { data: Some(data), ..setup_with(&model) }).await;
    assert_eq!(second.get(&session).await, view);
    assert_eq!(second.log(&session).await, log);
    assert_eq!(second.get("/v1/sessions").await["sessions"][0], view);
    second.turn(&session, "and now?").await;
    assert_eq!(model.requests().last().unwrap().messages.len(), 5);
    assert_gapless(&second.log(&session).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupted_run_is_finished_by_the_next_process() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("half"), ReplyStep::Wait(gate.clone())], vec![text("whole")]]);
    let first = TestService::start(setup_with(&model)).await;
    let session = first.create_session().await;
    first.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    first.post(&format!("{session}/messages"), json!({"content": "and then"})).await;
    gate.arrived().await;
    let data = first.stop().await;

    let second = TestService::start(ServiceSetup { data: Some(data), ..setup_with(&model) }).await;
    let mut stream = second.events(&session, "").await;
    let mut frames = stream.until("run_finished").await;
    let recovered = frames.iter().find(|f| f["type"] == "run_recovered").unwrap();
    assert_eq!(recovered["attempt"], 2);
    let said: Vec<_> =
        frames.iter().filter(|f| f["type"] == "assistant_message").map(|f| f["content"].clone()).collect();
    assert_eq!(said, ["whole"]);
    // The queued message gets its run, too.
    frames.extend(stream.until("run_finished").await);
    assert_gapless(&frames, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_approval_survives_restart() {
    let model = ScriptedModel::new([vec![call("change", json!({"n": 1}))]]);
    let tools = CountingMcpServer::new();
    let with_tools = |data| ServiceSetup { data, servers: vec![tools.connector()], ..setup_with(&model) };
    let first = TestService::start(with_tools(None)).await;
    first.wait_for_mcp_servers().await;
    let session = first.create_session().await;
    first.post(&format!("{session}/messages"), json!({"content": "change it"})).await;
    let asked = first.events(&session, "").await.until("approval_requested").await.pop().unwrap();
    let data = first.stop().await;
    assert_eq!(tools.count_calls("change"), 0);

    let second = TestService::start(with_tools(Some(data))).await;
    second.wait_for_mcp_servers().await;
    let path = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
    let answer = second.post(&path, json!({"decision": "approve"})).await;
    assert_eq!(answer["decision"], "approve");
    let frames = second.events(&session, "").await.until("run_finished").await;
    assert_eq!(frames.iter().filter(|f| f["type"] == "approval_requested").count(), 1);
    assert_eq!(tools.count_calls("change"), 1);
    let (status, problem) =
        second.refused(second.request(reqwest::Method::POST, &path).json(&json!({"decision": "deny"}))).await;
    assert_eq!((status, &problem["code"]), (404, &json!("approval_not_found")));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutdown_waits_for_the_running_tool_call() {
    let model = ScriptedModel::new([vec![call("change", json!({}))]]);
    let tools = CountingMcpServer::new();
    let with_tools = |data| ServiceSetup {
        data,
        servers: vec![tools.connector()],
        env: vec![("TOOL_APPROVAL", "auto".into())],
        ..setup_with(&model)
    };
    let first = TestService::start(with_tools(None)).await;
    first.wait_for_mcp_servers().await;
    let session = first.create_session().await;
    let held = tools.hold_calls("change");
    first.post(&format!("{session}/messages"), json!({"content": "change it"})).await;
    held.arrived().await;
    let (data, ()) = tokio::join!(first.stop(), async { held.open() });

    let second = TestService::start(with_tools(Some(data))).await;
    let frames = second.events(&session, "").await.until("run_finished").await;
    let end = frames.iter().find(|f| f["type"] == "tool_end").unwrap();
    assert_eq!(end["status"], "ok");
    assert_eq!(tools.count_calls("change"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn resumed_run_waits_for_mcp_tools() {
    let model = ScriptedModel::new([
        vec![call("change", json!({}))],
        vec![call("look", json!({}))],
        vec![call("look", json!({}))],
    ]);
    let tools = CountingMcpServer::new();
    let first = TestService::start(ServiceSetup { servers: vec![tools.connector()], ..setup_with(&model) }).await;
    first.wait_for_mcp_servers().await;
    let (session, other) = (first.create_session().await, first.create_session().await);
    first.post(&format!("{session}/messages"), json!({"content": "change it"})).await;
    let asked = first.events(&session, "").await.until("approval_requested").await.pop().unwrap();
    let data = first.stop().await;

    let gate = TestGate::new();
    let servers = vec![tools.connector_behind(gate.clone())];
    let second = TestService::start(ServiceSetup { data: Some(data), servers, ..setup_with(&model) }).await;
    gate.arrived().await;
    second.post(&format!("{other}/messages"), json!({"content": "look"})).await;
    let approval = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
    second.post(&approval, json!({"decision": "approve"})).await;
    assert!(second.log(&session).await.iter().all(|event| event["type"] != "tool_end"));
    gate.open();
    for session in [&session, &other] {
        let frames = second.events(session, "").await.until("run_finished").await;
        let ends: Vec<_> = frames.iter().filter(|f| f["type"] == "tool_end").map(|f| &f["status"]).collect();
        assert!(!ends.is_empty() && ends.iter().all(|status| **status == "ok"), "{ends:?}");
    }
    assert_eq!((tools.count_calls("change"), tools.count_calls("look")), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn change_with_lost_outcome_is_not_repeated() {
    let model = ScriptedModel::new([vec![call("change", json!({})), call("look", json!({}))]]);
    let tools = CountingMcpServer::new();
    let with_tools = |data| ServiceSetup {
        data,
        servers: vec![tools.connector()],
        env: vec![("TOOL_APPROVAL", "auto".into())],
        ..setup_with(&model)
    };
    let first = TestService::start(with_tools(None)).await;
    first.wait_for_mcp_servers().await;
    let session = first.create_session().await;
    let (change, look) = (tools.hold_calls("change"), tools.hold_calls("look"));
    first.post(&format!("{session}/messages"), json!({"content": "go"})).await;
    change.arrived().await;
    look.arrived().await;
    let mut stream = first.events(&session, "").await;
    stream.until("tool_start").await;
    stream.until("tool_start").await;
    // A killed process leaves the disk in this state.
    let copy = first.copy_data();
    change.open();
    look.open();
    stream.until("run_finished").await;
    first.stop().await;
    assert_eq!(tools.count_calls("change"), 1);

    look.open();
    let second = TestService::start(with_tools(Some(copy))).await;
    let frames = second.events(&session, "").await.until("run_finished").await;
    assert_gapless(&frames, 1);
    let ended = |name: &str| -> Value {
        let start = frames.iter().rfind(|f| f["type"] == "tool_start" && f["name"] == name).unwrap();
        frames.iter().find(|f| f["type"] == "tool_end" && f["tool_call_id"] == start["tool_call_id"]).unwrap().clone()
    };
    assert_eq!((&ended("change")["status"], &ended("look")["status"]), (&json!("unknown"), &json!("ok")));
    assert_eq!((tools.count_calls("change"), tools.count_calls("look")), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_service_is_alive_but_not_ready() {
    let counting = CountingMcpServer::new();
    let held = counting.hold_calls("look");
    let model = ScriptedModel::new([vec![call("look", json!({}))]]);
    let service = TestService::start(ServiceSetup { servers: vec![counting.connector()], ..setup_with(&model) }).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "look"})).await;
    held.arrived().await;
    assert_eq!(service.get("/readyz").await["status"], "ok");
    // The shutdown waits for the call, which is not canceled.
    service.request_stop();
    let not_ready = eventually("the service is not ready", async || {
        let response = service.request(Method::GET, "/readyz").send().await.unwrap();
        (response.status() != 200).then_some(response)
    });
    let (status, problem) = problem(not_ready.await).await;
    assert_eq!((status, &problem["code"]), (503, &json!("stopping")));
    assert_eq!(service.get("/healthz").await["status"], "ok");
    held.open();
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn folder_that_is_away_is_unavailable_and_not_an_unknown_session() {
    let dir = tempfile::TempDir::new().unwrap();
    let (root, away) = (dir.path().join("store"), dir.path().join("away"));
    let env = vec![("MEMORY_FILESYSTEM_PATH", root.to_str().unwrap().to_owned())];
    let service = TestService::start(ServiceSetup { env, ..setup_with(&ScriptedModel::new([])) }).await;
    let session = service.create_session().await;
    service.turn(&session, "remember me").await;
    std::fs::rename(&root, &away).unwrap();
    let requests = || {
        [
            service.request(Method::GET, "/readyz"),
            service.request(Method::GET, &session),
            service.request(Method::GET, &format!("{session}/messages")),
            service.request(Method::POST, &format!("{session}/messages")).json(&json!({"content": "hello?"})),
            service.request(Method::POST, "/v1/sessions"),
            service.request(Method::DELETE, &session),
        ]
    };
    for request in requests() {
        let (status, problem) = service.refused(request).await;
        assert_eq!((status, &problem["code"]), (503, &json!("store_unavailable")), "{problem}");
    }
    assert!(!root.exists());
    std::fs::rename(&away, &root).unwrap();
    eventually("the service is ready", async || {
        service.request(Method::GET, "/readyz").send().await.unwrap().status() == 200
    })
    .await;
    service.turn(&session, "back again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_last_line_is_kept_and_named() {
    let first = TestService::start(setup_with(&ScriptedModel::new([]))).await;
    let session = first.create_session().await;
    first.turn(&session, "remember me").await;
    let data = first.stop().await;
    let id = session.rsplit('/').next().unwrap();
    let users = std::fs::read_dir(data.path().join("sessions")).unwrap();
    let file = users.map(|user| user.unwrap().path()).next().unwrap().join(format!("{id}.jsonl"));
    let mut log = std::fs::read(&file).unwrap();
    let at = log.len() - 30;
    log[at] ^= 1;
    std::fs::write(&file, &log).unwrap();
    let mut doctor = k8sops_command();
    let output = doctor.arg("doctor").env("MEMORY_FILESYSTEM_PATH", data.path()).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().any(|line| line.starts_with("FAIL  store") && line.contains(id)), "{text}");

    let second = TestService::start(ServiceSetup { data: Some(data), ..setup_with(&ScriptedModel::new([])) }).await;
    let message = second.request(Method::POST, &format!("{session}/messages")).json(&json!({"content": "hello?"}));
    let (status, problem) = second.refused(message).await;
    assert_eq!((status, &problem["code"]), (500, &json!("session_damaged")));
    let line = log.split(|byte| *byte == b'\n').count() - 1;
    let detail = problem["detail"].as_str().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for word in [format!("line {line} at byte "), format!("written by k8sops {version}"), "checksum".to_owned()] {
        assert!(detail.contains(&word), "{word} is not in: {detail}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), log, "the file is left as it is");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_checkpoint_is_replaced_and_loses_nothing() {
    let model = ScriptedModel::new([]);
    let first = TestService::start(setup_with(&model)).await;
    let session = first.create_session().await;
    for _ in 0..2 {
        first.turn(&session, &"remember me ".repeat(5000)).await;
    }
    let (view, log) = (first.get(&session).await, first.log(&session).await);
    let data = first.stop().await;
    let id = session.rsplit('/').next().unwrap();
    let users = std::fs::read_dir(data.path().join("sessions")).unwrap();
    let file = users.map(|user| user.unwrap().path()).next().unwrap().join(format!("{id}.jsonl"));
    let count_checkpoints = || std::fs::read_to_string(&file).unwrap().matches("\"checkpoint\":{").count();
    let checkpoints = count_checkpoints();
    let stored = std::fs::read_to_string(&file).unwrap();
    assert!(checkpoints > 0);
    std::fs::write(&file, stored.replace("\"checkpoint\":{\"state\"", "\"checkpoint\":{\"stata\"")).unwrap();

    let second = TestService::start(ServiceSetup { data: Some(data), ..setup_with(&model) }).await;
    assert_eq!(second.get(&session).await, view);
    assert_eq!(second.get(&format!("{session}/messages")).await["messages"].as_array().unwrap().len(), 4);
    second.turn(&session, "and now?").await;
    assert_eq!(second.log(&session).await[..log.len()], log);
    assert_eq!(model.requests().last().unwrap().messages.len(), 8);
    assert_eq!(count_checkpoints(), checkpoints + 1, "another one is written");
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_session_is_reported_and_can_be_deleted() {
    let first = TestService::start(setup_with(&ScriptedModel::new([]))).await;
    let (session, other) = (first.create_session().await, first.create_session().await);
    first.turn(&session, "remember me").await;
    let data = first.stop().await;
    let id = session.rsplit('/').next().unwrap();
    let users = std::fs::read_dir(data.path().join("sessions")).unwrap();
    let folder = users.map(|user| user.unwrap().path()).next().unwrap();
    let file = folder.join(format!("{id}.jsonl"));
    let log = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, log.replacen('\n', "\ngarbage\n", 1)).unwrap();

    let mut doctor = k8sops_command();
    let output = doctor.arg("doctor").env("MEMORY_FILESYSTEM_PATH", data.path()).output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let named =
        |line: &&str| line.starts_with("FAIL  store") && line.contains(id) && line.contains("delete the session");
    assert!(text.lines().any(|line| named(&line)), "{text}");

    let second = TestService::start(ServiceSetup { data: Some(data), ..setup_with(&ScriptedModel::new([])) }).await;
    second.turn(&other, "all well?").await;
    for path in [session.clone(), format!("{session}/events"), format!("{session}/messages")] {
        let (status, problem) = second.refused(second.request(Method::GET, &path)).await;
        assert_eq!((status, &problem["code"]), (500, &json!("session_damaged")), "{path}");
        let detail = problem["detail"].as_str().unwrap();
        for word in [file.to_str().unwrap(), "repair", "delete the session"] {
            assert!(detail.contains(word), "{word} is not in: {detail}");
        }
    }
    let message = second.request(Method::POST, &format!("{session}/messages")).json(&json!({"content": "hello?"}));
    assert_eq!(second.refused(message).await.1["code"], "session_damaged");
    let listed = second.get("/v1/sessions").await["sessions"].as_array().unwrap().clone();
    let damaged = listed.iter().find(|listed| listed["session_id"] == id).unwrap();
    assert!(damaged["title"] == "remember me" && damaged["preview"].as_str().unwrap().contains("damaged"), "{damaged}");
    let response = second.request(Method::DELETE, &session).send().await.unwrap();
    assert_eq!(response.status(), 204);
    assert!(!file.exists());
    assert_eq!(second.refused(second.request(Method::GET, &session)).await.0, 404);
}
