//! Usage in tokens and money by step, turn, session, user and day; and budgets.

use reqwest::Method;
use serde_json::{Value, json};

use crate::service::{ServiceSetup, TestService};
use k8sops_testing::{
    provider::{FakeProviders, ProviderApi},
    redis::{RedisFlavor, RedisServer},
};

/// Returns the YAML of providers, one with prices: 100 input tokens (90 of them cached) and 20 output tokens cost 0.0309
/// dollars.
fn priced_providers_yaml(providers: &FakeProviders) -> String {
    providers.settings_yaml()
        + &format!(
            "  priced:\n    protocol: anthropic\n    base_url: {}\n    api_key: none\n    models:\n    - id: dear\n      features: [tools]\n      prices: {{input: 1000, output: 1000, cached_input: 10, cache_write: 1250}}\n",
            providers.url
        )
}

async fn start_service(providers: &FakeProviders, env: &[(&'static str, &str)]) -> TestService {
    let mut all = vec![("LLM_PROVIDER", "priced".to_owned())];
    all.extend(env.iter().map(|(name, value)| (*name, (*value).to_owned())));
    TestService::start(ServiceSetup {
        env: all,
        yaml: Some(priced_providers_yaml(providers)),
        ..ServiceSetup::default()
    })
    .await
}

fn last_frame(frames: &[Value]) -> &Value {
    frames.last().unwrap()
}

fn warning_codes(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter(|f| f["type"] == "warning").map(|f| f["code"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_counted_at_every_level() {
    let providers = FakeProviders::start().await;
    let service = start_service(&providers, &[]).await;
    let session = service.create_session().await;
    providers.script(ProviderApi::Anthropic, "dear", [ProviderApi::Anthropic.call("launch_rockets", "{}")]);
    let frames = service.turn(&session, "hi").await;
    let steps: Vec<&Value> = frames.iter().filter(|f| f["type"] == "assistant_message").collect();
    assert_eq!(steps.len(), 2);
    for step in steps {
        let expected = json!({"input_tokens": 100, "output_tokens": 20, "cached_tokens": 90, "cache_write_tokens": 0,
            "reasoning_tokens": 0, "cost_usd": 0.0309});
        assert_eq!(step["usage"], expected);
        assert_eq!((&step["provider"], &step["model"]), (&json!("priced"), &json!("dear")));
    }
    let twice = json!({"input_tokens": 200, "output_tokens": 40, "cached_tokens": 180, "cache_write_tokens": 0,
        "reasoning_tokens": 0, "cost_usd": 0.0618});
    assert_eq!(last_frame(&frames)["usage"], twice);
    assert_eq!(service.get(&session).await["usage"], twice);

    // A model without prices, in another session that is then deleted.
    let other = service.post("/v1/sessions", json!({"provider": "test-ollama", "model": "free"})).await;
    let other = format!("/v1/sessions/{}", other["session_id"].as_str().unwrap());
    service.turn(&other, "hi").await;
    service.request(Method::DELETE, &other).send().await.unwrap().error_for_status().unwrap();

    let report = service.get("/v1/usage").await;
    assert_eq!((&report["total"]["input_tokens"], &report["total"]["cost_usd"]), (&json!(300), &json!(0.0618)));
    let models: Vec<_> = report["models"].as_array().unwrap().iter().map(|m| m["model"].clone()).collect();
    assert_eq!(models, ["dear", "free"], "the most tokens first");
    let days = report["days"].as_array().unwrap();
    assert_eq!((days.len(), &days[0]["date"], &days[0]["sessions"]), (1, &report["to"], &json!(2)));
    assert_eq!(report["today"]["used"], report["total"]);
    assert_eq!(report["today"].get("budget_tokens"), None);
    let none = service.get("/v1/usage?from=2020-01-01&to=2020-01-31").await;
    assert_eq!((&none["total"]["input_tokens"], none["days"].as_array().unwrap().len()), (&json!(0), 0));
    assert_eq!(none["today"]["used"], report["total"], "whatever days are asked for");

    for (query, says) in [
        ("from=yesterday", "`from=yesterday`"),
        ("from=2026-02-01&to=2026-01-01", "is after"),
        ("from=2020-01-01&to=2026-01-01", "400 days"),
        ("since=2026-01-01", "since"),
    ] {
        let (status, problem) = service.refused(service.request(Method::GET, &format!("/v1/usage?{query}"))).await;
        assert_eq!(status, 400);
        assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
    }

    let metrics = service.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "k8sops_model_tokens_total{direction=\"input\",model=\"dear\",provider=\"priced\"} 200",
        "k8sops_model_tokens_total{direction=\"cached\",model=\"dear\",provider=\"priced\"} 180",
        "k8sops_model_replies_total{model=\"dear\",provider=\"priced\"} 2",
        "k8sops_model_cost_usd_total{model=\"dear\",provider=\"priced\"} 0.0618",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    // Usage is stored with the sessions.
    let data = service.stop().await;
    let env = vec![("LLM_PROVIDER", "priced".to_owned())];
    let again = TestService::start(ServiceSetup {
        env,
        yaml: Some(priced_providers_yaml(&providers)),
        data: Some(data),
        ..ServiceSetup::default()
    })
    .await;
    assert_eq!(again.get("/v1/usage").await["total"], report["total"]);
    again.stop().await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn user_budget_spans_sessions_and_replicas() {
    let providers = FakeProviders::start().await;
    let redis = RedisServer::start(RedisFlavor::Debian).await;
    let url = redis.url();
    let env = [("MEMORY_BACKEND", "redis"), ("REDIS_URL", url.as_str()), ("K8SOPS_BUDGET_USER_DAY_TOKENS", "200")];
    let (one, other) = (start_service(&providers, &env).await, start_service(&providers, &env).await);
    // Each reply takes 120 tokens.
    let (first, second) = (one.create_session().await, other.create_session().await);
    assert_eq!(last_frame(&one.turn(&first, "hi").await)["outcome"], "completed");
    let frames = other.turn(&second, "hi").await;
    assert_eq!(last_frame(&frames)["outcome"], "completed", "the call that reaches it is not cut");
    for (service, session) in [(&one, &first), (&other, &second), (&one, &second)] {
        let frames = service.turn(session, "more").await;
        assert_eq!(
            (last_frame(&frames)["outcome"].as_str(), warning_codes(&frames)),
            (Some("limit"), vec!["budget_user_day"])
        );
        assert_eq!(last_frame(&frames)["usage"]["input_tokens"], 0);
    }
    assert_eq!(providers.received(ProviderApi::Anthropic, "dear").len(), 2);
    let today = one.get("/v1/usage").await["today"].clone();
    assert_eq!((&today["budget_tokens"], &today["left_tokens"]), (&json!(200), &json!(0)));
    assert_eq!(today["used"]["input_tokens"], 200);
    one.stop().await;
    other.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn exhausted_budget_ends_with_a_final_answer() {
    let providers = FakeProviders::start().await;
    let env = [("K8SOPS_BUDGET_TURN_USD", "0.03"), ("K8SOPS_BUDGET_SESSION_USD", "0.05")];
    let service = start_service(&providers, &env).await;
    let session = service.create_session().await;
    providers.script(ProviderApi::Anthropic, "dear", [ProviderApi::Anthropic.call("launch_rockets", "{}")]);
    let frames = service.turn(&session, "hi").await;
    assert_eq!((&last_frame(&frames)["outcome"], warning_codes(&frames)), (&json!("limit"), vec!["budget_turn"]));
    let answered = frames.iter().rfind(|f| f["type"] == "assistant_message").unwrap();
    assert_eq!(answered["content"], k8sops_testing::provider::GOOD_REPLY);
    let asked = providers.received(ProviderApi::Anthropic, "dear").pop().unwrap();
    assert_eq!(asked.body["tool_choice"], json!({"type": "none"}));
    // The budget of the session is exhausted.
    let frames = service.turn(&session, "more").await;
    assert_eq!((&last_frame(&frames)["outcome"], warning_codes(&frames)), (&json!("limit"), vec!["budget_session"]));
    assert!(frames.iter().all(|f| f["type"] != "assistant_message"));
    // Another session has its own budget.
    let fresh = service.create_session().await;
    assert_eq!(last_frame(&service.turn(&fresh, "hi").await)["outcome"], "completed");
    service.stop().await;
}
