//! The door for clients of MCP: questions of servers, repeated requests, and streams that outlive a process.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    mcp_door::{McpStream, McpTestClient, change_replies, outcome, with_forms},
    service::{ServiceSetup, TestService},
};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
    testbed,
};

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn questions_of_servers_are_forms_of_the_client() {
    let asks = || [vec![call("trigger-elicitation-request", json!({}))], vec![text("Thanks.")]];
    let model: Arc<ScriptedModel> = ScriptedModel::new([asks(), asks(), asks(), asks()].concat());
    let env = vec![
        ("MCP_TRANSPORT", "stdio".to_owned()),
        ("MCP_SERVER_COMMAND", testbed::path("K8SOPS_TEST_NODE")),
        ("MCP_SERVER_ARGS", json!([testbed::path("K8SOPS_TEST_MCP_EVERYTHING"), "stdio"]).to_string()),
        ("TOOL_APPROVAL", "auto".to_owned()),
    ];
    let service = TestService::start(ServiceSetup { model: Some(model), env, ..ServiceSetup::default() }).await;
    service.wait_for_mcp_servers().await;
    let [handshake, stateless] = McpTestClient::of_both_eras(&service, with_forms()).await;
    let fits = json!({"action": "accept", "content": {"name": "Anna", "integer": 7}});
    let unfit = json!({"action": "accept", "content": {"name": "Anna", "integer": 1000}});
    for (id, answer, logged) in [(1, &fits, "accept"), (2, &unfit, "cancel")] {
        let mut stream = handshake.ask(&service, id, "ask me").await;
        let asked = stream.elicitation().await;
        assert!(asked["params"]["requestedSchema"]["properties"]["integer"].is_object(), "{asked}");
        let response = json!({"id": asked["id"], "result": answer});
        assert_eq!(handshake.post(&service, "", response).send().await.unwrap().status(), 202);
        let result = stream.result().await;
        assert_eq!(outcome(&result), ("completed", "Thanks."));
        let session = result["structuredContent"]["session_id"].as_str().unwrap();
        let log = service.log(&format!("/v1/sessions/{session}")).await;
        let resolved = log.iter().find(|event| event["type"] == "input_resolved").unwrap();
        assert_eq!(resolved["action"], logged);
    }
    let asked = stateless.ask(&service, 1, "ask me").await.result().await;
    let name = asked["inputRequests"].as_object().unwrap().keys().next().unwrap().clone();
    let again = |answer: &Value| {
        let params = json!({"name": "ask", "arguments": {"question": "ask me"}, "_meta": {},
            "requestState": asked["requestState"], "inputResponses": {&name: answer}});
        stateless.post(&service, "", json!({"id": 2, "method": "tools/call", "params": params}))
    };
    // An answer that does not fit is asked for again.
    let repeated = McpStream::open(again(&unfit)).await.result().await;
    assert_eq!(repeated["inputRequests"], asked["inputRequests"]);
    assert_eq!(outcome(&McpStream::open(again(&fits)).await.result().await), ("completed", "Thanks."));
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_request_asks_only_what_still_waits() {
    let tools = CountingMcpServer::new();
    let service = TestService::with_tools(change_replies(), &tools).await;
    let client = McpTestClient::with_handshake(&service, with_forms()).await;
    let mut first = client.ask(&service, 1, "change it").await;
    let asked = first.elicitation().await;
    drop(first);
    let mut second = client.ask(&service, 1, "change it").await;
    assert_eq!(second.elicitation().await, asked);
    let answer = json!({"action": "accept", "content": {"decision": "approve"}});
    client.post(&service, "", json!({"id": asked["id"], "result": answer})).send().await.unwrap();
    assert_eq!(outcome(&second.result().await), ("completed", "Done."));
    let mut third = client.ask(&service, 1, "change it").await;
    assert_eq!(outcome(&third.result().await), ("completed", "Done."));
    assert!(third.seen.iter().all(|message| message["method"] != "elicitation/create"), "{:?}", third.seen);
    assert_eq!(tools.count_calls("change"), 1);
    // Another question under the id of an earlier request is another question.
    let other = client.ask(&service, 1, "and now?").await.result().await;
    assert_eq!(outcome(&other).0, "completed", "{other}");
    assert_eq!(service.get("/v1/sessions").await["sessions"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_of_a_stopped_service_is_opened_again_at_the_next() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("long "), ReplyStep::Wait(gate.clone()), text("end")]]);
    let service = TestService::with(&model).await;
    let client = McpTestClient::with_handshake(&service, json!({})).await;
    let mut stream = client.ask(&service, 7, "hi").await;
    gate.arrived().await;
    service.request_stop();
    while stream.next().await.is_some() {}
    assert!(stream.seen.iter().all(|message| message["result"].is_null()), "no response: {:?}", stream.seen);
    gate.open();
    let id = stream.id.unwrap();
    let data = service.stop().await;
    let model: Arc<ScriptedModel> = ScriptedModel::new([vec![text("Done.")]]);
    let service =
        TestService::start(ServiceSetup { model: Some(model), data: Some(data), ..ServiceSetup::default() }).await;
    let request = service.request(Method::GET, "/mcp").header("mcp-session-id", client.session.clone().unwrap());
    let request = request.header("mcp-protocol-version", "2025-11-25").header("last-event-id", id);
    let mut resumed = McpStream::open(request).await;
    let result = resumed.result().await;
    assert_eq!((outcome(&result).0, &resumed.seen.last().unwrap()["id"]), ("completed", &json!(7)));
}
