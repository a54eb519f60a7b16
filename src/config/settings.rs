//! The one table of settings. It drives the loading of variables, `k8sops config`, the messages about wrong values, and
//! the tables in the documentation.

/// A setting that has a place in the YAML and an environment variable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// Its place in the YAML, with dots. Those under `mcp.servers.default` are fields of the server of that name.
    pub path: &'static str,
    /// Its environment variable.
    pub variable: &'static str,
    /// What values it takes, to follow "allowed:".
    pub allowed: &'static str,
    /// What it is for, in one line.
    pub doc: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
}

/// Every setting that has a variable, in the order of the YAML.
pub const SETTINGS: &[Setting] = &[
    plain("server.host", "K8SOPS_HOST", "an IP address or a host name", "The address to listen on"),
    plain("server.port", "K8SOPS_PORT", PORT, "The port; 0 takes a free one and prints it"),
    plain("server.max_message_bytes", "K8SOPS_MAX_MESSAGE_BYTES", SIZE, "The largest message of a user"),
    plain("server.max_frame_bytes", "K8SOPS_MAX_FRAME_BYTES", SIZE, "The largest WebSocket frame and JSON body"),
    plain(
        "server.cors_origins",
        "K8SOPS_CORS_ORIGINS",
        "origins like https://ops.example.com with commas between",
        "Web pages of these origins may use the service, beside its own",
    ),
    plain("server.shutdown_timeout", "K8SOPS_SHUTDOWN_TIMEOUT", DURATION, "How long a graceful stop may take"),
    plain("auth.mode", "AUTH_MODE", "none, api_key, jwt or proxy", "How callers are known"),
    plain(
        "auth.allow_insecure",
        "AUTH_ALLOW_INSECURE",
        BOOL,
        "Listen elsewhere than on loopback though AUTH_MODE=none lets everybody in",
    ),
    plain("auth.metrics", "AUTH_METRICS", "open or admin", "Who may read /metrics: everybody, or the role admin"),
    plain(
        "auth.api_keys_file",
        "AUTH_API_KEYS_FILE",
        "a path; ~/ is the home folder",
        "The keys by their hashes (api_key)",
    ),
    plain(
        "auth.jwt.issuer",
        "AUTH_JWT_ISSUER",
        "an https:// URL, or http:// on this machine, without query",
        "The OIDC issuer, to the letter of `iss` (jwt)",
    ),
    plain("auth.jwt.audience", "AUTH_JWT_AUDIENCE", ASCII, "What must be in `aud` (jwt)"),
    plain(
        "auth.jwt.algorithms",
        "AUTH_JWT_ALGORITHMS",
        "some of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 and EdDSA with commas between",
        "What a token may be signed by (jwt)",
    ),
    plain("auth.jwt.clock_skew", "AUTH_JWT_CLOCK_SKEW", DURATION, "How far clocks may differ (jwt)"),
    plain("auth.jwt.user_claim", "AUTH_JWT_USER_CLAIM", ASCII, "The claim that names the user (jwt)"),
    plain(
        "auth.jwt.roles_claim",
        "AUTH_JWT_ROLES_CLAIM",
        ASCII,
        "The claim that lists roles, dots for depth; empty: everybody is a user (jwt)",
    ),
    plain("auth.proxy.user_header", "AUTH_PROXY_USER_HEADER", HEADER, "The header that names the user (proxy)"),
    plain(
        "auth.proxy.roles_header",
        "AUTH_PROXY_ROLES_HEADER",
        HEADER,
        "The header that lists roles; empty: everybody is a user (proxy)",
    ),
    plain(
        "auth.proxy.sources",
        "AUTH_PROXY_SOURCES",
        "IP addresses and networks like 10.0.0.0/8 with commas between",
        "The proxies whose headers are believed (proxy)",
    ),
    plain("limits.requests_per_minute", "K8SOPS_MAX_REQUESTS_PER_MINUTE", POSITIVE, "Requests and commands of a user"),
    plain("limits.runs_per_user", "K8SOPS_MAX_RUNS_PER_USER", POSITIVE, "Runs of a user at a time, on one replica"),
    plain("limits.runs", "K8SOPS_MAX_RUNS", POSITIVE, "Runs at a time, on one replica"),
    plain("limits.streams_per_user", "K8SOPS_MAX_STREAMS_PER_USER", POSITIVE, "Open streams of a user, on one replica"),
    plain("limits.streams", "K8SOPS_MAX_STREAMS", POSITIVE, "Open streams, on one replica"),
    plain("limits.connections", "K8SOPS_MAX_CONNECTIONS", POSITIVE, "Open connections, on one replica; more wait"),
    plain("llm.provider", "LLM_PROVIDER", "the id of a provider", "The provider of new sessions"),
    plain("llm.model", "LLM_MODEL", "a model's id of at most 200 characters", "The model of new sessions"),
    plain("llm.temperature", "LLM_TEMPERATURE", "a number from 0 to 2", "The sampling temperature of new sessions"),
    plain("llm.max_tokens", "LLM_MAX_TOKENS", POSITIVE, "The most tokens of one reply"),
    plain("llm.reasoning", "LLM_REASONING", EFFORT, "How much the model of new sessions thinks before it answers"),
    plain(
        "llm.fallback",
        "LLM_FALLBACK",
        "provider/model pairs with commas between",
        "Who is asked, in this order, when a session's own provider is down",
    ),
    secret("providers.anthropic.api_key", "ANTHROPIC_API_KEY", "The key for Anthropic"),
    plain("providers.anthropic.base_url", "ANTHROPIC_BASE_URL", URL, "Where the Messages API is"),
    secret("providers.openai.api_key", "OPENAI_API_KEY", "The key for OpenAI, or for the server at OPENAI_BASE_URL"),
    plain("providers.openai.base_url", "OPENAI_BASE_URL", URL, "Where chat completions are; up to and with /v1"),
    plain("providers.ollama.base_url", "OLLAMA_BASE_URL", URL, "Where Ollama is"),
    secret("providers.ollama.api_key", "OLLAMA_API_KEY", "The key for Ollama, where it wants one"),
    plain(
        "providers.ollama.max_context",
        "OLLAMA_MAX_CONTEXT",
        POSITIVE,
        "The most tokens of context that Ollama is asked for",
    ),
    plain(
        "providers.ollama.keep_alive",
        "OLLAMA_KEEP_ALIVE",
        KEEP_ALIVE,
        "How long Ollama keeps a model in memory after a call",
    ),
    plain("mcp.servers.default.transport", "MCP_TRANSPORT", TRANSPORT, "How the MCP server `default` is reached"),
    plain("mcp.servers.default.url", "MCP_SERVER_URL", URL, "Its endpoint (http)"),
    plain("mcp.servers.default.ssl_verify", "MCP_SSL_VERIFY", BOOL, "Whether its certificate is checked (http)"),
    plain("mcp.servers.default.command", "MCP_SERVER_COMMAND", "a program", "The program that is the server (stdio)"),
    plain("mcp.servers.default.args", "MCP_SERVER_ARGS", WORDS, "Its arguments (stdio)"),
    plain("mcp.call_timeout", "K8SOPS_MCP_CALL_TIMEOUT", DURATION, "How long one tool call may take altogether"),
    plain("mcp.idle_timeout", "K8SOPS_MCP_IDLE_TIMEOUT", DURATION, "How long a tool call may take without progress"),
    plain("mcp.max_message_bytes", "K8SOPS_MCP_MAX_MESSAGE_BYTES", SIZE, "The largest message of a server"),
    plain("mcp.connect_timeout", "K8SOPS_MCP_CONNECT_TIMEOUT", DURATION, "How long connecting and discovery may take"),
    plain("mcp.health_interval", "K8SOPS_MCP_HEALTH_INTERVAL", DURATION, "How often a server is asked if it is there"),
    plain("mcp.max_backoff", "K8SOPS_MCP_MAX_BACKOFF", DURATION, "The longest wait between two attempts to connect"),
    plain("memory.backend", "MEMORY_BACKEND", "memory, filesystem or redis", "Where sessions are kept"),
    plain(
        "memory.path",
        "MEMORY_FILESYSTEM_PATH",
        "a path; ~/ is the home folder",
        "The folder of the filesystem backend",
    ),
    plain("memory.redis.url", "REDIS_URL", REDIS_URLS, "Where Redis is; some nodes of a cluster, or the sentinels"),
    plain("memory.redis.topology", "REDIS_TOPOLOGY", "single, cluster or sentinel", "What is at REDIS_URL"),
    plain("memory.redis.sentinel_master", "REDIS_SENTINEL_MASTER", NAME, "The master that the sentinels are asked for"),
    plain(
        "memory.redis.ca_file",
        "REDIS_CA_FILE",
        "a path",
        "PEM of the certificates that a rediss:// server's is signed by",
    ),
    plain("memory.redis.prefix", "REDIS_PREFIX", NAME, "What the names of all keys begin with; one per deployment"),
    plain(
        "memory.redis.session_ttl",
        "REDIS_SESSION_TTL",
        "a duration from 1m to 3650 days, like 12h or 30d",
        "A session that nothing happened to for so long is deleted; empty: never",
    ),
    plain("memory.shallow", "MEMORY_SHALLOW", BOOL, "Keep only the checkpoint and what came after it"),
    plain("memory.max_sessions", "MAX_SESSIONS", POSITIVE, "Sessions per user; one more deletes the oldest"),
    plain(
        "memory.context_threshold",
        "MEMORY_CONTEXT_THRESHOLD",
        "a share from 0.1 to 0.95, like 0.75",
        "How full the context may be before older turns are summarised",
    ),
    plain(
        "memory.max_context_tokens",
        "MEMORY_MAX_CONTEXT_TOKENS",
        "a whole number from 1000 on",
        "The most tokens of context that are used, of models that have more",
    ),
    plain(
        "memory.long_term.enabled",
        "MEMORY_LONG_TERM_ENABLED",
        BOOL,
        "Whether facts and incidents are remembered beyond a session",
    ),
    plain("memory.long_term.max_memories", "MEMORY_MAX_MEMORIES", POSITIVE, "The most memories that a message recalls"),
    plain(
        "memory.embeddings.provider",
        "EMBEDDING_PROVIDER",
        "the id of a provider that speaks OpenAI's or Ollama's API",
        "Who says what a text means; empty: memories are compared by their words alone",
    ),
    plain(
        "memory.embeddings.model",
        "EMBEDDING_MODEL",
        "a model's id of at most 200 characters",
        "Its embedding model",
    ),
    plain(
        "memory.embeddings.dims",
        "EMBEDDING_DIMS",
        POSITIVE,
        "The length of its vectors, where it can be chosen; empty: as it gives them",
    ),
    plain("memory.user_id", "MEMORY_USER_ID", USER_ID, "The user when nobody is authenticated"),
    plain("agent.max_steps", "K8SOPS_MAX_STEPS", POSITIVE, "Model calls with tools in one run"),
    plain("agent.max_attempts", "K8SOPS_MAX_ATTEMPTS", POSITIVE, "Attempts at one model call"),
    plain("agent.max_wait", "K8SOPS_MAX_WAIT", DURATION, "How long all waits of one model call may take together"),
    plain("agent.max_calls", "K8SOPS_MAX_TOOL_CALLS", POSITIVE, "Tool calls in one run"),
    plain("agent.max_time", "K8SOPS_MAX_RUN_TIME", DURATION, "How long a run may work; waiting for its user is free"),
    plain("agent.max_repeats", "K8SOPS_MAX_REPEATS", POSITIVE, "The same call with the same result in one run"),
    plain("agent.parallel_tools", "K8SOPS_PARALLEL_TOOLS", POSITIVE, "Tool calls that run at the same time"),
    plain("agent.instructions", "K8SOPS_INSTRUCTIONS", "any text", "Added to the built-in system prompt"),
    plain("budgets.turn_tokens", "K8SOPS_BUDGET_TURN_TOKENS", POSITIVE, "The most tokens of one run"),
    plain("budgets.turn_usd", "K8SOPS_BUDGET_TURN_USD", DOLLARS, "The most money of one run"),
    plain("budgets.session_tokens", "K8SOPS_BUDGET_SESSION_TOKENS", POSITIVE, "The most tokens of one session"),
    plain("budgets.session_usd", "K8SOPS_BUDGET_SESSION_USD", DOLLARS, "The most money of one session"),
    plain("budgets.user_day_tokens", "K8SOPS_BUDGET_USER_DAY_TOKENS", POSITIVE, "The most tokens of a user on a day"),
    plain("budgets.user_day_usd", "K8SOPS_BUDGET_USER_DAY_USD", DOLLARS, "The most money of a user on a day (UTC)"),
    plain("tools.approval", "TOOL_APPROVAL", "ask, auto or deny", "What happens to a call that changes something"),
    plain(
        "tools.approval_by",
        "TOOL_APPROVAL_BY",
        "owner or approver",
        "Who answers requests for approval: the session's user, or somebody else with the role approver",
    ),
    plain("tools.approval_ttl", "K8SOPS_APPROVAL_TTL", DURATION, "How long a request for approval stands"),
    plain(
        "tools.approve_untrusted",
        "TOOL_APPROVAL_UNTRUSTED",
        BOOL,
        "Whether TOOL_APPROVAL=auto covers a call whose arguments come from what a tool returned",
    ),
    plain("tools.max_output_bytes", "K8SOPS_MAX_TOOL_OUTPUT_BYTES", SIZE, "The most of an output that the model gets"),
    plain("tools.max_output_tokens", "K8SOPS_MAX_TOOL_OUTPUT_TOKENS", POSITIVE, "The same in tokens"),
    plain(
        "tools.max_output_share",
        "K8SOPS_MAX_TOOL_OUTPUT_SHARE",
        "a whole number from 1 to 100",
        "The same in percent of what the model can take in",
    ),
    plain("tools.keep_output_bytes", "K8SOPS_KEEP_TOOL_OUTPUT_BYTES", SIZE, "Whole outputs that are kept of a session"),
    plain("log.level", "LOG_LEVEL", LEVEL, "How much is logged"),
    plain("log.format", "LOG_FORMAT", "text or json", "The form of a log line"),
    plain(
        "telemetry.otlp_endpoint",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        URL,
        "Where traces go (OTLP over HTTP, the base without /v1/traces); empty: nowhere",
    ),
    Setting {
        path: "telemetry.otlp_headers",
        variable: "OTEL_EXPORTER_OTLP_HEADERS",
        allowed: HEADERS,
        doc: "Headers for it",
        secret: true,
    },
    plain("telemetry.service_name", "OTEL_SERVICE_NAME", "any text", "The service's name in traces"),
    plain("telemetry.sampler", "OTEL_TRACES_SAMPLER", SAMPLER, "Which traces are kept"),
    plain(
        "telemetry.sampler_arg",
        "OTEL_TRACES_SAMPLER_ARG",
        "a number from 0 to 1",
        "The share of a traceidratio sampler",
    ),
    plain(
        "telemetry.capture_content",
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT",
        BOOL,
        "Whether traces hold prompts, arguments and outputs",
    ),
    plain("audit.log", "AUDIT_LOG", "a path, or - for standard output", "The file of the audit trail; empty: none"),
];

