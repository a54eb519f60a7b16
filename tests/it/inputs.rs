//! Elicitation requests of a real MCP server during a call.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::{
    scripted_model::{ScriptedModel, call},
    testbed,
};

/// Starts a service with the server `everything`, whose tool requests input. Returns the `input_requested` event.
async fn start_with_input_request(times: usize) -> (TestService, String, Value) {
    let calls = (0..times).map(|_| call("trigger-elicitation-request", json!({}))).collect();
    let model = ScriptedModel::new([calls]);
    let env = vec![
        ("MCP_TRANSPORT", "stdio".to_owned()),
        ("MCP_SERVER_COMMAND", testbed::path("K8SOPS_TEST_NODE")),
        ("MCP_SERVER_ARGS", json!([testbed::path("K8SOPS_TEST_MCP_EVERYTHING"), "stdio"]).to_string()),
        ("TOOL_APPROVAL", "auto".to_owned()),
    ];
    let service = TestService::start(ServiceSetup { model: Some(model), env, ..ServiceSetup::default() }).await;
    service.wait_for_mcp_servers().await;
    let session = service.create_session().await;
    service.post(&format!("{session}/messages"), json!({"content": "ask me"})).await;
    let asked = service.events(&session, "").await.until("input_requested").await.pop().unwrap();
    (service, session, asked)
}

fn input_path(session: &str, asked: &Value) -> String {
    format!("{session}/inputs/{}", asked["input_id"].as_str().unwrap())
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn elicitation_answer_reaches_the_server() {
    let (service, session, asked) = start_with_input_request(1).await;
    assert_eq!(asked["server"], json!("default"));
    assert!(asked["message"].as_str().unwrap().starts_with("Please provide inputs"), "{asked}");
    assert_eq!(asked["schema"]["properties"]["integer"]["maximum"], json!(100));
    // A client that connects now finds the request in the snapshot.
    let snapshot = service.events(&session, "?snapshot=true&after=0").await.until("snapshot").await.pop().unwrap();
    assert_eq!(snapshot["pending_inputs"][0]["input_id"], asked["input_id"]);

    for (wrong, place) in [
        (json!({"name": "A", "integer": 1000}), "integer must be at most 100"),
        (json!({"name": "A", "check": "yes"}), "check must be"),
    ] {
        let answer = json!({"action": "accept", "content": wrong});
        let (status, problem) =
            service.refused(service.request(Method::POST, &input_path(&session, &asked)).json(&answer)).await;
        assert_eq!((status, &problem["code"]), (422, &json!("does_not_fit")), "{problem}");
        assert!(problem["detail"].as_str().unwrap().contains(place), "{problem}");
    }
    let nonsense = json!({"action": "decline", "content": {}});
    assert_eq!(
        service.refused(service.request(Method::POST, &input_path(&session, &asked)).json(&nonsense)).await.0,
        400
    );

    let answer = json!({"action": "accept", "content": {"name": "Anna", "check": true, "integer": 7}});
    let resolved = service.post(&input_path(&session, &asked), answer).await;
    assert_eq!((&resolved["action"], &resolved["by"]), (&json!("accept"), &json!("user:default")));
    let frames = service.events(&session, "").await.until("run_finished").await;
    let end = frames.iter().find(|f| f["type"] == "tool_end").unwrap();
    let content = end["content"].as_str().unwrap();
    assert!(content.contains("Name: Anna") && content.contains("true"), "{content}");
    let late = service.request(Method::POST, &input_path(&session, &asked)).json(&json!({"action": "decline"}));
    assert_eq!(service.refused(late).await.1["code"], json!("input_not_found"));
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn elicitation_is_declined_or_withdrawn_by_cancel() {
    let (service, session, asked) = start_with_input_request(1).await;
    service.post(&input_path(&session, &asked), json!({"action": "decline"})).await;
    let frames = service.events(&session, "").await.until("run_finished").await;
    let end = frames.iter().find(|f| f["type"] == "tool_end").unwrap();
    assert!(end["content"].as_str().unwrap().contains("declined"), "{end}");
    let again = service.request(Method::POST, &input_path(&session, &asked)).json(&json!({"action": "decline"}));
    assert_eq!(service.refused(again).await.0, 404, "the run has ended");

    let (service, session, asked) = start_with_input_request(1).await;
    service.post(&format!("{session}/cancel"), json!({})).await;
    let frames = service.events(&session, "").await.until("run_finished").await;
    assert_eq!(frames.last().unwrap()["outcome"], json!("cancelled"));
    let late = service.request(Method::POST, &input_path(&session, &asked)).json(&json!({"action": "decline"}));
    assert_eq!(service.refused(late).await.0, 404);
}
