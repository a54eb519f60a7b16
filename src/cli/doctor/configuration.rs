//! The check of the configuration.

use async_trait::async_trait;

use super::report::{HealthCheck, ReportLine};
use crate::config::{ConfigError, LoadedConfig, SettingOrigin};

const SUBJECT: &str = "configuration";

/// Reports the errors and warnings of the configuration.
pub(super) struct ConfigurationCheck(Vec<ReportLine>);

impl ConfigurationCheck {
    /// Creates the check from the result of loading the configuration.
    #[must_use]
    pub(super) fn new(loaded: &Result<LoadedConfig, ConfigError>) -> Self {
        Self(match loaded {
            Err(error) => {
                let advice = "`k8sops config` shows the settings in force";
                error.problems().iter().map(|problem| ReportLine::failed(SUBJECT, problem, advice)).collect()
            }
            Ok(loaded) => {
                let set = loaded.effective.iter().filter(|origin| origin.origin != SettingOrigin::Default).count();
                let fact = format!("{} settings, {set} of them not defaults", loaded.effective.len());
                let warnings = loaded.warnings.iter().map(|warning| ReportLine::notice(SUBJECT, warning));
                std::iter::once(ReportLine::passed(SUBJECT, fact)).chain(warnings).collect()
            }
        })
    }
}

#[async_trait]
impl HealthCheck for ConfigurationCheck {
    fn subject(&self) -> String {
        SUBJECT.to_owned()
    }

    async fn run(self: Box<Self>) -> Vec<ReportLine> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{report::run_checks, testing::load_config},
        *,
    };
    use crate::{
        cli::CommandOutcome,
        config::{AppConfig, SettingSources},
    };

    async fn report(check: ConfigurationCheck) -> (CommandOutcome, String) {
        let mut out = Vec::new();
        let outcome = run_checks(vec![Box::new(check)], &mut out).await.unwrap();
        (outcome, String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn each_configuration_problem_is_a_line() {
        let env = [("K8SOPS_PORT".to_owned(), "x".to_owned())].into();
        let invalid = AppConfig::load(SettingSources { env, ..SettingSources::default() });
        let (outcome, text) = report(ConfigurationCheck::new(&invalid)).await;
        assert_eq!(outcome, CommandOutcome::Failed);
        assert!(
            text.starts_with("FAIL  configuration: K8SOPS_PORT is `x`; allowed: a whole number from 0 to 65535"),
            "{text}"
        );
        let (outcome, text) = report(ConfigurationCheck::new(&Ok(load_config(&[])))).await;
        assert_eq!(outcome, CommandOutcome::Passed);
        assert!(text.contains("note  configuration: Anthropic"), "{text}");
    }
}
