//! Configuration: built-in YAML defaults, the user's YAML, `.env`, the environment; later wins.
//!
//! This room owns what can be set, where from, and what is said about a wrong value. It knows nothing of what the values
//! are used for. [`Config::load`] is a function from [`Sources`] to a [`Config`] that can be run, or to all that is wrong.
//!
//! ```text
//! config/*.yaml ─▶ K8SOPS_CONFIG ─▶ .env ─▶ environment ─▶ text by path ─▶ parsers ─▶ Config + origins + warnings
//!                                            (one table: settings::SETTINGS)
//! ```

mod auth;
mod dotenv;
mod load;
mod long_term;
mod parse;
mod providers;
mod redis;
mod rules;
mod servers;
pub mod settings;
mod telemetry;
mod yaml;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use secrecy::SecretString;
use serde::Serialize;
use utoipa::ToSchema;

use crate::session::{Effort, Money, Usage};

pub use auth::{AuthConfig, AuthMode, JwtConfig, MetricsAccess, ProxyConfig};
pub use load::{ConfigError, InForce, Loaded, Origin, Sources};
pub use parse::{is_loopback, mask_url};
pub use rules::ToolRule;
pub use telemetry::{AuditLog, RootSampler, Sampler, TelemetryConfig};

/// In a header of an MCP server: the own token of the user whose call it is.
pub const USER_TOKEN: &str = "${user.token}";

/// Everything that can be configured, validated: a `Config` that exists can be run.
#[derive(Debug, Clone)]
pub struct Config {
    /// `server` section; `K8SOPS_HOST`, `K8SOPS_PORT`.
    pub server: ServerConfig,
    /// `auth` section; `AUTH_*`.
    pub auth: AuthConfig,
    /// `limits` section.
    pub limits: LimitsConfig,
    /// `llm` section; `LLM_PROVIDER`, `LLM_MODEL`, `LLM_TEMPERATURE`.
    pub llm: LlmConfig,
    /// Providers by id, from `config/models.yaml` and the user's YAML; keys and base URLs from the environment.
    pub providers: BTreeMap<String, ProviderConfig>,
    /// `mcp` section; `MCP_*`.
    pub mcp: McpConfig,
    /// `memory` section; `MEMORY_*`, `MAX_SESSIONS`.
    pub memory: MemoryConfig,
    /// `agent` section.
    pub agent: AgentConfig,
    /// `budgets` section.
    pub budgets: BudgetConfig,
    /// `tools` section; `TOOL_APPROVAL`.
    pub tools: ToolsConfig,
    /// `log` section; `LOG_LEVEL`, `LOG_FORMAT`.
    pub log: LogConfig,
    /// `telemetry` section; `OTEL_*`.
    pub telemetry: TelemetryConfig,
    /// `audit` section; `AUDIT_LOG`. Absent: there is no audit trail.
    pub audit_log: Option<AuditLog>,
}

/// Where the service listens and what it accepts.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The address to bind (`127.0.0.1`).
    pub host: String,
    /// The port; 0 takes a free one and prints it (8080).
    pub port: u16,
    /// The largest message of a user, in bytes (65536).
    pub max_message_bytes: usize,
    /// The largest WebSocket frame and JSON body, in bytes (262144).
    pub max_frame_bytes: usize,
    /// `K8SOPS_CORS_ORIGINS`: web pages of these origins may use the service, beside its own.
    pub cors_origins: Vec<String>,
    /// How long a graceful stop may wait for calls that run (75 s; longer than `McpConfig::call_timeout`).
    pub shutdown_timeout: Duration,
}

/// What one user, and all together, may have of a replica at a time.
#[derive(Debug, Clone, Copy)]
pub struct LimitsConfig {
    /// `K8SOPS_MAX_REQUESTS_PER_MINUTE`: requests and WebSocket commands of a user; as many may come at once (6000).
    pub requests_per_minute: u32,
    /// `K8SOPS_MAX_RUNS_PER_USER`: runs of a user (20).
    pub runs_per_user: usize,
    /// `K8SOPS_MAX_RUNS`: runs of all (200).
    pub runs: usize,
    /// `K8SOPS_MAX_STREAMS_PER_USER`: SSE, NDJSON and WebSocket streams of a user (200).
    pub streams_per_user: usize,
    /// `K8SOPS_MAX_STREAMS`: streams of all (10000).
    pub streams: usize,
    /// `K8SOPS_MAX_CONNECTIONS`: connections of all; more wait until one is closed (20000).
    pub connections: usize,
}