/// The settings that take effect without a restart when the configuration is read anew (SIGHUP), in the order of the YAML;
/// each stands for all below it too. Everything else needs a restart.
pub const LIVE: &[&str] = &[
    "limits.requests_per_minute",
    "limits.runs_per_user",
    "limits.runs",
    "limits.streams_per_user",
    "limits.streams",
    "llm.provider",
    "llm.model",
    "llm.temperature",
    "llm.max_tokens",
    "llm.reasoning",
    "memory.max_sessions",
    "memory.context_threshold",
    "memory.max_context_tokens",
    "agent.max_steps",
    "agent.max_attempts",
    "agent.max_wait",
    "agent.max_calls",
    "agent.max_time",
    "agent.max_repeats",
    "agent.parallel_tools",
    "budgets",
    "tools.approval",
    "tools.approval_ttl",
    "tools.approve_untrusted",
    "tools.rules",
    "log.level",
];

/// Whether a setting takes effect without a restart.
#[must_use]
pub fn is_live(path: &str) -> bool {
    let below = |rest: &str| rest.is_empty() || rest.starts_with(['.', '[']);
    LIVE.iter().any(|live| path.strip_prefix(live).is_some_and(below))
}

/// The variable that names the user's YAML; not a setting, since it has no place in the YAML.
pub const CONFIG_VARIABLE: &str = "K8SOPS_CONFIG";

