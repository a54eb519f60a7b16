//! Loading: the layers, who wins, and what is said about a value that is wrong.
//!
//! Every setting is looked up from the strongest layer to the weakest, parsed once, and remembered with its origin. A
//! wrong value does not stop the work: it is noted, the default stands in, and the next is looked at, so that one start
//! tells all that is wrong.

use std::{
    collections::BTreeMap,
    fmt,
    path::{Path, PathBuf},
};

use secrecy::SecretString;

use k8sops_core::ReasoningEffort;

use super::{
    AgentConfig, ApprovalBy, ApprovalMode, AuditLog, AuthConfig, AuthMode, Backend, BudgetOptions, Config,
    LimitsConfig, LlmConfig, LogConfig, LogFormat, McpConfig, MemoryConfig, ModelChoice, ModelFeature, Sampler,
    ServerConfig, SpendingLimit, TelemetryConfig, ToolsConfig, dotenv, parse,
    settings::{self, CONFIG_VARIABLE, SETTINGS, TOKEN_VARIABLE, URL_VARIABLE},
    yaml::{self, Node},
};

const DEFAULT_SETTINGS: &str = include_str!("../../config/settings.yaml");
const DEFAULT_MODELS: &str = include_str!("../../config/models.yaml");

/// What configuration is made of, as text. Pure, so that a test can say what the environment is.
#[derive(Clone, Default)]
pub struct Sources {
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// The text of `.env`, if there is one.
    pub dotenv: Option<String>,
    /// The user's YAML: its path, for messages, and its text.
    pub yaml: Option<(PathBuf, String)>,
}

impl Sources {
    /// The environment of this process, the `.env` of its working directory, and the file that `K8SOPS_CONFIG` names.
    ///
    /// # Errors
    /// A file that is named and cannot be read.
    pub fn from_process() -> Result<Self, ConfigError> {
        // Names and values that are not UTF-8 cannot be settings of ours: all that we take are text.
        let env: BTreeMap<_, _> =
            std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?))).collect();
        let dotenv = match std::fs::read_to_string(".env") {
            Ok(text) => Some(text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => None,
            Err(e) => return Err(ConfigError::one(format!(".env cannot be read: {e}"))),
        };
        let named = env
            .get(CONFIG_VARIABLE)
            .cloned()
            .or_else(|| dotenv.as_deref().and_then(|text| dotenv::parse(text).0.remove(CONFIG_VARIABLE)))
            .filter(|path| !path.trim().is_empty());
        let yaml = match named {
            None => None,
            Some(named) => {
                let path = expand_home(named.trim(), env.get("HOME").map(String::as_str))
                    .unwrap_or_else(|| PathBuf::from(named.trim()));
                let text = std::fs::read_to_string(&path).map_err(|e| {
                    ConfigError::one(format!(
                        "{CONFIG_VARIABLE} is `{named}`, which cannot be read ({e}); allowed: the path of a YAML file"
                    ))
                })?;
                Some((path, text))
            }
        };
        Ok(Self { env, dotenv, yaml })
    }
}

/// All that is wrong with a configuration, one line each; no secret in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", .problems.join("\n"))]
pub struct ConfigError {
    /// The lines.
    pub problems: Vec<String>,
}

impl ConfigError {
    fn one(problem: String) -> Self {
        Self { problems: vec![problem] }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The built-in YAML.
    Default,
    /// The user's YAML.
    Yaml {
        /// The file.
        path: PathBuf,
        /// The line.
        line: u64,
    },
    /// A variable of `.env`.
    Dotenv(String),
    /// A variable of the environment.
    Environment(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Yaml { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Dotenv(name) => write!(f, "{name} (.env)"),
            Self::Environment(name) => write!(f, "{name} (environment)"),
        }
    }
}

/// A setting in force, as it may be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// Its place in the YAML.
    pub path: String,
    /// Its value; masked if it is a secret, `-` if there is none.
    pub value: String,
    /// Where it comes from.
    pub origin: Origin,
}

