//! `k8sops doctor`: tries what a start of the service would need, one line for each: what is right, or what to do.
//!
//! A check is given the part that it tries and says what it found; [`checks`] builds the parts. [`run`] tries them all at
//! once, so that one that hangs delays no other, and prints in the order given.

use std::{io::Write, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use futures_util::{FutureExt as _, StreamExt as _, future::BoxFuture, stream};
use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    app,
    config::{
        Backend, ConfigError, Loaded, McpConfig, McpServerConfig, McpTransport, MemoryConfig, ProviderConfig, mask_url,
    },
    mcp::{McpHub, ServerStatus, connector_for},
    models::{Catalog, ChatModel, ModelError},
    session::{SessionStore, StoreError},
};

/// No check may take longer.
const LIMIT: Duration = Duration::from_secs(45);
/// Less free disk than this is worth a word.
const LOW_DISK: u64 = 1 << 30;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// It is as it should be; with the fact that shows it.
    Ok(String),
    /// Not tried, or odd; the service runs all the same.
    Note(String),
    /// It does not work.
    Fail {
        /// What was found.
        found: String,
        /// What to do.
        advice: String,
    },
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// What was tried: `provider anthropic`.
    pub what: String,
    /// What was found.
    pub finding: Finding,
}

impl Line {
    fn ok(what: impl Into<String>, fact: impl Into<String>) -> Self {
        Self { what: what.into(), finding: Finding::Ok(fact.into()) }
    }

    fn note(what: impl Into<String>, fact: impl Into<String>) -> Self {
        Self { what: what.into(), finding: Finding::Note(fact.into()) }
    }

    fn fail(what: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), finding: Finding::Fail { found: found.into(), advice: advice.into() } }
    }

    /// The line as it is printed, without its end.
    #[must_use]
    pub fn render(&self) -> String {
        let one_line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        match &self.finding {
            Finding::Ok(fact) => format!("ok    {}: {}", self.what, one_line(fact)),
            Finding::Note(fact) => format!("note  {}: {}", self.what, one_line(fact)),
            Finding::Fail { found, advice } => {
                format!("FAIL  {}: {} — {}", self.what, one_line(found), one_line(advice))
            }
        }
    }
}

/// Something that can be tried.
#[async_trait]
pub trait Check: Send {
    /// What is tried, for a check that does not come back.
    fn what(&self) -> String;

    /// Tries it.
    async fn run(self: Box<Self>) -> Vec<Line>;
}

/// Tries everything and prints the report. Whether all is well.
///
/// # Errors
/// The report cannot be written.
pub async fn run(checks: Vec<Box<dyn Check>>, out: &mut (impl Write + ?Sized)) -> std::io::Result<bool> {
    run_within(LIMIT, checks, out).await
}

async fn run_within(
    limit: Duration,
    checks: Vec<Box<dyn Check>>,
    out: &mut (impl Write + ?Sized),
) -> std::io::Result<bool> {
    let mut well = true;
    let tried = checks.into_iter().map(|check| async move {
        let what = check.what();
        timeout(limit, check.run()).await.unwrap_or_else(|_| {
            vec![Line::fail(
                what,
                format!("no answer within {} s", limit.as_secs_f32()),
                "see whether it can be reached",
            )]
        })
    });
    let mut tried = stream::iter(tried).buffered(16);
    while let Some(lines) = tried.next().await {
        for line in lines {
            well &= !matches!(line.finding, Finding::Fail { .. });
            writeln!(out, "{}", line.render())?;
        }
    }
    Ok(well)
}

/// The configuration: what is wrong or odd with it.
pub struct ConfigurationCheck(Vec<Line>);

impl ConfigurationCheck {
    /// What loading it said.
    #[must_use]
    pub fn new(loaded: &Result<Loaded, ConfigError>) -> Self {
        let what = "configuration";
        Self(match loaded {
            Err(error) => {
                error.problems.iter().map(|p| Line::fail(what, p, "`k8sops config` shows what is in force")).collect()
            }
            Ok(loaded) => {
                let set = loaded.origins.iter().filter(|o| o.origin != crate::config::Origin::Default).count();
                let fact = format!("{} settings, {set} of them yours", loaded.origins.len());
                let warnings = loaded.warnings.iter().map(|warning| Line::note(what, warning));
                std::iter::once(Line::ok(what, fact)).chain(warnings).collect()
            }
        })
    }
}

#[async_trait]
impl Check for ConfigurationCheck {
    fn what(&self) -> String {
        "configuration".to_owned()
    }

