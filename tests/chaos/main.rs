//! The chaos test: several replicas of k8sops run behind nginx on Redis, clients send messages to all of them, and the
//! replicas, Redis and what is between them are disturbed. At the end the test compares the logs, what the clients received
//! and what the tools executed with what k8sops guarantees, and prints one table.
//!
//! `cargo test --test chaos` runs a short version, `bash tests/chaos/run.sh` a long one. The disturbances are chosen by a
//! seed, which is printed; `--seed` repeats the same choices, but not the exact timing.

mod a2a_turn;
mod agui_turn;
mod checks;
mod client;
mod cluster;
mod commit_watcher;
mod disturbance;
mod door_client;
mod injection;
mod link_proxy;
mod model;
mod observed_stream;
mod panics;
mod plan;
mod redis_bed;
mod replica_disturbances;
mod report;
mod responses_turn;
mod sentinel_server;
mod sessions;
mod store_disturbances;
mod tools;

use std::{
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use k8sops_testing::testbed;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::{JoinError, JoinSet},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use client::ChaosClient;
use cluster::ChaosCluster;
use commit_watcher::CommitWatcher;
use door_client::ChaosDoor;
use injection::DisturbanceRecord;
use model::ModelRequests;
use panics::panic_text;
use plan::ChaosPlan;
use redis_bed::RedisShard;
use report::Observations;
use sessions::SessionRegistry;
use tools::ToolExecutions;

/// Time for the last turns to complete after the last disturbance.
const LAST_TURNS_TIMEOUT: Duration = Duration::from_secs(300);
/// The time in which a session has an owner again that its store was taken from.
const LAST_TAKEOVERS: Duration = Duration::from_secs(8);
/// The longest average time of a disturbance with its waits; only a test that hangs takes longer.
const TIME_PER_DISTURBANCE: Duration = Duration::from_secs(40);
/// Number of retired sessions that are read at the same time.
const SETTLING_SESSIONS: usize = 8;

fn main() -> ExitCode {
    let mut plan = match ChaosPlan::from_args(std::env::args()) {
        Ok(Some(plan)) => plan,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("chaos: {error}; see tests/chaos/run.sh");
            return ExitCode::from(2);
        }
    };
    let programs = ["K8SOPS_TEST_REDIS_SERVER", "K8SOPS_TEST_REDIS_CLI", "K8SOPS_TEST_NGINX"];
    if let Some(code) = testbed::skip_without("chaos", &programs) {
        return code;
    }
    plan.skip_impossible_kinds();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("the runtime can be built");
    runtime.block_on(run_plan(plan))
}

async fn run_plan(plan: ChaosPlan) -> ExitCode {
    println!("chaos: {}", report::describe_plan(&plan));
    let model_requests = ModelRequests::default();
    let executions = ToolExecutions::default();
    let model_url = model::start_model_server(model_requests.clone());
    let tools_url = tools::start_tool_server(executions.clone());
    let cluster = Arc::new(ChaosCluster::start(&plan, &model_url, &tools_url).await);
    let registry = SessionRegistry::new(cluster.clone(), plan.may_lose_writes());
    let watcher = CommitWatcher::new(cluster.clone(), registry.clone());
    let started = Instant::now();
    let violations = tokio::select! {
        outcome = run_clients(&plan, &cluster, &registry, &watcher) => match outcome {
            Ok(records) => {
                let observations = Observations {
                    plan: &plan,
                    cluster: &cluster,
                    sessions: registry.all(),
                    records,
                    recoveries: watcher.recoveries(),
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

/// Runs the clients during all disturbances, and until all sessions are at rest.
///
/// # Errors
/// What ended too early, panicked, or exceeded its timeout.
async fn run_clients(
    plan: &ChaosPlan,
    cluster: &Arc<ChaosCluster>,
    registry: &Arc<SessionRegistry>,
    watcher: &Arc<CommitWatcher>,
) -> Result<Vec<DisturbanceRecord>, String> {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let stop = CancellationToken::new();
    let mut new_client = |door| ChaosClient {
        registry: registry.clone(),
        http: cluster.http.clone(),
        base_url: cluster.nginx.url.clone(),
        random: random.fork(),
        stop: stop.clone(),
        door,
    };
    // Dropping a set aborts its tasks. A task that panics ends the test.
    let mut clients = JoinSet::new();
    for door in plan.doors.iter().copied().cycle().take(plan.sessions) {
        clients.spawn(new_client(door).run());
    }
    let nodes = cluster.redis.shards.iter().flat_map(RedisShard::nodes);
    let watching = futures_util::future::join_all(nodes.map(|node| watcher.watch_node(node)));
    let disturbances = u32::try_from(plan.disturbances).unwrap_or(u32::MAX);
    let limit = TIME_PER_DISTURBANCE * (disturbances + 4);
    let injection = injection::inject_disturbances(plan, cluster, registry, watcher);
    let records = tokio::select! {
        done = timeout(limit, injection) => match done {
            Ok(done) => done?,
            Err(_) => return Err(format!("the disturbances were not done within {limit:?}")),
        },
        Some(ended) = clients.join_next() => return Err(describe_early_end("a client", ended)),
        _ = watching => unreachable!("nodes are watched until this is dropped"),
    };
    stop.cancel();
    let last_turns = async {
        while let Some(ended) = clients.join_next().await {
            ended.map_err(panic_text)?;
        }
        println!("chaos: reading {} sessions", registry.all().len());
        // An owner that was overtaken by a failover takes its session up again, and may write of a loss then.
        for _ in 0..2 {
            sleep(LAST_TAKEOVERS).await;
            let settling = registry.all().into_iter().map(|session| new_client(ChaosDoor::Native).settle(session));
            stream::iter(settling).buffer_unordered(SETTLING_SESSIONS).collect::<Vec<()>>().await;
        }
        Ok(records)
    };
    match timeout(LAST_TURNS_TIMEOUT * (1 + disturbances / 100), last_turns).await {
        Ok(ended) => ended,
        Err(_) => Err("the last turns did not complete in time".to_owned()),
    }
}

fn describe_early_end(task: &str, ended: Result<(), JoinError>) -> String {
    match ended {
        Ok(()) => format!("{task} ended before it was stopped"),
        Err(error) => panic_text(error),
    }
}

async fn wait_for_stop_signal() {
    let mut terminate = signal(SignalKind::terminate()).expect("a handler of SIGTERM can be installed");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