/// A configuration that can be run, and how it came to be.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every setting in force.
    pub origins: Vec<InForce>,
    /// What is odd and does not stop the start, one line each.
    pub warnings: Vec<String>,
}

impl Loaded {
    /// The settings in force with their origins, for people; no secret in it. Those that take effect without a restart are
    /// marked as live.
    #[must_use]
    pub fn render(&self) -> String {
        let width = |of: fn(&InForce) -> &str| self.origins.iter().map(|o| of(o).chars().count()).max().unwrap_or(0);
        let (paths, values) = (width(|o| &o.path), width(|o| &o.value).min(60));
        let lines = self.origins.iter().map(|o| {
            let live = if settings::is_live(&o.path) { "  (live)" } else { "" };
            format!("{:paths$}  {:values$}  {}{live}", o.path, o.value, o.origin)
        });
        lines.collect::<Vec<_>>().join("\n") + "\n"
    }
}

impl Config {
    /// Puts the layers together: built-in YAML, the user's YAML, `.env`, the environment; later wins.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn load(sources: Sources) -> Result<Loaded, ConfigError> {
        let mut loader = Loader::new(sources);
        let config = loader.config();
        loader.warn_about_variables();
        if loader.problems.is_empty() {
            Ok(Loaded { config, origins: loader.origins, warnings: loader.warnings })
        } else {
            Err(ConfigError { problems: loader.problems })
        }
    }
}

/// A value that was found, as text.
#[derive(Debug, Clone)]
pub(super) struct Found {
    pub text: String,
    pub origin: Origin,
}

/// One YAML document; no file for the built-in ones.
#[derive(Clone)]
pub(super) struct Layer {
    file: Option<PathBuf>,
    pub root: Node,
}

impl Layer {
    /// The origin of a node of this document.
    pub(super) fn origin(&self, node: &Node) -> Origin {
        match &self.file {
            None => Origin::Default,
            Some(path) => Origin::Yaml { path: path.clone(), line: node.line },
        }
    }

    /// The text of a leaf of this document.
    pub(super) fn found(&self, node: &Node) -> Option<Found> {
        node.text().map(|text| Found { text: text.trim().to_owned(), origin: self.origin(node) })
    }
}

pub(super) struct Loader {
    /// Weakest first.
    pub layers: Vec<Layer>,
    env: BTreeMap<String, String>,
    dotenv: BTreeMap<String, String>,
    pub problems: Vec<String>,
    pub warnings: Vec<String>,
    pub origins: Vec<InForce>,
}

impl Loader {
    fn new(sources: Sources) -> Self {
        let (dotenv, mut problems) = sources.dotenv.as_deref().map(dotenv::parse).unwrap_or_default();
        let mut layers: Vec<Layer> = [DEFAULT_SETTINGS, DEFAULT_MODELS]
            .into_iter()
            .map(|text| Layer { file: None, root: yaml::read(text, None).expect("the built-in YAML is tested") })
            .collect();
        if let Some((path, text)) = sources.yaml {
            let variables = dotenv.clone().into_iter().chain(sources.env.clone()).collect();
            match yaml::read(&text, Some(&variables)) {
                Ok(root) => layers.push(Layer { file: Some(path), root }),
                Err(found) => problems.extend(found.into_iter().map(|p| format!("{}: {p}", path.display()))),
            }
        }
        Self { layers, env: sources.env, dotenv, problems, warnings: Vec::new(), origins: Vec::new() }
    }

    /// What a variable is set to. One that is set in the environment hides the one in `.env`; an empty one is not set.
    pub(super) fn variable(&self, name: &str) -> Option<Found> {
        let (text, origin) = match (self.env.get(name), self.dotenv.get(name)) {
            (Some(text), _) => (text, Origin::Environment(name.to_owned())),
            (None, Some(text)) => (text, Origin::Dotenv(name.to_owned())),
            (None, None) => return None,
        };
        let text = text.trim();
        (!text.is_empty()).then(|| Found { text: text.to_owned(), origin })
    }

