//! Messages and turns: durable acceptance, order, streaming, and cancellation.

use k8sops_models::{ModelError, ModelErrorKind};
use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ServiceSetup, TestService, assert_gapless, frame_types, shown_text};
use k8sops_testing::{
    eventually,
    scripted_model::{ReplyStep, ScriptedModel, TestGate, text},
};

#[tokio::test(flavor = "multi_thread")]
async fn one_request_completes_a_turn() {
    let model = ScriptedModel::new([vec![ReplyStep::Reasoning("hm".into()), text("All "), text("is "), text("well.")]]);
    let service = TestService::with(&model).await;
    let session = service.create_session().await;
    let frames = service.turn(&session, "how is it?").await;
    assert_eq!(frames[0]["type"], "hello");
    assert_eq!(frames[1]["type"], "user_message");
    assert_eq!(frames.last().unwrap()["type"], "run_finished");
    assert_eq!(shown_text(&frames), "All is well.");
    let whole = frames.iter().find(|f| f["type"] == "assistant_message").unwrap();
    assert_eq!((&whole["content"], &whole["reasoning"]), (&json!("All is well."), &json!("hm")));
    let run = &whole["run_id"];
    assert!(frames.iter().skip(1).all(|f| &f["run_id"] == run), "only this run's frames");
}

