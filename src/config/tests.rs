use secrecy::ExposeSecret as _;

use k8sops_core::{TokenUsage, UsdAmount};

use super::*;

fn sources(env: &[(&str, &str)]) -> Sources {
    let mut env: BTreeMap<_, _> = env.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    env.entry("HOME".to_owned()).or_insert_with(|| "/home/anna".to_owned());
    Sources { env, dotenv: None, yaml: None }
}

fn yaml(text: &str) -> Sources {
    Sources { yaml: Some(("/etc/k8sops.yaml".into(), text.to_owned())), ..sources(&[]) }
}

fn loaded(sources: Sources) -> Loaded {
    Config::load(sources).unwrap()
}

fn problems(sources: Sources) -> Vec<String> {
    Config::load(sources).unwrap_err().problems
}

#[test]
fn without_anything_the_documented_defaults_are_in_force() {
    let Loaded { config, warnings, .. } = loaded(sources(&[]));
    assert_eq!((config.server.host.as_str(), config.server.port), ("127.0.0.1", 8080));
    assert_eq!((config.server.max_message_bytes, config.server.max_frame_bytes), (65536, 1 << 18));
    assert_eq!((config.llm.provider.as_str(), config.llm.model.as_str()), ("anthropic", "claude-opus-5-5"));
    assert_eq!((config.llm.temperature, config.llm.max_tokens), (None, None));
    assert_eq!(config.providers["openai"].base_url, "https://api.openai.com/v1");
    assert!(!config.providers["openai"].key_optional && !config.providers["anthropic"].key_optional);
    assert!(config.mcp.servers.is_empty());
    assert_eq!(config.memory.path, PathBuf::from("/home/anna/.k8sops"));
    assert_eq!((config.memory.backend, config.memory.shallow), (Backend::Filesystem, false));
    assert_eq!(config.memory.max_sessions, 10);
    assert_eq!(config.memory.user_id.as_str(), "default");
    assert_eq!((config.agent.max_steps, config.agent.max_attempts, config.agent.parallel_tools), (25, 4, 8));
    assert_eq!(config.tools.approval, ApprovalMode::Ask);
    assert_eq!(config.tools.approval_ttl, Duration::from_hours(1));
    assert_eq!((config.log.level.as_str(), config.log.format), ("info", LogFormat::Text));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("ANTHROPIC_API_KEY"), "{warnings:?}");
}

#[test]
fn a_stop_waits_for_longer_than_a_call_may_take_and_a_pod_for_longer_than_a_stop() {
    let config = loaded(sources(&[])).config;
    let stop = config.server.shutdown_timeout;
    assert!(stop > config.mcp.call_timeout, "{stop:?}");
    // Connections, the MCP servers, and those of them that do not leave by themselves.
    let whole = stop + Duration::from_secs(5 + 10 + 5);
    let manifest = include_str!("../../deploy/manifests/k8sops.yaml");
    let grace = manifest.lines().find_map(|line| line.trim().strip_prefix("terminationGracePeriodSeconds: ")).unwrap();
    assert!(Duration::from_secs(grace.parse().unwrap()) >= whole, "{grace} s, and a stop may take {whole:?}");
}

#[test]
fn later_layers_win_and_their_origin_is_known() {
    let layered = Sources {
        dotenv: Some("K8SOPS_PORT=2\nMAX_SESSIONS=22\nLOG_LEVEL=debug\n".to_owned()),
        ..yaml("server: {host: '::1', port: 1}\nmemory:\n  max_sessions: 11\n")
    };
    let layered = Sources {
        env: [layered.env.clone(), sources(&[("K8SOPS_PORT", "3"), ("LOG_LEVEL", "")]).env]
            .into_iter()
            .flatten()
            .collect(),
        ..layered
    };
    let loaded = loaded(layered);
    assert_eq!(loaded.config.server.port, 3);
    assert_eq!(loaded.config.server.host, "::1");
    assert_eq!(loaded.config.memory.max_sessions, 22);
    assert_eq!(loaded.config.log.level, "info", "an empty variable of the environment hides the one of .env");
    let origin = |path: &str| loaded.origins.iter().find(|o| o.path == path).unwrap().origin.to_string();
    assert_eq!(origin("server.port"), "K8SOPS_PORT (environment)");
    assert_eq!(origin("server.host"), "/etc/k8sops.yaml:1");
    assert_eq!(origin("memory.max_sessions"), "MAX_SESSIONS (.env)");
    assert_eq!(origin("memory.shallow"), "default");
}

