//! What all doors have in common.

use k8sops::auth::UserRole;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::{
    agui_client::{self, RunRequest, outcome, run, said},
    keys::ApiKeyFile,
    responses_client,
    service::{ServiceSetup, TestService},
};
use k8sops_testing::{
    counting_server::CountingMcpServer,
    scripted_model::{ReplyStep, ScriptedModel, TestGate, call, text},
};

const TITLE: &str = "Provide a concise, 5-word-or-less title for the conversation, using title case conventions. Only return \
    the title itself.\n\nConversation:\nUser: why does payments crash?\nAI: It has no memory.";

fn post(service: &TestService, path: &str) -> RequestBuilder {
    service.request(Method::POST, path).json(&json!({}))
}

#[tokio::test(flavor = "multi_thread")]
async fn path_with_a_slash_too_many_is_named_without_it() {
    let service = TestService::with(&ScriptedModel::new([])).await;
    for (path, plain) in [
        ("/mcp/", "/mcp"),
        ("/agui/", "/agui"),
        ("/v1//chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("//v1/responses", "/v1/responses"),
        ("/v1/sessions/", "/v1/sessions"),
    ] {
        let response = post(&service, path).send().await.unwrap();
        assert_eq!(response.status(), 404, "{path}");
        let body: Value = response.json().await.unwrap();
        let message = body["error"]["message"].as_str().or(body["detail"].as_str()).unwrap();
        assert!(message.contains(&format!("the path is {plain},")), "{path}: {body}");
        assert_eq!(body.get("error").is_some(), plain != "/agui" && plain != "/v1/sessions", "{path}: {body}");
    }
    let body: Value = post(&service, "/v1/nothing/").send().await.unwrap().json().await.unwrap();
    assert!(body["detail"].as_str().unwrap().contains("/openapi.json"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn request_that_another_user_decides_offers_no_words() {
    let mut keys = ApiKeyFile::new();
    let anna = keys.add("anna", &[UserRole::User]);
    let env = keys.env().into_iter().chain([("TOOL_APPROVAL_BY", "approver".to_owned())]).collect();
    let asks = || vec![call("change", json!({"replicas": 3}))];
    let tools = CountingMcpServer::new();
    let model = ScriptedModel::new([asks(), asks(), asks(), asks()]);
    let setup = ServiceSetup { env, model: Some(model), servers: vec![tools.connector()], ..ServiceSetup::default() };
    let mut service = TestService::start(setup).await;
    service.token = Some(anna);
    service.wait_for_mcp_servers().await;
    let completion = json!({"model": "k8sops", "messages": [{"role": "user", "content": "change it"}]});
    let completed = service.post("/v1/chat/completions", completion).await;
    let response = responses_client::create(&service, json!({"input": "change it"})).await;
    let old = RunRequest { version: None, ..RunRequest::message("t-1", "m-1", "change it") };
    let texts = [
        completed["choices"][0]["message"]["content"].as_str().unwrap().to_owned(),
        responses_client::said(&response),
        said(&run(&service, old).await),
    ];
    for text in texts {
        assert!(text.contains("Another user with the role `approver` has to decide"), "{text}");
        assert!(!text.contains("`approve "), "{text}");
    }
    let asked = run(&service, RunRequest::message("t-2", "m-1", "change it")).await;
    let interrupt = &outcome(&asked)["interrupts"][0];
    assert!(interrupt["message"].as_str().unwrap().contains("role `approver`"), "{interrupt}");
    assert_eq!(
        (interrupt.get("responseSchema"), &interrupt["metadata"]["k8sops"]["answeredBy"]),
        (None, &json!("approver"))
    );
}

/// A message never waits behind a run that may ask for something: these doors interrupt it, MCP refuses the message, and A2A says
/// what its task waits for.
#[tokio::test(flavor = "multi_thread")]
async fn message_during_a_run_does_not_wait_for_what_that_will_ask() {
    for door in ["openai", "responses", "agui"] {
        let (tools, gate) = (CountingMcpServer::new(), TestGate::new());
        let first = vec![text("I "), ReplyStep::Wait(gate.clone()), call("change", json!({}))];
        let service = TestService::with_tools(vec![first, vec![text("Second.")]], &tools).await;
        let session = service.create_session().await;
        let id = session.rsplit('/').next().unwrap();
        service.post(&format!("{session}/messages"), json!({"content": "change it"})).await;
        gate.arrived().await;
        let answer = match door {
            "openai" => {
                let completion = json!({"messages": [{"role": "user", "content": "and?"}]});
                let request = service.request(Method::POST, "/v1/chat/completions").header("x-k8sops-thread", id);
                let completed: Value = request.json(&completion).send().await.unwrap().json().await.unwrap();
                completed["choices"][0]["message"]["content"].as_str().unwrap().to_owned()
            }
            "responses" => {
                let request = json!({"input": "and?", "conversation": id});
                responses_client::said(&responses_client::create(&service, request).await)
            }
            _ => said(&run(&service, RunRequest::message(id, "m-2", "and?")).await),
        };
        assert_eq!((answer.as_str(), tools.count_calls("change")), ("Second.", 0), "{door}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contrary_answers_are_refused() {
    let tools = CountingMcpServer::new();
    let asks = || vec![call("change", json!({"replicas": 3}))];
    let service = TestService::with_tools(vec![asks(), asks()], &tools).await;
    let asked = run(&service, RunRequest::message("t-1", "m-1", "change it")).await;
    let mut resume = agui_client::approve(&asked);
    let id = resume[0]["interruptId"].clone();
    resume.as_array_mut().unwrap().push(json!({"interruptId": id, "status": "cancelled"}));
    let body = RunRequest { resume, ..RunRequest::attach("t-1") }.body();
    let (status, problem) = service.refused(service.request(Method::POST, "/agui").json(&body)).await;
    assert_eq!((status, &problem["code"]), (400, &json!("invalid_request")));
    let response = responses_client::create(&service, json!({"input": "change it"})).await;
    let mut input = responses_client::approve(&response);
    let mut denial = input[0].clone();
    denial["approve"] = false.into();
    input.as_array_mut().unwrap().push(denial);
    let (status, error) = responses_client::refused(responses_client::post(&service, json!({"input": input}))).await;
    assert_eq!((status, &error["code"]), (400, &json!("invalid_request")));
    assert_eq!(tools.count_calls("change"), 0);
    // A place of the log that the response does not begin at: the request must not hang.
    let previous = format!("{}f", responses_client::id(&response));
    let blocked = json!({"input": "and now?", "previous_response_id": previous});
    let again = responses_client::create(&service, blocked).await;
    assert_eq!(responses_client::items(&again, "mcp_approval_request").len(), 1, "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_of_chat_clients_start_no_run_as_responses() {
    let service = TestService::with(&ScriptedModel::new([vec![text("It has no memory.")]])).await;
    let lobe_chat = json!({"instructions": "You are a conversation summarizer. Generate a concise title for the conversation.",
        "input": "user: why does payments crash?\nassistant: It has no memory."});
    for body in [json!({"input": TITLE}), json!({"input": [{"role": "user", "content": TITLE}]}), lobe_chat] {
        let response = responses_client::create(&service, body).await;
        assert_eq!(responses_client::said(&response), "why does payments crash?");
        assert_eq!((&response["status"], &response["conversation"]), (&json!("completed"), &Value::Null));
        let path = format!("/v1/responses/{}", responses_client::id(&response));
        let (status, error) = responses_client::refused(service.request(Method::GET, &path)).await;
        assert_eq!((status, &error["code"]), (404, &json!("response_not_found")));
    }
    let streamed = responses_client::post(&service, json!({"input": TITLE, "stream": true})).send().await.unwrap();
    let events = responses_client::events(streamed).await;
    let kinds = responses_client::types(&events);
    assert_eq!((kinds.first(), kinds.last()), (Some(&"response.created"), Some(&"response.completed")));
    assert_eq!(responses_client::said(&events.last().unwrap()["response"]), "why does payments crash?");
    let tagged =
        responses_client::post(&service, json!({"input": "anything"})).header("x-k8sops-task", "tags_generation");
    let tags: Value = tagged.send().await.unwrap().json().await.unwrap();
    assert_eq!(responses_client::said(&tags), r#"{"tags":[]}"#);
    assert_eq!(service.get("/v1/sessions").await["sessions"], json!([]));
    // A question is none.
    let response = responses_client::create(&service, json!({"input": "why does payments crash?"})).await;
    assert_eq!(responses_client::said(&response), "It has no memory.");
}
