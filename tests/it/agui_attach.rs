//! What a client of AG-UI gets that attaches to a thread: its messages under its own ids, and the answers that are still to come.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    agui_client::{RunRequest, open_run, outcome, read_events, run, said, session_of, types},
    service::TestService,
};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    eventually,
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
};

fn snapshots(events: &[Value]) -> Vec<&Vec<Value>> {
    let found = events.iter().filter(|event| event["type"] == "MESSAGES_SNAPSHOT");
    found.map(|event| event["messages"].as_array().unwrap()).collect()
}

fn users<'a>(messages: &[&'a Vec<Value>]) -> Vec<Vec<(&'a str, &'a str)>> {
    let of_user = |messages: &&'a Vec<Value>| {
        let users = messages.iter().filter(|message| message["role"] == "user");
        users.map(|message| (message["id"].as_str().unwrap(), message["content"].as_str().unwrap())).collect()
    };
    messages.iter().map(of_user).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn client_finds_its_messages_under_its_own_ids() {
    let tools = CountingMcpServer::new();
    let replies = vec![vec![text("Hello.")], vec![call("change", json!({}))]];
    let service = TestService::with_tools(replies, &tools).await;
    run(&service, RunRequest::message("t-1", "m-1", "hi")).await;
    // Clients send everything that was said.
    let both = json!([{"id": "m-1", "role": "user", "content": "hi"}, {"id": "a", "role": "assistant", "content": "Hello."},
        {"id": "m-2", "role": "user", "content": "change it"}]);
    let mut body = RunRequest::attach("t-1").body();
    body["messages"] = both;
    let asked = service.request(Method::POST, "/agui").json(&body).send().await.unwrap();
    let asked = read_events(asked).await;
    assert_eq!(users(&snapshots(&asked)), [[("m-1", "hi"), ("m-2", "change it")]]);
    let again = service.request(Method::POST, "/agui").json(&body).send().await.unwrap();
    assert_eq!(users(&snapshots(&read_events(again).await))[0], [("m-1", "hi"), ("m-2", "change it")]);
    // Another client does not know these ids, and gets those of the log.
    let other = run(&service, RunRequest::attach("t-1")).await;
    let log = service.log(&session_of(&other)).await;
    let logged: Vec<&str> = log
        .iter()
        .filter(|event| event["type"] == "user_message")
        .map(|event| event["message_id"].as_str().unwrap())
        .collect();
    assert_eq!(users(&snapshots(&other))[0], [(logged[0], "hi"), (logged[1], "change it")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn attached_client_gets_the_answers_to_messages_that_wait() {
    let gate = TestGate::new();
    let replies =
        [vec![text("One, "), ReplyStep::Wait(gate.clone()), text("two. ")], vec![text("Three. ")], vec![text("Four.")]];
    let service = TestService::with(&ScriptedModel::new(replies)).await;
    let first = open_run(service.request(Method::POST, "/agui"), &RunRequest::message("t-1", "m-1", "count")).await;
    gate.arrived().await;
    drop(first);
    let session = service.get("/v1/sessions").await["sessions"][0]["session_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/sessions/{session}/messages");
    for content in ["go on", "and on"] {
        service.post(&path, json!({"content": content})).await;
    }
    let attached = open_run(service.request(Method::POST, "/agui"), &RunRequest::attach("t-1")).await;
    gate.open();
    let events = read_events(attached).await;
    assert_eq!((said(&events).as_str(), outcome(&events)), ("One, two. Three. Four.", &json!({"type": "success"})));
    let said: Vec<Vec<&str>> = users(&snapshots(&events))
        .iter()
        .map(|messages| messages.iter().map(|(_, content)| *content).collect())
        .collect();
    assert_eq!(said, [vec!["count"], vec!["count", "go on"], vec!["count", "go on", "and on"]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_to_a_message_that_interrupts_is_seen_before_those_that_wait() {
    let gate = TestGate::new();
    let replies =
        [vec![text("One, "), ReplyStep::Wait(gate.clone()), text("two. ")], vec![text("Stop. ")], vec![text("Last.")]];
    let service = TestService::with(&ScriptedModel::new(replies)).await;
    let first = open_run(service.request(Method::POST, "/agui"), &RunRequest::message("t-1", "m-1", "count")).await;
    gate.arrived().await;
    let session = service.get("/v1/sessions").await["sessions"][0]["session_id"].as_str().unwrap().to_owned();
    let path = format!("/v1/sessions/{session}/messages");
    service.post(&path, json!({"content": "later"})).await;
    let attached = open_run(service.request(Method::POST, "/agui"), &RunRequest::attach("t-1")).await;
    // The first stream ends with the run that is interrupted.
    service.post(&path, json!({"content": "stop", "on_busy": "interrupt"})).await;
    assert_eq!(outcome(&read_events(first).await), &json!({"type": "cancelled"}));
    let events = read_events(attached).await;
    assert_eq!(types(&events).last(), Some(&"RUN_FINISHED"));
    assert!(said(&events).ends_with("Last."), "{}", said(&events));
}

#[tokio::test(flavor = "multi_thread")]
async fn id_of_another_message_is_refused() {
    let service = TestService::with(&ScriptedModel::new([vec![text("Hello.")]])).await;
    run(&service, RunRequest::message("t-1", "m-1", "hi")).await;
    let other = RunRequest::message("t-1", "m-1", "and now?").body();
    let (status, problem) = service.refused(service.request(Method::POST, "/agui").json(&other)).await;
    assert_eq!((status, &problem["code"]), (422, &json!("command_id_reused")));
}

#[tokio::test(flavor = "multi_thread")]
async fn message_without_a_text_is_refused() {
    let service = TestService::with(&ScriptedModel::new([vec![text("I see.")]])).await;
    let post = |content: &Value| {
        let messages = json!([{"id": "m-1", "role": "user", "content": content}]);
        let body = json!({"threadId": "t-1", "runId": "r", "messages": messages, "protocolVersion": "1.0"});
        service.request(Method::POST, "/agui").json(&body)
    };
    let image = json!({"type": "binary", "mimeType": "image/png", "data": "AAAA"});
    for content in [json!({"text": "hi"}), json!([image]), json!(7), json!(true)] {
        let (status, problem) = service.refused(post(&content)).await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")), "{content}");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(r#"{"type": "text""#), "{detail}");
    }
    assert_eq!(service.get("/v1/sessions").await["sessions"], json!([]));
    let mixed = json!([{"type": "text", "text": "what is this?"}, image]);
    let events = read_events(post(&mixed).send().await.unwrap()).await;
    assert_eq!(said(&events), "I see.");
    let session = session_of(&events);
    eventually("the message is logged", async || {
        let log = service.log(&session).await;
        log.iter().any(|event| {
            event["content"] == "what is this?\n\n(Attached parts that are no text and were not passed on: 1)"
        })
    })
    .await;
}
