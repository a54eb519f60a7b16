//! Reloads the configuration at SIGHUP. A reload is applied as a whole or rejected as a whole, and affects the settings that can
//! change at runtime ([`settings::LIVE`]).

use actix_web::web;
use k8sops_models::InvalidSettings;
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
    config::{Config, ConfigError, InForce, Loaded, Sources, settings},
    error_chain::ErrorChain,
};

/// Reloads the configuration at every SIGHUP until the returned handle is dropped.
///
/// # Errors
/// The signal handler cannot be installed.
pub(super) fn reload_on_hangup(loaded: &Loaded, state: web::Data<ApiState>) -> std::io::Result<AbortOnDropHandle<()>> {
    let mut hangups = signal(SignalKind::hangup())?;
    let mut in_force = loaded.origins.clone();
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let read = spawn_blocking(|| Sources::from_process().and_then(Config::load)).await;
            match read
                .map(|read| read.map_err(ReloadError::from).and_then(|new| apply_config(&state, &mut in_force, new)))
            {
                Ok(Ok(changes)) => changes.log(),
                Ok(Err(error)) => {
                    let error = ErrorChain(&error);
                    tracing::error!(%error, "config reload rejected, keeping previous");
                }
                Err(error) => tracing::error!(%error, "config reload failed, keeping previous"),
            }
        }
    })))
}

/// Why a configuration is rejected. No part of it is applied.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error("{}", .0.problems.join("; "))]
    Config(ConfigError),
    #[error("the default settings of sessions are invalid; changes of providers and their models need a restart")]
    DefaultSettings(#[from] InvalidSettings),
    #[error(
        "TOOL_APPROVAL=auto is not allowed while TOOL_APPROVAL_BY is `approver`, because no approval would be requested; a \
         change of TOOL_APPROVAL_BY needs a restart"
    )]
    NoApprovals,
    #[error(transparent)]
    LogLevel(#[from] logs::LogError),
}

impl From<ConfigError> for ReloadError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

/// Applies the settings that can change at runtime. Everything that can fail comes first.
fn apply_config(state: &ApiState, in_force: &mut Vec<InForce>, new: Loaded) -> Result<SettingChanges, ReloadError> {
    let config = &new.config;
    let default_settings = config.llm.settings();
    state.catalog.validate_settings(&default_settings)?;
    if state.sessions.approval_by() == ApprovalBy::Approver && config.tools.approval == ApprovalMode::Auto {
        return Err(ReloadError::NoApprovals);
    }
    logs::set_log_level(&config.log.level)?;
    state.default_settings.store(default_settings.into());
    state.day_budget.store(config.budgets.user_day.into());
    state.sessions.set_limits(run_limits(config));
    state.sessions.set_room(capacity_limits(config));
    state.quota.set_limits(config.limits);
    state.tools.set_policy(&config.tools);
    for warning in &new.warnings {
        tracing::warn!("{warning}");
    }
    let changes = SettingChanges::between(in_force, &new.origins);
    // Settings that need a restart keep their old value in this list, so that the next reload reports them again.
    in_force.retain(|setting| !settings::is_live(&setting.path));
    in_force.extend(new.origins.into_iter().filter(|setting| settings::is_live(&setting.path)));
    Ok(changes)
}

/// The settings that have changed. A change of a secret is not noticed if its redacted form is the same.
#[derive(Debug, Default, PartialEq, Eq)]
struct SettingChanges {
    applied: Vec<String>,
    needs_restart: Vec<String>,
}

impl SettingChanges {
    fn between(old: &[InForce], new: &[InForce]) -> Self {
        let value_in = |all: &[InForce], path: &str| all.iter().find(|s| s.path == path).map(|s| s.value.clone());
        let mut paths: Vec<&str> = old.iter().chain(new).map(|setting| setting.path.as_str()).collect();
        paths.sort_unstable();
        paths.dedup();
        let changed = paths.into_iter().filter(|path| value_in(old, path) != value_in(new, path)).map(str::to_owned);
        let (applied, needs_restart) = changed.partition(|path| settings::is_live(path));
        Self { applied, needs_restart }
    }

    fn log(&self) {
        tracing::info!(changed = self.applied.join(", "), "config reloaded");
        if !self.needs_restart.is_empty() {
            tracing::warn!(changed = self.needs_restart.join(", "), "config changes need a restart");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    fn setting(path: &str, value: &str) -> InForce {
        InForce { path: path.into(), value: value.into(), origin: Origin::Default }
    }

    #[test]
    fn change_is_applied_or_needs_a_restart() {
        let old = [setting("log.level", "info"), setting("server.port", "1"), setting("tools.rules[0].tool", "a")];
        let new = [setting("log.level", "debug"), setting("server.port", "2"), setting("budgets.turn_usd", "1")];
        let SettingChanges { applied, needs_restart } = SettingChanges::between(&old, &new);
        assert_eq!(applied, ["budgets.turn_usd", "log.level", "tools.rules[0].tool"]);
        assert_eq!(needs_restart, ["server.port"]);
        assert_eq!(SettingChanges::between(&new, &new), SettingChanges::default());
    }
}