    async fn run(self: Box<Self>) -> Vec<Line> {
        self.0
    }
}

/// A provider and a model of it.
pub struct ProviderCheck {
    /// Its id.
    pub id: String,
    /// Its configuration.
    pub config: ProviderConfig,
    /// The model that is asked for.
    pub model: String,
    /// Whether new sessions use it: then it must work.
    pub chosen: bool,
    /// The provider itself, from the catalog.
    pub chat: Option<Arc<dyn ChatModel>>,
}

#[async_trait]
impl Check for ProviderCheck {
    fn what(&self) -> String {
        format!("provider {}", self.id)
    }

    async fn run(self: Box<Self>) -> Vec<Line> {
        let (what, key, url) = (self.what(), &self.config.key_variable, mask_url(&self.config.base_url));
        if self.config.api_key.is_none() && !self.config.key_optional {
            let line = if self.chosen {
                Line::fail(what, "it has no key", format!("set {key}, or choose another provider in LLM_PROVIDER"))
            } else {
                Line::note(what, format!("not tried, it has no key ({key})"))
            };
            return vec![line];
        }
        let Some(chat) = &self.chat else {
            return vec![Line::fail(what, "it is not in the catalog", "see `providers` in your YAML")];
        };
        let error = match chat.check(&self.model).await {
            Ok(()) => return vec![Line::ok(what, format!("model {} answers at {url}", self.model))],
            Err(error) => error,
        };
        let advice = match &error {
            ModelError::Auth(_) => format!("see whether {key} is right and may use this model"),
            ModelError::InvalidRequest(_) | ModelError::ContextTooLong(_) => {
                format!("see whether LLM_MODEL is a model of this provider, and whether {url} is its base URL")
            }
            ModelError::RateLimited { .. } | ModelError::Overloaded(_) => "try again later".to_owned(),
            ModelError::Network(_) | ModelError::Timeout(_) => {
                format!("see whether {url} can be reached from here (proxy, firewall, base_url)")
            }
            ModelError::MalformedStream(_) => format!("see whether {url} is the API and not a page before it"),
        };
        vec![if self.chosen {
            Line::fail(what, format!("model {}: {error}", self.model), advice)
        } else {
            Line::note(what, format!("model {}: {error}; {advice}", self.model))
        }]
    }
}

/// An MCP server.
pub struct McpCheck {
    /// Its configuration.
    pub config: McpServerConfig,
    /// Its status once it is connected or the attempt has failed; `None` when the hub does not know it.
    pub status: BoxFuture<'static, Option<Arc<ServerStatus>>>,
}

#[async_trait]
impl Check for McpCheck {
    fn what(&self) -> String {
        format!("mcp {}", self.config.name)
    }

    async fn run(self: Box<Self>) -> Vec<Line> {
        let status = self.status.await;
        vec![mcp_line(&self.config, status.as_deref())]
    }
}

/// What the status of an MCP server comes to.
#[must_use]
pub fn mcp_line(config: &McpServerConfig, status: Option<&ServerStatus>) -> Line {
    let what = format!("mcp {}", config.name);
    let single = config.name == "default";
    let (place, advice) = match &config.transport {
        McpTransport::Http { url, .. } => {
            let variable = if single { "MCP_SERVER_URL" } else { "its url in your YAML" };
            (mask_url(url), format!("start the server or set {variable}"))
        }
        McpTransport::Stdio { command, .. } => {
            let variable = if single { "MCP_SERVER_COMMAND" } else { "its command in your YAML" };
            (command.clone(), format!("run the command by hand to see what it says, or set {variable}"))
        }
    };
    match status {
        Some(status) if status.connected && status.tools.is_empty() => {
            Line::note(what, format!("connected to {place}, and it offers no tools"))
        }
        Some(status) if status.connected => Line::ok(what, format!("{} tools at {place}", status.tools.len())),
        Some(status) => {
            let error = status.error.as_deref().unwrap_or("no connection yet");
            // Many errors name the place themselves.
            let found = if error.contains(&place) { error.to_owned() } else { format!("{error} at {place}") };
            Line::fail(what, found, advice)
        }
        None => Line::fail(what, format!("it was not started ({place})"), advice),
    }
}

/// What is said when no MCP server is configured.
pub struct NoMcpServers;

#[async_trait]
impl Check for NoMcpServers {
    fn what(&self) -> String {
        "mcp".to_owned()
    }

