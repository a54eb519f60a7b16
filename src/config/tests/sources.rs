//! Where values come from, and what is reported about them.

use std::path::PathBuf;

use k8sops_mcp::McpTransport;
use secrecy::ExposeSecret as _;

use super::*;

#[test]
fn later_source_wins_and_origin_is_known() {
    let layered = SettingSources {
        dotenv: Some("K8SOPS_PORT=2\nMAX_SESSIONS=22\nLOG_LEVEL=debug\n".to_owned()),
        ..yaml_sources("server: {host: '::1', port: 1}\nmemory:\n  max_sessions: 11\n")
    };
    let layered = SettingSources {
        env: [layered.env.clone(), env_sources(&[("K8SOPS_PORT", "3"), ("LOG_LEVEL", "")]).env]
            .into_iter()
            .flatten()
            .collect(),
        ..layered
    };
    let loaded = load_valid(layered);
    assert_eq!(loaded.config.server.port, 3);
    assert_eq!(loaded.config.server.host, "::1");
    assert_eq!(loaded.config.sessions.max_sessions, 22);
    assert_eq!(loaded.config.log.level, "info", "an empty variable of the environment hides the one of .env");
    let origin = |path: &str| loaded.effective.iter().find(|o| o.path == path).unwrap().origin.to_string();
    assert_eq!(origin("server.port"), "K8SOPS_PORT (environment)");
    assert_eq!(origin("server.host"), "/etc/k8sops.yaml:1");
    assert_eq!(origin("memory.max_sessions"), "MAX_SESSIONS (.env)");
    assert_eq!(origin("memory.shallow"), "default");
}

#[test]
fn all_problems_are_reported_at_once() {
    let found = load_problems(SettingSources {
        dotenv: Some("LLM_TEMPERATURE=2.1\n".to_owned()),
        ..SettingSources {
            env: env_sources(&[
                ("K8SOPS_PORT", "80a"),
                ("MEMORY_BACKEND", "postgres"),
                ("LLM_PROVIDER", "gemini"),
                ("MAX_SESSIONS", "0"),
            ])
            .env,
            ..yaml_sources("server:\n  host: http://x\nagent:\n  max_steps: many\n")
        }
    });
    assert_eq!(
        found,
        [
            "/etc/k8sops.yaml line 2: server.host is `http://x`; allowed: an IP address or a host name",
            "K8SOPS_PORT is `80a`; allowed: a whole number from 0 to 65535",
            "LLM_TEMPERATURE in .env is `2.1`; allowed: a number from 0 to 2",
            "LLM_PROVIDER is `gemini`; allowed: anthropic, ollama, openai",
            "MEMORY_BACKEND is `postgres`; allowed: memory, filesystem or redis",
            "MAX_SESSIONS is `0`; allowed: a whole number from 1 on",
            "/etc/k8sops.yaml line 4: agent.max_steps is `many`; allowed: a whole number from 1 on",
        ]
    );
}

#[test]
fn secrets_are_never_shown() {
    let mut all = SettingSources {
        env: env_sources(&[
            ("ANTHROPIC_API_KEY", "sk-ant-very-secret-0"),
            ("TOKEN", "mcp-very-secret-00"),
            ("OPENAI_BASE_URL", "http://me:very-secret@h/v1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=very-secret"),
            ("REDIS_URL", "redis://:very-secret@a:6379,rediss://me:very-secret@b"),
            ("REDIS_TOPOLOGY", "cluster"),
        ])
        .env,
        ..yaml_sources(
            "mcp:\n  servers:\n  - {name: a, url: 'http://h/mcp?key=very-secret', headers: {Authorization: 'Bearer ${TOKEN}'}}\n  - {name: b, command: x, args: [--token, very-secret], env: {K: very-secret}}\n",
        )
    };
    let good = load_valid(all.clone());
    assert_eq!(good.config.providers["anthropic"].api_key.as_ref().unwrap().expose_secret(), "sk-ant-very-secret-0");
    let McpTransport::Http { headers, .. } = &good.config.mcp.servers[0].transport else { panic!() };
    assert_eq!(headers["Authorization"].expose_secret(), "Bearer mcp-very-secret-00");
    assert!(!good.render().contains("very-secret"), "{}", good.render());
    assert!(good.render().contains("****-0"), "{}", good.render());
    assert!(
        !format!("{:?}{:?}", good.config.providers["anthropic"], good.config.mcp.servers[0].transport)
            .contains("ant-very-secret")
    );

    all.env.insert("ANTHROPIC_API_KEY".to_owned(), "very-secret with a space".to_owned());
    all.env.insert("TOKEN".to_owned(), "very-secret\nX: y".to_owned());
    all.env.insert("OPENAI_BASE_URL".to_owned(), "ftp://me:very-secret@h/v1".to_owned());
    all.env.insert("MCP_SERVER_URL".to_owned(), "//me:very-secret@h/mcp".to_owned());
    all.env.insert("MCP_SERVER_ARGS".to_owned(), "--token=very-secret 'unclosed".to_owned());
    let bad = load_problems(all);
    assert_eq!(bad.len(), 5, "{bad:?}");
    assert!(!bad.concat().contains("very-secret"), "{bad:?}");
}

#[test]
fn unknown_variables_are_warned_of() {
    let LoadedConfig { warnings, .. } = load_valid(env_sources(&[
        ("ANTHROPIC_API_KEY", "k"),
        ("K8SOPS_PROT", "1"),
        ("K8SOPS_BANANA", "1"),
        ("LLM_PROVDER", "openai"),
        ("log_level", "debug"),
        ("REDIS_PORT", "6379"),
        ("AUTH_MODE", "none"),
    ]));
    assert_eq!(
        warnings,
        [
            "K8SOPS_BANANA is set and is not a variable of k8sops; `k8sops config --reference` lists all variables",
            "K8SOPS_PROT is set and is not a variable of k8sops; did you mean K8SOPS_PORT?",
            "LLM_PROVDER is set and is not a variable of k8sops; did you mean LLM_PROVIDER?",
            "log_level is set and is not a variable of k8sops; did you mean LOG_LEVEL?",
        ]
    );
    let found = load_problems(env_sources(&[("AUTH_MODE", "oidc")]));
    assert_eq!(found, ["AUTH_MODE is `oidc`; allowed: none, api_key, jwt or proxy"]);
}

#[test]
fn home_is_needed_only_for_paths_with_a_tilde() {
    let mut homeless = env_sources(&[("MEMORY_FILESYSTEM_PATH", "~/x")]);
    homeless.env.remove("HOME");
    assert!(load_problems(homeless.clone())[0].contains("HOME"));
    homeless.env.insert("MEMORY_FILESYSTEM_PATH".to_owned(), "/data".to_owned());
    assert_eq!(load_valid(homeless).config.store.path, PathBuf::from("/data"));
}
