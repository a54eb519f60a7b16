//! The door for clients of MCP: `ask` and `get_session` in both eras of the protocol.

use std::{collections::VecDeque, sync::Arc};

use futures_util::{StreamExt as _, stream::BoxStream};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::{
    door_logs::plain_log,
    service::{ServiceSetup, TestService},
};
use k8sops_models::{ModelError, ModelErrorKind};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    eventually,
    redis::{RedisFlavor, RedisServer},
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
};

/// A client of one of the two eras.
#[derive(Clone)]
pub(crate) struct McpTestClient {
    /// The id that `initialize` returned; `None` for a client of version 2026-07-28.
    pub(crate) session: Option<String>,
    capabilities: Value,
}

impl McpTestClient {
    /// A client that begins with `initialize`.
    pub(crate) async fn with_handshake(service: &TestService, capabilities: Value) -> Self {
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": capabilities,
            "clientInfo": {"name": "test", "version": "1"}});
        let body = json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params});
        let response = service.request(Method::POST, "/mcp").json(&body).send().await.unwrap();
        let session = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let result = response.json::<Value>().await.unwrap()["result"].take();
        assert_eq!(
            (&result["protocolVersion"], &result["serverInfo"]["name"]),
            (&json!("2025-11-25"), &json!("k8sops"))
        );
        Self { session: Some(session), capabilities }
    }

    /// A client whose requests say everything themselves.
    pub(crate) fn stateless(capabilities: Value) -> Self {
        Self { session: None, capabilities }
    }

    /// One client of each era.
    pub(crate) async fn of_both_eras(service: &TestService, capabilities: Value) -> [Self; 2] {
        [Self::with_handshake(service, capabilities.clone()).await, Self::stateless(capabilities)]
    }

    pub(crate) fn is_stateless(&self) -> bool {
        self.session.is_none()
    }

    pub(crate) fn post(&self, service: &TestService, query: &str, mut body: Value) -> RequestBuilder {
        body["jsonrpc"] = "2.0".into();
        let request = service.request(Method::POST, &format!("/mcp{query}"));
        let request = request.header("accept", "application/json, text/event-stream");
        let Some(session) = &self.session else {
            let meta = json!({"io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientCapabilities": self.capabilities});
            body["params"]["_meta"].as_object_mut().unwrap().extend(meta.as_object().unwrap().clone());
            let header = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            return request
                .header("mcp-protocol-version", "2026-07-28")
                .header("mcp-method", header(&body["method"]))
                .header("mcp-name", header(&body["params"]["name"]))
                .json(&body);
        };
        request.header("mcp-protocol-version", "2025-11-25").header("mcp-session-id", session).json(&body)
    }

    pub(crate) fn call(&self, service: &TestService, id: u32, name: &str, arguments: &Value) -> RequestBuilder {
        let params = json!({"name": name, "arguments": arguments, "_meta": {"progressToken": "p"}});
        self.post(service, "", json!({"id": id, "method": "tools/call", "params": params}))
    }

    /// Asks, and returns the messages of the stream.
    pub(crate) async fn ask(&self, service: &TestService, id: u32, question: &str) -> McpStream {
        McpStream::open(self.call(service, id, "ask", &json!({"question": question}))).await
    }

    async fn get_session(&self, service: &TestService, session: &str) -> Value {
        let response = self.call(service, 99, "get_session", &json!({"session_id": session})).send().await.unwrap();
        response.json::<Value>().await.unwrap()["result"]["structuredContent"].take()
    }
}

/// The response to a call: messages of a stream, or a single one.
pub(crate) struct McpStream {
    body: BoxStream<'static, reqwest::Result<bytes::Bytes>>,
    buffer: String,
    /// The id with which the stream began.
    pub(crate) id: Option<String>,
    messages: VecDeque<Value>,
    pub(crate) seen: Vec<Value>,
}

impl McpStream {
    pub(crate) async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        if response.headers()["content-type"] == "application/json" {
            let message = response.json().await.unwrap();
            let body = futures_util::stream::empty().boxed();
            return Self { body, buffer: String::new(), id: None, messages: [message].into(), seen: Vec::new() };
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let (body, messages) = (response.bytes_stream().boxed(), VecDeque::new());
        Self { body, buffer: String::new(), id: None, messages, seen: Vec::new() }
    }