    async fn run(self: Box<Self>) -> Vec<Line> {
        vec![Line::note(
            "mcp",
            "no server is configured, so the agent has no tools: set MCP_SERVER_URL or MCP_SERVER_COMMAND",
        )]
    }
}

/// How opening the store went.
pub enum Opened {
    /// It is open.
    Store(Arc<dyn SessionStore>),
    /// Another process has it, most likely the service itself; with its words.
    InUse(String),
    /// It could not be opened.
    Failed(String),
}

/// The store.
pub struct StoreCheck {
    /// Its configuration.
    pub config: MemoryConfig,
    /// What opening it gave.
    pub opened: Opened,
}

#[async_trait]
impl Check for StoreCheck {
    fn what(&self) -> String {
        match self.config.backend {
            Backend::Memory => "store memory".to_owned(),
            Backend::Filesystem => "store filesystem".to_owned(),
            Backend::Redis => "store redis".to_owned(),
        }
    }

    async fn run(self: Box<Self>) -> Vec<Line> {
        let what = self.what();
        if self.config.backend == Backend::Memory {
            return vec![Line::note(
                what,
                "sessions are lost when the process ends; MEMORY_BACKEND=filesystem keeps them",
            )];
        }
        if self.config.backend == Backend::Redis {
            return vec![self.redis().await];
        }
        let path = &self.config.path;
        let place = path.display().to_string();
        let advice = MemoryConfig::PATH_ADVICE;
        let line = match &self.opened {
            Opened::Failed(error) => return vec![Line::fail(what, format!("{place}: {error}"), advice)],
            Opened::InUse(words) => Line::note(&what, format!("{words}; if that is the service, all is well")),
            Opened::Store(store) => {
                if let Err(error) = store.ping().await {
                    return vec![Line::fail(what, format!("{place}: {error}"), advice)];
                }
                if let Err(error) = writable(path) {
                    return vec![Line::fail(what, format!("{place} cannot be written to: {error}"), advice)];
                }
                Line::ok(&what, format!("{place} can be written to"))
            }
        };
        match free_disk(path) {
            Some(free) if free < LOW_DISK => {
                let found = format!("only {} MiB are free at {place}", free >> 20);
                vec![line, Line::note(what, format!("{found}; make room, or set MEMORY_SHALLOW=true or MAX_SESSIONS"))]
            }
            Some(free) => {
                let free = format!("{} GiB free", free >> 30);
                let Line { what, finding } = line;
                vec![match finding {
                    Finding::Ok(fact) => Line::ok(what, format!("{fact}, {free}")),
                    finding => Line { what, finding },
                }]
            }
            None => vec![line],
        }
    }
}

impl StoreCheck {
    async fn redis(&self) -> Line {
        let what = self.what();
        let place = self.config.redis.shown();
        let advice = "start Redis there, or set REDIS_URL, REDIS_TOPOLOGY and, for TLS, REDIS_CA_FILE";
        let answered = match &self.opened {
            Opened::Store(store) => store.ping().await.map_err(|error| error.to_string()),
            Opened::Failed(error) | Opened::InUse(error) => Err(error.clone()),
        };
        match answered {
            Ok(()) => Line::ok(what, format!("{place} answers and can be written to")),
            Err(error) => Line::fail(what, format!("{place}: {error}"), advice),
        }
    }
}

/// All that is tried: what loading the configuration said and, when it can be used, the parts that a start would use.
pub async fn checks(loaded: &Result<Loaded, ConfigError>) -> Vec<Box<dyn Check>> {
    let mut checks: Vec<Box<dyn Check>> = vec![Box::new(ConfigurationCheck::new(loaded))];
    let Ok(Loaded { config, .. }) = loaded else { return checks };
    let catalog = Catalog::new(&config.providers);
    for (id, provider) in &config.providers {
        let chosen = *id == config.llm.provider;
        let first = provider.models.first().map(|model| model.id.clone());
        let model = if chosen { config.llm.model.clone() } else { first.unwrap_or_default() };
        let chat = catalog.model(id);
        checks.push(Box::new(ProviderCheck { id: id.clone(), config: provider.clone(), model, chosen, chat }));
    }
    if config.mcp.servers.is_empty() {
        checks.push(Box::new(NoMcpServers));
    }
    for server in &config.mcp.servers {
        let status = connected_once(server.clone(), config.mcp.clone()).boxed();
        checks.push(Box::new(McpCheck { config: server.clone(), status }));
    }
    let opened = match app::open_store(&config.memory).await {
        Ok(store) => Opened::Store(store),
        Err(StoreError::InUse(why)) => Opened::InUse(why),
        Err(error) => Opened::Failed(error.to_string()),
    };
    checks.push(Box::new(StoreCheck { config: config.memory.clone(), opened }));
    checks
}

