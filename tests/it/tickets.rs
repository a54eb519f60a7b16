//! Single-use tickets, and the creation of sessions that is safe to repeat.

use k8sops::auth::UserRole;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    keys::ApiKeyFile,
    service::{EventStream, ServiceSetup, TestService},
};
use k8sops_testing::{eventually, scripted_model::ScriptedModel};

async fn issue_ticket(service: &TestService, body: Value) -> String {
    service.post("/v1/tickets", body).await["ticket"].as_str().unwrap().to_owned()
}

/// Requests a path without any credentials but those in it.
async fn get_without_key(service: &TestService, path: &str) -> reqwest::Response {
    Client::builder().no_proxy().build().unwrap().get(format!("{}{path}", service.base)).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn ticket_authenticates_one_request() {
    let mut keys = ApiKeyFile::new();
    let (anna, ben) = (keys.add("anna", &[UserRole::User]), keys.add("ben", &[UserRole::User]));
    let model = Some(ScriptedModel::new([]) as _);
    let mut service = TestService::start(ServiceSetup { model, env: keys.env(), ..ServiceSetup::default() }).await;
    service.token = Some(anna);
    let session = service.create_session().await;
    service.turn(&session, "hi").await;
    let ticket = issue_ticket(&service, json!({})).await;
    let response = get_without_key(&service, &format!("{session}/events?after=0&ticket={ticket}")).await;
    assert_eq!(response.status(), StatusCode::OK);
    let mut stream = EventStream::new(response);
    stream.until("run_finished").await;
    // A second request with the ticket, one with another text, and one without any.
    for path in [
        format!("{session}?ticket={ticket}"),
        format!("{session}?ticket=k8sops_ticket_x"),
        format!("{session}?ticket="),
        session.clone(),
    ] {
        assert_eq!(get_without_key(&service, &path).await.status(), StatusCode::UNAUTHORIZED, "{path}");
    }
    // A key that was revoked since has no tickets.
    let ticket = issue_ticket(&service, json!({})).await;
    keys.remove("anna");
    eventually("the key is revoked", async || {
        service.request(Method::GET, "/v1/info").send().await.unwrap().status() == StatusCode::UNAUTHORIZED
    })
    .await;
    let refused = get_without_key(&service, &format!("{session}?ticket={ticket}")).await;
    assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
    // A ticket is for its caller, and for reading.
    service.token = Some(ben);
    let ticket = issue_ticket(&service, json!({})).await;
    assert_eq!(get_without_key(&service, &format!("{session}?ticket={ticket}")).await.status(), StatusCode::NOT_FOUND);
    let ticket = issue_ticket(&service, json!({})).await;
    service.token = None;
    let posted = service.request(Method::POST, &format!("/v1/sessions?ticket={ticket}")).send().await.unwrap();
    assert_eq!(posted.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn ticket_of_a_session_is_for_no_other_one() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let (session, other) = (service.create_session().await, service.create_session().await);
    let id = session.rsplit('/').next().unwrap();
    let limited = async || issue_ticket(&service, json!({"session_id": id})).await;
    for (path, status) in [
        (session.clone(), StatusCode::OK),
        (format!("{session}/messages"), StatusCode::OK),
        (other.clone(), StatusCode::UNAUTHORIZED),
        ("/v1/sessions".to_owned(), StatusCode::UNAUTHORIZED),
    ] {
        let response = get_without_key(&service, &format!("{path}?ticket={}", limited().await)).await;
        assert_eq!(response.status(), status, "{path}");
    }
    let unknown = "0199f3a1-5c7e-7b42-9d10-3f5a8e2c4b61";
    let request = service.request(Method::POST, "/v1/tickets").json(&json!({"session_id": unknown}));
    assert_eq!(service.refused(request).await.1["code"], "session_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_creation_returns_the_same_session() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let create = async |service: &TestService, key: &str, body: Value| {
        let request = service.request(Method::POST, "/v1/sessions").header("idempotency-key", key).json(&body);
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let (status, first) = create(&service, "alert-42", json!({"title": "Alert 42"})).await;
    assert_eq!(status, 201);
    let many =
        futures_util::future::join_all((0..8).map(|_| create(&service, "alert-42", json!({"title": "Alert 42"}))));
    for (status, again) in many.await {
        assert_eq!((status, &again["session_id"]), (201, &first["session_id"]), "{again}");
    }
    let together = futures_util::future::join_all((0..8).map(|_| create(&service, "race", json!({}))));
    let ids: std::collections::BTreeSet<String> =
        together.await.into_iter().map(|(_, session)| session["session_id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let (status, problem) = create(&service, "alert-42", json!({"title": "Alert 43"})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("command_id_reused")));
    assert_eq!(service.get("/v1/sessions").await["sessions"].as_array().unwrap().len(), 2);
    // Also after a restart. A session that was deleted since is not created again.
    let data = Some(service.stop().await);
    let service =
        TestService::start(ServiceSetup { model: Some(ScriptedModel::new([]) as _), data, ..ServiceSetup::default() })
            .await;
    let (status, again) = create(&service, "alert-42", json!({"title": "Alert 42"})).await;
    assert_eq!((status, &again["session_id"]), (201, &first["session_id"]));
    let path = format!("/v1/sessions/{}", first["session_id"].as_str().unwrap());
    service.request(Method::DELETE, &path).send().await.unwrap();
    let (status, problem) = create(&service, "alert-42", json!({"title": "Alert 42"})).await;
    assert_eq!((status, &problem["code"]), (404, &json!("session_not_found")));
}