    /// Notes that a value is wrong.
    pub(super) fn wrong(&mut self, path: &str, shown: &str, origin: &Origin, allowed: &str) {
        self.problems.push(match origin {
            Origin::Default => format!("{path} is `{shown}`; allowed: {allowed}"),
            Origin::Yaml { path: file, line } => {
                format!("{} line {line}: {path} is `{shown}`; allowed: {allowed}", file.display())
            }
            Origin::Dotenv(name) => format!("{name} in .env is `{shown}`; allowed: {allowed}"),
            Origin::Environment(name) => format!("{name} is `{shown}`; allowed: {allowed}"),
        });
    }

    /// Notes that a setting is in force.
    pub(super) fn in_force(&mut self, path: impl Into<String>, value: &str, origin: &Origin) {
        let value = if value.is_empty() { "-".to_owned() } else { parse::shown(value) };
        self.origins.push(InForce { path: path.into(), value, origin: origin.clone() });
    }

    fn leaf(layer: &Layer, path: &str) -> Option<Found> {
        let node = path.split('.').try_fold(&layer.root, |node, key| node.get(key))?;
        layer.found(node)
    }

    /// A setting that may be absent.
    pub(super) fn optional<T>(&mut self, path: &'static str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.optional_masked(path, parse::shown, parse)
    }

