//! The report: runs the checks concurrently and prints their lines in order.

use std::{io::Write, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use crate::cli::{CommandOutcome, terminal::sanitize_text};

/// Time limit of a check that sets none of its own.
const CHECK_TIMEOUT: Duration = Duration::from_secs(45);
/// The number of checks that run at the same time.
const MAX_CONCURRENT_CHECKS: usize = 16;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum CheckFinding {
    /// The part works; with the fact that shows it.
    Ok(String),
    /// The part was not checked, or something is unusual. The service works without it.
    Note(String),
    /// The part does not work.
    Fail {
        found: String,
        /// What to do about it.
        advice: String,
    },
}

/// A line of the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReportLine {
    /// What was checked, such as `provider anthropic`.
    pub(super) subject: String,
    pub(super) finding: CheckFinding,
}

impl ReportLine {
    pub(super) fn passed(subject: impl Into<String>, fact: impl Into<String>) -> Self {
        Self { subject: subject.into(), finding: CheckFinding::Ok(fact.into()) }
    }

    pub(super) fn notice(subject: impl Into<String>, fact: impl Into<String>) -> Self {
        Self { subject: subject.into(), finding: CheckFinding::Note(fact.into()) }
    }

    pub(super) fn failed(subject: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let finding = CheckFinding::Fail { found: found.into(), advice: advice.into() };
        Self { subject: subject.into(), finding }
    }

    /// Formats the line as it is printed, without the line end.
    #[must_use]
    pub(super) fn render(&self) -> String {
        // Servers and providers write a part of it.
        let one_line = |text: &str| sanitize_text(text).split_whitespace().collect::<Vec<_>>().join(" ");
        match &self.finding {
            CheckFinding::Ok(fact) => format!("ok    {}: {}", one_line(&self.subject), one_line(fact)),
            CheckFinding::Note(fact) => format!("note  {}: {}", one_line(&self.subject), one_line(fact)),
            CheckFinding::Fail { found, advice } => {
                format!("FAIL  {}: {} — {}", one_line(&self.subject), one_line(found), one_line(advice))
            }
        }
    }
}

/// A part that can be checked.
#[async_trait]
pub trait HealthCheck: Send {
    /// Returns what is checked, for the line of a check that does not finish.
    fn subject(&self) -> String;

    /// How long the check may take.
    fn time_limit(&self) -> Duration {
        CHECK_TIMEOUT
    }

    /// Runs the check.
    async fn run(self: Box<Self>) -> Vec<ReportLine>;
}

/// Runs all checks and prints the report.
///
/// # Errors
/// The report cannot be written.
pub async fn run_checks(
    checks: Vec<Box<dyn HealthCheck>>,
    out: &mut (impl Write + ?Sized),
) -> std::io::Result<CommandOutcome> {
    let mut outcome = CommandOutcome::Passed;
    let running = checks.into_iter().map(|check| async move {
        let subject = check.subject();
        let limit = check.time_limit();
        timeout(limit, check.run()).await.unwrap_or_else(|_| {
            let found = format!("no answer within {} s", limit.as_secs_f32());
            vec![ReportLine::failed(subject, found, "check that it can be reached from here")]
        })
    });
    let mut reports = stream::iter(running).buffered(MAX_CONCURRENT_CHECKS);
    while let Some(lines) = reports.next().await {
        for line in lines {
            if matches!(line.finding, CheckFinding::Fail { .. }) {
                outcome = CommandOutcome::Failed;
            }
            writeln!(out, "{}", line.render())?;
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct FakeCheck(&'static str);

    #[async_trait]
    impl HealthCheck for FakeCheck {
        fn subject(&self) -> String {
            self.0.to_owned()
        }
        fn time_limit(&self) -> Duration {
            Duration::from_millis(50)
        }
        async fn run(self: Box<Self>) -> Vec<ReportLine> {
            match self.0 {
                "hangs" => std::future::pending().await,
                other => vec![ReportLine::passed(other, "fine")],
            }
        }
    }

    #[tokio::test]
    async fn hanging_check_fails_and_keeps_its_place() {
        let mut out = Vec::new();
        let checks: Vec<Box<dyn HealthCheck>> = vec![Box::new(FakeCheck("hangs")), Box::new(FakeCheck("other"))];
        let outcome = run_checks(checks, &mut out).await.unwrap();
        assert_eq!(outcome, CommandOutcome::Failed);
        insta::assert_snapshot!(String::from_utf8(out).unwrap(), @r"
        FAIL  hangs: no answer within 0.05 s — check that it can be reached from here
        ok    other: fine
        ");
    }
}