#[test]
fn every_wrong_value_is_told_at_once_in_one_line_each() {
    let found = problems(Sources {
        dotenv: Some("LLM_TEMPERATURE=2.1\n".to_owned()),
        ..Sources {
            env: sources(&[
                ("K8SOPS_PORT", "80a"),
                ("MEMORY_BACKEND", "postgres"),
                ("LLM_PROVIDER", "gemini"),
                ("MAX_SESSIONS", "0"),
            ])
            .env,
            ..yaml("server:\n  host: http://x\nagent:\n  max_steps: many\n")
        }
    });
    assert_eq!(
        found,
        [
            "/etc/k8sops.yaml line 2: server.host is `http://x`; allowed: an IP address or a host name",
            "K8SOPS_PORT is `80a`; allowed: a port number, 0 to 65535",
            "LLM_PROVIDER is `gemini`; allowed: anthropic, ollama, openai",
            "LLM_TEMPERATURE in .env is `2.1`; allowed: a number from 0 to 2",
            "MEMORY_BACKEND is `postgres`; allowed: memory, filesystem or redis",
            "MAX_SESSIONS is `0`; allowed: a whole number from 1 on",
            "/etc/k8sops.yaml line 4: agent.max_steps is `many`; allowed: a whole number from 1 on",
        ]
    );
}

#[test]
fn a_wrong_value_of_each_variable_is_refused_with_its_name() {
    for setting in settings::SETTINGS {
        let bad = match setting.path {
            // Any text is a program, a path, an instruction.
            "mcp.servers.default.command"
            | "memory.path"
            | "auth.api_keys_file"
            | "memory.redis.ca_file"
            | "agent.instructions"
            | "telemetry.service_name"
            | "audit.log" => continue,
            "llm.model" | "memory.embeddings.model" => "m".repeat(201),
            "mcp.servers.default.args" => "'".to_owned(),
            _ => "\u{7f}!".to_owned(),
        };
        let mut env = vec![(setting.variable, bad.as_str())];
        if setting.variable == "MCP_SSL_VERIFY" {
            env.push(("MCP_SERVER_URL", "http://h/mcp"));
        }
        if setting.variable == "MCP_SERVER_ARGS" {
            env.push(("MCP_SERVER_COMMAND", "npx"));
        }
        let found = problems(sources(&env));
        assert_eq!(found.len(), 1, "{}: {found:?}", setting.variable);
        assert!(found[0].starts_with(setting.variable) && found[0].contains("; allowed: "), "{found:?}");
        assert!(!setting.secret || !found[0].contains(&bad), "{found:?}");
    }
}

#[test]
fn every_setting_of_the_table_is_shown_and_documented() {
    let env: Vec<(&str, &str)> =
        vec![("MCP_SERVER_URL", "http://h/mcp"), ("MCP_SSL_VERIFY", "no"), ("MCP_TRANSPORT", "http")];
    let shown = loaded(sources(&env)).render();
    let example = include_str!("../../.env.example");
    let defaults = include_str!("../../config/settings.yaml");
    for setting in settings::SETTINGS {
        assert!(example.contains(&format!("{}=", setting.variable)), "{} in .env.example", setting.variable);
        if setting.path.starts_with("mcp.servers") {
            continue;
        }
        assert!(shown.contains(setting.path), "{}", setting.path);
        assert!(
            setting.path.starts_with("providers.") || defaults.contains(&format!("[{}]", setting.variable)),
            "{} in settings.yaml",
            setting.variable
        );
    }
    assert_eq!(settings::markdown().lines().count(), settings::SETTINGS.len() + 3);
}

#[test]
fn the_example_of_variables_is_a_dotenv_file_that_loads() {
    let example = include_str!("../../.env.example");
    // As it is, everything is commented out; with the marks taken away, all examples must be right together.
    loaded(Sources { dotenv: Some(example.to_owned()), ..sources(&[]) });
    let all: String = example
        .lines()
        .map(|line| line.strip_prefix('#').filter(|l| l.starts_with(|c: char| c.is_ascii_uppercase())).unwrap_or(line))
        .filter(|line| !line.starts_with("K8SOPS_CONFIG"))
        .fold(String::new(), |all, line| all + line + "\n");
    let loaded = loaded(Sources { dotenv: Some(all), ..sources(&[]) });
    assert_eq!(loaded.warnings, Vec::<String>::new());
}

