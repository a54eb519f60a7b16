use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use super::{
    elicitation::ScriptedUser,
    http_server::{discover_server, serve, start_hub, success, transport_with_secrets},
};
use crate::{
    CallError, McpHub,
    test_server::{TEST_TIMEOUT, eventually, test_call_context},
};

/// A call that the server received.
#[derive(Clone)]
struct ReceivedCall {
    id: Value,
    params: Value,
}

/// Starts a server that requires input `rounds` times before it runs a tool. Returns a hub and the calls that it received.
async fn require_input(rounds: usize, input_request: Value) -> (Arc<McpHub>, Arc<Mutex<Vec<ReceivedCall>>>) {
    let calls = Arc::new(Mutex::new(Vec::new()));
    let received = calls.clone();
    let address = serve(move |request| {
        if request.method != "tools/call" {
            return discover_server(request);
        }
        let mut received = received.lock();
        received.push(ReceivedCall { id: request.id.clone(), params: request.params.clone() });
        if received.len() > rounds {
            return discover_server(request);
        }
        let state = format!("state {}", received.len());
        let mut required = json!({"resultType": "input_required", "requestState": state});
        if !input_request.is_null() {
            required["inputRequests"] = json!({"sure": input_request});
        }
        success(request, &required)
    })
    .await;
    let hub = start_hub(&transport_with_secrets(address));
    eventually("the server is connected", || hub.all_connected()).await;
    (hub, calls)
}

fn elicitation() -> Value {
    let schema = json!({"type": "object", "properties": {"n": {"type": "integer", "default": 3}}});
    json!({"method": "elicitation/create", "params": {"mode": "form", "message": "How many?", "requestedSchema": schema}})
}

#[tokio::test]
async fn call_is_sent_again_with_answers_and_unchanged_state() {
    let (hub, calls) = require_input(2, elicitation()).await;
    let user = ScriptedUser::accepting(json!({}));
    let arguments = Map::from_iter([("pod".to_owned(), json!("web"))]);
    let output = hub.call_tool("web", "t", arguments, user.call_context(TEST_TIMEOUT)).await.unwrap();
    assert_eq!(output.text, "fine");
    assert_eq!(user.requests.lock().len(), 2);
    let calls = calls.lock().clone();
    assert_eq!(calls.len(), 3);
    assert!(calls.windows(2).all(|pair| pair[0].id != pair[1].id), "every request has another id");
    for (round, call) in calls.iter().enumerate() {
        assert_eq!((&call.params["arguments"], &call.params["name"]), (&json!({"pod": "web"}), &json!("t")));
        if round > 0 {
            assert_eq!(call.params["requestState"], format!("state {round}"));
            assert_eq!(call.params["inputResponses"], json!({"sure": {"action": "accept", "content": {"n": 3}}}));
        }
    }
    let first = &calls[0].params;
    assert_eq!((&first["inputResponses"], &first["requestState"]), (&Value::Null, &Value::Null));
    // Every request declares what the client can answer.
    let capabilities = &first["_meta"]["io.modelcontextprotocol/clientCapabilities"];
    let elicitation = &capabilities["elicitation"];
    assert!(elicitation["form"].is_object() && elicitation["url"].is_object(), "{capabilities}");
    assert_eq!((capabilities.get("sampling"), capabilities.get("roots")), (None, None));
    hub.close().await;
}

#[tokio::test]
async fn input_is_declined_without_a_user() {
    let (hub, calls) = require_input(1, elicitation()).await;
    assert!(hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await.is_ok());
    assert_eq!(calls.lock()[1].params["inputResponses"], json!({"sure": {"action": "decline"}}));
    hub.close().await;
}

#[tokio::test]
async fn endless_input_requests_fail_the_call() {
    let (hub, calls) = require_input(usize::MAX, elicitation()).await;
    let outcome = hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await;
    assert_eq!(outcome, Err(CallError::Failed("the tool required input more than 10 times".into())));
    assert_eq!(calls.lock().len(), 11);
    hub.close().await;
}

#[tokio::test]
async fn call_is_sent_again_without_input_requests() {
    let (hub, calls) = require_input(1, Value::Null).await;
    assert!(hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await.is_ok());
    assert_eq!(calls.lock()[1].params["requestState"], "state 1");
    hub.close().await;
}

#[tokio::test]
async fn sampling_request_fails_the_call() {
    let sampling = json!({"method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 5}});
    let (hub, calls) = require_input(1, sampling).await;
    let outcome = hub.call_tool("web", "t", Map::new(), test_call_context(TEST_TIMEOUT)).await;
    assert!(matches!(&outcome, Err(CallError::Failed(_))), "{outcome:?}");
    assert_eq!(calls.lock().len(), 1);
    hub.close().await;
}
