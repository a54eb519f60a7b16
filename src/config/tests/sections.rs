//! Checks of single sections, and of several together.

use std::{path::PathBuf, time::Duration};

use k8sops_core::UsdAmount;
use k8sops_tools::ApprovalBy;

use super::*;
use crate::auth::AuthMode;

#[test]
fn shutdown_waits_for_calls_and_pod_waits_for_shutdown() {
    let config = load_valid(env_sources(&[])).config;
    let stop = config.server.shutdown_timeout;
    assert!(stop > config.mcp.call_timeout, "{stop:?}");
    // Connections, the MCP servers, and those of them that do not leave by themselves.
    let whole = stop + Duration::from_secs(5 + 10 + 5);
    let manifest = include_str!("../../../deploy/manifests/k8sops.yaml");
    let grace = manifest.lines().find_map(|line| line.trim().strip_prefix("terminationGracePeriodSeconds: ")).unwrap();
    assert!(Duration::from_secs(grace.parse().unwrap()) >= whole, "{grace} s, and a stop may take {whole:?}");
}

#[test]
fn auth_mode_reports_missing_settings() {
    for (mode, needs) in [
        ("api_key", vec!["AUTH_API_KEYS_FILE"]),
        ("jwt", vec!["AUTH_JWT_ISSUER", "AUTH_JWT_AUDIENCE"]),
        ("proxy", vec!["AUTH_PROXY_USER_HEADER", "AUTH_PROXY_SOURCES"]),
    ] {
        let found = load_problems(env_sources(&[("AUTH_MODE", mode)]));
        assert_eq!(found.len(), needs.len(), "{found:?}");
        assert!(found.iter().zip(needs).all(|(line, variable)| line.starts_with(variable)), "{found:?}");
    }
    let proxy =
        [("AUTH_MODE", "proxy"), ("AUTH_PROXY_USER_HEADER", "X-User"), ("AUTH_PROXY_SOURCES", "::1, 0.0.0.0/0")];
    let open = load_problems(env_sources(&proxy));
    assert!(open.len() == 1 && open[0].contains("AUTH_PROXY_ALLOW_ANY_SOURCE=true"), "{open:?}");
    load_valid(env_sources(&[&proxy[..], &[("AUTH_PROXY_ALLOW_ANY_SOURCE", "true")]].concat()));
    let alone = load_problems(env_sources(&[("TOOL_APPROVAL_BY", "approver")]));
    assert!(alone.len() == 1 && alone[0].contains("AUTH_MODE=none"), "{alone:?}");
    let keys = [("AUTH_MODE", "api_key"), ("AUTH_API_KEYS_FILE", "keys.yaml"), ("TOOL_APPROVAL_BY", "approver")];
    let unasked = load_problems(env_sources(&[&keys[..], &[("TOOL_APPROVAL", "auto")]].concat()));
    assert!(unasked.len() == 1 && unasked[0].contains("no approval would be requested"), "{unasked:?}");
    assert!(load_valid(env_sources(&keys)).config.tools.approval_by == ApprovalBy::Approver);
    let config = load_valid(env_sources(&[("AUTH_MODE", "api_key"), ("AUTH_API_KEYS_FILE", "~/keys.yaml")])).config;
    assert!(matches!(&config.auth.mode, AuthMode::ApiKey { file } if file == &PathBuf::from("/home/anna/keys.yaml")));
}