/// An MCP server as it stands once it is connected, or the first attempt has failed.
async fn connected_once(server: McpServerConfig, config: McpConfig) -> Option<Arc<ServerStatus>> {
    let tasks = TaskTracker::new();
    let connector = match connector_for(&server.transport) {
        Ok(connector) => connector,
        Err(error) => {
            return Some(Arc::new(ServerStatus {
                name: server.name,
                transport: "",
                connected: false,
                error: Some(error.to_string()),
                tools: Arc::new([]),
            }));
        }
    };
    let hub = McpHub::start(vec![(server.name, connector)], &config, tasks.clone(), &CancellationToken::new());
    hub.refresh().await;
    let status = hub.statuses().pop();
    hub.close().await;
    tasks.close();
    tasks.wait().await;
    status
}

/// Whether a file can be made in a folder; leaves none behind.
fn writable(folder: &Path) -> std::io::Result<()> {
    let probe = folder.join(format!(".doctor-{}", uuid::Uuid::now_v7()));
    std::fs::write(&probe, b"k8sops doctor\n")?;
    std::fs::remove_file(&probe)
}

/// The bytes that this user may still write at a path.
#[cfg(unix)]
fn free_disk(path: &Path) -> Option<u64> {
    let disk = nix::sys::statvfs::statvfs(path).ok()?;
    // The types differ between systems.
    #[allow(clippy::useless_conversion)]
    u64::from(disk.blocks_available()).checked_mul(u64::from(disk.fragment_size()))
}

