//! Runs the suite and evaluates its results.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use k8sops_testing::testbed;
use serde_json::Value;
use tokio::{process::Command, time::timeout};

use crate::scenarios::{ERAS, NOT_OURS, least_checks};

/// Longer than any scenario takes, including the start of the suite.
const PATIENCE: Duration = Duration::from_secs(90);
/// Number of concurrent runs.
const AT_ONCE: usize = 3;

/// A scenario in one era.
#[derive(Debug, Clone)]
struct ScenarioRun {
    scenario: String,
    /// `None` for extensions, which belong to no era.
    era: Option<&'static str>,
}

/// The result of a run.
#[derive(Debug, Default)]
struct ScenarioOutcome {
    /// Number of checks by their status (`SUCCESS` and others).
    checks: BTreeMap<String, usize>,
    /// Whether the suite reports a pass.
    passed: bool,
    /// The failed checks, and the last output of the client.
    details: String,
}

impl ScenarioOutcome {
    fn count(&self, status: &str) -> usize {
        self.checks.get(status).copied().unwrap_or(0)
    }
}

pub(crate) async fn run(args: Vec<String>) -> ExitCode {
    // `cargo test` gives every test binary the same arguments.
    if args.iter().any(|arg| arg == "--list") {
        return ExitCode::SUCCESS;
    }
    let filter = args.iter().find(|arg| !arg.starts_with('-')).cloned().unwrap_or_default();
    if let Some(code) = testbed::skip_without("conformance", &["K8SOPS_TEST_NODE", "K8SOPS_TEST_CONFORMANCE"]) {
        return code;
    }
    let node = testbed::path("K8SOPS_TEST_NODE");
    let suite = testbed::path("K8SOPS_TEST_CONFORMANCE");
    let runs = match scenarios(&node, &suite).await {
        Ok(runs) => runs.into_iter().filter(|run| run.scenario.contains(&filter)).collect::<Vec<_>>(),
        Err(why) => {
            eprintln!("the suite does not tell its scenarios: {why}");
            return ExitCode::FAILURE;
        }
    };
    if runs.is_empty() {
        return if filter.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    let folder = tempfile::tempdir().expect("a folder can be made");
    let (node, suite, folder) = (&node, &suite, folder.path());
    let outcomes = stream::iter(runs)
        .map(async |run| {
            let outcome = one(node, suite, folder, &run).await;
            (run, outcome)
        })
        .buffered(AT_ONCE)
        .collect::<Vec<_>>()
        .await;
    report(&outcomes)
}

/// Returns the client scenarios of the suite in the supported protocol eras.
async fn scenarios(node: &str, suite: &str) -> Result<Vec<ScenarioRun>, String> {
    let listed = Command::new(node).args([suite, "list"]).stdin(Stdio::null()).output();
    let output = timeout(PATIENCE, listed).await.map_err(|_| "no answer")?.map_err(|e| e.to_string())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let (_, client) = text.split_once("Client scenarios").ok_or_else(|| text.clone())?;
    let mut runs = Vec::new();
    for line in client.lines().skip(1).take_while(|line| line.starts_with("  - ")) {
        let Some((scenario, eras)) = line.trim_start_matches("  - ").split_once(" [") else { continue };
        let run = |era| ScenarioRun { scenario: scenario.to_owned(), era };
        if eras.starts_with("extension") {
            runs.push(run(None));
        }
        runs.extend(ERAS.iter().filter(|era| eras.contains(**era)).map(|era| run(Some(*era))));
    }
    Ok(runs)
}

async fn one(node: &str, suite: &str, folder: &Path, run: &ScenarioRun) -> ScenarioOutcome {
    let results = folder.join(format!("{} {}", run.scenario.replace('/', "_"), run.era.unwrap_or("extension")));
    let client = std::env::current_exe().expect("this program has a path");
    let mut command = Command::new(node);
    command
        .args([suite, "client", "--command", &client.to_string_lossy(), "--scenario", &run.scenario])
        .arg("-o")
        .arg(&results)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    if let Some(era) = run.era {
        command.args(["--spec-version", era]);
    }
    let Ok(Ok(output)) = timeout(PATIENCE, command.output()).await else {
        return ScenarioOutcome { details: "the suite did not end".to_owned(), ..ScenarioOutcome::default() };
    };
    let mut outcome = ScenarioOutcome { passed: output.status.success(), ..ScenarioOutcome::default() };
    let Some(results) = innermost(&results) else {
        outcome.details = String::from_utf8_lossy(&output.stderr).into_owned();
        return outcome;
    };
    let checks = std::fs::read(results.join("checks.json")).ok();
    let checks: Vec<Value> = checks.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
    for check in checks {
        let status = check["status"].as_str().unwrap_or("?").to_owned();
        if matches!(&*status, "FAILURE" | "WARNING") {
            let _ = writeln!(outcome.details, "    {status} {}: {}", check["name"], check["errorMessage"]);
        }
        *outcome.checks.entry(status).or_default() += 1;
    }
    for file in ["stdout.txt", "stderr.txt"] {
        let text = std::fs::read_to_string(results.join(file)).unwrap_or_default();
        let lines = text.lines().rev().take(6).collect::<Vec<_>>();
        for line in lines.iter().rev() {
            let _ = writeln!(outcome.details, "    | {}", line.chars().take(240).collect::<String>());
        }
    }
    outcome
}

/// The suite creates a folder for each run, named by the time.
fn innermost(results: &Path) -> Option<PathBuf> {
    fn down(folder: &Path, depth: usize) -> Option<PathBuf> {
        if folder.join("checks.json").exists() {
            return Some(folder.to_owned());
        }
        let entries = std::fs::read_dir(folder).ok()?.flatten().filter(|entry| depth > 0 && entry.path().is_dir());
        entries.map(|entry| entry.path()).find_map(|folder| down(&folder, depth - 1))
    }
    down(results, 3)
}

fn report(outcomes: &[(ScenarioRun, ScenarioOutcome)]) -> ExitCode {
    let mut wrong = 0;
    println!("{:<44} {:<11} {:>3} {:>4} {:>4}  verdict", "scenario", "era", "ok", "fail", "skip");
    for (run, outcome) in outcomes {
        let ok = outcome.count("SUCCESS");
        let failed = outcome.count("FAILURE") + outcome.count("WARNING");
        let passed = outcome.passed && failed == 0 && ok >= least_checks(&run.scenario);
        let excused = NOT_OURS.iter().find(|(name, _)| run.scenario.starts_with(name));
        let verdict = match (passed, excused) {
            (true, None) => "passes".to_owned(),
            (false, Some((_, why))) => format!("not ours: {why}"),
            (true, Some(_)) => "PASSES, though it is listed as not ours: take it off the list".to_owned(),
            (false, None) => "FAILS".to_owned(),
        };
        let unexpected = passed == excused.is_some();
        wrong += usize::from(unexpected);
        let era = run.era.unwrap_or("extension");
        println!("{:<44} {era:<11} {ok:>3} {failed:>4} {:>4}  {verdict}", run.scenario, outcome.count("SKIPPED"));
        if unexpected {
            print!("{}", outcome.details);
        }
    }
    if wrong == 0 {
        println!("conformance: {} runs, all as expected", outcomes.len());
        return ExitCode::SUCCESS;
    }
    println!("conformance: {wrong} of {} runs are not as expected", outcomes.len());
    ExitCode::FAILURE
}
