//! Tests of the built-in dialects, and of how a server is recognized.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use http::{HeaderMap, HeaderName, HeaderValue};
use k8sops_core::RequestForm;
use k8sops_settings::{SettingReader, SettingSources, SettingsCatalog, SettingsSection as _};
use serde_json::json;

use super::*;
use crate::{
    ChatModel as _, ProviderCatalogOptions, ProviderProtocol,
    openai::OpenAiModel,
    quirks::ModelQuirk,
    test_support::{ScriptedProvider, ScriptedResponse, provider_config},
};

const BUILT_IN: &str = include_str!("../../../../config/dialects.yaml");

/// Reads the built-in dialects with the user's YAML over them. Returns the problems.
fn read_options(yaml: &str) -> (ProviderCatalogOptions, Vec<String>) {
    let catalog = SettingsCatalog::new(&[&ProviderCatalogOptions::SECTION]).with_builtin_yaml(BUILT_IN);
    let yaml = Some((PathBuf::from("own.yaml"), yaml.to_owned()));
    let mut reader = SettingReader::new(&catalog, SettingSources { yaml, ..SettingSources::default() });
    let options = reader.read_section::<ProviderCatalogOptions>();
    let dialects = options.dialects.clone();
    let providers = options.into_providers(&mut reader);
    (ProviderCatalogOptions { providers, dialects }, reader.finish().problems)
}

fn server(yaml: &str, protocol: DialectProtocol, host: &str) -> ServerDialect {
    let known = Arc::new(read_options(yaml).0.dialects);
    ServerDialect::new(&DialectChoice { name: None, known }, protocol, host)
}

fn dialect_name(server: &ServerDialect) -> Option<String> {
    server.recognized().map(|recognized| recognized.name)
}

#[test]
fn built_in_dialects_are_read() {
    let (options, problems) = read_options("");
    assert_eq!(problems, [""; 0]);
    assert_eq!(options.dialects.names().count(), 14);
    let mistral = options.dialects.get("mistral").unwrap();
    assert_eq!((mistral.call_ids, mistral.alternating_roles), (CallIdForm::NineCharacters, true));
    assert_eq!(options.dialects.common_tool_bounds(), ToolBounds::default());
}

#[test]
fn servers_are_recognized_by_host() {
    use DialectProtocol::{Chat, Messages, Responses};
    for (protocol, host, name) in [
        (Chat, "api.openai.com", Some("openai-chat")),
        (Responses, "api.openai.com", Some("openai-responses")),
        (Chat, "my.openai.azure.com", Some("azure-openai")),
        (Messages, "api.anthropic.com", Some("anthropic")),
        (Chat, "generativelanguage.googleapis.com", Some("gemini")),
        (Chat, "europe-west4-aiplatform.googleapis.com", Some("gemini")),
        (Chat, "api.mistral.ai", Some("mistral")),
        (Chat, "api.deepseek.com", Some("deepseek")),
        (Chat, "api.groq.com", Some("groq")),
        (Chat, "bedrock-runtime.us-east-1.amazonaws.com", Some("bedrock-gateway")),
        (Chat, "evil-api.openai.com.example.org", None),
        (Responses, "api.mistral.ai", None),
    ] {
        assert_eq!(dialect_name(&server("", protocol, host)).as_deref(), name, "{host}");
    }
}

