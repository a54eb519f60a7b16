//! Reloads the configuration at SIGHUP. A reload is applied as a whole or rejected as a whole. It affects the settings that are
//! declared as live; the others need a restart.

use actix_web::web;
use k8sops_core::ErrorChain;
use k8sops_settings::{EffectiveSetting, SettingsCatalog};
use k8sops_telemetry::logs;
use k8sops_tools::{ApprovalBy, ApprovalMode};
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};
use tokio_util::task::AbortOnDropHandle;

use super::limits::{capacity_limits, run_limits};
use crate::{
    api::ApiState,
    config::{ConfigError, LoadedConfig, settings_catalog},
};

/// Reloads the configuration at every SIGHUP until the returned handle is dropped.
///
/// # Errors
/// The signal handler cannot be installed.
pub(super) fn reload_on_hangup(
    loaded: &LoadedConfig,
    state: web::Data<ApiState>,
) -> std::io::Result<AbortOnDropHandle<()>> {
    let mut hangups = signal(SignalKind::hangup())?;
    let catalog = settings_catalog();
    let mut effective = loaded.effective.clone();
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let loaded = match spawn_blocking(LoadedConfig::load_from_process).await {
                Ok(loaded) => loaded.map_err(ReloadError::from),
                Err(error) => {
                    tracing::error!(%error, "config reload failed, keeping previous");
                    continue;
                }
            };
            match loaded.and_then(|loaded| apply_config(&state, &catalog, &mut effective, loaded)) {
                Ok(changes) => changes.log(),
                Err(error) => tracing::error!(error = %ErrorChain(&error), "config reload rejected, keeping previous"),
            }
        }
    })))
}

/// Why a configuration is rejected. No part of it is applied.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("{}", .0.problems().join("; "))]
    Config(ConfigError),
    #[error("the default settings of sessions are invalid; changes of providers and their models need a restart")]
    Defaults(#[from] k8sops_models::InvalidSettings),
    #[error(
        "TOOL_APPROVAL_BY is `approver` until a restart, and with TOOL_APPROVAL=auto no approval would be requested"
    )]
    NoApproval,
    #[error(transparent)]
    LogFilter(#[from] logs::LogError),
}

impl From<ConfigError> for ReloadError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Applies the live settings. Everything that can fail comes first.
fn apply_config(
    state: &ApiState,
    catalog: &SettingsCatalog,
    effective: &mut Vec<EffectiveSetting>,
    loaded: LoadedConfig,
) -> Result<ConfigChanges, ReloadError> {
    let config = &loaded.config;
    let defaults = config.llm.session_settings();
    state.catalog.validate_settings(&defaults)?;
    if state.sessions.approval_by() == ApprovalBy::Approver && config.tools.approval == ApprovalMode::Auto {
        return Err(ReloadError::NoApproval);
    }
    logs::set_log_level(&config.log.level)?;
    state.default_settings.store(defaults.into());
    state.day_budget.store(config.budgets.user_day.into());
    state.sessions.set_run_limits(run_limits(config));
    state.sessions.set_capacity_limits(capacity_limits(config));
    state.quota.set_limits(config.limits);
    state.tools.set_policy(&config.tools);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let changes = ConfigChanges::between(catalog, effective, &loaded.effective);
    // Settings that need a restart keep their old value in this list, so that the next reload reports them again.
    effective.retain(|setting| !catalog.is_live(&setting.path));
    effective.extend(loaded.effective.into_iter().filter(|setting| catalog.is_live(&setting.path)));
    Ok(changes)
}

/// The settings that have changed. A change of a secret is not noticed if its redacted form is the same.
#[derive(Debug, Default, PartialEq, Eq)]
struct ConfigChanges {
    applied: Vec<String>,
    need_restart: Vec<String>,
}

impl ConfigChanges {
    fn between(catalog: &SettingsCatalog, old: &[EffectiveSetting], new: &[EffectiveSetting]) -> Self {
        let value_in =
            |all: &[EffectiveSetting], path: &str| all.iter().find(|s| s.path == path).map(|s| s.value.clone());
        let mut paths: Vec<&str> = old.iter().chain(new).map(|setting| setting.path.as_str()).collect();
        paths.sort_unstable();
        paths.dedup();
        let changed = paths.into_iter().filter(|path| value_in(old, path) != value_in(new, path)).map(str::to_owned);
        let (applied, need_restart) = changed.partition(|path| catalog.is_live(path));
        Self { applied, need_restart }
    }

    fn log(&self) {
        tracing::info!(changed = self.applied.join(", "), "config reloaded");
        if !self.need_restart.is_empty() {
            tracing::warn!(settings = self.need_restart.join(", "), "config changes need a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SettingOrigin;

    fn setting(path: &str, value: &str) -> EffectiveSetting {
        EffectiveSetting { path: path.into(), value: value.into(), origin: SettingOrigin::Default }
    }

    #[test]
    fn change_is_applied_or_needs_a_restart() {
        let catalog = settings_catalog();
        let old = [setting("log.level", "info"), setting("server.port", "1"), setting("tools.rules[0].tool", "a")];
        let new = [setting("log.level", "debug"), setting("server.port", "2"), setting("budgets.turn_usd", "1")];
        let ConfigChanges { applied, need_restart } = ConfigChanges::between(&catalog, &old, &new);
        assert_eq!(applied, ["budgets.turn_usd", "log.level", "tools.rules[0].tool"]);
        assert_eq!(need_restart, ["server.port"]);
        assert_eq!(ConfigChanges::between(&catalog, &new, &new), ConfigChanges::default());
    }
}
