//! Configuration: built-in YAML defaults, the user's YAML, `.env`, the environment; later wins.
//!
//! This room owns what can be set, where from, and what is said about a wrong value. It knows nothing of what the values
//! are used for. [`Config::load`] is a function from [`Sources`] to a [`Config`] that can be run, or to all that is wrong.
//!
//! ```text
//! config/*.yaml ─▶ K8SOPS_CONFIG ─▶ .env ─▶ environment ─▶ text by path ─▶ parsers ─▶ Config + origins + warnings
//!                                            (one table: settings::SETTINGS)
//! ```

mod dotenv;
mod load;
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

pub use load::{ConfigError, InForce, Loaded, Origin, Sources};
pub use parse::{is_loopback, mask_url};
pub use rules::ToolRule;

/// In a header of an MCP server: the own token of the user whose call it is.
pub const USER_TOKEN: &str = "${user.token}";

/// Everything that can be configured, validated: a `Config` that exists can be run.
#[derive(Debug, Clone)]
pub struct Config {
    /// `server` section; `K8SOPS_HOST`, `K8SOPS_PORT`.
    pub server: ServerConfig,
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
    /// `tools` section; `TOOL_APPROVAL`.
    pub tools: ToolsConfig,
    /// `log` section; `LOG_LEVEL`, `LOG_FORMAT`.
    pub log: LogConfig,
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
    /// The largest WebSocket frame and JSON body, in bytes (1048576).
    pub max_frame_bytes: usize,
    /// How long a graceful stop may wait for calls that run (75 s; longer than `McpConfig::call_timeout`).
    pub shutdown_timeout: Duration,
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
}

impl LlmConfig {
    /// The settings that a new session begins with.
    #[must_use]
    pub fn settings(&self) -> crate::session::Settings {
        crate::session::Settings {
            provider: self.provider.clone(),
            model: self.model.clone(),
            temperature: self.temperature,
            max_tokens: self.max_tokens,
        }
    }
}

/// The wire protocol of a provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// The Anthropic Messages API.
    Anthropic,
    /// `OpenAI` chat completions.
    Openai,
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
    /// `MEMORY_USER_ID`: the user when nobody is authenticated (`default`).
    pub user_id: crate::session::UserId,
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

/// Policy on tools.
#[derive(Debug, Clone)]
pub struct ToolsConfig {
    /// `TOOL_APPROVAL` (`ask`).
    pub approval: ApprovalMode,
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