#[test]
fn servers_are_recognized_by_what_they_say() {
    let by_header = |name: &'static str, value: &'static str| {
        let server = server("", DialectProtocol::Chat, "127.0.0.1");
        server
            .observe_headers(&HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static(value))]));
        dialect_name(&server)
    };
    assert_eq!(by_header("server", "llama.cpp").as_deref(), Some("llama-cpp"));
    assert_eq!(by_header("server", "uvicorn"), None);
    assert_eq!(by_header("x-litellm-version", "1.80.0").as_deref(), Some("bedrock-gateway"));
    let by_body = |body: &str| {
        let server = server("", DialectProtocol::Chat, "127.0.0.1");
        server.observe_error_body(body.as_bytes());
        dialect_name(&server)
    };
    for (body, name) in [
        (r#"{"object": "error", "message": "x", "type": "BadRequestError", "param": null, "code": 400}"#, "vllm"),
        (r#"{"object":"error","message":"x","type":"invalid_request_message_order","code":"3230"}"#, "mistral"),
        (
            r#"{"error":{"code":500,"message":"While executing CallExpression at line 1","type":"server_error"}}"#,
            "llama-cpp",
        ),
        (r#"{"error":"Error rendering prompt with jinja template: \"x\""}"#, "lm-studio"),
    ] {
        assert_eq!(by_body(body).as_deref(), Some(name), "{body}");
    }
    assert_eq!(by_body(r#"{"error":{"message":"Bad Request"}}"#), None);
    let by_models = |owner: &str| {
        let server = server("", DialectProtocol::Chat, "127.0.0.1");
        assert!(server.should_ask_server() && !server.should_ask_server(), "it is asked once");
        server.observe_models(&json!({"data": [{"id": "m", "owned_by": owner}]}));
        dialect_name(&server)
    };
    assert_eq!(by_models("vllm").as_deref(), Some("vllm"));
    assert_eq!(by_models("llamacpp").as_deref(), Some("llama-cpp"));
    assert_eq!(by_models("another"), None);
}

#[test]
fn configured_dialect_comes_first_and_keys_are_overridden() {
    let yaml = "dialects:\n  mistral: {call_ids: any}\n  mine: {hosts: [llm.example.org], parallel_calls: false}\n\
                providers:\n  a: {base_url: 'https://api.mistral.ai/v1', dialect: vllm}\n";
    let (options, problems) = read_options(yaml);
    assert_eq!(problems, [""; 0]);
    let mistral = options.dialects.get("mistral").unwrap();
    assert_eq!((mistral.call_ids, mistral.alternating_roles), (CallIdForm::Any, true), "the other keys stay");
    let configured = ServerDialect::new(&options.providers["a"].dialect, DialectProtocol::Chat, "api.mistral.ai");
    assert_eq!(dialect_name(&configured).as_deref(), Some("vllm"));
    assert_eq!(configured.recognized().map(|recognized| recognized.sign), Some(DialectSign::Configuration));
    let own = server(yaml, DialectProtocol::Chat, "llm.example.org");
    assert!(!own.current().parallel_calls);
}

#[test]
fn built_in_models_load_tools_where_their_server_can() {
    use crate::{
        ModelFeature, ModelOptions,
        tool_placement::FoundToolPlace::{self, Conversation, List},
    };
    let (options, _) = read_options("dialects:\n  anthropic: {max_tools: 200}\n");
    let place = |dialect: &str, features: &[ModelFeature]| {
        let mut model = ModelOptions::named("m", "");
        model.features = features.iter().copied().collect();
        FoundToolPlace::for_model(options.dialects.get(dialect).unwrap(), Some(&model))
    };
    let (unknown, lacks, has) = (&[][..], &[ModelFeature::Tools][..], &[ModelFeature::DeferredTools][..]);
    let rows = [
        ("anthropic", [Conversation, List, Conversation]),
        ("openai-responses", [List, List, Conversation]),
        ("openai-chat", [List; 3]),
        ("bedrock-gateway", [List; 3]),
    ];
    for (dialect, expected) in rows {
        assert_eq!([unknown, lacks, has].map(|features| place(dialect, features)), expected, "{dialect}");
    }
    let anthropic = options.dialects.get("anthropic").unwrap();
    let strict = anthropic.adapted(&BTreeSet::new(), RequestForm::Strict);
    assert_eq!(FoundToolPlace::for_model(&strict, None), List);
}

#[test]
fn unknown_name_of_a_dialect_is_reported() {
    let (_, problems) = read_options("providers:\n  a: {base_url: 'https://h/v1', dialect: klingon}\n");
    assert!(problems.len() == 1 && problems[0].contains("klingon") && problems[0].contains("vllm"), "{problems:?}");
}

#[test]
fn quirks_and_forms_are_applied_on_top() {
    let plain = Dialect::default();
    let quirks = BTreeSet::from([ModelQuirk::NeedsReasoning, ModelQuirk::LimitIsMaxCompletionTokens]);
    let adapted = plain.adapted(&quirks, RequestForm::Native);
    assert_eq!(adapted.reasoning, ReasoningReturn::WithCalls);
    assert!(!adapted.reasoning_placeholder.is_empty());
    assert_eq!(adapted.reply_limit_field, ReplyLimitField::MaxCompletionTokens);
    assert!(adapted.possible_adaptations().contains(&ModelQuirk::NeedsAllReasoning));
    assert!(!adapted.possible_adaptations().contains(&ModelQuirk::NeedsReasoning));
    let strict = plain.adapted(&BTreeSet::new(), RequestForm::Strict);
    assert!(strict.alternating_roles && !strict.parallel_calls && strict.reasoning == ReasoningReturn::Never);
    let deepseek = adapted.adapted(&BTreeSet::new(), RequestForm::Strict);
    assert_eq!(deepseek.reasoning, ReasoningReturn::WithCalls, "what a server requires stays");
}

#[tokio::test]
async fn check_recognizes_the_server() {
    let known = Arc::new(read_options("").0.dialects);
    for (headers, owner, recognized) in [
        ("", "vllm", Some(("vllm", DialectSign::ModelList))),
        ("server: llama.cpp\r\n", "x", Some(("llama-cpp", DialectSign::ResponseHeader))),
        ("", "x", None),
    ] {
        let list = json!({"data": [{"id": "test-model", "owned_by": owner}]}).to_string();
        let server = ScriptedProvider::start([ScriptedResponse::plain(200, headers, &list)]).await;
        let mut config = provider_config(ProviderProtocol::OpenaiChat, &format!("{}/v1", server.url));
        config.dialect.known = Arc::clone(&known);
        let model = OpenAiModel::new(&config);
        assert_eq!(model.recognized_dialect(), None);
        model.check("test-model").await.unwrap();
        let recognized = recognized.map(|(name, sign)| RecognizedDialect { name: name.to_owned(), sign });
        assert_eq!(model.recognized_dialect(), recognized);
    }
}
