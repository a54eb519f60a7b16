//! The chaos test: several replicas of k8sops run behind nginx on one Redis, clients send messages to all of them, and
//! faults are injected into the replicas that own sessions with work. At the end the test compares the logs, what the
//! clients received and what the tools executed with what k8sops guarantees, and prints one table.
//!
//! `cargo test --test chaos` runs a short version, `bash tests/chaos/run.sh` a long one. The faults are chosen by a seed,
//! which is printed; `--seed` repeats the same choices, but not the exact timing.

mod client;
mod cluster;
mod fault_injection;
mod model;
mod report;
mod tools;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use k8sops_testing::testbed;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::{JoinError, JoinSet},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use client::{ChaosClient, ClientSession};
use cluster::ChaosCluster;
use fault_injection::CommitWatcher;
use model::ModelRequests;
use report::Observations;
use tools::ToolExecutions;

/// Time for the last turns to complete after the last fault.
const LAST_TURNS_TIMEOUT: Duration = Duration::from_secs(120);
/// The longest average time of a fault with its waits; only a test that hangs takes longer.
const TIME_PER_FAULT: Duration = Duration::from_secs(30);

/// The size of the test, and the faults to inject.
#[derive(Debug, Clone)]
pub(crate) struct ChaosPlan {
    sessions: usize,
    replicas: usize,
    seed: u64,
    /// SIGKILL: half of them at random moments, half right after a commit.
    kills: usize,
    /// SIGSTOP, and SIGCONT after the lease has expired.
    pauses: usize,
    /// SIGTERM, and a start.
    restarts: usize,
}

impl ChaosPlan {
    /// Parses `--kills`, `--sessions`, `--replicas` and `--seed`. Returns `None` if the filters of `cargo test` exclude
    /// this test. `cargo test` passes its own options to every test program; they are ignored.
    fn from_args(args: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut plan =
            Self { sessions: 6, replicas: 3, seed: fastrand::u64(..1_000_000), kills: 12, pauses: 1, restarts: 0 };
        let mut filters = Vec::new();
        let mut args = args.skip(1);
        while let Some(arg) = args.next() {
            let mut number = || {
                let value = args.next().unwrap_or_default();
                value.parse::<u64>().map_err(|_| format!("{arg} needs a number, not {value:?}"))
            };
            let size = |number: u64| usize::try_from(number).map_err(|error| error.to_string());
            match arg.as_str() {
                "--kills" => {
                    plan.kills = size(number()?)?;
                    // The long version also injects the other faults, in proportion.
                    plan.pauses = plan.kills.div_ceil(10);
                    plan.restarts = plan.kills.div_ceil(10);
                }
                "--sessions" => plan.sessions = size(number()?)?.max(1),
                "--replicas" => plan.replicas = size(number()?)?.max(2),
                "--seed" => plan.seed = number()?,
                "--list" => {
                    println!("chaos: test");
                    return Ok(None);
                }
                "--skip" | "--test-threads" | "--format" | "--color" | "--logfile" | "-Z" => {
                    args.next();
                }
                option if option.starts_with('-') => {}
                filter => filters.push(filter.to_owned()),
            }
        }
        let is_selected = filters.is_empty() || filters.iter().any(|filter| "chaos".contains(filter.as_str()));
        Ok(is_selected.then_some(plan))
    }
}

fn main() -> ExitCode {
    let plan = match ChaosPlan::from_args(std::env::args()) {
        Ok(Some(plan)) => plan,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos: {error}; see tests/chaos/run.sh");
            return ExitCode::from(2);
        }
    };
    if let Some(code) = testbed::skip_without("chaos", &["K8SOPS_TEST_REDIS_SERVER", "K8SOPS_TEST_NGINX"]) {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the runtime can be built");
    runtime.block_on(run_plan(plan))
}