#[cfg(not(unix))]
fn free_disk(_path: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Config, Sources},
        models::{ChatRequest, ReplyStream},
    };

    struct Scripted(Result<(), ModelError>);

    #[async_trait]
    impl ChatModel for Scripted {
        async fn stream(&self, _: ChatRequest) -> Result<ReplyStream, ModelError> {
            unreachable!("the doctor costs no tokens")
        }
        async fn check(&self, _: &str) -> Result<(), ModelError> {
            self.0.clone()
        }
    }

    struct Line1(&'static str);

    #[async_trait]
    impl Check for Line1 {
        fn what(&self) -> String {
            self.0.to_owned()
        }
        async fn run(self: Box<Self>) -> Vec<Line> {
            match self.0 {
                "hangs" => std::future::pending().await,
                other => vec![Line::ok(other, "fine")],
            }
        }
    }

    fn config(env: &[(&str, &str)]) -> Loaded {
        let env = env.iter().chain(&[("HOME", "/h")]).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::load(Sources { env, ..Sources::default() }).unwrap()
    }

    async fn provider(chosen: bool, key: bool, answer: Result<(), ModelError>) -> String {
        let env = if key { vec![("ANTHROPIC_API_KEY", "k")] } else { vec![] };
        let config = config(&env).config.providers.remove("anthropic").unwrap();
        let check = ProviderCheck {
            id: "anthropic".into(),
            config,
            model: "claude-opus-5-5".into(),
            chosen,
            chat: Some(Arc::new(Scripted(answer))),
        };
        Box::new(check).run().await.iter().map(Line::render).collect::<Vec<_>>().join("\n")
    }

    #[tokio::test]
    async fn a_provider_is_well_or_it_is_said_what_to_do() {
        assert_eq!(
            provider(true, true, Ok(())).await,
            "ok    provider anthropic: model claude-opus-5-5 answers at https://api.anthropic.com"
        );
        let auth = Err(ModelError::Auth("invalid x-api-key\n(401)".into()));
        assert_eq!(
            provider(true, true, auth.clone()).await,
            "FAIL  provider anthropic: model claude-opus-5-5: invalid x-api-key (401) — see whether ANTHROPIC_API_KEY is right and may use this model"
        );
        assert!(provider(false, true, auth).await.starts_with("note  "), "one that nobody uses may be broken");
        assert!(
            provider(true, false, Ok(()))
                .await
                .starts_with("FAIL  provider anthropic: it has no key — set ANTHROPIC_API_KEY")
        );
        assert!(provider(false, false, Ok(())).await.starts_with("note  "));
    }

    #[test]
    fn an_mcp_server_is_judged_by_its_status() {
        let config = config(&[("MCP_SERVER_URL", "http://127.0.0.1:9/mcp")]).config.mcp.servers.remove(0);
        let down = ServerStatus {
            name: "default".into(),
            transport: "http",
            connected: false,
            error: Some("connection refused".into()),
            tools: Arc::new([]),
        };
        assert_eq!(
            mcp_line(&config, Some(&down)).render(),
            "FAIL  mcp default: connection refused at http://127.0.0.1:9/mcp — start the server or set MCP_SERVER_URL"
        );
        let up = ServerStatus { connected: true, error: None, ..down };
        assert!(mcp_line(&config, Some(&up)).render().starts_with("note  mcp default: connected"));
        assert!(mcp_line(&config, None).render().starts_with("FAIL  mcp default: it was not started"));
    }

    #[tokio::test]
    async fn no_line_shows_the_secrets_of_a_url() {
        let url = "http://me:secret@127.0.0.1:9/mcp?token=secret";
        let loaded = config(&[("MCP_SERVER_URL", url), ("OPENAI_BASE_URL", url), ("OPENAI_API_KEY", "k")]).config;
        let up = ServerStatus {
            name: "default".into(),
            transport: "http",
            connected: true,
            error: None,
            tools: Arc::new([]),
        };
        let down = ServerStatus { connected: false, error: Some("connection refused".into()), ..up.clone() };
        let tool = crate::mcp::RemoteTool {
            name: "t".into(),
            description: String::new(),
            input_schema: serde_json::Map::new(),
            hints: crate::mcp::ToolHints::default(),
        };
        let with_tools = ServerStatus { tools: Arc::new([tool]), ..up.clone() };
        let server = &loaded.mcp.servers[0];
        let mut lines: Vec<Line> =
            [Some(&up), Some(&down), Some(&with_tools), None].map(|status| mcp_line(server, status)).into();
        for answer in
            [Ok(()), Err(ModelError::Network("refused".into())), Err(ModelError::MalformedStream("no stream".into()))]
        {
            let check = ProviderCheck {
                id: "openai".into(),
                config: loaded.providers["openai"].clone(),
                model: "m".into(),
                chosen: true,
                chat: Some(Arc::new(Scripted(answer))),
            };
            lines.extend(Box::new(check).run().await);
        }
        for line in lines {
            let line = line.render();
            assert!(line.contains("127.0.0.1:9/mcp") && !line.contains("secret"), "{line}");
        }
    }

    #[tokio::test]
    async fn the_report_keeps_its_order_and_one_that_hangs_fails() {
        let mut out = Vec::new();
        let checks: Vec<Box<dyn Check>> = vec![Box::new(Line1("hangs")), Box::new(Line1("other"))];
        assert!(!run_within(Duration::from_millis(50), checks, &mut out).await.unwrap());
        let report = String::from_utf8(out).unwrap();
        let lines: Vec<_> = report.lines().collect();
        assert!(
            lines[0].starts_with("FAIL  hangs: no answer within 0.05 s") && lines[1] == "ok    other: fine",
            "{report}"
        );
    }

    #[tokio::test]
    async fn a_wrong_configuration_is_one_line_for_each_fault() {
        let sources = Sources { env: [("K8SOPS_PORT".to_owned(), "x".to_owned())].into(), ..Sources::default() };
        let mut out = Vec::new();
        let check = ConfigurationCheck::new(&Config::load(sources));
        assert!(!run(vec![Box::new(check)], &mut out).await.unwrap());
        let report = String::from_utf8(out).unwrap();
        assert!(report.starts_with("FAIL  configuration: K8SOPS_PORT is `x`; allowed: a port number"), "{report}");
        let mut out = Vec::new();
        assert!(run(vec![Box::new(ConfigurationCheck::new(&Ok(config(&[]))))], &mut out).await.unwrap());
        assert!(String::from_utf8(out).unwrap().contains("note  configuration: Anthropic"));
    }

    #[tokio::test]
    async fn a_folder_that_cannot_be_used_is_a_fault_and_one_in_use_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&[]).config.memory;
        config.path = folder.path().to_owned();
        let report = |opened| Box::new(StoreCheck { config: config.clone(), opened }).run();
        let failed = report(Opened::Failed("permission denied".into())).await;
        assert!(failed[0].render().starts_with("FAIL  store filesystem: "), "{failed:?}");
        let used = report(Opened::InUse("process 7 has it".into())).await;
        assert!(used[0].render().contains("note  store filesystem: process 7 has it"), "{used:?}");
        assert!(writable(folder.path()).is_ok() && writable(&folder.path().join("none")).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the probe is gone");
        assert!(free_disk(folder.path()).is_some());
    }
}
