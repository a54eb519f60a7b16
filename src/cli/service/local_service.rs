//! A service inside the process of a command, for a machine on which none runs.

use std::{fs::OpenOptions, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf, time::Duration};

use anyhow::Context as _;
use k8sops_telemetry::logs;
use secrecy::SecretString;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    app::Application,
    auth::{AuthMode, MetricsAccess, NewKey, UserRole},
    config::LoadedConfig,
};

/// The log level of a configuration that sets none. A command shows in its own words what `warn` would say.
const DEFAULT_LEVEL: &str = "info";
const QUIET_LEVEL: &str = "error";

/// How long the service may take to stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(20);

/// A service that ends with its command.
pub(super) struct LocalService {
    pub(super) url: String,
    stop: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
    _key_file: KeyFile,
}

impl LocalService {
    /// Starts a service with the configuration of this process, on a free port of the loopback interface, and waits for the first
    /// attempts to connect to its MCP servers. Only the returned key opens it: others on this machine can reach the port, too.
    pub(super) async fn start() -> anyhow::Result<(Self, SecretString)> {
        let mut config = LoadedConfig::load_from_process()?.config;
        if config.log.level == DEFAULT_LEVEL {
            QUIET_LEVEL.clone_into(&mut config.log.level);
        }
        let _exporter = logs::install_subscriber(&config.log, None)?;
        let key = NewKey::generate(
            config.sessions.user_id.as_str(),
            &[UserRole::User, UserRole::Approver, UserRole::Admin],
            Some("command"),
        )?;
        let key_file = KeyFile::create(&key.entry).context("the key of the service cannot be written")?;
        config.auth.mode = AuthMode::ApiKey { file: key_file.0.clone() };
        config.auth.metrics = MetricsAccess::Admin;
        "127.0.0.1".clone_into(&mut config.server.host);
        config.server.port = 0;
        let app = Application::build(&config).await?;
        let state = app.state();
        let provider = &config.llm.provider;
        anyhow::ensure!(
            state.catalog.is_configured(provider) || !config.llm.fallback.is_empty(),
            "the model provider {provider} has no API key (`k8sops doctor` says what to set; `k8sops demo` needs none)"
        );
        let url = format!("http://127.0.0.1:{}", app.port());
        let stop = CancellationToken::new();
        let task = tokio::spawn(app.run_until_stopped(stop.clone()));
        state.mcp.wait_for_first_attempts().await;
        Ok((Self { url, stop, task, _key_file: key_file }, SecretString::from(key.key)))
    }

    /// Shuts the service down gracefully: a run that waits for an approval continues with the next service.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        // The work is durable, so a slow stop loses nothing.
        let _ = tokio::time::timeout(STOP_TIMEOUT, self.task).await;
    }
}

/// A file with the hash of the key, which is removed with the service.
struct KeyFile(PathBuf);

impl KeyFile {
    fn create(entry: &str) -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("k8sops-{}.yaml", uuid::Uuid::new_v4()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let created = Self(path);
        file.write_all(entry.as_bytes())?;
        Ok(created)
    }
}

impl Drop for KeyFile {
    fn drop(&mut self) {
        // It holds no secret, so that a file that stays is no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}