/// The defaults of a new session.
#[derive(Debug, Clone)]
pub struct LlmConfig {
    /// The provider's id.
    pub provider: String,
    /// The model's id.
    pub model: String,
    /// Sampling temperature; absent: the provider's default.
    pub temperature: Option<f64>,
    /// The most tokens of one reply; absent: the catalog's figure.
    pub max_tokens: Option<u32>,
    /// How much the model thinks; absent: as it does by itself.
    pub reasoning: Option<Effort>,
    /// Who is asked when the session's own provider is down, in this order.
    pub fallback: Vec<ModelChoice>,
}

/// A model of a provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelChoice {
    /// The provider's id.
    pub provider: String,
    /// The model's id.
    pub model: String,
}

impl LlmConfig {
    /// The settings that a new session begins with.
    #[must_use]
    pub fn settings(&self) -> crate::session::Settings {
        crate::session::Settings {
            temperature: self.temperature,
            max_tokens: self.max_tokens,
            reasoning: self.reasoning,
            ..crate::session::Settings::of(&self.provider, &self.model)
        }
    }
}

/// The wire protocol of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The Anthropic Messages API.
    Anthropic,
    /// `OpenAI`'s Responses API at `OpenAI` itself, chat completions everywhere else.
    Openai,
    /// Chat completions, wherever it is.
    OpenaiChat,
    /// The Responses API, wherever it is.
    OpenaiResponses,
    /// Ollama's own API.
    Ollama,
}

impl Protocol {
    pub(crate) const WORDS: &'static str = "anthropic, openai, openai-chat, openai-responses or ollama";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "anthropic" => Some(Self::Anthropic),
            "openai" => Some(Self::Openai),
            "openai-chat" => Some(Self::OpenaiChat),
            "openai-responses" => Some(Self::OpenaiResponses),
            "ollama" => Some(Self::Ollama),
            _ => None,
        }
    }
}

/// One provider of models.
#[derive(Debug, Clone)]
pub struct ProviderConfig {
    /// Its name for people.
    pub name: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// Where, without a trailing slash (`https://api.openai.com/v1`, `https://api.anthropic.com`).
    pub base_url: String,
    /// The key; servers on one's own machine often need none.
    pub api_key: Option<SecretString>,
    /// Whether it can be used without a key.
    pub key_optional: bool,
    /// The environment variable that holds the key, for messages.
    pub key_variable: String,
    /// How long to wait for a connection (10 s).
    pub connect_timeout: Duration,
    /// The longest gap between two pieces of a stream, the first included (120 s).
    pub read_timeout: Duration,
    /// More headers of every request.
    pub headers: BTreeMap<String, SecretString>,
    /// The most tokens of context that are asked of a server which must be told (Ollama), where its catalog entry does not
    /// say (32768).
    pub max_context: u32,
    /// How long Ollama keeps a model in memory after a call, in its own words (`30m`).
    pub keep_alive: Option<String>,
    /// Its models.
    pub models: Vec<ModelConfig>,
}

/// One model of the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The id that the provider knows.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// In one line.
    pub description: String,
    /// Tokens of prompt and reply together, if known.
    pub context_window: Option<u32>,
    /// The most tokens of a reply, if known.
    pub max_output_tokens: Option<u32>,
    /// What it can do; empty: not known.
    pub features: BTreeSet<Feature>,
    /// What it costs, if known.
    pub prices: Option<Prices>,
}

impl ModelConfig {
    /// A model of which nothing but its id is known.
    #[must_use]
    pub fn named(id: &str, description: &str) -> Self {
        Self {
            id: id.to_owned(),
            name: id.to_owned(),
            description: description.to_owned(),
            context_window: None,
            max_output_tokens: None,
            features: BTreeSet::new(),
            prices: None,
        }
    }

    /// Whether it is known to lack a feature.
    #[must_use]
    pub fn lacks(&self, feature: Feature) -> bool {
        !self.features.is_empty() && !self.features.contains(&feature)
    }
}

/// What a model can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// It calls tools.
    Tools,
    /// It thinks before it answers, and decides itself how long (`reasoning` in the settings guides it).
    Thinking,
    /// It thinks within a budget of tokens that the request must name: Anthropic's models before Opus 4.6.
    ThinkingBudget,
    /// It takes a sampling temperature.
    Temperature,
}

impl Feature {
    const WORDS: &'static str = "tools, thinking, thinking_budget or temperature";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "tools" => Some(Self::Tools),
            "thinking" => Some(Self::Thinking),
            "thinking_budget" => Some(Self::ThinkingBudget),
            "temperature" => Some(Self::Temperature),
            _ => None,
        }
    }
}

/// What a million tokens of a model cost, in US dollars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Prices {
    /// Of a prompt.
    #[schema(value_type = f64)]
    pub input: Money,
    /// Of a reply, reasoning included.
    #[schema(value_type = f64)]
    pub output: Money,
    /// Of a prompt that is read from the provider's cache; as much as `input` where it is not named.
    #[schema(value_type = f64)]
    pub cached_input: Money,
    /// Of a prompt that is written to the provider's cache; as much as `input` where it is not named.
    #[schema(value_type = f64)]
    pub cache_write: Money,
    /// What they cost in a call with a long prompt, where that is more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long: Option<LongPrices>,
}