    pub(crate) async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(message) = self.messages.pop_front() {
                assert_eq!(message["jsonrpc"], "2.0");
                self.seen.push(message.clone());
                return Some(message);
            }
            while let Some(end) = self.buffer.find("\n\n") {
                let event: String = self.buffer.drain(..end + 2).collect();
                for line in event.lines() {
                    match line.split_once(": ") {
                        Some(("id", id)) => self.id = Some(id.to_owned()),
                        Some(("data", "")) | None => {}
                        Some(("data", data)) => self.messages.push_back(serde_json::from_str(data).unwrap()),
                        Some(_) => {}
                    }
                }
            }
            if self.messages.is_empty() {
                self.buffer.push_str(std::str::from_utf8(&self.body.next().await?.ok()?).unwrap());
            }
        }
    }

    /// Reads up to the next elicitation.
    pub(crate) async fn elicitation(&mut self) -> Value {
        loop {
            let message = self.next().await.unwrap_or_else(|| panic!("no elicitation: {:?}", self.seen));
            if message["method"] == "elicitation/create" {
                return message;
            }
        }
    }

    /// Reads to the end, and returns the result.
    pub(crate) async fn result(&mut self) -> Value {
        while self.next().await.is_some() {}
        let last = self.seen.last().expect("the stream has a result");
        assert!(last["result"].is_object(), "{last}");
        last["result"].clone()
    }
}

pub(crate) fn outcome(result: &Value) -> (&str, &str) {
    let structured = &result["structuredContent"];
    (structured["outcome"].as_str().unwrap_or_default(), structured["text"].as_str().unwrap_or_default())
}

fn session_of(result: &Value) -> &str {
    result["structuredContent"]["session_id"].as_str().unwrap()
}

fn log_path(result: &Value) -> String {
    format!("/v1/sessions/{}", session_of(result))
}

async fn newest_session(service: &TestService) -> String {
    service.get("/v1/sessions").await["sessions"][0]["session_id"].as_str().unwrap().to_owned()
}

pub(crate) fn with_forms() -> Value {
    json!({"elicitation": {"form": {}}})
}

pub(crate) fn change_replies() -> Vec<Vec<ReplyStep>> {
    vec![vec![text("I change it. "), call("change", json!({"replicas": 3}))], vec![text("Done.")]]
}

