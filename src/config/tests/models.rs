//! Providers, models, fallbacks and prices.

use std::time::Duration;

use k8sops_core::{TokenUsage, UsdAmount};
use k8sops_models::{LongPromptPrices, ModelFeature, ModelPrices, ProviderProtocol};
use secrecy::ExposeSecret as _;

use super::*;

#[test]
fn named_model_need_not_be_in_the_catalog() {
    let env =
        [("LLM_PROVIDER", "openai"), ("LLM_MODEL", "qwen.gguf"), ("OPENAI_BASE_URL", "http://127.0.0.1:8081/v1/")];
    let LoadedConfig { config, warnings, .. } = load_valid(env_sources(&env));
    let openai = &config.providers["openai"];
    assert_eq!(openai.base_url, "http://127.0.0.1:8081/v1");
    assert!(openai.models.iter().any(|m| m.id == "qwen.gguf" && m.context_window.is_none()));
    assert!(openai.key_optional, "a server of one's own needs no key");
    assert_eq!(warnings, Vec::<String>::new());
    let LoadedConfig { config, .. } = load_valid(env_sources(&[("LLM_PROVIDER", "openai")]));
    assert_eq!(config.llm.model, "gpt-6-sol", "the first of the provider");
}

#[test]
fn yaml_adds_and_changes_providers_and_models() {
    let text = "providers:\n  groq:\n    base_url: https://api.groq.com/openai/v1\n    models:\n    - id: kimi\n      context_window: 131_072\n  openai:\n    read_timeout: 5m\n    models:\n    - {id: gpt-5.6-sol, name: Mine}\n    - {id: gpt-next}\nllm: {provider: groq}\n";
    let mut layered = yaml_sources(text);
    layered.env.insert("GROQ_API_KEY".to_owned(), "gsk".to_owned());
    let LoadedConfig { config, .. } = load_valid(layered);
    let groq = &config.providers["groq"];
    assert_eq!(
        (groq.protocol, groq.key_variable.as_str(), groq.name.as_str()),
        (ProviderProtocol::Openai, "GROQ_API_KEY", "groq")
    );
    assert!(groq.api_key.is_some());
    assert_eq!(groq.models[0].context_window, Some(131_072));
    assert_eq!(config.llm.model, "kimi");
    let openai = &config.providers["openai"];
    assert_eq!(openai.read_timeout, Duration::from_mins(5));
    assert_eq!(openai.connect_timeout, Duration::from_secs(10));
    let ids: Vec<_> = openai.models.iter().map(|m| m.id.as_str()).collect();
    assert_eq!(ids[3..], ["gpt-5.6-terra", "gpt-5.6-sol", "gpt-5.6-luna", "gpt-next"]);
    assert_eq!((openai.models[4].name.as_str(), openai.models[4].context_window), ("Mine", None));

    let found = load_problems(yaml_sources(
        "providers:\n  Bad Name: {base_url: 'http://h'}\n  x:\n    protocol: grpc\n    models: [{name: y}]\n",
    ));
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn own_model_has_features_and_prices() {
    let text = "providers:\n  groq:\n    base_url: https://api.groq.com/openai/v1\n    headers: {x-team: ops}\n    models:\n    - id: kimi\n      features: [tools, thinking]\n      prices: {input: 1.5, output: $3, long: {above: 1000, input: 3, output: 6}}\n    - {id: odd, features: [magic], prices: {input: -1}}\n";
    let problems = load_problems(yaml_sources(text));
    assert!(problems.iter().any(|p| p.contains("features is `magic`; allowed: tools, thinking")), "{problems:?}");
    assert!(problems.iter().any(|p| p.contains("prices.input is `-1`")), "{problems:?}");
    let text = text.lines().filter(|line| !line.contains("odd")).collect::<Vec<_>>().join("\n");
    let config = load_valid(yaml_sources(&text)).config;
    let kimi = &config.providers["groq"].models[0];
    assert!(!kimi.lacks(ModelFeature::Thinking) && kimi.lacks(ModelFeature::Temperature));
    let prices = kimi.prices.unwrap();
    assert_eq!((prices.output, prices.cached_input), (UsdAmount::from_dollars(3.0), UsdAmount::from_dollars(1.5)));
    assert_eq!(prices.long.map(|long| (long.above, long.cache_write)), Some((1000, UsdAmount::from_dollars(3.0))));
    assert_eq!(config.providers["groq"].headers["x-team"].expose_secret(), "ops");
}

#[test]
fn cost_depends_on_cache_and_prompt_length() {
    let usd = UsdAmount::from_dollars;
    let prices = ModelPrices {
        input: usd(3.0),
        output: usd(15.0),
        cached_input: usd(0.3),
        cache_write: usd(3.75),
        long: Some(LongPromptPrices {
            above: 1_000_000,
            input: usd(6.0),
            output: usd(30.0),
            cached_input: usd(0.6),
            cache_write: usd(7.5),
        }),
    };
    let usage = TokenUsage {
        input_tokens: 1_000_000,
        cached_tokens: 600_000,
        cache_write_tokens: 300_000,
        output_tokens: 100_000,
        ..TokenUsage::default()
    };
    assert_eq!(prices.cost(&usage), usd(0.3 + 0.18 + 1.125 + 1.5));
    let long = TokenUsage { input_tokens: 2_000_000, ..TokenUsage::default() };
    assert_eq!(prices.cost(&long), usd(12.0));
    // A provider that counts its cache apart from the input does not make a call cost less than nothing.
    let odd = TokenUsage { input_tokens: 10, cached_tokens: 1_000_000, ..TokenUsage::default() };
    assert_eq!(prices.cost(&odd), usd(0.3));
}

#[test]
fn fallback_is_a_list_of_provider_and_model() {
    let with = |fallback| env_sources(&[("LLM_FALLBACK", fallback)]);
    let config = load_valid(with("openai, ollama/qwen3:8b,anthropic/claude-x/y")).config;
    let pairs: Vec<_> = config.llm.fallback.iter().map(|c| format!("{}={}", c.provider, c.model)).collect();
    let first = &config.providers["openai"].models[0].id;
    assert_eq!(pairs, [format!("openai={first}"), "ollama=qwen3:8b".into(), "anthropic=claude-x/y".into()]);
    assert!(config.providers["anthropic"].models.iter().any(|model| model.id == "claude-x/y"));
    let warnings = load_valid(with("openai")).warnings;
    assert!(warnings.iter().any(|w| w.contains("OpenAI is in LLM_FALLBACK")), "{warnings:?}");
    for (wrong, says) in [("gemini/x", "a provider of: "), ("ollama", "ollama/MODEL")] {
        let problems = load_problems(with(wrong));
        assert!(problems[0].contains(says), "{problems:?}");
    }
}

#[test]
fn temperature_that_a_model_rejects_is_ignored_with_a_warning() {
    let load = |model| load_valid(env_sources(&[("LLM_TEMPERATURE", "0.1"), ("LLM_MODEL", model)]));
    let LoadedConfig { config, warnings, .. } = load("claude-opus-5-5");
    assert_eq!(config.llm.temperature, None);
    assert!(warnings.iter().any(|w| w.contains("LLM_TEMPERATURE has no effect")), "{warnings:?}");
    assert_eq!(load("claude-of-old").config.llm.temperature, Some(0.1));
}