/// What a million tokens cost in a call with a long prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct LongPrices {
    /// A prompt of more tokens than this is a long one.
    pub above: u64,
    /// Of a prompt.
    #[schema(value_type = f64)]
    pub input: Money,
    /// Of a reply, reasoning included.
    #[schema(value_type = f64)]
    pub output: Money,
    /// Of a prompt that is read from the provider's cache.
    #[schema(value_type = f64)]
    pub cached_input: Money,
    /// Of a prompt that is written to the provider's cache.
    #[schema(value_type = f64)]
    pub cache_write: Money,
}

impl Prices {
    /// What a call costs. Cached tokens and those written to the cache are part of the input.
    #[must_use]
    pub fn cost(&self, usage: &Usage) -> Money {
        let Self { mut input, mut output, mut cached_input, mut cache_write, long } = *self;
        if let Some(long) = long.filter(|long| usage.input_tokens > long.above) {
            (input, output) = (long.input, long.output);
            (cached_input, cache_write) = (long.cached_input, long.cache_write);
        }
        let plain = usage.input_tokens.saturating_sub(usage.cached_tokens).saturating_sub(usage.cache_write_tokens);
        [
            input.per_million(plain),
            cached_input.per_million(usage.cached_tokens),
            cache_write.per_million(usage.cache_write_tokens),
            output.per_million(usage.output_tokens),
        ]
        .into_iter()
        .sum()
    }
}

/// MCP servers.
#[derive(Debug, Clone)]
pub struct McpConfig {
    /// The servers; names are unique.
    pub servers: Vec<McpServerConfig>,
    /// How long one call may take altogether (60 s).
    pub call_timeout: Duration,
    /// How long a call may take without progress (60 s).
    pub idle_timeout: Duration,
    /// The largest message of a server, in bytes (256 MiB).
    pub max_message_bytes: usize,
    /// How long connecting and discovery may take (20 s).
    pub connect_timeout: Duration,
    /// How often a connected server is asked whether it is still there (15 s).
    pub health_interval: Duration,
    /// The longest wait between two attempts to connect (30 s; the first is 0.5 s).
    pub max_backoff: Duration,
}

/// One MCP server.
#[derive(Debug, Clone)]
pub struct McpServerConfig {
    /// Its name: `[a-z0-9-]{1,32}`; `default` is the one of the single-server variables.
    pub name: String,
    /// How it is reached.
    pub transport: McpTransport,
}

/// How an MCP server is reached.
#[derive(Debug, Clone)]
pub enum McpTransport {
    /// A child process that speaks over its standard input and output.
    Stdio {
        /// The program.
        command: String,
        /// Its arguments.
        args: Vec<String>,
        /// Its environment, beyond `PATH`, `HOME` and the few others that every program needs.
        env: BTreeMap<String, SecretString>,
    },
    /// Streamable HTTP.
    Http {
        /// The endpoint.
        url: String,
        /// Headers of every request. `${user.token}` in them stands for the token of the user whose call it is.
        headers: BTreeMap<String, SecretString>,
        /// Whether the certificate is checked (`MCP_SSL_VERIFY`).
        ssl_verify: bool,
    },
}

/// Where conversations are kept.
#[derive(Debug, Clone)]
pub struct MemoryConfig {
    /// `MEMORY_BACKEND`.
    pub backend: Backend,
    /// `MEMORY_FILESYSTEM_PATH` (`~/.k8sops`).
    pub path: PathBuf,
    /// Where Redis is, for that backend.
    pub redis: RedisSettings,
    /// `MEMORY_SHALLOW`: keep the checkpoint and what came after it (true), or the whole log (false).
    pub shallow: bool,
    /// `MAX_SESSIONS` per user (10).
    pub max_sessions: usize,
    /// `MEMORY_CONTEXT_THRESHOLD`: the share of the context that a request may fill before older turns are summarised, in
    /// percent (75).
    pub context_threshold: u8,
    /// `MEMORY_MAX_CONTEXT_TOKENS`: the most tokens of context that are used of a model that has more (100000).
    pub max_context_tokens: u32,
    /// `MEMORY_USER_ID`: the user when nobody is authenticated (`default`).
    pub user_id: crate::session::UserId,
    /// What is remembered beyond a session.
    pub long_term: LongTermConfig,
}

/// What is remembered of users beyond a session.
#[derive(Debug, Clone)]
pub struct LongTermConfig {
    /// `MEMORY_LONG_TERM_ENABLED`: whether memories are recalled and kept (false).
    pub enabled: bool,
    /// `MEMORY_MAX_MEMORIES`: the most memories that a message recalls (5).
    pub max_memories: usize,
    /// How texts are compared by meaning; absent: by their words alone.
    pub embeddings: Option<EmbeddingConfig>,
}

