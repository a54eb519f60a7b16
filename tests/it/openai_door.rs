//! The door for clients of OpenAI's API: a session behind chat completions.

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use crate::{
    door_logs::plain_log,
    keys::ApiKeyFile,
    service::{ServiceSetup, TestService},
};
use k8sops::auth::UserRole;
use k8sops_models::{ModelError, ModelErrorKind};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    eventually,
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
};

const COMPLETIONS: &str = "/v1/chat/completions";

fn user(content: &str) -> Value {
    json!({"role": "user", "content": content})
}

fn assistant(content: &str) -> Value {
    json!({"role": "assistant", "content": content})
}

fn completion(service: &TestService, messages: &[Value]) -> RequestBuilder {
    service.request(Method::POST, COMPLETIONS).json(&json!({"model": "k8sops", "messages": messages}))
}

/// Sends a request that succeeds. Returns the session and the completion.
async fn complete(request: RequestBuilder) -> (String, Value) {
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200, "{:?}", response.text().await);
    let session = session_path(&response);
    (session, response.json().await.unwrap())
}

fn session_path(response: &Response) -> String {
    let session = response.headers().get("x-k8sops-session").map(|value| value.to_str().unwrap().to_owned());
    session.map(|session| format!("/v1/sessions/{session}")).unwrap_or_default()
}

fn content(completion: &Value) -> &str {
    completion["choices"][0]["message"]["content"].as_str().unwrap()
}

async fn refused(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    assert_eq!(response.headers()["content-type"], "application/json");
    (status, response.json::<Value>().await.unwrap()["error"].clone())
}

/// Reads a stream of chunks, which must end with `[DONE]`.
async fn chunks(response: Response) -> Vec<Value> {
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let text = response.text().await.unwrap();
    let mut data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(data.pop(), Some("[DONE]"), "{text}");
    data.into_iter().map(|data| serde_json::from_str(data).unwrap()).collect()
}

