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
    let response = service.request(Method::POST, "/v1/sessions").send().await.unwrap();
    let warning = response.headers()["warning"].to_str().unwrap().to_owned();
    assert!(warning.starts_with("299 k8sops \"session ") && warning.contains(&id_from_path(&idle)), "{warning}");
    let newest = response.headers()["location"].to_str().unwrap().to_owned();
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
async fn session_of_an_alert_is_never_evicted() {
    let service = TestService::start(ServiceSetup {
        model: Some(ScriptedModel::new([])),
        env: vec![("MAX_SESSIONS", "2".into())],
        ..ServiceSetup::default()
    })
    .await;
    let incident = service.post("/v1/sessions", json!({"origin": "alert"})).await;
    assert_eq!(incident["origin"], "alert");
    let created = service.request(Method::POST, "/v1/sessions").send().await.unwrap();
    assert!(!created.headers().contains_key("warning"));
    let first = created.headers()["location"].to_str().unwrap().to_owned();
    let second = service.create_session().await;
    let left = session_ids(&service.get("/v1/sessions").await);
    assert_eq!(
        left,
        [id_from_path(&second), incident["session_id"].as_str().unwrap().to_owned()],
        "{first} was deleted"
    );
    service.post("/v1/sessions", json!({"origin": "alert"})).await;
    let (status, problem) = service.refused(service.request(Method::POST, "/v1/sessions")).await;
    assert_eq!((status, &problem["code"]), (409, &json!("too_many_sessions")));
}

#[tokio::test(flavor = "multi_thread")]
async fn head_answers_like_get_without_a_body() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let session = service.create_session().await;
    service.turn(&session, "hi").await;
    for path in [
        "/".to_owned(),
        "/healthz".to_owned(),
        "/readyz".to_owned(),
        "/docs/".to_owned(),
        "/openapi.json".to_owned(),
        "/metrics".to_owned(),
        "/v1/info".to_owned(),
        "/v1/sessions".to_owned(),
        session.clone(),
        format!("{session}/messages"),
        format!("{session}/settings"),
        "/v1/nothing".to_owned(),
        format!("{session}x"),
    ] {
        let head = service.request(Method::HEAD, &path).send().await.unwrap();
        let got = service.request(Method::GET, &path).send().await.unwrap();
        assert_eq!(head.status(), got.status(), "{path}");
        for response in [&head, &got] {
            for name in ["x-content-type-options", "x-frame-options", "content-security-policy", "referrer-policy"] {
                assert!(response.headers().contains_key(name), "{path}: {name}");
            }
        }
        assert_eq!(head.headers().get("content-type"), got.headers().get("content-type"), "{path}");
        // Its size changes with each request.
        if path != "/metrics" && got.status().is_success() {
            assert_eq!(head.headers()["content-length"], got.headers()["content-length"], "{path}");
        }
        assert_eq!(head.bytes().await.unwrap().len(), 0, "{path}");
    }
    // A stream ends where it begins, and a handshake opens no WebSocket.
    let stream = service.request(Method::HEAD, &format!("{session}/events")).send().await.unwrap();
    assert_eq!(
        (stream.status().as_u16(), &stream.headers()["content-type"]),
        (200, &"text/event-stream".parse().unwrap())
    );
    let upgrade = service.request(Method::HEAD, &format!("{session}/ws"));
    let refused = upgrade.header("upgrade", "websocket").header("connection", "upgrade").send().await.unwrap();
    assert_eq!(refused.status(), 426);
    let posted = service.request(Method::HEAD, &format!("{session}/cancel")).send().await.unwrap();
    assert_eq!((posted.status().as_u16(), &posted.headers()["allow"]), (405, &"POST".parse().unwrap()));
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