#[test]
fn the_token_of_a_user_can_stand_in_headers_and_nowhere_else() {
    let good = loaded(yaml(
        "mcp:\n  servers:\n  - {name: a, url: 'http://h/mcp', headers: {Authorization: 'Bearer ${user.token}'}}\n",
    ));
    let McpTransport::Http { headers, .. } = &good.config.mcp.servers[0].transport else { panic!() };
    assert_eq!(headers["Authorization"].expose_secret(), "Bearer ${user.token}");
    let bad = problems(yaml(
        "mcp:\n  servers:\n  - {name: a, url: 'http://h/mcp?t=${user.token}'}\n  - {name: b, command: x, args: ['${user.token}'], env: {T: '${user.token}'}}\n",
    ));
    assert_eq!(bad.len(), 3, "{bad:?}");
    assert!(bad.iter().all(|problem| problem.contains("in the headers of an http server only")), "{bad:?}");
}

#[test]
fn no_secret_is_shown_anywhere() {
    let mut all = Sources {
        env: sources(&[
            ("ANTHROPIC_API_KEY", "sk-ant-very-secret-0"),
            ("TOKEN", "mcp-very-secret-00"),
            ("OPENAI_BASE_URL", "http://me:very-secret@h/v1"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=very-secret"),
            ("REDIS_URL", "redis://:very-secret@a:6379,rediss://me:very-secret@b"),
            ("REDIS_TOPOLOGY", "cluster"),
        ])
        .env,
        ..yaml(
            "mcp:\n  servers:\n  - {name: a, url: 'http://h/mcp?key=very-secret', headers: {Authorization: 'Bearer ${TOKEN}'}}\n  - {name: b, command: x, args: [--token, very-secret], env: {K: very-secret}}\n",
        )
    };
    let good = loaded(all.clone());
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
    let bad = problems(all);
    assert_eq!(bad.len(), 4, "{bad:?}");
    assert!(!bad.concat().contains("very-secret"), "{bad:?}");
}

#[test]
fn a_model_of_any_name_can_be_asked_for() {
    let env =
        [("LLM_PROVIDER", "openai"), ("LLM_MODEL", "qwen.gguf"), ("OPENAI_BASE_URL", "http://127.0.0.1:8081/v1/")];
    let Loaded { config, warnings, .. } = loaded(sources(&env));
    let openai = &config.providers["openai"];
    assert_eq!(openai.base_url, "http://127.0.0.1:8081/v1");
    assert!(openai.models.iter().any(|m| m.id == "qwen.gguf" && m.context_window.is_none()));
    assert!(openai.key_optional, "a server of one's own needs no key");
    assert_eq!(warnings, Vec::<String>::new());
    let Loaded { config, .. } = loaded(sources(&[("LLM_PROVIDER", "openai")]));
    assert_eq!(config.llm.model, "gpt-6-sol", "the first of the provider");
}

#[test]
fn providers_and_models_are_added_and_changed_by_yaml() {
    let text = "providers:\n  groq:\n    base_url: https://api.groq.com/openai/v1\n    models:\n    - id: kimi\n      context_window: 131_072\n  openai:\n    read_timeout: 5m\n    models:\n    - {id: gpt-5.6-sol, name: Mine}\n    - {id: gpt-next}\nllm: {provider: groq}\n";
    let mut layered = yaml(text);
    layered.env.insert("GROQ_API_KEY".to_owned(), "gsk".to_owned());
    let Loaded { config, .. } = loaded(layered);
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

    let found = problems(yaml(
        "providers:\n  Bad Name: {base_url: 'http://h'}\n  x:\n    protocol: grpc\n    models: [{name: y}]\n",
    ));
    assert_eq!(found.len(), 4, "{found:?}");
}

#[test]
fn the_single_server_variables_define_the_server_named_default() {
    let server = |env: &[(&str, &str)]| loaded(sources(env)).config.mcp.servers.remove(0);
    let http = server(&[("MCP_TRANSPORT", "http"), ("MCP_SERVER_URL", "https://h/mcp"), ("MCP_SSL_VERIFY", "Off")]);
    assert_eq!(http.name, "default");
    assert!(matches!(http.transport, McpTransport::Http { ref url, ssl_verify: false, .. } if url == "https://h/mcp"));
    let stdio = server(&[("MCP_SERVER_COMMAND", "npx"), ("MCP_SERVER_ARGS", "-y 'a b'")]);
    assert!(
        matches!(stdio.transport, McpTransport::Stdio { ref command, ref args, .. } if command == "npx" && *args == ["-y", "a b"])
    );
    let both = server(&[("MCP_TRANSPORT", "stdio"), ("MCP_SERVER_URL", "http://h"), ("MCP_SERVER_COMMAND", "x")]);
    assert!(matches!(both.transport, McpTransport::Stdio { .. }), "the transport decides");

    for (env, expected) in [
        (vec![("MCP_TRANSPORT", "http")], "MCP_SERVER_URL is not set; http needs it, like http://127.0.0.1:8000/mcp"),
        (vec![("MCP_TRANSPORT", "stdio")], "MCP_SERVER_COMMAND is not set; stdio needs it, like npx"),
        (vec![("MCP_TRANSPORT", "sse")], "MCP_TRANSPORT is `sse`; allowed: http or stdio"),
        (
            vec![("MCP_SERVER_URL", "http://h"), ("MCP_SERVER_COMMAND", "x")],
            "MCP_TRANSPORT is not set; it has a URL and a command; say http or stdio",
        ),
    ] {
        assert_eq!(problems(sources(&env)), [expected]);
    }
    let warnings = loaded(sources(&[("MCP_SSL_VERIFY", "false"), ("ANTHROPIC_API_KEY", "k")])).warnings;
    assert!(warnings.len() == 1 && warnings[0].starts_with("MCP_SSL_VERIFY"), "{warnings:?}");
}

#[test]
fn several_servers_come_from_yaml_and_the_variables_go_over_the_default_one() {
    let text = "mcp:\n  servers:\n  - {name: k8s, command: kubernetes-mcp-server, args: [--read-only, '']}\n  - {name: default, url: http://old/mcp, headers: {X-A: b}}\n";
    let mut layered = yaml(text);
    layered.env.insert("MCP_SERVER_URL".to_owned(), "http://new/mcp".to_owned());
    let servers = loaded(layered).config.mcp.servers;
    assert_eq!(servers.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["k8s", "default"]);
    assert!(matches!(servers[0].transport, McpTransport::Stdio { ref args, .. } if *args == ["--read-only", ""]));
    assert!(
        matches!(servers[1].transport, McpTransport::Http { ref url, ref headers, ssl_verify: true } if url == "http://new/mcp" && headers.len() == 1)
    );

    let found = problems(yaml(
        "mcp:\n  servers:\n  - {name: a, transport: http}\n  - {name: a, command: x}\n  - {name: B, command: x}\n  - {command: x}\n",
    ));
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|p| p.starts_with("/etc/k8sops.yaml line ")), "{found:?}");
}

