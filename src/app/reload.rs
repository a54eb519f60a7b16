//! SIGHUP: the configuration is read anew, taken as a whole or refused as a whole, and what can change while the service
//! runs does. [`settings::LIVE`] says what that is.

use actix_web::web;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
};
use tokio_util::task::AbortOnDropHandle;

use super::{capacity_limits, run_limits};
use crate::{
    api::ApiState,
    config::{Config, ConfigError, InForce, Loaded, Sources, settings},
};
use k8sops_telemetry::logs;
use k8sops_tools::{ApprovalBy, ApprovalMode};

/// Reads the configuration anew at every SIGHUP, until what is returned is dropped.
///
/// # Errors
/// The signal cannot be listened to.
pub(super) fn on_hangup(loaded: &Loaded, api: web::Data<ApiState>) -> std::io::Result<AbortOnDropHandle<()>> {
    let mut hangups = signal(SignalKind::hangup())?;
    let mut in_force = loaded.origins.clone();
    Ok(AbortOnDropHandle::new(tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            let read = spawn_blocking(|| Sources::from_process().and_then(Config::load)).await;
            match read.map(|read| read.map_err(Refused::from).and_then(|new| take(&api, &mut in_force, new))) {
                Ok(Ok(changes)) => changes.tell(),
                Ok(Err(refused)) => {
                    tracing::error!("the configuration was read anew and is refused, the old one stays: {refused}");
                }
                Err(error) => tracing::error!(%error, "the configuration could not be read anew"),
            }
        }
    })))
}

/// Why a configuration was not taken. Nothing of it is in force.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{}", .0.problems.join("; "))]
    Wrong(#[from] ConfigError),
    #[error("the settings of new sessions: {0}; providers and their models need a restart")]
    Defaults(#[from] k8sops_models::InvalidSettings),
    #[error("TOOL_APPROVAL_BY is `approver` until the next start, and with TOOL_APPROVAL=auto nobody would be asked")]
    Unasked,
    #[error(transparent)]
    Level(#[from] logs::LogError),
}

/// Puts in force what can be. All that can fail comes first.
fn take(api: &ApiState, in_force: &mut Vec<InForce>, new: Loaded) -> Result<Changes, Refused> {
    let config = &new.config;
    let defaults = config.llm.settings();
    api.catalog.validate_settings(&defaults)?;
    if api.sessions.approval_by() == ApprovalBy::Approver && config.tools.approval == ApprovalMode::Auto {
        return Err(Refused::Unasked);
    }
    logs::set_log_level(&config.log.level)?;
    api.defaults.store(defaults.into());
    api.day_budget.store(config.budgets.user_day.into());
    api.sessions.set_limits(run_limits(config));
    api.sessions.set_room(capacity_limits(config));
    api.quota.set_limits(config.limits);
    api.tools.set_policy(&config.tools);
    for warning in &new.warnings {
        tracing::warn!("{warning}");
    }
    let changes = Changes::between(in_force, &new.origins);
    // What waits for a restart is still as it was, and said again the next time.
    in_force.retain(|setting| !settings::is_live(&setting.path));
    in_force.extend(new.origins.into_iter().filter(|setting| settings::is_live(&setting.path)));
    Ok(changes)
}

/// The settings that are not what they were. A secret that looks the same when it is masked is not seen here.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    applied: Vec<String>,
    waiting: Vec<String>,
}

impl Changes {
    fn between(old: &[InForce], new: &[InForce]) -> Self {
        let value_in = |all: &[InForce], path: &str| all.iter().find(|s| s.path == path).map(|s| s.value.clone());
        let mut paths: Vec<&str> = old.iter().chain(new).map(|setting| setting.path.as_str()).collect();
        paths.sort_unstable();
        paths.dedup();
        let changed = paths.into_iter().filter(|path| value_in(old, path) != value_in(new, path)).map(str::to_owned);
        let (applied, waiting) = changed.partition(|path| settings::is_live(path));
        Self { applied, waiting }
    }

    fn tell(&self) {
        let list = |paths: &[String]| if paths.is_empty() { "nothing".to_owned() } else { paths.join(", ") };
        tracing::info!("the configuration was read anew; changed: {}", list(&self.applied));
        if !self.waiting.is_empty() {
            tracing::warn!("changed settings that need a restart: {}", list(&self.waiting));
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
    fn a_change_is_applied_or_waits_for_a_restart() {
        let old = [setting("log.level", "info"), setting("server.port", "1"), setting("tools.rules[0].tool", "a")];
        let new = [setting("log.level", "debug"), setting("server.port", "2"), setting("budgets.turn_usd", "1")];
        let Changes { applied, waiting } = Changes::between(&old, &new);
        assert_eq!(applied, ["budgets.turn_usd", "log.level", "tools.rules[0].tool"]);
        assert_eq!(waiting, ["server.port"]);
        assert_eq!(Changes::between(&new, &new), Changes::default());
    }
}