    /// A setting that may be absent and is not shown as it is.
    pub(super) fn optional_masked<T>(
        &mut self,
        path: &'static str,
        masked: impl Fn(&str) -> String,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Option<T> {
        let setting = settings::by_path(path).expect("only settings of the table are asked for");
        let mut found: Vec<Found> = self.layers.iter().filter_map(|layer| Self::leaf(layer, path)).collect();
        found.extend(self.variable(setting.variable));
        while let Some(Found { text, origin }) = found.pop() {
            if let Some(value) = parse(&text) {
                self.in_force(path, &masked(&text), &origin);
                return Some(value);
            }
            self.wrong(path, &masked(&text), &origin, setting.allowed);
        }
        self.in_force(path, "", &Origin::Default);
        None
    }

    /// A setting that the built-in YAML gives a value.
    pub(super) fn required<T>(&mut self, path: &'static str, parse: impl Fn(&str) -> Option<T>) -> T {
        self.optional(path, parse).expect("the built-in YAML gives it a value; tested")
    }

    /// Where the setting comes from that was asked for last.
    pub(super) fn last_origin(&self) -> Origin {
        self.origins.last().expect("a setting was asked for").origin.clone()
    }

    fn config(&mut self) -> Config {
        let server = ServerConfig {
            host: self.required("server.host", parse::host),
            port: self.required("server.port", |t| t.parse().ok()),
            max_message_bytes: self.required("server.max_message_bytes", parse::size),
            max_frame_bytes: self.required("server.max_frame_bytes", parse::size),
            cors_origins: self.optional("server.cors_origins", parse::origins).unwrap_or_default(),
            shutdown_timeout: self.required("server.shutdown_timeout", parse::duration),
        };
        let home = self.variable("HOME").map(|found| found.text);
        let auth = self.auth(home.as_deref());
        let limits = LimitsConfig {
            requests_per_minute: self.required("limits.requests_per_minute", parse::positive),
            runs_per_user: self.required("limits.runs_per_user", parse::positive),
            runs: self.required("limits.runs", parse::positive),
            streams_per_user: self.required("limits.streams_per_user", parse::positive),
            streams: self.required("limits.streams", parse::positive),
            connections: self.required("limits.connections", parse::positive),
        };
        let mut providers = self.providers();
        let llm = self.llm(&mut providers);
        self.show_models(&providers);
        let mcp = McpConfig {
            call_timeout: self.required("mcp.call_timeout", parse::duration),
            connect_timeout: self.required("mcp.connect_timeout", parse::duration),
            idle_timeout: self.required("mcp.idle_timeout", parse::duration),
            max_message_bytes: self.required("mcp.max_message_bytes", parse::size),
            health_interval: self.required("mcp.health_interval", parse::duration),
            max_backoff: self.required("mcp.max_backoff", parse::duration),
            servers: self.servers(),
        };
        let backend = self.required("memory.backend", |t| match t {
            "memory" => Some(Backend::Memory),
            "filesystem" => Some(Backend::Filesystem),
            "redis" => Some(Backend::Redis),
            _ => None,
        });
        let memory = MemoryConfig {
            backend,
            path: {
                let path = self.required("memory.path", |t| Some(t.to_owned()));
                expand_home(&path, home.as_deref()).unwrap_or_else(|| {
                    let problem = format!(
                        "memory.path is `{path}`, but HOME is not set; set MEMORY_FILESYSTEM_PATH to a path without ~"
                    );
                    self.problems.push(problem);
                    PathBuf::from(path)
                })
            },
            redis: self.redis(backend),
            shallow: self.required("memory.shallow", parse::boolean),
            max_sessions: self.required("memory.max_sessions", parse::positive),
            context_threshold: self.required("memory.context_threshold", parse::share),
            max_context_tokens: self
                .required("memory.max_context_tokens", |t| parse::positive(t).filter(|tokens| *tokens >= 1000)),
            user_id: self.required("memory.user_id", |t| t.parse().ok()),
            long_term: self.long_term(&providers),
        };
        let budgets = self.budgets(&llm, &providers);
        let approval = self.required("tools.approval", ApprovalMode::parse);
        let approval_by = self.approval_by(&auth, approval);
        Config {
            server,
            auth,
            limits,
            llm,
            providers,
            mcp,
            memory,
            budgets,
            agent: AgentConfig {
                max_steps: self.required("agent.max_steps", parse::positive),
                max_attempts: self.required("agent.max_attempts", parse::positive),
                max_wait: self.required("agent.max_wait", parse::duration),
                max_calls: self.required("agent.max_calls", parse::positive),
                max_time: self.required("agent.max_time", parse::duration),
                max_repeats: self.required("agent.max_repeats", parse::positive),
                parallel_tools: self.required("agent.parallel_tools", parse::positive),
                instructions: self.optional("agent.instructions", |t| Some(t.to_owned())).unwrap_or_default(),
            },
            tools: ToolsConfig {
                approval,
                approval_by,
                approve_untrusted: self.required("tools.approve_untrusted", parse::boolean),
                rules: self.rules(),
                approval_ttl: self.required("tools.approval_ttl", parse::duration),
                max_output_bytes: self.required("tools.max_output_bytes", parse::size),
                max_output_tokens: self.required("tools.max_output_tokens", parse::positive),
                max_output_share: self
                    .required("tools.max_output_share", |t| parse::positive(t).filter(|percent| *percent <= 100)),
                keep_output_bytes: self.required("tools.keep_output_bytes", parse::size),
            },
            log: LogConfig {
                level: self.required("log.level", parse::log_level),
                format: self.required("log.format", |t| match t {
                    "text" => Some(LogFormat::Text),
                    "json" => Some(LogFormat::Json),
                    _ => None,
                }),
            },
            telemetry: TelemetryConfig {
                endpoint: self.optional_masked("telemetry.otlp_endpoint", parse::mask_url, parse::url),
                headers: self
                    .optional_masked("telemetry.otlp_headers", |_| "***".to_owned(), parse::headers)
                    .unwrap_or_default(),
                service_name: self.required("telemetry.service_name", |t| Some(t.to_owned())),
                sampler: self.required("telemetry.sampler", Sampler::parse),
                sampler_arg: self
                    .required("telemetry.sampler_arg", |t| t.parse().ok().filter(|share| (0.0..=1.0).contains(share))),
                capture_content: self.required("telemetry.capture_content", parse::boolean),
            },
            audit_log: self.optional("audit.log", AuditLog::parse),
        }
    }

    fn llm(&mut self, providers: &mut BTreeMap<String, super::ProviderConfig>) -> LlmConfig {
        let provider = self.required("llm.provider", |t| Some(t.to_owned()));
        let chosen = self.last_origin();
        if !providers.contains_key(&provider) {
            let ids: Vec<_> = providers.keys().map(String::as_str).collect();
            self.wrong("llm.provider", &parse::shown(&provider), &chosen, &ids.join(", "));
        }
        let named = self.optional("llm.model", |t| (t.len() <= 200).then(|| t.to_owned()));
        let model = match (named, providers.get_mut(&provider)) {
            (Some(model), Some(provider)) => {
                // People run servers whose models have any name: what they ask for is part of the catalog.
                if !provider.models.is_empty() && provider.models.iter().all(|m| m.id != model) {
                    let described = "Named by LLM_MODEL; its limits are not known";
                    provider.models.push(super::ModelConfig::named(&model, described));
                }
                model
            }
            (Some(model), None) => model,
            (None, Some(provider)) => {
                let first = provider.models.first().map(|m| m.id.clone()).unwrap_or_default();
                if first.is_empty() {
                    self.problems.push(format!("LLM_MODEL is not set and {} has no models; name one", provider.name));
                }
                if let Some(shown) = self.origins.last_mut() {
                    shown.value.clone_from(&first);
                }
                first
            }
            (None, None) => String::new(),
        };
        if let Some(chosen) = providers.get(&provider)
            && chosen.api_key.is_none()
            && !chosen.key_optional
        {
            let (name, variable) = (&chosen.name, &chosen.key_variable);
            self.warnings.push(format!(
                "{name} is the provider of new sessions and has no key: set {variable}, or choose another in LLM_PROVIDER"
            ));
        }
        let temperature =
            self.optional("llm.temperature", |t| t.parse::<f64>().ok().filter(|t| (0.0..=2.0).contains(t)));
        // Not an error: the variable is one that many have set for their earlier tools.
        let known = providers.get(&provider).and_then(|p| p.models.iter().find(|known| known.id == model));
        let ignored = temperature.is_some() && known.is_some_and(|model| model.lacks(ModelFeature::Temperature));
        if ignored {
            self.warnings.push(format!("LLM_TEMPERATURE has no effect: {model} takes no temperature"));
        }
        LlmConfig {
            provider,
            model,
            temperature: temperature.filter(|_| !ignored),
            max_tokens: self.optional("llm.max_tokens", parse::positive),
            reasoning: self.optional("llm.reasoning", ReasoningEffort::parse),
            fallback: self.fallback(providers),
        }
    }

    fn fallback(&mut self, providers: &mut BTreeMap<String, super::ProviderConfig>) -> Vec<ModelChoice> {
        let mut choices = Vec::new();
        let pairs = self.optional("llm.fallback", |t| Some(t.to_owned())).unwrap_or_default();
        let origin = self.last_origin();
        for pair in pairs.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (id, model) = pair.split_once('/').unwrap_or((pair, ""));
            let Some(provider) = providers.get_mut(id) else {
                let ids: Vec<_> = providers.keys().map(String::as_str).collect();
                let allowed = format!("provider/model with a provider of: {}", ids.join(", "));
                self.wrong("llm.fallback", &parse::shown(pair), &origin, &allowed);
                continue;
            };
            let model = match (model, provider.models.first()) {
                ("", Some(first)) => first.id.clone(),
                ("", None) => {
                    let allowed = format!("{id}/MODEL: {id} has no first model");
                    self.wrong("llm.fallback", &parse::shown(pair), &origin, &allowed);
                    continue;
                }
                (model, _) => model.to_owned(),
            };
            if provider.api_key.is_none() && !provider.key_optional {
                let words = format!("{} stands in LLM_FALLBACK and is passed over: it has no key", provider.name);
                self.warnings.push(format!("{words} ({})", provider.key_variable));
            }
            if !provider.models.is_empty() && provider.models.iter().all(|known| known.id != model) {
                let described = "Named by LLM_FALLBACK; its limits are not known";
                provider.models.push(super::ModelConfig::named(&model, described));
            }
            choices.push(ModelChoice { provider: id.to_owned(), model });
        }
        choices
    }

