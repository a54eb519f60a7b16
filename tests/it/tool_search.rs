//! Tools that are found by a search, over the APIs of providers that load tools in the conversation.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::{
    fake_mcp_server::FakeMcpServer,
    provider::{FakeProviders, ProviderApi, ScriptedResponse},
    strict_servers::StrictServer,
};

/// Model of the strict servers.
const MODEL: &str = "searching-model";

/// Starts the service with providers whose dialects load tools, and with a server of which one tool fits the budget.
async fn start_service(providers: &FakeProviders) -> TestService {
    let model = format!("    models: [{{id: {MODEL}, features: [tools, thinking, deferred_tools]}}]\n");
    let loading = |name: &str, api: ProviderApi, dialect: &str| {
        providers.provider_yaml(name, api, "60s") + &format!("    dialect: {dialect}\n{model}")
    };
    let yaml = providers.settings_yaml()
        + &loading("messages", ProviderApi::Anthropic, "anthropic")
        + &loading("responses", ProviderApi::Responses, "openai-responses");
    let mut server = FakeMcpServer::new()
        .read_only_tool("pods_list", "Lists pods.", |_| Ok("web-0 Running".into()))
        .read_only_tool("nodes_top", "Shows the load of nodes.", |_| Ok("node-1 90 %".into()));
    for name in
        ["certificates_list", "issuers_list", "quotas_list", "roles_list", "rules_list", "zones_list", "disks_list"]
    {
        server = server.read_only_tool(name, "Lists other objects.", |_| Ok("none".into()));
    }
    let env = vec![
        ("LLM_PROVIDER", "messages".to_owned()),
        ("LLM_MODEL", MODEL.into()),
        ("K8SOPS_SERVER_TOOL_SCHEMA_TOKENS", "40".into()),
    ];
    let servers = vec![server.connector("prod")];
    let service = TestService::start(ServiceSetup { env, yaml: Some(yaml), servers, ..ServiceSetup::default() }).await;
    service.wait_for_mcp_servers().await;
    service
}

async fn create_session(service: &TestService, provider: &str) -> String {
    let created = service.post("/v1/sessions", json!({"provider": provider, "model": MODEL})).await;
    format!("/v1/sessions/{}", created["session_id"].as_str().unwrap())
}

