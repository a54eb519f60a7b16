//! Tests of tools that the Responses API loads in the conversation.

use std::sync::Arc;

use k8sops_core::ToolStatus;
use serde_json::{Value, json};

use super::request_body::ResponsesBody;
use crate::{
    ChatModel as _, ChatRequest, DeferredTools, Dialect, DialectChoice, DialectProtocol, ModelFeature,
    ProviderProtocol,
    openai::{OpenAiModel, request_plan::OpenAiPlan},
    test_support,
    test_support::{
        ScriptedProvider, ScriptedResponse, assistant_message, chat_request, collect_reply, found_tools, tool_call,
        tool_message, tool_spec, user_message,
    },
    tool_placement::FoundToolPlace,
};

fn request_body(request: &ChatRequest) -> Value {
    serde_json::to_value(ResponsesBody::build(request, &OpenAiPlan::default())).unwrap()
}

fn searching_conversation() -> ChatRequest {
    let search = |id: &str| tool_call(id, "find_tools", json!({"query": "nodes"}));
    let mut request = chat_request(vec![
        user_message("are the nodes full?"),
        assistant_message("", vec![search("s1"), search("s2")]),
        tool_message("s1", ToolStatus::Ok, "### nodes_top"),
        tool_message("s2", ToolStatus::Ok, "### nodes_top\n### nodes_stats"),
    ]);
    request.tools = ["find_tools", "nodes_top"].map(tool_spec).into();
    request.found_tools = found_tools(&[("s1", "nodes_top"), ("s2", "nodes_top nodes_stats")]);
    request
}

#[test]
fn found_tools_follow_their_search() {
    let mut request = searching_conversation();
    request.place_found_tools(FoundToolPlace::Conversation);
    let body = request_body(&request);
    assert_eq!(body["tools"].as_array().unwrap().len(), 1, "{body}");
    let items = body["input"].as_array().unwrap();
    let kinds: Vec<_> = items[1..].iter().map(|item| item["type"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        ["function_call", "function_call", "function_call_output", "function_call_output", "additional_tools"]
    );
    assert_eq!(items[4]["output"], "These tools are loaded: nodes_top, nodes_stats");
    let added = &items[5];
    assert_eq!(added["role"], "developer");
    let names: Vec<_> = added["tools"].as_array().unwrap().iter().map(|tool| &tool["name"]).collect();
    assert_eq!(names, ["nodes_top", "nodes_stats"], "a name occurs once");
    assert_eq!(added["tools"][0]["type"], "function");
    request = searching_conversation();
    request.place_found_tools(FoundToolPlace::List);
    let body = request_body(&request).to_string();
    assert!(!body.contains("additional_tools") && body.contains("### nodes_stats"), "{body}");
}

#[tokio::test]
async fn refused_additional_tools_return_to_the_list() {
    let answer = json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]});
    let response = json!({"id": "resp", "status": "completed", "output": [answer]});
    let event = json!({"type": "response.completed", "response": response});
    let reply = format!("event: response.completed\ndata: {event}\n\n");
    let texts = [
        "Invalid value: 'additional_tools'. Supported values are: 'message', 'function_call' and 'reasoning'.",
        "Invalid 'input': value did not match any expected variant",
        "body.input.5.type: value is not a valid enumeration member; permitted: 'message', 'function_call'",
        "This model does not support tool search",
        "Missing namespace for function_call 'nodes_top'. It does not exist in the default namespace.",
    ];
    for text in texts {
        let error = json!({"error": {"message": text, "type": "invalid_request_error"}}).to_string();
        let server = ScriptedProvider::start([
            ScriptedResponse::plain(400, "", &error),
            ScriptedResponse::stream(&[&reply]),
            ScriptedResponse::stream(&[&reply]),
        ])
        .await;
        let mut config = test_support::provider_config(ProviderProtocol::OpenaiResponses, &server.url);
        let dialect = Dialect {
            protocol: DialectProtocol::Responses,
            deferred_tools: DeferredTools::ListedModels,
            ..Dialect::default()
        };
        config.models[0].features = [ModelFeature::DeferredTools, ModelFeature::Thinking].into();
        config.dialect = DialectChoice {
            name: Some("d".into()),
            known: Arc::new([("d".to_owned(), dialect)].into_iter().collect()),
        };
        let model = OpenAiModel::new(&config);
        for _ in 0..2 {
            collect_reply(model.stream(searching_conversation()).await.unwrap()).await.end.unwrap();
        }
        let bodies: Vec<Value> = server.received().into_iter().map(|received| received.body).collect();
        let loads: Vec<bool> = bodies.iter().map(|body| body.to_string().contains("additional_tools")).collect();
        assert_eq!(loads, [true, false, false], "{text}");
        assert_eq!(bodies[1]["tools"].as_array().unwrap().len(), 2);
    }
}