    fn budgets(&mut self, llm: &LlmConfig, providers: &BTreeMap<String, super::ProviderConfig>) -> BudgetOptions {
        let mut budget = |tokens, usd| SpendingLimit {
            tokens: self.optional(tokens, parse::positive),
            usd: self.optional(usd, parse::dollars),
        };
        let budgets = BudgetOptions {
            turn: budget("budgets.turn_tokens", "budgets.turn_usd"),
            session: budget("budgets.session_tokens", "budgets.session_usd"),
            user_day: budget("budgets.user_day_tokens", "budgets.user_day_usd"),
        };
        let priced = providers.get(&llm.provider).is_some_and(|provider| {
            provider.models.iter().any(|model| model.id == llm.model && model.prices.is_some())
        });
        if [budgets.turn, budgets.session, budgets.user_day].iter().any(|b| b.usd.is_some()) && !priced {
            self.warnings.push(format!(
                "a budget in money is set, and {} of {} has no prices in the catalog: what it uses counts as nothing there",
                llm.model, llm.provider
            ));
        }
        budgets
    }

    fn approval_by(&mut self, auth: &AuthConfig, approval: ApprovalMode) -> ApprovalBy {
        let by = self.required("tools.approval_by", |t| match t {
            "owner" => Some(ApprovalBy::Owner),
            "approver" => Some(ApprovalBy::Approver),
            _ => None,
        });
        if by == ApprovalBy::Approver && matches!(auth.mode, AuthMode::None) {
            self.problems.push(
                "TOOL_APPROVAL_BY is `approver`, and AUTH_MODE=none knows one user only, so that nobody could approve; \
                 allowed: owner, or another AUTH_MODE"
                    .to_owned(),
            );
        }
        if by == ApprovalBy::Approver && approval == ApprovalMode::Auto {
            self.problems.push(
                "TOOL_APPROVAL_BY is `approver`, and with TOOL_APPROVAL=auto nobody would be asked; allowed: \
                 TOOL_APPROVAL=ask, with rules (tools.rules) for the tools that may run at once"
                    .to_owned(),
            );
        }
        by
    }