async fn run_plan(plan: ChaosPlan) -> ExitCode {
    println!(
        "chaos: {} kills, {} pauses, {} restarts; {} sessions, {} replicas, --seed {}",
        plan.kills, plan.pauses, plan.restarts, plan.sessions, plan.replicas, plan.seed
    );
    let model_requests = ModelRequests::default();
    let executions = ToolExecutions::default();
    let model_url = model::start_model_server(model_requests.clone());
    let tools_url = tools::start_tool_server(executions.clone());
    let cluster = Arc::new(ChaosCluster::start(plan.replicas, &model_url, &tools_url).await);
    let mut sessions = Vec::new();
    for index in 0..plan.sessions {
        sessions.push(ClientSession::create(&cluster.http, &cluster.nginx.url, index).await);
    }
    let watcher = CommitWatcher::new(cluster.clone(), &sessions);
    let started = Instant::now();
    let violations = tokio::select! {
        outcome = run_clients_with_faults(&plan, &cluster, &watcher, &sessions) => match outcome {
            Ok(()) => {
                let observations = Observations {
                    plan: &plan,
                    cluster: &cluster,
                    sessions: &sessions,
                    faults: watcher.fault_counts(),
                    model_requests: &model_requests,
                    executions: &executions,
                    duration: started.elapsed(),
                };
                report::print_report(&observations).await
            }
            Err(error) => vec![error],
        },
        () = wait_for_stop_signal() => vec!["stopped by a signal".to_owned()],
    };
    drop(watcher);
    if violations.is_empty() {
        println!("chaos: all guarantees hold");
        return ExitCode::SUCCESS;
    }
    println!("chaos: guarantees violated (--seed {}):", plan.seed);
    for violation in violations {
        println!("  - {violation}");
    }
    println!("{}", cluster.last_log_lines());
    println!("Full logs of the replicas: {}", cluster.keep_logs().display());
    ExitCode::FAILURE
}

/// Runs the clients while faults are injected, until both have completed.
///
/// # Errors
/// What ended too early, panicked, or exceeded its timeout.
async fn run_clients_with_faults(
    plan: &ChaosPlan,
    cluster: &Arc<ChaosCluster>,
    watcher: &Arc<CommitWatcher>,
    sessions: &[Arc<ClientSession>],
) -> Result<(), String> {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let stop = CancellationToken::new();
    // Dropping a set aborts its tasks. A task that panics ends the test.
    let mut clients = JoinSet::new();
    let mut watchers = JoinSet::new();
    watchers.spawn(watcher.clone().watch_commits());
    for session in sessions {
        let client = ChaosClient {
            session: session.clone(),
            http: cluster.http.clone(),
            base_url: cluster.nginx.url.clone(),
            random: random.fork(),
            stop: stop.clone(),
        };
        clients.spawn(client.run());
    }
    let injection = tokio::spawn(fault_injection::inject_faults(cluster.clone(), watcher.clone(), plan.clone()));
    let mut injection = tokio_util::task::AbortOnDropHandle::new(injection);
    let faults = u32::try_from(plan.kills + plan.pauses + plan.restarts).unwrap_or(u32::MAX);
    let limit = TIME_PER_FAULT * (faults + 4);
    tokio::select! {
        done = timeout(limit, &mut injection) => match done {
            Ok(done) => done.map_err(panic_text)?,
            Err(_) => return Err(format!("the fault injection did not complete within {limit:?}")),
        },
        Some(ended) = clients.join_next() => return Err(describe_early_end("a client", ended)),
        Some(ended) = watchers.join_next() => return Err(describe_early_end("the commit watcher", ended)),
    }
    stop.cancel();
    let last_turns = async {
        while let Some(ended) = clients.join_next().await {
            ended.map_err(panic_text)?;
        }
        Ok(())
    };
    match timeout(LAST_TURNS_TIMEOUT, last_turns).await {
        Ok(ended) => ended,
        Err(_) => Err(format!("the last turns did not complete within {LAST_TURNS_TIMEOUT:?}")),
    }
}

fn describe_early_end(task: &str, ended: Result<(), JoinError>) -> String {
    match ended {
        Ok(()) => format!("{task} ended before it was stopped"),
        Err(error) => panic_text(error),
    }
}

/// Returns the message of a panic.
fn panic_text(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(payload) => match payload.downcast::<String>() {
            Ok(text) => *text,
            Err(payload) => payload.downcast::<&str>().map_or_else(|_| "a panic".to_owned(), |text| (*text).to_owned()),
        },
        Err(error) => error.to_string(),
    }
}

async fn wait_for_stop_signal() {
    let mut terminate = signal(SignalKind::terminate()).expect("a handler of SIGTERM can be installed");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