#[tokio::test(flavor = "multi_thread")]
async fn turn_leaves_the_same_log_as_over_the_native_api() {
    let tools = CountingMcpServer::new();
    let reply = || vec![vec![text("I look. "), call("look", json!({}))], vec![text("All "), text("is well.")]];
    let service = TestService::with_tools([reply(), reply(), reply()].concat(), &tools).await;
    let native = service.create_session().await;
    service.turn(&native, "how is it?").await;
    for client in McpTestClient::of_both_eras(&service, json!({})).await {
        let mut stream = client.ask(&service, 1, "how is it?").await;
        let result = stream.result().await;
        assert_eq!(outcome(&result), ("completed", "All is well."));
        assert_eq!(result["isError"], false);
        assert_eq!(result.get("resultType").is_some(), client.is_stateless());
        assert!(result["content"][1]["text"].as_str().unwrap().contains(session_of(&result)));
        let progress: Vec<&Value> = stream.seen.iter().filter(|m| m["method"] == "notifications/progress").collect();
        let numbers: Vec<f64> = progress.iter().map(|m| m["params"]["progress"].as_f64().unwrap()).collect();
        assert!(numbers.len() >= 3 && numbers.is_sorted_by(|a, b| a < b), "{numbers:?}");
        assert!(progress.iter().any(|m| m["params"]["message"].as_str().unwrap().contains("look")), "{progress:?}");
        let [native, door] = [service.log(&native).await, service.log(&log_path(&result)).await];
        assert_eq!(plain_log(&native), plain_log(&door));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_is_elicited_on_the_stream() {
    let tools = CountingMcpServer::new();
    let service = TestService::with_tools(change_replies(), &tools).await;
    let client = McpTestClient::with_handshake(&service, with_forms()).await;
    let mut stream = client.ask(&service, 1, "change it").await;
    let asked = stream.elicitation().await;
    let message = asked["params"]["message"].as_str().unwrap();
    assert!(message.contains("`change`") && !message.contains("Reply"), "{message}");
    assert_eq!(asked["params"]["requestedSchema"]["properties"]["decision"]["enum"], json!(["approve", "deny"]));
    assert_eq!(tools.count_calls("change"), 0);
    let answer = json!({"action": "accept", "content": {"decision": "approve", "comment": "go"}});
    let response = json!({"id": asked["id"], "result": answer});
    for _ in 0..2 {
        let accepted = client.post(&service, "", response.clone()).send().await.unwrap();
        assert_eq!(accepted.status(), 202, "also a second time");
    }
    let result = stream.result().await;
    assert_eq!((outcome(&result), tools.count_calls("change")), (("completed", "Done."), 1));
    let log = service.log(&log_path(&result)).await;
    let resolved = log.iter().find(|event| event["type"] == "approval_resolved").unwrap();
    assert_eq!((&resolved["decision"], &resolved["comment"]), (&json!("approve"), &json!("go")));
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_is_elicited_by_sending_again() {
    let tools = CountingMcpServer::new();
    let service = TestService::with_tools(change_replies(), &tools).await;
    let client = McpTestClient::stateless(with_forms());
    let asked = client.ask(&service, 1, "change it").await.result().await;
    assert_eq!(asked["resultType"], "input_required");
    let (name, form) = asked["inputRequests"].as_object().unwrap().iter().next().unwrap();
    assert_eq!(form["method"], "elicitation/create");
    let again = |responses: Value| {
        let params = json!({"name": "ask", "arguments": {"question": "change it"}, "_meta": {},
            "requestState": asked["requestState"], "inputResponses": responses});
        client.post(&service, "", json!({"id": 2, "method": "tools/call", "params": params}))
    };
    for invalid in [json!(5), json!({name: 5})] {
        let response: Value = again(invalid).send().await.unwrap().json().await.unwrap();
        assert_eq!(response["error"]["code"], -32602);
    }
    // Without an answer the same is asked.
    let unanswered = McpStream::open(again(json!({"other": {"action": "accept"}}))).await.result().await;
    assert_eq!(unanswered["inputRequests"], asked["inputRequests"]);
    let answer = json!({name: {"action": "accept", "content": {"decision": "approve"}}, "extra": {}});
    let done = McpStream::open(again(answer.clone())).await.result().await;
    assert_eq!((outcome(&done), tools.count_calls("change")), (("completed", "Done."), 1));
    // The response was lost: the client sends the same again, and gets the result of the run that has ended.
    let repeated = McpStream::open(again(answer)).await.result().await;
    assert_eq!((&repeated, tools.count_calls("change")), (&done, 1));
    let log = service.log(&log_path(&done)).await;
    assert_eq!(log.iter().filter(|event| event["type"] == "user_message").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn anything_but_an_approval_denies() {
    for response in [
        json!({"result": {"action": "accept", "content": {"decision": "deny"}}}),
        json!({"result": {"action": "accept", "content": {}}}),
        json!({"result": {"action": "decline"}}),
        json!({"result": {"action": "cancel"}}),
        json!({"error": {"code": -32601, "message": "no forms"}}),
    ] {
        let tools = CountingMcpServer::new();
        let service =
            TestService::with_tools(vec![vec![call("change", json!({}))], vec![text("I leave it.")]], &tools).await;
        let client = McpTestClient::with_handshake(&service, json!({"elicitation": {}})).await;
        let mut stream = client.ask(&service, 1, "change it").await;
        let mut response = response.clone();
        response["id"] = stream.elicitation().await["id"].clone();
        client.post(&service, "", response).send().await.unwrap().error_for_status().unwrap();
        let result = stream.result().await;
        assert_eq!((outcome(&result), tools.count_calls("change")), (("completed", "I leave it."), 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn client_without_forms_learns_what_waits() {
    let tools = CountingMcpServer::new();
    let service = TestService::with_tools([change_replies(), change_replies()].concat(), &tools).await;
    for client in McpTestClient::of_both_eras(&service, json!({"elicitation": {"url": {}}})).await {
        let before = tools.count_calls("change");
        let asked = client.ask(&service, 1, "change it").await.result().await;
        let (kind, words) = outcome(&asked);
        assert_eq!((kind, &asked["isError"]), ("waiting", &json!(false)));
        assert!(words.contains("**Approval needed** for `change`") && words.contains("k8sops approvals"), "{words}");
        // A model that is told the words would approve its own call.
        assert!(!words.contains("Reply") && !words.contains("`approve "), "{words}");
        let session = session_of(&asked).to_owned();
        let waits = client.get_session(&service, &session).await;
        assert_eq!((&waits["status"], &waits["waiting"][0]["kind"]), (&json!("waiting"), &json!("approval")));
        // A question does not queue behind the approval.
        let next = json!({"question": "and now?", "session_id": session});
        let blocked = McpStream::open(client.call(&service, 2, "ask", &next)).await.result().await;
        assert!(outcome(&blocked).0 == "waiting" && outcome(&blocked).1.starts_with("The question was not sent"));
        let approval = waits["waiting"][0]["id"].as_str().unwrap();
        let path = format!("/v1/sessions/{session}/approvals/{approval}");
        service.post(&path, json!({"decision": "approve"})).await;
        eventually("the run ends", async || client.get_session(&service, &session).await["status"] == "idle").await;
        let done = client.get_session(&service, &session).await;
        assert_eq!((&done["text"], &done["question"]), (&json!("Done."), &json!("change it")));
        assert_eq!((&done["steps"], tools.count_calls("change")), (&json!(["change: ok"]), before + 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn question_elicits_what_an_earlier_one_waits_for() {
    let tools = CountingMcpServer::new();
    let service = TestService::with_tools(change_replies(), &tools).await;
    let client = McpTestClient::with_handshake(&service, with_forms()).await;
    let mut lost = client.ask(&service, 1, "change it").await;
    lost.elicitation().await;
    drop(lost);
    let session = newest_session(&service).await;
    let next = json!({"question": "and now?", "session_id": session});
    let mut stream = McpStream::open(client.call(&service, 2, "ask", &next)).await;
    let id = stream.elicitation().await["id"].clone();
    let answer = json!({"action": "accept", "content": {"decision": "approve"}});
    client.post(&service, "", json!({"id": id, "result": answer})).send().await.unwrap();
    let result = stream.result().await;
    let (kind, words) = outcome(&result);
    assert!(kind == "completed" && words.contains("was not sent") && words.ends_with("Done."), "{words}");
    assert_eq!(tools.count_calls("change"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnect_does_what_the_protocol_says() {
    for (is_stateless, query, expected) in [
        (false, "", "completed"),
        (true, "", "cancelled"),
        (false, "?on_disconnect=cancel", "cancelled"),
        (true, "?on_disconnect=continue", "completed"),
    ] {
        let gate = TestGate::new();
        let model = ScriptedModel::new([vec![text("long "), ReplyStep::Wait(gate.clone()), text("end")]]);
        let service = TestService::with(&model).await;
        let [handshake, stateless] = McpTestClient::of_both_eras(&service, json!({})).await;
        let client = if is_stateless { stateless } else { handshake };
        let params = json!({"name": "ask", "arguments": {"question": "hi"}, "_meta": {}});
        let ask = client.post(&service, query, json!({"id": 1, "method": "tools/call", "params": params}));
        let stream = McpStream::open(ask).await;
        gate.arrived().await;
        drop(stream);
        let session = newest_session(&service).await;
        if expected == "completed" {
            assert_eq!(client.get_session(&service, &session).await["status"], "working");
            gate.open();
        }
        let path = format!("/v1/sessions/{session}");
        eventually("the run ends", async || {
            service.log(&path).await.last().is_some_and(|event| event["outcome"] == expected)
        })
        .await;
        if expected == "completed" {
            let done = client.get_session(&service, &session).await;
            assert_eq!((&done["status"], &done["text"]), (&json!("idle"), &json!("long end")));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn notification_cancels_the_run_of_its_request() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("long "), ReplyStep::Wait(gate.clone()), text("end")]]);
    let service = TestService::with(&model).await;
    let client = McpTestClient::with_handshake(&service, json!({})).await;
    let mut stream = client.ask(&service, 7, "hi").await;
    gate.arrived().await;
    let cancel = |id: Value| json!({"method": "notifications/cancelled", "params": {"requestId": id}});
    for other in [json!(8), json!("7"), Value::Null] {
        client.post(&service, "", cancel(other)).send().await.unwrap().error_for_status().unwrap();
    }
    let session = newest_session(&service).await;
    assert_eq!(client.get_session(&service, &session).await["status"], "working");
    // A question does not wait in silence behind a run.
    let busy = json!({"question": "and now?", "session_id": session});
    let busy = McpStream::open(client.call(&service, 9, "ask", &busy)).await.result().await;
    assert!(busy["isError"] == true && busy["content"][0]["text"].as_str().unwrap().contains("still works"), "{busy}");
    assert_eq!(client.post(&service, "", cancel(json!(7))).send().await.unwrap().status(), 202);
    let result = stream.result().await;
    assert_eq!(outcome(&result).0, "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_is_opened_again_by_its_id() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("long "), ReplyStep::Wait(gate.clone()), text("end")]]);
    let service = TestService::with(&model).await;
    let client = McpTestClient::with_handshake(&service, json!({})).await;
    let mut stream = client.ask(&service, 7, "hi").await;
    eventually("the stream has an id", async || {
        tokio::select! { _ = stream.next() => {}, () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {} }
        stream.id.is_some()
    })
    .await;
    let id = stream.id.clone().unwrap();
    gate.arrived().await;
    drop(stream);
    let open = || {
        let request = service.request(Method::GET, "/mcp").header("accept", "text/event-stream");
        let request = request.header("mcp-session-id", client.session.clone().unwrap());
        request.header("mcp-protocol-version", "2025-11-25").header("last-event-id", id.clone())
    };
    let mut resumed = McpStream::open(open()).await;
    gate.open();
    assert_eq!(outcome(&resumed.result().await), ("completed", "long end"));
    assert_eq!(resumed.seen.last().unwrap()["id"], 7);
    let mut ended = McpStream::open(open()).await;
    assert_eq!(outcome(&ended.result().await), ("completed", "long end"));
    // A repeated request is the same one.
    assert_eq!(outcome(&client.ask(&service, 7, "hi").await.result().await), ("completed", "long end"));
    assert_eq!(service.get("/v1/sessions").await["sessions"].as_array().unwrap().len(), 1);
    let refused = service.request(Method::GET, "/mcp").send().await.unwrap();
    assert_eq!(refused.status(), 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_run_is_an_error_for_the_model() {
    let fail = vec![text("I "), ReplyStep::Fail(ModelError::new(ModelErrorKind::InvalidRequest, "no such model"))];
    let service = TestService::with(&ScriptedModel::new([fail])).await;
    let client = McpTestClient::with_handshake(&service, json!({})).await;
    let result = client.ask(&service, 1, "hi").await.result().await;
    assert_eq!((outcome(&result).0, &result["isError"]), ("failed", &json!(true)));
    assert!(outcome(&result).1.contains("no such model"), "{result}");
    let report = client.get_session(&service, session_of(&result)).await;
    assert!(report["text"].as_str().unwrap().contains("The run failed"), "{report}");
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn any_replica_takes_answers_and_resumes() {
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let model: Arc<ScriptedModel> = ScriptedModel::new([change_replies(), change_replies()].concat());
    let tools = CountingMcpServer::new();
    let start = async || {
        let env = vec![("MEMORY_BACKEND", "redis".into()), ("REDIS_URL", redis.url())];
        let (model, servers) = (Some(model.clone() as _), vec![tools.connector()]);
        let service = TestService::start(ServiceSetup { env, model, servers, ..ServiceSetup::default() }).await;
        service.wait_for_mcp_servers().await;
        service
    };
    let (one, other) = (start().await, start().await);
    let client = McpTestClient::with_handshake(&one, with_forms()).await;
    let mut stream = client.ask(&one, 1, "change it").await;
    let id = stream.elicitation().await["id"].clone();
    let answer = json!({"action": "accept", "content": {"decision": "approve"}});
    client.post(&other, "", json!({"id": id, "result": answer})).send().await.unwrap().error_for_status().unwrap();
    assert_eq!((outcome(&stream.result().await), tools.count_calls("change")), (("completed", "Done."), 1));
    // The second run waits; its request is cancelled at the other replica.
    let mut stream = client.ask(&one, 2, "change it").await;
    stream.elicitation().await;
    let cancel = json!({"method": "notifications/cancelled", "params": {"requestId": 2}});
    client.post(&other, "", cancel).send().await.unwrap().error_for_status().unwrap();
    assert_eq!((outcome(&stream.result().await).0, tools.count_calls("change")), ("cancelled", 1));
}

/// Returns the status and the error of a response.
pub(crate) async fn rpc_error(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["jsonrpc"], "2.0");
    (status, body["error"].clone())
}
