//! Fallback models: they reply while a model is unavailable, and clients are warned.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::provider::{FakeProviders, ProviderApi, ScriptedResponse};

fn unavailable_response() -> ScriptedResponse {
    ProviderApi::Anthropic.error_response(503, "overloaded_error", "Overloaded")
}

fn reply_models(frames: &[Value]) -> Vec<String> {
    let messages = frames.iter().filter(|f| f["type"] == "assistant_message");
    messages.map(|f| format!("{}/{}", f["provider"].as_str().unwrap(), f["model"].as_str().unwrap())).collect()
}

fn warning_frames(frames: &[Value]) -> Vec<&Value> {
    frames.iter().filter(|f| f["type"] == "warning").collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fallback_model_answers_while_the_first_is_down() {
    let providers = FakeProviders::start().await;
    let env = vec![
        ("LLM_PROVIDER", "test-anthropic".to_owned()),
        ("LLM_MODEL", "main".into()),
        ("LLM_FALLBACK", "test-openai-chat/spare, test-ollama/local".into()),
        ("K8SOPS_MAX_ATTEMPTS", "2".into()),
    ];
    let service =
        TestService::start(ServiceSetup { env, yaml: Some(providers.settings_yaml()), ..ServiceSetup::default() })
            .await;
    let catalog = service.get("/v1/providers").await;
    assert_eq!(catalog["fallback"][0], json!({"provider": "test-openai-chat", "model": "spare"}));
    assert_eq!(catalog["unavailable"], json!([]));

    // In the middle of a turn: the replies of the first model are kept, and the fallback continues.
    let session = service.create_session().await;
    let call = ProviderApi::Anthropic.call("launch_rockets", "{}");
    providers.script(ProviderApi::Anthropic, "main", [call, unavailable_response(), unavailable_response()]);
    providers.script(
        ProviderApi::Chat,
        "spare",
        [ProviderApi::Chat.error_response(401, "invalid_api_key", "no such key")],
    );
    let frames = service.turn(&session, "hi").await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed");
    assert_eq!(reply_models(&frames), ["test-anthropic/main", "test-ollama/local"]);
    let said: Vec<_> = warning_frames(&frames).iter().map(|w| w["code"].as_str().unwrap()).collect();
    assert_eq!(said, ["overloaded", "fallback", "fallback"]);
    let words = warning_frames(&frames)[2]["message"].as_str().unwrap();
    assert!(words.contains("test-openai-chat/spare") && words.contains("continues with test-ollama/local"), "{words}");
    let started = frames.iter().find(|f| f["type"] == "run_started").unwrap();
    assert_eq!(started["provider"], "test-anthropic");

    // The next turn, in another session, skips models with an open circuit breaker.
    let other = service.create_session().await;
    let frames = service.turn(&other, "hi").await;
    assert_eq!(reply_models(&frames), ["test-ollama/local"]);
    assert_eq!(providers.received(ProviderApi::Anthropic, "main").len(), 3);
    let unavailable = service.get("/v1/providers").await["unavailable"].clone();
    let models: Vec<_> = unavailable.as_array().unwrap().iter().map(|m| m["model"].clone()).collect();
    assert_eq!(models, ["main", "spare"]);
    let metrics = service.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "k8sops_model_circuit_open{model=\"main\",provider=\"test-anthropic\"} 1",
        "k8sops_model_fallbacks_total 3",
        "k8sops_model_retries_total{code=\"overloaded\"} 1",
        "k8sops_model_replies_total{model=\"local\",provider=\"test-ollama\"} 2",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    // A rejection that says nothing is met by another provider, and says nothing of the next request.
    let third = service.post("/v1/sessions", json!({"provider": "test-anthropic", "model": "odd"})).await;
    let third = format!("/v1/sessions/{}", third["session_id"].as_str().unwrap());
    providers.script(
        ProviderApi::Anthropic,
        "odd",
        [ProviderApi::Anthropic.error_response(400, "invalid_request_error", "no")],
    );
    let frames = service.turn(&third, "hi").await;
    assert_eq!(frames.last().unwrap()["outcome"], "completed", "{frames:#?}");
    let unavailable = service.get("/v1/providers").await["unavailable"].clone();
    assert!(!unavailable.to_string().contains("odd"), "{unavailable}");
    service.stop().await;
}