/// The variable that tells `k8sops chat` where the service is; no setting of the service itself.
pub const URL_VARIABLE: &str = "K8SOPS_URL";

/// The variable with the key or token of `k8sops chat`; no setting of the service itself.
pub const TOKEN_VARIABLE: &str = "K8SOPS_TOKEN";

pub(super) const PORT: &str = "a port number, 0 to 65535";
pub(super) const SIZE: &str = "a size from 1 byte to 1GiB, like 65536, 64KiB or 1MiB";
pub(super) const DURATION: &str = "a duration from 1ms to 30 days, like 500ms, 20s, 5m or 1h";
pub(super) const POSITIVE: &str = "a whole number from 1 on";
pub(super) const DOLLARS: &str = "an amount of US dollars, like 2.50";
pub(super) const KEEP_ALIVE: &str = "a duration like 30m, or a number of seconds; -1 is for ever";
const ASCII: &str = "printable ASCII without spaces";
const HEADER: &str = "the name of a header that names a user";
const EFFORT: &str = "off, low, medium or high";
pub(super) const URL: &str = "an http:// or https:// URL";
const REDIS_URLS: &str = "redis:// or rediss:// URLs with commas between";
const NAME: &str = "1 to 64 characters of A-Z a-z 0-9 . _ : -";
pub(super) const BOOL: &str = "true, false, 1, 0, yes, no, on or off";
pub(super) const TRANSPORT: &str = "http or stdio";
pub(super) const WORDS: &str = "words as in a shell (quotes are honoured), or a JSON array of strings";
pub(super) const KEY: &str = "a key: printable ASCII without spaces";
const USER_ID: &str = "1 to 64 characters of A-Z a-z 0-9 . _ @ - that do not begin with a dot";
const HEADERS: &str = "name=value pairs with commas between";
const SAMPLER: &str =
    "always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off or parentbased_traceidratio";
const LEVEL: &str = "error, warn, info, debug, trace, off, or directives like info,k8sops=debug";

const fn plain(path: &'static str, variable: &'static str, allowed: &'static str, doc: &'static str) -> Setting {
    Setting { path, variable, allowed, doc, secret: false }
}

const fn secret(path: &'static str, variable: &'static str, doc: &'static str) -> Setting {
    Setting { path, variable, allowed: KEY, doc, secret: true }
}

/// The setting at a place in the YAML.
#[must_use]
pub fn by_path(path: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.path == path)
}

/// The table of all variables as Markdown, for docs/src/configuration/reference.md.
#[must_use]
pub fn markdown() -> String {
    use std::fmt::Write as _;
    let mut table = String::from("| variable | YAML | values | what for |\n|---|---|---|---|\n");
    let _ = writeln!(table, "| `{CONFIG_VARIABLE}` | | a path | Your own YAML, over the built-in defaults |");
    for s in SETTINGS {
        let _ = writeln!(table, "| `{}` | `{}` | {} | {} |", s.variable, s.path, s.allowed, s.doc);
    }
    table
}