/// An embedding model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddingConfig {
    /// `EMBEDDING_PROVIDER`: the id of a configured provider.
    pub provider: String,
    /// `EMBEDDING_MODEL`.
    pub model: String,
    /// `EMBEDDING_DIMS`: what is asked of it, and held against what it gives.
    pub dimensions: Option<usize>,
}

impl MemoryConfig {
    /// What to do about a folder that cannot be used.
    pub const PATH_ADVICE: &str = "make it a folder that this user may write to, or set MEMORY_FILESYSTEM_PATH";
}

/// A storage backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Nothing survives the process.
    Memory,
    /// JSONL files of one machine.
    Filesystem,
    /// Any number of processes.
    Redis,
}

/// Where Redis is.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `REDIS_URL`: one server, some nodes of a cluster, or the sentinels. They may hold passwords.
    pub urls: Vec<SecretString>,
    /// `REDIS_TOPOLOGY`: what is there.
    pub topology: RedisTopology,
    /// `REDIS_SENTINEL_MASTER` (`mymaster`).
    pub sentinel_master: String,
    /// `REDIS_CA_FILE`: PEM, in the place of the system's certificates.
    pub ca_file: Option<PathBuf>,
    /// `REDIS_PREFIX` (`k8sops`).
    pub prefix: String,
    /// `REDIS_SESSION_TTL`: a session that nothing happened to for so long is deleted.
    pub session_ttl: Option<Duration>,
}

/// What is at an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RedisTopology {
    /// Redis itself.
    Single,
    /// Nodes of a Redis Cluster.
    Cluster,
    /// Sentinels.
    Sentinel,
}

/// Limits of a run.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// Model calls with tools in one run (25); then one without, for an answer.
    pub max_steps: u32,
    /// Attempts at one model call (4).
    pub max_attempts: u32,
    /// How long all waits between the attempts at one model call may take (2 min).
    pub max_wait: Duration,
    /// Tool calls in one run (100).
    pub max_calls: u32,
    /// How long one run may work, what it waits for its user not counted (30 min).
    pub max_time: Duration,
    /// The same call with the same result in one run, before it is not run again (5).
    pub max_repeats: usize,
    /// Tool calls that run at the same time (8).
    pub parallel_tools: usize,
    /// Added to the built-in system prompt.
    pub instructions: String,
}

/// What may be spent; absent: without limit. Looked at between model calls, so that the call which reaches one is not cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BudgetConfig {
    /// Of one run.
    pub turn: Budget,
    /// Of all runs of one session.
    pub session: Budget,
    /// Of all sessions of one user on one day (UTC).
    pub user_day: Budget,
}

/// What may be spent on one thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Tokens in and out.
    pub tokens: Option<u64>,
    /// Money.
    pub usd: Option<Money>,
}

/// Policy on tools.
#[derive(Debug, Clone)]
pub struct ToolsConfig {
    /// `TOOL_APPROVAL` (`ask`).
    pub approval: ApprovalMode,
    /// `TOOL_APPROVAL_BY`: who answers requests for approval (`owner`).
    pub approval_by: ApprovalBy,
    /// How long a request for approval stands (1 h).
    pub approval_ttl: Duration,
    /// Whether `auto` covers a call whose arguments come from what a tool returned (no).
    pub approve_untrusted: bool,
    /// The operator's rules, in their order; the first that matches a call decides.
    pub rules: Vec<ToolRule>,
    /// The most bytes of a tool's output that the model and the log get (65536).
    pub max_output_bytes: usize,
    /// The most tokens of it (8000).
    pub max_output_tokens: usize,
    /// The most of it as a share of what the model can take in, in percent (10).
    pub max_output_share: usize,
    /// The most bytes of whole outputs that are kept of one session; the oldest make room (256 MiB).
    pub keep_output_bytes: usize,
}

/// What happens to a call that is not `read`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalMode {
    /// A user must approve.
    Ask,
    /// It runs.
    Auto,
    /// It never runs.
    Deny,
}

/// Who answers a session's requests for approval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApprovalBy {
    /// The session's user.
    Owner,
    /// Somebody with the role `approver` who is not the session's user.
    Approver,
}

impl ApprovalMode {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "ask" => Some(Self::Ask),
            "auto" => Some(Self::Auto),
            "deny" => Some(Self::Deny),
            _ => None,
        }
    }
}

/// Logs of the service.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `LOG_LEVEL`: `error`, `warn`, `info`, `debug`, `trace`, or filter directives.
    pub level: String,
    /// `LOG_FORMAT`.
    pub format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}