#[test]
fn what_has_no_effect_is_said() {
    let Loaded { warnings, .. } = loaded(sources(&[
        ("ANTHROPIC_API_KEY", "k"),
        ("K8SOPS_PROT", "1"),
        ("K8SOPS_BANANA", "1"),
        ("AUTH_MODE", "none"),
    ]));
    assert_eq!(
        warnings,
        [
            "K8SOPS_BANANA is set and is no variable of k8sops; `k8sops config` lists what there is",
            "K8SOPS_PROT is set and is no variable of k8sops; did you mean K8SOPS_PORT?",
        ]
    );
    let found = problems(sources(&[("AUTH_MODE", "oidc")]));
    assert_eq!(found, ["AUTH_MODE is `oidc`; allowed: none, api_key, jwt or proxy"]);
}

#[test]
fn a_mode_of_authentication_says_what_it_needs() {
    for (mode, needs) in [
        ("api_key", vec!["AUTH_API_KEYS_FILE"]),
        ("jwt", vec!["AUTH_JWT_ISSUER", "AUTH_JWT_AUDIENCE"]),
        ("proxy", vec!["AUTH_PROXY_USER_HEADER", "AUTH_PROXY_SOURCES"]),
    ] {
        let found = problems(sources(&[("AUTH_MODE", mode)]));
        assert_eq!(found.len(), needs.len(), "{found:?}");
        assert!(found.iter().zip(needs).all(|(line, variable)| line.starts_with(variable)), "{found:?}");
    }
    let alone = problems(sources(&[("TOOL_APPROVAL_BY", "approver")]));
    assert!(alone.len() == 1 && alone[0].contains("AUTH_MODE=none"), "{alone:?}");
    let keys = [("AUTH_MODE", "api_key"), ("AUTH_API_KEYS_FILE", "keys.yaml"), ("TOOL_APPROVAL_BY", "approver")];
    let unasked = problems(sources(&[&keys[..], &[("TOOL_APPROVAL", "auto")]].concat()));
    assert!(unasked.len() == 1 && unasked[0].contains("nobody would be asked"), "{unasked:?}");
    assert!(loaded(sources(&keys)).config.tools.approval_by == ApprovalBy::Approver);
    let config = loaded(sources(&[("AUTH_MODE", "api_key"), ("AUTH_API_KEYS_FILE", "~/keys.yaml")])).config;
    assert!(matches!(&config.auth.mode, AuthMode::ApiKey { file } if file == &PathBuf::from("/home/anna/keys.yaml")));
}