#[test]
fn example_policy_loads_and_matches() {
    let sources = SettingSources {
        yaml: Some(("policy.yaml".into(), include_str!("../../../config/policy.yaml").into())),
        ..env_sources(&[])
    };
    let rules = load_valid(sources).config.tools.rules;
    let matching = |server: &str, tool: &str, arguments: serde_json::Value| {
        rules.iter().position(|rule| rule.matches(server, tool, arguments.as_object().unwrap()))
    };
    assert_eq!(matching("prod", "pods_delete", serde_json::json!({"namespace": "kube-system"})), Some(0));
    assert_eq!(matching("prod", "pods_delete", serde_json::json!({"namespace": "kube-system-2"})), None);
    assert_eq!(matching("test-1", "kubectl_rollout", serde_json::json!({"subCommand": "restart"})), Some(1));
    assert_eq!(matching("prod", "kubectl_rollout", serde_json::json!({"subCommand": "restart"})), None);
    assert_eq!(matching("any", "runbook_search", serde_json::json!({})), Some(2));
    assert_eq!(matching("any", "resources_get", serde_json::json!({"kind": "Secret"})), Some(3));
}

#[test]
fn invalid_or_empty_rule_is_reported() {
    for (rule, words) in [
        ("{tool: x}", "decides nothing"),
        ("{tool: x, effect: harmless}", "tools.rules[0].effect is `harmless`; allowed: read, idempotent or mutating"),
        ("{tool: x, approval: maybe}", "tools.rules[0].approval is `maybe`; allowed: ask, auto or deny"),
        ("{effect: read, arguments: {a: '['}}", "regular expression"),
        ("{effect: read, arguments: {a: 'x)(?s:y'}}", "regular expression"),
        ("{effekt: read}", "effekt"),
    ] {
        let yaml = format!("tools:\n  rules:\n  - {rule}\n");
        let sources = SettingSources { yaml: Some(("mine.yaml".into(), yaml)), ..env_sources(&[]) };
        let problems = AppConfig::load(sources).unwrap_err().problems().join("\n");
        assert!(problems.contains(words), "{rule}: {problems}");
    }
}

#[test]
fn usd_budget_without_prices_is_warned_of() {
    let load = |model| load_valid(env_sources(&[("K8SOPS_BUDGET_TURN_USD", "0.5"), ("LLM_MODEL", model)]));
    let unheard_of = load("unheard-of");
    assert_eq!(unheard_of.config.budgets.turn.usd, Some(UsdAmount::from_dollars(0.5)));
    assert!(unheard_of.warnings.iter().any(|w| w.contains("has no prices")), "{:?}", unheard_of.warnings);
    assert!(load("").warnings.iter().all(|w| !w.contains("has no prices")));
}

#[test]
fn long_term_memory_reports_missing_settings() {
    let off = load_valid(env_sources(&[])).config.long_term;
    assert!(!off.enabled && off.max_memories == 5 && off.embeddings.is_none());
    let on = |more: &[(&str, &str)]| {
        let mut env = vec![("MEMORY_LONG_TERM_ENABLED", "true"), ("ANTHROPIC_API_KEY", "k")];
        env.extend(more);
        load_valid(env_sources(&env))
    };
    assert!(on(&[]).warnings.iter().any(|w| w.starts_with("EMBEDDING_PROVIDER is not set")));
    let openai = on(&[("EMBEDDING_PROVIDER", "openai"), ("EMBEDDING_DIMS", "256")]);
    let chosen = openai.config.long_term.embeddings.unwrap();
    assert_eq!((chosen.model.as_str(), chosen.dimensions), ("text-embedding-3-small", Some(256)));
    assert!(openai.warnings.iter().any(|w| w.contains("OPENAI_API_KEY")), "{:?}", openai.warnings);
    let found = load_problems(env_sources(&[("EMBEDDING_PROVIDER", "anthropic")]));
    assert!(found.len() == 1 && found[0].contains("allowed: ollama, openai"), "{found:?}");
    let own =
        "providers:\n  mine:\n    protocol: openai-chat\n    base_url: http://127.0.0.1:1/v1\n    api_key: none\n";
    let env = [("MEMORY_LONG_TERM_ENABLED", "true"), ("EMBEDDING_PROVIDER", "mine")];
    let found = load_problems(SettingSources { yaml: yaml_sources(own).yaml, ..env_sources(&env) });
    assert!(found.iter().any(|p| p.contains("EMBEDDING_MODEL is not set")), "{found:?}");
}