fn searching_replies(api: ProviderApi) -> [ScriptedResponse; 3] {
    [api.call("find_tools", r#"{"query": "load of nodes"}"#), api.call("nodes_top", "{}"), api.text("Node 1 is full.")]
}

fn bodies(providers: &FakeProviders, api: ProviderApi, model: &str) -> Vec<Value> {
    providers.received(api, model).into_iter().map(|received| received.body).collect()
}

fn tool_outputs(frames: &[Value]) -> Vec<&str> {
    let ends = frames.iter().filter(|frame| frame["type"] == "tool_end");
    ends.map(|end| end["content"].as_str().unwrap()).collect()
}

fn warnings(frames: &[Value]) -> Vec<&Value> {
    frames.iter().filter(|frame| frame["type"] == "warning").collect()
}

/// Returns the tools of the list, without those that are deferred.
fn listed_tools(body: &Value) -> Vec<&Value> {
    let tools = body["tools"].as_array().unwrap().iter();
    tools.filter(|tool| tool.get("defer_loading").is_none()).collect()
}

/// Returns the messages without the marks of the cache, which move on with the conversation.
fn messages_of(body: &Value) -> Vec<Value> {
    let mut messages = body["messages"].as_array().unwrap().clone();
    for block in messages.iter_mut().flat_map(|message| message["content"].as_array_mut().unwrap()) {
        block.as_object_mut().unwrap().remove("cache_control");
    }
    messages
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_api_loads_found_tools_by_references() {
    let providers = FakeProviders::start().await;
    providers.make_strict(MODEL, StrictServer::Anthropic);
    providers.script(ProviderApi::Anthropic, MODEL, searching_replies(ProviderApi::Anthropic));
    let service = start_service(&providers).await;
    let session = create_session(&service, "messages").await;
    let frames = service.turn(&session, "is a node full?").await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed", "{frames:#?}");
    assert_eq!(tool_outputs(&frames)[1], "node-1 90 %");
    service.turn(&session, "and now?").await;
    let sent = bodies(&providers, ProviderApi::Anthropic, MODEL);
    assert_eq!(sent.len(), 4, "nothing was rejected");
    assert!(!sent[0].to_string().contains("defer_loading"), "what was not found is not sent");
    for body in &sent[1..] {
        let deferred = body["tools"].as_array().unwrap().last().unwrap();
        assert_eq!((&deferred["name"], &deferred["defer_loading"]), (&json!("nodes_top"), &json!(true)));
        assert_eq!(listed_tools(body), listed_tools(&sent[0]), "the list of tools stays the same");
        let result = &body["messages"][2]["content"][0];
        assert_eq!(result["content"], json!([{"type": "tool_reference", "tool_name": "nodes_top"}]));
    }
    let (third, fourth) = (messages_of(&sent[2]), messages_of(&sent[3]));
    assert_eq!(third[..], fourth[..third.len()], "the next run repeats the conversation as it was");

    // Another provider gets the result as text, and the tool at the end of its list.
    let settings = json!({"provider": "test-openai-chat", "model": "other"});
    service.request(Method::PATCH, &format!("{session}/settings")).json(&settings).send().await.unwrap();
    service.turn(&session, "and for you?").await;
    let chat = bodies(&providers, ProviderApi::Chat, "other").pop().unwrap();
    assert_eq!(chat["tools"].as_array().unwrap().last().unwrap()["function"]["name"], "nodes_top");
    assert!(chat["messages"].to_string().contains("### nodes_top"), "{chat:#}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn responses_api_gets_found_tools_behind_the_search() {
    let providers = FakeProviders::start().await;
    providers.make_strict(MODEL, StrictServer::OpenaiResponses);
    providers.script(ProviderApi::Responses, MODEL, searching_replies(ProviderApi::Responses));
    let service = start_service(&providers).await;
    let session = create_session(&service, "responses").await;
    let frames = service.turn(&session, "is a node full?").await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed", "{frames:#?}");
    service.turn(&session, "and now?").await;
    let sent = bodies(&providers, ProviderApi::Responses, MODEL);
    assert_eq!(sent.len(), 4, "nothing was rejected");
    let items = |at: usize| sent[at]["input"].as_array().unwrap();
    for at in 1..4 {
        assert_eq!(sent[at]["tools"], sent[0]["tools"], "the list of tools stays the same");
        let added: Vec<&Value> = items(at).iter().filter(|item| item["type"] == "additional_tools").collect();
        assert_eq!((added.len(), &added[0]["tools"][0]["name"]), (1, &json!("nodes_top")));
        assert_eq!(items(at)[..items(at - 1).len()], items(at - 1)[..], "the conversation is repeated as it was");
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn provider_that_refuses_references_gets_text() {
    let providers = FakeProviders::start().await;
    let api = ProviderApi::Anthropic;
    let [search, look, answer] = searching_replies(api);
    let text = "tools.4.custom.defer_loading: Extra inputs are not permitted";
    let refusal = api.error_response(400, "invalid_request_error", text);
    providers.script(api, MODEL, [search, refusal, look, answer]);
    let service = start_service(&providers).await;
    let session = create_session(&service, "messages").await;
    let frames = service.turn(&session, "is a node full?").await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed", "{frames:#?}");
    assert_eq!(warnings(&frames), [&Value::Null; 0], "users need not know");
    let frames = service.turn(&session, "and now?").await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed", "{frames:#?}");
    let sent = bodies(&providers, api, MODEL);
    let loads: Vec<bool> = sent.iter().map(|body| body.to_string().contains("tool_reference")).collect();
    assert_eq!(loads, [false, true, false, false, false]);
    assert_eq!(sent[4]["tools"].as_array().unwrap().last().unwrap()["name"], "nodes_top", "found before this run");
    service.stop().await;
}