#[tokio::test(flavor = "multi_thread")]
async fn accepted_message_returns_its_run_id() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    let response = service
        .request(Method::POST, &format!("{session}/messages"))
        .json(&json!({"content": "hi"}))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 202);
    let accepted: Value = response.json().await.unwrap();
    let frames = service.events(&session, &format!("?after={}", accepted["seq"])).await.until("run_finished").await;
    let message = frames.iter().find(|f| f["type"] == "user_message").unwrap();
    assert_eq!(message["message_id"], accepted["message_id"]);
    assert_eq!(message["command_id"], accepted["command_id"]);
    assert_eq!(frames.last().unwrap()["run_id"], accepted["run_id"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn idempotency_key_is_bound_to_its_message() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    let send = |content: &'static str| {
        service
            .request(Method::POST, &format!("{session}/messages"))
            .header("idempotency-key", "k-1")
            .json(&json!({"content": content}))
    };
    let first: Value = send("hi").send().await.unwrap().json().await.unwrap();
    service.events(&session, "").await.until("run_finished").await;
    let second: Value = send("hi").send().await.unwrap().json().await.unwrap();
    assert_eq!((&first["duplicate"], &second["duplicate"]), (&json!(false), &json!(true)));
    for field in ["run_id", "message_id", "seq", "command_id"] {
        assert_eq!(first[field], second[field], "{field}");
    }
    let (status, problem) = service.refused(send("something else")).await;
    assert_eq!((status, &problem["code"]), (422, &json!("command_id_reused")));
    service.turn(&session, "go on").await;
    let messages = service.log(&session).await.iter().filter(|e| e["type"] == "user_message").count();
    assert_eq!(messages, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_turn_request_replays_the_run() {
    let service = TestService::with(&ScriptedModel::new([vec![text("once")]])).await;
    let session = service.create_session().await;
    let turn = || async {
        let response = service
            .request(Method::POST, &format!("{session}/messages"))
            .header("idempotency-key", "k-2")
            .header("accept", "text/event-stream")
            .json(&json!({"content": "hi"}))
            .send()
            .await
            .unwrap();
        crate::service::EventStream::new(response).rest().await
    };
    let (first, second) = (turn().await, turn().await);
    let logged = |frames: &[Value]| frames.iter().filter(|f| f["seq"].is_u64()).cloned().collect::<Vec<_>>();
    assert_eq!(logged(&first), logged(&second));
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_messages_do_not_interleave() {
    let service =
        TestService::with(&ScriptedModel::new([vec![text("one")], vec![text("two")], vec![text("three")]])).await;
    let session = service.create_session().await;
    let turns = futures_util::future::join_all(["a", "b", "c"].map(|content| service.turn(&session, content))).await;
    let mut said: Vec<String> = turns.iter().map(|frames| shown_text(frames)).collect();
    said.sort();
    assert_eq!(said, ["one", "three", "two"]);
    let log = service.log(&session).await;
    assert_gapless(&log, 1);
    let mut open = None;
    for event in log.iter().filter(|e| e["run_id"].is_string()) {
        match event["type"].as_str().unwrap() {
            "user_message" => assert_eq!(open.replace(event["run_id"].clone()), None, "a run began within another"),
            "run_finished" => assert_eq!(open.take(), Some(event["run_id"].clone())),
            _ => assert_eq!(open.as_ref(), Some(&event["run_id"])),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn busy_session_refuses_message_on_request() {
    let gate = TestGate::new();
    let service = TestService::with(&ScriptedModel::new([vec![ReplyStep::Wait(gate.clone()), text("done")]])).await;
    let session = service.create_session().await;
    let path = format!("{session}/messages");
    service.post(&path, json!({"content": "long"})).await;
    gate.arrived().await;
    let reject = json!({"content": "me too", "on_busy": "reject"});
    let (status, problem) = service.refused(service.request(Method::POST, &path).json(&reject)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("busy")));
    gate.open();
    service.events(&session, "").await.until("run_finished").await;
    service.post(&path, reject).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn interrupting_message_cancels_the_run_and_skips_the_queue() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("let me think"), ReplyStep::Wait(gate.clone())]]);
    let service = TestService::with(&model).await;
    let session = service.create_session().await;
    let path = format!("{session}/messages");
    service.post(&path, json!({"content": "first"})).await;
    gate.arrived().await;
    service.post(&path, json!({"content": "waits"})).await;
    service.post(&path, json!({"content": "stop!", "on_busy": "interrupt"})).await;
    let mut stream = service.events(&session, "").await;
    let mut frames = stream.until("run_finished").await;
    assert_eq!(frames.last().unwrap()["outcome"], "cancelled");
    frames.extend(stream.until("run_finished").await);
    frames.extend(stream.until("run_finished").await);
    let said: Vec<_> = frames.iter().filter(|f| f["type"] == "user_message").map(|f| f["content"].clone()).collect();
    assert_eq!(said, ["first", "stop!", "waits"]);
    assert_gapless(&frames, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_turn_keeps_its_partial_text() {
    let model = ScriptedModel::new([vec![text("half"), ReplyStep::Hang]]);
    let service = TestService::with(&model).await;
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "write"})).await;
    let mut stream = service.events(&session, "").await;
    stream.until("token").await;
    let cancelled = service.post(&format!("{session}/cancel"), json!({})).await;
    assert!(cancelled["run_id"].is_string());
    let frames = stream.until("run_finished").await;
    assert_eq!(frames.last().unwrap()["outcome"], "cancelled");
    let kept = frames.iter().find(|f| f["type"] == "assistant_message").unwrap();
    assert_eq!((&kept["content"], &kept["stop_reason"]), (&json!("half"), &json!("cancelled")));
    let next = service.turn(&session, "again").await;
    assert_eq!(next.last().unwrap()["outcome"], "completed");
    assert_eq!(model.requests().last().unwrap().messages.len(), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn cancel_without_a_run_succeeds() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    let response = service.request(Method::POST, &format!("{session}/cancel")).send().await.unwrap();
    assert_eq!(response.status(), 202);
    assert_eq!(response.json::<Value>().await.unwrap()["run_id"], Value::Null);
    assert_eq!(service.turn(&session, "hi").await.last().unwrap()["outcome"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn session_stays_usable_after_a_failed_run() {
    let model =
        ScriptedModel::new([vec![ReplyStep::Fail(ModelError::new(ModelErrorKind::Auth, "set OPENAI_API_KEY"))]]);
    let service = TestService::with(&model).await;
    let session = service.create_session().await;
    let frames = service.turn(&session, "hi").await;
    let failed = frames.last().unwrap();
    assert_eq!((&failed["type"], &failed["code"]), (&json!("run_failed"), &json!("auth")));
    assert_eq!(failed["message"], "set OPENAI_API_KEY");
    assert_eq!(service.turn(&session, "again").await.last().unwrap()["outcome"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn conversation_is_paged_as_messages() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    for content in ["a", "b", "c"] {
        service.turn(&session, content).await;
    }
    let mut messages = Vec::new();
    let mut after = 0;
    loop {
        let page = service.get(&format!("{session}/messages?limit=4&after={after}")).await;
        messages.extend(page["messages"].as_array().unwrap().clone());
        match page["next_after"].as_u64() {
            Some(next) => after = next,
            None => break,
        }
    }
    let said: Vec<_> = messages.iter().map(|m| (m["role"].as_str().unwrap(), m["content"].as_str().unwrap())).collect();
    let expected =
        [("user", "a"), ("assistant", "ok"), ("user", "b"), ("assistant", "ok"), ("user", "c"), ("assistant", "ok")];
    assert_eq!(said, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnect_does_not_cancel_the_run() {
    let gate = TestGate::new();
    let service =
        TestService::with(&ScriptedModel::new([vec![text("on "), ReplyStep::Wait(gate.clone()), text("it")]])).await;
    let session = service.create_session().await;
    let response = service
        .request(Method::POST, &format!("{session}/messages"))
        .header("accept", "text/event-stream")
        .json(&json!({"content": "go"}))
        .send()
        .await
        .unwrap();
    gate.arrived().await;
    drop(response);
    gate.open();
    let frames = service.events(&session, "").await.until("run_finished").await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed");
    assert!(frame_types(&frames).contains(&"assistant_message"));
}

#[tokio::test(flavor = "multi_thread")]
async fn accept_header_selects_the_response_format() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    for (accept, status) in [
        ("application/json, text/event-stream", 202),
        ("text/event-stream, application/json", 200),
        ("application/json;q=0.5, text/event-stream", 200),
        ("text/event-stream;q=0", 202),
        ("*/*", 202),
        ("text/html", 202),
    ] {
        let request = service.request(Method::POST, &format!("{session}/messages")).header("accept", accept);
        let response = request.json(&json!({"content": "hi"})).send().await.unwrap();
        assert_eq!(response.status(), status, "{accept}");
        let kind = if status == 200 { "text/event-stream" } else { "application/json" };
        assert_eq!(response.headers()["content-type"], kind, "{accept}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_is_processing_until_the_last_run_ends() {
    let (gate, n) = (TestGate::new(), 10);
    let model = ScriptedModel::new((0..2 * n).map(|_| vec![ReplyStep::Wait(gate.clone()), text("done")]));
    let service = TestService::with(&model).await;
    let mut sessions = Vec::new();
    for _ in 0..n {
        let session = service.create_session().await;
        for content in ["one", "two"] {
            service.post(&format!("{session}/messages"), json!({"content": content})).await;
            assert_eq!(service.get(&session).await["status"]["is_processing"], true);
        }
        sessions.push(session);
    }
    let list = service.get("/v1/sessions").await;
    assert!(list["sessions"].as_array().unwrap().iter().all(|s| s["status"]["is_processing"] == true), "{list}");
    let data = service.stop().await;
    // Sessions with pending work are processing before the next process has resumed them.
    let second =
        TestService::start(ServiceSetup { model: Some(model.clone()), data: Some(data), ..ServiceSetup::default() })
            .await;
    for session in &sessions {
        assert_eq!(second.get(session).await["status"]["is_processing"], true);
    }
    for _ in 0..4 * n {
        gate.open();
    }
    eventually("processing ends", async || second.get(&sessions[0]).await["status"]["is_processing"] == false).await;
    let ends = second.log(&sessions[0]).await.iter().filter(|frame| frame["type"] == "run_finished").count();
    assert_eq!(ends, 2, "not processing means that both runs have ended");
}
