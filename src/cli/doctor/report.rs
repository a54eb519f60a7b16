//! The report: checks that run beside each other, and their lines in the order of the checks.

use std::{io::Write, time::Duration};

use async_trait::async_trait;
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

/// No check may take longer.
const LIMIT: Duration = Duration::from_secs(45);

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
    pub(super) fn ok(what: impl Into<String>, fact: impl Into<String>) -> Self {
        Self { what: what.into(), finding: Finding::Ok(fact.into()) }
    }

    pub(super) fn note(what: impl Into<String>, fact: impl Into<String>) -> Self {
        Self { what: what.into(), finding: Finding::Note(fact.into()) }
    }

    pub(super) fn fail(what: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
