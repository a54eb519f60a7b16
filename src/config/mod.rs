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
mod yaml;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use secrecy::SecretString;

use k8sops_agent::{BudgetOptions, SpendingLimit};
use k8sops_core::ReasoningEffort;
use k8sops_mcp::{McpConfig, McpServerConfig, McpTransport, USER_TOKEN};
use k8sops_models::{
    LongPromptPrices, ModelChoice, ModelConfig, ModelFeature, ModelPrices, ProviderConfig, ProviderProtocol,
};
use k8sops_telemetry::{LogConfig, LogFormat, Sampler, TelemetryConfig};
use k8sops_tools::{ApprovalBy, ApprovalMode, ToolsConfig};

use crate::{
    audit::AuditLog,
    auth::{AuthConfig, AuthMode},
};

pub use load::{ConfigError, InForce, Loaded, Origin, Sources};

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
    pub budgets: BudgetOptions,
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
    pub reasoning: Option<ReasoningEffort>,
    /// Who is asked when the session's own provider is down, in this order.
    pub fallback: Vec<ModelChoice>,
}

impl LlmConfig {
    /// The settings that a new session begins with.
    #[must_use]
    pub fn settings(&self) -> k8sops_core::SessionSettings {
        k8sops_core::SessionSettings {
            temperature: self.temperature,
            max_tokens: self.max_tokens,
            reasoning: self.reasoning,
            ..k8sops_core::SessionSettings::of(&self.provider, &self.model)
        }
    }
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
    pub user_id: k8sops_core::UserId,
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
