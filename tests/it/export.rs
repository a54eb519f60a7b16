//! Reports of sessions, and links by which others read them.

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::{
    identity::{start_waiting_session, with_change},
    service::{ServiceSetup, TestService},
};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    scripted_model::{ScriptedModel, call, text},
};

/// What a hostile log has in it.
const HOSTILE: &str = "Done. <script>alert(1)</script> <img src=x onerror=alert(1)> [go](javascript:alert(1))\n\n# Not a heading of the report\n\n```\n</pre><script>\n```";

async fn get_text(response: Response) -> (u16, String, String) {
    let policy = response.headers().get("content-security-policy").map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), policy.unwrap_or_default(), response.text().await.unwrap())
}

async fn export(service: &TestService, session: &str, format: &str) -> (u16, String, String) {
    let path = format!("{session}/export?format={format}");
    get_text(service.request(Method::GET, &path).send().await.unwrap()).await
}

async fn get_without_key(service: &TestService, path: &str) -> (u16, String, String) {
    let client = Client::builder().no_proxy().build().unwrap();
    get_text(client.get(format!("{}{path}", service.base)).send().await.unwrap()).await
}

fn assert_inert(html: &str, policy: &str) {
    let lower = html.to_lowercase();
    for forbidden in ["<script", "<img", "onerror=alert(1)>", "href=\"javascript", "<iframe", "</pre><script"] {
        assert!(!lower.contains(forbidden), "{forbidden}: {html}");
    }
    assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && policy.ends_with("sandbox"), "{policy}");
}

#[tokio::test(flavor = "multi_thread")]
async fn report_has_changes_with_approvals_and_evidence() {
    let tools = CountingMcpServer::new();
    let setup = with_change(Vec::new(), &tools);
    let model = ScriptedModel::new([vec![call("change", json!({"replicas": 3}))], vec![text(HOSTILE)]]);
    let service = TestService::start(ServiceSetup { model: Some(model), ..setup }).await;
    let (session, asked) = start_waiting_session(&service).await;
    let path = format!("{session}/approvals/{}", asked["approval_id"].as_str().unwrap());
    service.post(&path, json!({"decision": "approve", "comment": "go <b>ahead</b>"})).await;
    service.events(&session, "").await.until("run_finished").await;

    let (status, _, json) = export(&service, &session, "json").await;
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, &report["question"], &report["conclusion"]), (200, &json!("change it"), &json!(HOSTILE)));
    let change = &report["changes"][0];
    assert_eq!((&change["name"], &change["status"]), (&json!("change"), &json!("ok")), "{report:#}");
    let approval = &change["approvals"][0];
    assert_eq!((&approval["decision"], &approval["by"]), (&json!("approve"), &json!("user:default")));
    let kinds: Vec<&str> =
        report["entries"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert!(kinds.starts_with(&["message", "call", "reply"]) && kinds.contains(&"run_finished"), "{kinds:?}");

    let (status, policy, html) = export(&service, &session, "html").await;
    assert_eq!(status, 200);
    assert_inert(&html, &policy);
    assert!(html.contains("<p>0 looks, 1 change made.</p>"), "{html}");
    assert!(html.contains("Approved by user:default") && html.contains("&lt;b&gt;ahead"), "{html}");
    let (status, _, markdown) = export(&service, &session, "md").await;
    assert_eq!(status, 200);
    assert!(
        markdown.contains("> # Not a heading of the report") && !markdown.contains("\n# Not a heading"),
        "{markdown}"
    );
    assert!(!markdown.contains("<script>alert") && markdown.contains("Approved by user:default"), "{markdown}");
    let (status, _, problem) = export(&service, &session, "pdf").await;
    assert_eq!(status, 400, "{problem}");
    let response = service.request(Method::GET, &format!("{session}/export")).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/markdown; charset=utf-8");
    let name = response.headers()["content-disposition"].to_str().unwrap();
    assert!(name.starts_with("attachment; filename=\"change-it-") && name.ends_with(".md\""), "{name}");
}

#[tokio::test(flavor = "multi_thread")]
async fn share_shows_one_session_until_it_is_revoked() {
    let service = TestService::with(&ScriptedModel::new([vec![text(HOSTILE)]])).await;
    let session = service.create_session().await;
    service.turn(&session, "what happened?").await;
    let other = service.create_session().await;
    let shares = format!("{session}/shares");
    let share = service.post(&shares, json!({"expires_in_hours": 24})).await;
    let path = share["path"].as_str().unwrap().to_owned();
    let (status, policy, html) = get_without_key(&service, &path).await;
    assert_eq!(status, 200, "{html}");
    assert_inert(&html, &policy);
    assert!(html.contains("what happened?"));
    let (status, _, json) = get_without_key(&service, &format!("{path}?format=json")).await;
    assert_eq!(
        (status, serde_json::from_str::<Value>(&json).unwrap()["question"].as_str()),
        (200, Some("what happened?"))
    );
    // The list does not have the link itself, and the link is for no other session.
    let listed = service.get(&shares).await;
    assert_eq!((&listed["shares"][0]["share_id"], listed["shares"][0].get("path")), (&share["share_id"], None));
    let token = path.rsplit('/').next().unwrap();
    let other_id = other.rsplit('/').next().unwrap();
    for wrong in [format!("/shared/{other_id}/{token}"), format!("{path}x"), "/shared/x/y".to_owned()] {
        let (status, _, problem) = get_without_key(&service, &wrong).await;
        assert_eq!(status, 404, "{wrong}");
        assert!(problem.contains("share_not_found"), "{problem}");
    }
    for hours in [0, 2161] {
        let request = service.request(Method::POST, &shares).json(&json!({"expires_in_hours": hours}));
        assert_eq!(service.refused(request).await.1["code"], "invalid_request");
    }
    // It survives a restart, and shows what happened since.
    let data = Some(service.stop().await);
    let model = Some(ScriptedModel::new([vec![text("more")]]) as _);
    let service = TestService::start(ServiceSetup { model, data, ..ServiceSetup::default() }).await;
    service.turn(&session, "and then?").await;
    assert!(get_without_key(&service, &path).await.2.contains("and then?"));
    let revoked = format!("{shares}/{}", share["share_id"].as_str().unwrap());
    assert_eq!(service.request(Method::DELETE, &revoked).send().await.unwrap().status(), 204);
    assert_eq!(get_without_key(&service, &path).await.0, 404);
    let (status, problem) = service.refused(service.request(Method::DELETE, &revoked)).await;
    assert_eq!((status, &problem["code"]), (404, &json!("share_not_found")));
    // A deleted session is shown to no one.
    let path = service.post(&shares, json!({})).await["path"].as_str().unwrap().to_owned();
    service.request(Method::DELETE, &session).send().await.unwrap();
    assert_eq!(get_without_key(&service, &path).await.0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn shares_can_be_switched_off() {
    let model = Some(ScriptedModel::new([]) as _);
    let env = vec![("K8SOPS_SHARES", "off".to_owned())];
    let service = TestService::start(ServiceSetup { env, model, ..ServiceSetup::default() }).await;
    let session = service.create_session().await;
    let (status, problem) = service.refused(service.request(Method::POST, &format!("{session}/shares"))).await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
}