#[test]
fn a_home_is_needed_only_for_a_path_that_begins_with_it() {
    let mut homeless = sources(&[("MEMORY_FILESYSTEM_PATH", "~/x")]);
    homeless.env.remove("HOME");
    assert!(problems(homeless.clone())[0].contains("HOME"));
    homeless.env.insert("MEMORY_FILESYSTEM_PATH".to_owned(), "/data".to_owned());
    assert_eq!(loaded(homeless).config.memory.path, PathBuf::from("/data"));
}

#[test]
fn the_book_has_the_table_of_all_variables() {
    let page = include_str!("../../docs/src/configuration/reference.md");
    let table = super::settings::markdown();
    assert!(page.contains(table.trim()), "put this into docs/src/configuration/reference.md:\n{table}");
}

#[test]
fn the_example_of_a_policy_loads_and_its_rules_match_what_they_say() {
    let sources =
        Sources { yaml: Some(("policy.yaml".into(), include_str!("../../config/policy.yaml").into())), ..sources(&[]) };
    let rules = loaded(sources).config.tools.rules;
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
fn a_rule_that_is_wrong_or_says_nothing_stops_the_start() {
    for (rule, words) in [
        ("{tool: x}", "says nothing"),
        ("{tool: x, effect: harmless}", "tools.rules[0].effect is `harmless`; allowed: read, idempotent or mutating"),
        ("{tool: x, approval: maybe}", "tools.rules[0].approval is `maybe`; allowed: ask, auto or deny"),
        ("{effect: read, arguments: {a: '['}}", "regular expression"),
        ("{effect: read, arguments: {a: 'x)(?s:y'}}", "regular expression"),
        ("{effekt: read}", "effekt"),
    ] {
        let yaml = format!("tools:\n  rules:\n  - {rule}\n");
        let sources = Sources { yaml: Some(("mine.yaml".into(), yaml)), ..sources(&[]) };
        let problems = Config::load(sources).unwrap_err().problems.join("\n");
        assert!(problems.contains(words), "{rule}: {problems}");
    }
}

#[test]
fn what_comes_from_the_cache_costs_less_and_what_goes_to_it_and_long_prompts_more() {
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
fn a_model_of_ones_own_has_features_and_prices() {
    let text = "providers:\n  groq:\n    base_url: https://api.groq.com/openai/v1\n    headers: {x-team: ops}\n    models:\n    - id: kimi\n      features: [tools, thinking]\n      prices: {input: 1.5, output: $3, long: {above: 1000, input: 3, output: 6}}\n    - {id: odd, features: [magic], prices: {input: -1}}\n";
    let problems = problems(yaml(text));
    assert!(problems.iter().any(|p| p.contains("features is `magic`; allowed: tools, thinking")), "{problems:?}");
    assert!(problems.iter().any(|p| p.contains("prices.input is `-1`")), "{problems:?}");
    let text = text.lines().filter(|line| !line.contains("odd")).collect::<Vec<_>>().join("\n");
    let config = loaded(yaml(&text)).config;
    let kimi = &config.providers["groq"].models[0];
    assert!(!kimi.lacks(ModelFeature::Thinking) && kimi.lacks(ModelFeature::Temperature));
    let prices = kimi.prices.unwrap();
    assert_eq!((prices.output, prices.cached_input), (UsdAmount::from_dollars(3.0), UsdAmount::from_dollars(1.5)));
    assert_eq!(prices.long.map(|long| (long.above, long.cache_write)), Some((1000, UsdAmount::from_dollars(3.0))));
    assert_eq!(config.providers["groq"].headers["x-team"].expose_secret(), "ops");
}

#[test]
fn fallbacks_are_pairs_of_a_provider_and_a_model() {
    let with = |fallback| sources(&[("LLM_FALLBACK", fallback)]);
    let config = loaded(with("openai, ollama/qwen3:8b,anthropic/claude-x/y")).config;
    let pairs: Vec<_> = config.llm.fallback.iter().map(|c| format!("{}={}", c.provider, c.model)).collect();
    let first = &config.providers["openai"].models[0].id;
    assert_eq!(pairs, [format!("openai={first}"), "ollama=qwen3:8b".into(), "anthropic=claude-x/y".into()]);
    assert!(config.providers["anthropic"].models.iter().any(|model| model.id == "claude-x/y"));
    let warnings = loaded(with("openai")).warnings;
    assert!(warnings.iter().any(|w| w.contains("OpenAI stands in LLM_FALLBACK")), "{warnings:?}");
    for (wrong, says) in [("gemini/x", "a provider of: "), ("ollama", "ollama/MODEL")] {
        let problems = problems(with(wrong));
        assert!(problems[0].contains(says), "{problems:?}");
    }
}

#[test]
fn a_budget_in_money_without_a_price_is_worth_a_warning() {
    let load = |model| loaded(sources(&[("K8SOPS_BUDGET_TURN_USD", "0.5"), ("LLM_MODEL", model)]));
    let unheard_of = load("unheard-of");
    assert_eq!(unheard_of.config.budgets.turn.usd, Some(UsdAmount::from_dollars(0.5)));
    assert!(unheard_of.warnings.iter().any(|w| w.contains("has no prices")), "{:?}", unheard_of.warnings);
    assert!(load("").warnings.iter().all(|w| !w.contains("has no prices")));
}

#[test]
fn a_temperature_for_a_model_that_takes_none_is_left_out_with_a_word() {
    let load = |model| loaded(sources(&[("LLM_TEMPERATURE", "0.1"), ("LLM_MODEL", model)]));
    let Loaded { config, warnings, .. } = load("claude-opus-5-5");
    assert_eq!(config.llm.temperature, None);
    assert!(warnings.iter().any(|w| w.contains("LLM_TEMPERATURE has no effect")), "{warnings:?}");
    assert_eq!(load("claude-of-old").config.llm.temperature, Some(0.1));
}

#[test]
fn a_long_term_memory_is_off_by_default_and_says_what_it_lacks() {
    let off = loaded(sources(&[])).config.memory.long_term;
    assert!(!off.enabled && off.max_memories == 5 && off.embeddings.is_none());
    let on = |more: &[(&str, &str)]| {
        let mut env = vec![("MEMORY_LONG_TERM_ENABLED", "true"), ("ANTHROPIC_API_KEY", "k")];
        env.extend(more);
        loaded(sources(&env))
    };
    assert!(on(&[]).warnings.iter().any(|w| w.starts_with("EMBEDDING_PROVIDER is not set")));
    let openai = on(&[("EMBEDDING_PROVIDER", "openai"), ("EMBEDDING_DIMS", "256")]);
    let chosen = openai.config.memory.long_term.embeddings.unwrap();
    assert_eq!((chosen.model.as_str(), chosen.dimensions), ("text-embedding-3-small", Some(256)));
    assert!(openai.warnings.iter().any(|w| w.contains("OPENAI_API_KEY")), "{:?}", openai.warnings);
    let found = problems(sources(&[("EMBEDDING_PROVIDER", "anthropic")]));
    assert!(found.len() == 1 && found[0].contains("allowed: ollama, openai"), "{found:?}");
    let own =
        "providers:\n  mine:\n    protocol: openai-chat\n    base_url: http://127.0.0.1:1/v1\n    api_key: none\n";
    let env = [("MEMORY_LONG_TERM_ENABLED", "true"), ("EMBEDDING_PROVIDER", "mine")];
    let found = problems(Sources { yaml: yaml(own).yaml, ..sources(&env) });
    assert!(found.iter().any(|p| p.contains("EMBEDDING_MODEL is not set")), "{found:?}");
}
