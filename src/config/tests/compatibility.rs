//! Settings of version 0.1.0 keep their paths, variables, defaults and ranges.

use super::*;

/// A setting of 0.1.0.
struct ReleasedSetting {
    path: &'static str,
    variable: &'static str,
    default: &'static str,
    is_live: bool,
    is_secret: bool,
}

/// Defaults that were changed on purpose since then.
const CHANGED_DEFAULTS: [(&str, &str); 2] = [("mcp.connect_timeout", "120s"), ("memory.max_sessions", "1000")];

/// The settings of 0.1.0, from its sources.
fn released_settings() -> Vec<ReleasedSetting> {
    let lines = include_str!("settings_0_1.tsv").lines();
    let settings = lines.map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let &[path, variable, default, live, secret] = fields.as_slice() else { panic!("{line}") };
        let default = CHANGED_DEFAULTS.iter().find(|(changed, _)| *changed == path).map_or(default, |(_, now)| *now);
        ReleasedSetting { path, variable, default, is_live: live == "live", is_secret: secret == "secret" }
    });
    settings.collect()
}

#[test]
fn every_released_setting_is_declared_with_its_default() {
    let catalog = settings_catalog();
    let entries = catalog.entries_with_variable();
    let released = released_settings();
    assert_eq!(released.len(), 99);
    for setting in &released {
        let found = entries.iter().find(|entry| entry.path == setting.path);
        let entry = found.unwrap_or_else(|| panic!("{} is not declared", setting.path));
        assert_eq!(entry.descriptor.variable, setting.variable);
        assert_eq!(catalog.default_of(entry), setting.default, "{}", setting.path);
        assert_eq!(catalog.is_live(&entry.path), setting.is_live, "{}", setting.path);
        assert_eq!(entry.descriptor.secret, setting.is_secret, "{}", setting.path);
    }
}

#[test]
fn every_released_default_is_in_effect() {
    let loaded = load_valid(env_sources(&[]));
    for setting in released_settings().iter().filter(|setting| !setting.path.starts_with("mcp.servers.")) {
        let found = loaded.effective.iter().find(|effective| effective.path == setting.path);
        let effective = found.unwrap_or_else(|| panic!("{} is not in effect", setting.path));
        let expected = match setting.path {
            "llm.model" => "claude-opus-5-5",
            _ if setting.default.is_empty() => "-",
            _ => setting.default,
        };
        assert_eq!(effective.value, expected, "{}", setting.path);
    }
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("ANTHROPIC_API_KEY"), "{:?}", loaded.warnings);
}

#[test]
fn invalid_value_of_each_variable_is_reported() {
    for entry in settings_catalog().entries_with_variable() {
        let variable = entry.descriptor.variable;
        let invalid = match entry.path.as_str() {
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
        let mut env = vec![(variable, invalid.as_str())];
        match variable {
            "MCP_SSL_VERIFY" => env.push(("MCP_SERVER_URL", "http://h/mcp")),
            "MCP_SERVER_ARGS" => env.push(("MCP_SERVER_COMMAND", "npx")),
            _ => {}
        }
        let found = load_problems(env_sources(&env));
        assert_eq!(found.len(), 1, "{variable}: {found:?}");
        assert!(found[0].starts_with(variable) && found[0].contains("; allowed: "), "{found:?}");
        assert!(!entry.descriptor.secret || !found[0].contains(&invalid), "{found:?}");
    }
}

#[test]
fn released_ranges_are_kept() {
    let whole_numbers = ["K8SOPS_MAX_RUNS", "MAX_SESSIONS", "K8SOPS_MAX_STEPS", "K8SOPS_BUDGET_TURN_TOKENS"];
    let sizes = ["K8SOPS_MAX_MESSAGE_BYTES", "K8SOPS_MCP_MAX_MESSAGE_BYTES", "K8SOPS_KEEP_TOOL_OUTPUT_BYTES"];
    let durations = ["K8SOPS_SHUTDOWN_TIMEOUT", "K8SOPS_MCP_CALL_TIMEOUT", "K8SOPS_MAX_WAIT", "AUTH_JWT_CLOCK_SKEW"];
    let booleans = ["AUTH_ALLOW_INSECURE", "MEMORY_SHALLOW", "TOOL_APPROVAL_UNTRUSTED"];
    let ranges: [(&[&str], &[&str], &[&str]); 12] = [
        (&whole_numbers, &["1", "1_000", "4000000000"], &["0", "-1", "1.5", "many"]),
        (&sizes, &["1", "65536", "64KiB", "1 MiB", "1GiB"], &["0", "2GiB", "1TB"]),
        (&durations, &["1ms", "500ms", "20", "20s", "5m", "5min", "1h", "30d"], &["0s", "31d", "1y", "-1s"]),
        (&booleans, &["true", "FALSE", "1", "0", "yes", "no", "on", "Off"], &["maybe", "2"]),
        (&["K8SOPS_PORT"], &["0", "65535"], &["65536", "-1", "80a"]),
        (&["LLM_TEMPERATURE"], &["0", "2", "0.5"], &["2.1", "-0.1", "warm"]),
        (&["OTEL_TRACES_SAMPLER_ARG"], &["0", "1", "0.1"], &["1.1", "-1"]),
        (&["MEMORY_CONTEXT_THRESHOLD"], &["0.1", "0.95", "75%"], &["0.05", "0.96", "75"]),
        (&["MEMORY_MAX_CONTEXT_TOKENS"], &["1000"], &["999"]),
        (&["K8SOPS_MAX_TOOL_OUTPUT_SHARE"], &["1", "100"], &["0", "101"]),
        (&["REDIS_SESSION_TTL"], &["1m", "60s", "12h", "3650d"], &["59s", "3651d"]),
        (&["K8SOPS_BUDGET_TURN_USD"], &["0", "2.50", "$3", "999999"], &["-1", "1000000", "free"]),
    ];
    for (variables, valid, invalid) in ranges {
        for variable in variables {
            for value in valid {
                load_valid(env_sources(&[(variable, value)]));
            }
            for value in invalid {
                let found = load_problems(env_sources(&[(variable, value)]));
                assert!(found[0].starts_with(&format!("{variable} is `{value}`; allowed: ")), "{found:?}");
            }
        }
    }
}

#[test]
fn every_released_key_of_lists_is_accepted() {
    load_valid(yaml_sources(
        "providers:\n  own:\n    name: Own\n    protocol: openai-chat\n    base_url: http://127.0.0.1:1/v1\n    api_key: k\n    key_optional: true\n    \
         key_variable: OWN_KEY\n    connect_timeout: 1s\n    read_timeout: 1s\n    max_context: 1\n    keep_alive: -1\n    headers: {x-a: b}\n    models:\n    - \
         {id: m, name: M, description: d, context_window: 1, max_output_tokens: 1, features: [tools, thinking, thinking_budget, temperature], prices: {input: 1, \
         output: 1, cached_input: 1, cache_write: 1, long: {above: 1, input: 1, output: 1, cached_input: 1, cache_write: 1}}}\nmcp:\n  servers:\n  - {name: a, \
         transport: http, url: 'http://h/mcp', ssl_verify: no, headers: {A: b}}\n  - {name: b, transport: stdio, command: c, args: [d, 1], env: {E: f}}\ntools:\n  \
         rules:\n  - {server: 'a*', tool: b, arguments: {c: d}, effect: idempotent, approval: auto, reason: e}\n",
    ));
}