    fn warn_about_variables(&mut self) {
        let beside = [CONFIG_VARIABLE, URL_VARIABLE, TOKEN_VARIABLE];
        let known: Vec<&str> = SETTINGS.iter().map(|s| s.variable).chain(beside).collect();
        let names: std::collections::BTreeSet<_> = self.env.keys().chain(self.dotenv.keys()).cloned().collect();
        for name in names.iter().filter(|n| n.starts_with("K8SOPS_") && !known.contains(&n.as_str())) {
            let hint = match parse::nearest(name, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => "`k8sops config` lists what there is".to_owned(),
            };
            self.warnings.push(format!("{name} is set and is no variable of k8sops; {hint}"));
        }
    }
}

/// A path with `~` or `~/` in front made absolute; `None` when that needs a home and there is none.
pub(super) fn expand_home(path: &str, home: Option<&str>) -> Option<PathBuf> {
    match path.strip_prefix('~') {
        Some("") => home.map(PathBuf::from),
        Some(rest) if rest.starts_with('/') => home.map(|home| Path::new(home).join(rest.trim_start_matches('/'))),
        _ => Some(PathBuf::from(path)),
    }
}

/// A secret from text.
pub(super) fn secret(text: &str) -> SecretString {
    SecretString::from(text.to_owned())
}
