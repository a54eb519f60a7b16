//! Sessions of one user: list, titles, renames, deletion, and the limit.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::scripted_model::{ReplyStep, ScriptedModel, TestGate, text};

fn session_ids(list: &Value) -> Vec<String> {
    list["sessions"].as_array().unwrap().iter().map(|s| s["session_id"].as_str().unwrap().to_owned()).collect()
}

fn id_from_path(path: &str) -> String {
    path.rsplit('/').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn session_resource_is_complete() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let response =
        service.request(Method::POST, "/v1/sessions").json(&json!({"title": "On call"})).send().await.unwrap();
    assert_eq!(response.status(), 201);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    let created: Value = response.json().await.unwrap();
    assert_eq!(service.get(&location).await, created);
    assert_eq!(created["title"], "On call");
    assert_eq!(created["status"], json!({"mcp_connected": false, "agent_ready": true, "is_processing": false}));
    assert_eq!((&created["message_count"], &created["last_seq"]), (&json!(0), &json!(1)));
    let settings = service.get(&format!("{location}/settings")).await;
    assert_eq!(created["settings"], settings);
}

#[tokio::test(flavor = "multi_thread")]
async fn session_is_created_without_a_body() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let response = service.request(Method::POST, "/v1/sessions").send().await.unwrap();
    assert_eq!(response.status(), 201);
}

#[tokio::test(flavor = "multi_thread")]
async fn session_list_is_paged_by_newest_activity() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(service.create_session().await);
    }
    service.turn(&sessions[1], "wake up").await;
    let all = session_ids(&service.get("/v1/sessions").await);
    assert_eq!(all.len(), 5);
    assert_eq!(all[0], id_from_path(&sessions[1]));
    let mut paged = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = service.get(&format!("/v1/sessions?limit=2{cursor}")).await;
        paged.extend(session_ids(&page));
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(paged, all);
}

#[tokio::test(flavor = "multi_thread")]
async fn first_message_sets_a_missing_title() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    service.turn(&session, "Why is  payments\ndown?").await;
    service.turn(&session, "And now?").await;
    let view = service.get(&session).await;
    assert_eq!(view["title"], "Why is payments down?");
    assert_eq!((&view["message_count"], &view["preview"]), (&json!(4), &json!("ok")));

    let renamed = service.patch(&session, json!({"title": "  Incident 7 "})).await;
    assert_eq!(renamed["title"], "Incident 7");
    service.turn(&session, "one more").await;
    assert_eq!(service.get(&session).await["title"], "Incident 7");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_a_session_ends_its_streams() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    service.turn(&session, "hi").await;
    let mut stream = service.events(&session, "").await;
    stream.until("run_finished").await;
    let deleted = service.request(Method::DELETE, &session).send().await.unwrap();
    assert_eq!(deleted.status(), 204);
    let last = stream.next().await.unwrap();
    assert_eq!((&last["type"], &last["code"]), (&json!("warning"), &json!("session_deleted")));
    assert!(stream.next().await.is_none());
    for (method, path) in
        [(Method::GET, session.clone()), (Method::DELETE, session.clone()), (Method::GET, format!("{session}/events"))]
    {
        let (status, problem) = service.refused(service.request(method, &path)).await;
        assert_eq!((status, &problem["code"]), (404, &json!("session_not_found")), "{path}");
    }
    assert!(session_ids(&service.get("/v1/sessions").await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn session_limit_evicts_the_oldest_idle_session() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![ReplyStep::Wait(gate.clone()), text("late")]]);
    let service = TestService::start(ServiceSetup {
        model: Some(model),
        env: vec![("MAX_SESSIONS", "2".into())],
        ..ServiceSetup::default()
    })
    .await;
    let busy = service.create_session().await;
    service.post(&format!("{busy}/messages"), json!({"content": "think"})).await;
    gate.arrived().await;
    let idle = service.create_session().await;
    let newest = service.create_session().await;
    let mut left = session_ids(&service.get("/v1/sessions").await);
    left.sort();
    let mut expected = vec![id_from_path(&busy), id_from_path(&newest)];
    expected.sort();
    assert_eq!(left, expected, "{idle} was the oldest that had nothing to do");

    service.post(&format!("{newest}/messages"), json!({"content": "think too"})).await;
    service.events(&newest, "").await.until("run_finished").await;
    gate.open();
    service.events(&busy, "").await.until("run_finished").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_session_is_refused_when_all_are_busy() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![ReplyStep::Wait(gate.clone()), text("late")]]);
    let service = TestService::start(ServiceSetup {
        model: Some(model),
        env: vec![("MAX_SESSIONS", "1".into())],
        ..ServiceSetup::default()
    })
    .await;
    let busy = service.create_session().await;
    service.post(&format!("{busy}/messages"), json!({"content": "think"})).await;
    gate.arrived().await;
    let (status, problem) = service.refused(service.request(Method::POST, "/v1/sessions").json(&json!({}))).await;
    assert_eq!((status, &problem["code"]), (409, &json!("too_many_sessions")));
    gate.open();
    service.events(&busy, "").await.until("run_finished").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_apply_to_the_next_run() {
    let model = ScriptedModel::new([]);
    let service = TestService::with(&model).await;
    let session = service.create_session().await;
    let path = format!("{session}/settings");
    let changed = service.patch(&path, json!({"temperature": 0.5, "max_tokens": 100})).await;
    assert_eq!((&changed["temperature"], &changed["max_tokens"]), (&json!(0.5), &json!(100)));
    service.turn(&session, "hi").await;
    let changed = service.patch(&path, json!({"temperature": null})).await;
    assert_eq!((changed.get("temperature"), &changed["max_tokens"]), (None, &json!(100)));
    service.turn(&session, "hi").await;
    let asked: Vec<_> = model.requests().iter().map(|r| (r.temperature, r.max_tokens)).collect();
    assert_eq!(asked, [(Some(0.5), Some(100)), (None, Some(100))]);
}