fn joined(chunks: &[Value], field: &str) -> String {
    chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"][field].as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn turn_leaves_the_same_log_as_over_the_native_api() {
    let tools = CountingMcpServer::new();
    let reply = || vec![vec![text("I look. "), call("look", json!({}))], vec![text("All "), text("is well.")]];
    let service = TestService::with_tools([reply(), reply()].concat(), &tools).await;
    let native = service.create_session().await;
    service.turn(&native, "how is it?").await;
    let (session, answer) = complete(completion(&service, &[user("how is it?")])).await;
    assert_eq!(content(&answer), "I look. \n\nAll is well.");
    let reasoning = answer["choices"][0]["message"]["reasoning_content"].as_str().unwrap();
    assert!(reasoning.contains("Calling look") && reasoning.contains("look: ok"), "{reasoning}");
    assert_eq!(answer["choices"][0]["finish_reason"], "stop");
    let [native, door] = [service.log(&native).await, service.log(&session).await];
    assert_eq!(plain_log(&native), plain_log(&door));
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_has_text_reasoning_and_usage() {
    let service =
        TestService::with(&ScriptedModel::new([vec![ReplyStep::Reasoning("hm".into()), text("All "), text("well.")]]))
            .await;
    let body = json!({"model": "k8sops", "messages": [user("how is it?")], "stream": true,
        "stream_options": {"include_usage": true}});
    let response = service.request(Method::POST, COMPLETIONS).json(&body).send().await.unwrap();
    let chunks = chunks(response).await;
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": ""}));
    assert_eq!((joined(&chunks, "content"), joined(&chunks, "reasoning_content")), ("All well.".into(), "hm".into()));
    let (usage, end) = (chunks.last().unwrap(), &chunks[chunks.len() - 2]);
    assert_eq!((&usage["choices"], &end["choices"][0]["finish_reason"]), (&json!([]), &json!("stop")));
    let usage = &usage["usage"];
    assert_eq!(
        usage["total_tokens"].as_u64().unwrap(),
        usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap()
    );
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"] && chunk["object"] == "chat.completion.chunk"));
}

#[tokio::test(flavor = "multi_thread")]
async fn approval_is_answered_in_words() {
    let tools = CountingMcpServer::new();
    let service = TestService::with_tools(
        vec![vec![text("I change it. "), call("change", json!({"replicas": 3}))], vec![text("Done.")]],
        &tools,
    )
    .await;
    let thread = |messages: &[Value]| completion(&service, messages).header("x-k8sops-thread", "chat-1");
    let (session, asked) = complete(thread(&[user("change it")])).await;
    let words = content(&asked);
    assert!(words.contains("**Approval needed** for `change`"), "{words}");
    let answer = words.split('`').find(|word| word.starts_with("approve ")).unwrap().to_owned();

    // A message does not queue behind the approval.
    let (_, blocked) = complete(thread(&[user("change it"), assistant(words), user("and now?")])).await;
    assert!(content(&blocked).starts_with("Your message was not sent"), "{blocked}");
    assert!(content(&blocked).contains(&answer), "{blocked}");
    let (_, unknown) = complete(thread(&[user("change it"), assistant(words), user("approve 000000")])).await;
    assert!(content(&unknown).contains("Nothing waits") && content(&unknown).contains(&answer), "{unknown}");
    assert_eq!(tools.count_calls("change"), 0);

    let (same, done) = complete(thread(&[user("change it"), assistant(words), user(&answer)])).await;
    assert_eq!((same.as_str(), content(&done), tools.count_calls("change")), (session.as_str(), "Done.", 1));
    let log = service.log(&session).await;
    let said: Vec<&Value> = log.iter().filter(|event| event["type"] == "user_message").collect();
    assert_eq!(said.len(), 1, "answers and unsent messages are not in the log");
    let (_, again) = complete(thread(&[user(&answer)])).await;
    assert!(content(&again).contains("Nothing waits"), "{again}");
    assert_eq!(tools.count_calls("change"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn denied_call_is_not_run() {
    let tools = CountingMcpServer::new();
    let service =
        TestService::with_tools(vec![vec![call("change", json!({}))], vec![text("I leave it.")]], &tools).await;
    let (_, asked) = complete(completion(&service, &[user("change it")])).await;
    let words = content(&asked).to_owned();
    let answer = words.split('`').find(|word| word.starts_with("deny ")).unwrap();
    let history = [user("change it"), assistant(&words), user(&format!("{answer} not today"))];
    let (session, done) = complete(completion(&service, &history)).await;
    assert_eq!((content(&done), tools.count_calls("change")), ("I leave it.", 0));
    let log = service.log(&session).await;
    let resolved = log.iter().find(|event| event["type"] == "approval_resolved").unwrap();
    assert_eq!((&resolved["decision"], &resolved["comment"]), (&json!("deny"), &json!("not today")));
}

#[tokio::test(flavor = "multi_thread")]
async fn session_is_found_by_the_history() {
    let replies: Vec<_> = ["one", "two", "three", "four", "five"].map(|reply| vec![text(reply)]).into();
    let service = TestService::with(&ScriptedModel::new(replies)).await;
    let (first, answer) = complete(completion(&service, &[user("hi")])).await;
    assert_eq!(content(&answer), "one");
    // A chat that begins alike is another session.
    let (other, _) = complete(completion(&service, &[user("hi")])).await;
    assert_ne!(first, other);
    let history = [json!({"role": "system", "content": "be brief"}), user("hi"), assistant("one"), user("and?")];
    let (same, answer) = complete(completion(&service, &history)).await;
    assert_eq!((same.as_str(), content(&answer)), (first.as_str(), "three"));
    let (same, _) = complete(completion(&service, &[user("hi"), assistant("two"), user("and?")])).await;
    assert_eq!(same, other);
    // The session has more than this history: the last message was edited.
    let (edited, _) = complete(completion(&service, &[user("hi"), assistant("one"), user("what else?")])).await;
    assert!(edited != first && edited != other);
    let log = service.log(&edited).await;
    let message = log.iter().find(|event| event["type"] == "user_message").unwrap()["content"].as_str().unwrap();
    assert!(message.contains("- hi") && message.ends_with("what else?") && !message.contains("one"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn repeated_request_gets_the_same_run() {
    let replies: Vec<_> = ["one", "two", "three", "four"].map(|reply| vec![text(reply)]).into();
    let service = TestService::with(&ScriptedModel::new(replies)).await;
    let (first, _) = complete(completion(&service, &[user("hi")])).await;
    let (again, answer) = complete(completion(&service, &[user("hi")]).header("x-stainless-retry-count", "1")).await;
    assert_eq!((again.as_str(), content(&answer)), (first.as_str(), "one"));
    let keyed = || completion(&service, &[user("hi")]).header("idempotency-key", "k-1");
    let (third, answer) = complete(keyed()).await;
    assert_eq!(content(&answer), "two");
    let (fourth, answer) = complete(keyed()).await;
    assert_eq!((fourth.as_str(), content(&answer)), (third.as_str(), "two"));
    // A template that the client did not fill in is no key.
    for _ in 0..2 {
        complete(completion(&service, &[user("hi")]).header("idempotency-key", "{{MESSAGE_ID}}")).await;
    }
    assert_eq!(service.get("/v1/sessions").await["sessions"].as_array().unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn thread_is_one_session_for_requests_at_once() {
    let replies: Vec<_> = (0..6).map(|_| vec![text("ok")]).collect();
    let service = TestService::with(&ScriptedModel::new(replies)).await;
    let send = || async {
        let request = completion(&service, &[user("hi")]).header("x-k8sops-thread", "chat-9");
        session_path(&request.send().await.unwrap())
    };
    let sessions = futures_util::future::join_all((0..6).map(|_| send())).await;
    assert!(!sessions[0].is_empty() && sessions.iter().all(|session| *session == sessions[0]), "{sessions:?}");
    assert_eq!(service.get("/v1/sessions").await["sessions"].as_array().unwrap().len(), 1);
    // The id of a session is a thread, too.
    let id = sessions[0].rsplit('/').next().unwrap();
    let (same, _) = complete(completion(&service, &[user("again")]).header("x-k8sops-thread", id)).await;
    assert_eq!(same, sessions[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn thread_of_a_deleted_session_begins_a_new_one() {
    let service = TestService::with(&ScriptedModel::new([vec![text("one")], vec![text("two")]])).await;
    let thread = |messages: &[Value]| completion(&service, messages).header("x-k8sops-thread", "chat-1");
    let (session, _) = complete(thread(&[user("hi")])).await;
    assert_eq!(service.request(Method::DELETE, &session).send().await.unwrap().status(), 204);
    let (again, answer) = complete(thread(&[user("hi"), assistant("one"), user("more")])).await;
    assert_eq!((again.as_str(), content(&answer)), (session.as_str(), "two"));
    let log = service.log(&session).await;
    assert!(log.iter().all(|event| event["type"] != "log_truncated"), "{log:?}");
    let message = log.iter().find(|event| event["type"] == "user_message").unwrap();
    assert!(message["content"].as_str().unwrap().contains("- hi"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn next_message_interrupts_a_run_that_its_client_left() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("long "), ReplyStep::Wait(gate.clone())], vec![text("two")]]);
    let service = TestService::with(&model).await;
    let thread = |text: &str| completion(&service, &[user(text)]).header("x-k8sops-thread", "chat-1");
    let left = tokio::spawn(thread("one").send());
    gate.arrived().await;
    left.abort();
    let (session, answer) = complete(thread("two")).await;
    assert_eq!(content(&answer), "two");
    let log = service.log(&session).await;
    let outcomes: Vec<&Value> = log.iter().filter(|e| e["type"] == "run_finished").map(|e| &e["outcome"]).collect();
    assert_eq!(outcomes, ["cancelled", "completed"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn disconnect_cancels_only_on_request() {
    let gate = TestGate::new();
    let model = ScriptedModel::new([vec![text("long "), ReplyStep::Wait(gate.clone()), text("end")]]);
    let service = TestService::with(&model).await;
    let body = json!({"model": "k8sops", "messages": [user("hi")], "stream": true});
    let path = format!("{COMPLETIONS}?on_disconnect=cancel");
    let response = service.request(Method::POST, &path).json(&body).send().await.unwrap();
    let session = session_path(&response);
    gate.arrived().await;
    drop(response);
    eventually("the run is cancelled", async || {
        service.log(&session).await.last().is_some_and(|event| event["outcome"] == "cancelled")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_run_is_an_error_that_clients_do_not_repeat() {
    let fail = || vec![ReplyStep::Fail(ModelError::new(ModelErrorKind::InvalidRequest, "no such model"))];
    let service = TestService::with(&ScriptedModel::new([fail(), fail()])).await;
    let response = completion(&service, &[user("hi")]).send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["x-should-retry"]), (424, &"false".parse().unwrap()));
    let error = response.json::<Value>().await.unwrap()["error"].clone();
    assert_eq!((&error["type"], &error["code"]), (&json!("server_error"), &json!("invalid_request")));
    let body = json!({"model": "k8sops", "messages": [user("hi")], "stream": true});
    let response = service.request(Method::POST, COMPLETIONS).json(&body).send().await.unwrap();
    let chunks = chunks(response).await;
    assert_eq!(chunks.last().unwrap()["error"]["code"], "invalid_request");
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_have_the_form_of_the_door() {
    let mut keys = ApiKeyFile::new();
    let token = keys.add("anna", &[UserRole::User]);
    let env = keys.env().into_iter().chain([
        ("K8SOPS_MAX_CONVERSATION_BYTES", "2000".to_owned()),
        ("K8SOPS_MAX_MESSAGE_BYTES", "1000".to_owned()),
        ("K8SOPS_MAX_REQUESTS_PER_MINUTE", "13".to_owned()),
    ]);
    let model = ScriptedModel::new([]);
    let mut service =
        TestService::start(ServiceSetup { model: Some(model), env: env.collect(), ..ServiceSetup::default() }).await;
    let (status, error) = refused(completion(&service, &[user("hi")])).await;
    assert_eq!(
        (status, &error["code"], &error["type"]),
        (401, &json!("invalid_api_key"), &json!("authentication_error"))
    );
    service.token = Some(token);
    let post = |body: &str| service.request(Method::POST, COMPLETIONS).body(body.to_owned());
    for (request, status, code) in [
        (post(r#"{"model": "gpt-5", "messages": [{"role": "user", "content": "hi"}]}"#), 404, "model_not_found"),
        (service.request(Method::GET, "/v1/models/gpt-5"), 404, "model_not_found"),
        (post(r#"{"model": "k8sops", "messages": []}"#), 400, "invalid_request"),
        (post(r#"{"model": "k8sops", "messages": [{"role": "system", "content": "x"}]}"#), 400, "invalid_request"),
        (post("{"), 400, "invalid_json"),
        (completion(&service, &[user("hi")]).header("idempotency-key", "x".repeat(600)), 400, "invalid_request"),
        (post(&json!({"messages": [user(&"x".repeat(3000))]}).to_string()), 413, "payload_too_large"),
        (post(&json!({"messages": [user(&"x".repeat(1500))]}).to_string()), 413, "message_too_long"),
        (service.request(Method::GET, COMPLETIONS), 405, "method_not_allowed"),
        (completion(&service, &[user("hi")]).header("origin", "https://evil.example"), 403, "origin_not_allowed"),
    ] {
        let (found, error) = refused(request).await;
        assert_eq!((found, &error["code"]), (status, &json!(code)));
        assert!(error["message"].is_string() && error["type"].is_string(), "{error}");
    }
    let mut last = (0, Value::Null);
    for _ in 0..20 {
        let response = service.request(Method::GET, "/v1/models").send().await.unwrap();
        if response.status() == 429 {
            assert!(response.headers().contains_key("retry-after"));
            last = (429, response.json::<Value>().await.unwrap()["error"].clone());
            break;
        }
    }
    assert_eq!((last.0, &last.1["code"]), (429, &json!("rate_limit_exceeded")));
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_bodies_of_clients_are_read() {
    let replies: Vec<_> = (0..4).map(|_| vec![text("ok")]).collect();
    let service = TestService::with(&ScriptedModel::new(replies)).await;
    let picture = format!("data:image/png;base64,{}", "A".repeat(400_000));
    for body in [
        // Cut in the middle of a character.
        r#"{"model": "k8sops", "messages": [{"role": "user", "content": "hi \ud83d"}]}"#.to_owned(),
        json!({"messages": [{"role": "user", "content": [
            {"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": picture}}
        ]}]})
        .to_string(),
        json!({"model": "openai/k8sops", "messages": [user("hi")], "tools": [{"type": "function"}], "n": 1, "stop": null})
            .to_string(),
    ] {
        let (_, answer) = complete(service.request(Method::POST, COMPLETIONS).body(body)).await;
        assert_eq!(content(&answer), "ok");
        assert!(answer["choices"][0]["message"].get("tool_calls").is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn chats_belong_to_their_users() {
    let mut keys = ApiKeyFile::new();
    let (anna, ben) = (keys.add("anna", &[UserRole::User]), keys.add("ben", &[UserRole::User]));
    let viewer = keys.add("vera", &[UserRole::Viewer]);
    let replies: Vec<_> = (0..4).map(|_| vec![text("ok")]).collect();
    let setup = ServiceSetup { model: Some(ScriptedModel::new(replies)), env: keys.env(), ..ServiceSetup::default() };
    let mut service = TestService::start(setup).await;
    let mut sessions = Vec::new();
    for token in [anna, ben] {
        service.token = Some(token);
        let (session, _) = complete(completion(&service, &[user("hi")]).header("x-k8sops-thread", "shared")).await;
        // The session of another user is a name like any other.
        let other: String = sessions.first().cloned().unwrap_or_default();
        let id = other.rsplit('/').next().unwrap_or_default().to_owned();
        if !id.is_empty() {
            let (own, _) = complete(completion(&service, &[user("hi")]).header("x-k8sops-thread", id)).await;
            assert_ne!(own, other);
        }
        sessions.push(session);
    }
    assert_ne!(sessions[0], sessions[1]);
    service.token = Some(viewer);
    let (status, error) = refused(completion(&service, &[user("hi")])).await;
    assert_eq!((status, &error["code"]), (403, &json!("role_required")));
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_chat_clients_start_no_run() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    let prompt = "### Task:\nGenerate a title.\n### Output:\nJSON format: { \"title\": \"x\" }\n<chat_history>\nUSER: why?\n</chat_history>";
    let (session, answer) = complete(completion(&service, &[user(prompt)])).await;
    assert_eq!((session.as_str(), content(&answer)), ("", r#"{"title":"why?"}"#));
    let tagged = completion(&service, &[user("anything")]).header("x-k8sops-task", "tags_generation");
    assert_eq!(content(&complete(tagged).await.1), r#"{"tags":[]}"#);
    assert_eq!(service.get("/v1/sessions").await["sessions"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn closed_door_answers_not_found() {
    let start = async |doors: &str| {
        let env = vec![("K8SOPS_DOORS", doors.to_owned())];
        let model = ScriptedModel::new([vec![text("ok")]]);
        TestService::start(ServiceSetup { model: Some(model), env, ..ServiceSetup::default() }).await
    };
    let service = start("native").await;
    assert_eq!(service.get("/v1/info").await["doors"], json!(["native"]));
    let (status, error) = refused(service.request(Method::GET, "/v1/models")).await;
    assert_eq!((status, &error["code"]), (404, &json!("not_found")));
    assert!(error["message"].as_str().unwrap().contains("K8SOPS_DOORS"), "{error}");
    let service = start("openai").await;
    assert_eq!(service.get("/v1/info").await["doors"], json!(["openai"]));
    assert_eq!(content(&complete(completion(&service, &[user("hi")])).await.1), "ok");
    let (status, problem) = service.refused(service.request(Method::POST, "/v1/sessions")).await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
    let metrics = service.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("k8sops_door_turns_total{door=\"openai\",end=\"completed\"} 1"), "{metrics}");
    assert!(metrics.contains("k8sops_door_requests_total{door=\"native\",status=\"4xx\"} 1"), "{metrics}");
}
