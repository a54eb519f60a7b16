//! The chaos test: several replicas of k8sops behind nginx on one Redis, clients that talk to all of them, and a killer of
//! the replicas that do the work. At the end the logs, what the clients saw, and what the tools were made to do are
//! held against what k8sops promises, and printed as one table.
//!
//! `cargo test --test chaos` runs it in short; `bash tests/chaos/run.sh` at length. The moments are chosen by a seed, which
//! is printed; `--seed` makes the same choices again, as far as the machine lets it.

mod client;
mod killer;
mod model;
mod report;
mod tools;
mod world;

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

use client::{Client, Session};
use killer::Watcher;
use world::World;

/// The last turns are over within this after the last kill.
const LAST_TURNS: Duration = Duration::from_secs(120);
/// What one act may take on the average, with all that it waits for; only what hangs takes longer.
const ACT: Duration = Duration::from_secs(30);

/// What is to be done.
#[derive(Debug, Clone)]
pub struct Plan {
    sessions: usize,
    replicas: usize,
    seed: u64,
    /// `kill -9`, one half at random moments and one at commit points.
    kills: usize,
    /// SIGSTOP, and SIGCONT after the lease has run out.
    pauses: usize,
    /// SIGTERM.
    restarts: usize,
}

impl Plan {
    /// From the command line: `--kills`, `--sessions`, `--replicas`, `--seed`. `None`: this is not to be run at all. It is
    /// called as any test program is, also with filters and options that are meant for others.
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
                    // The long form: everything that can happen, in proportion.
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
        let wanted = filters.is_empty() || filters.iter().any(|filter| "chaos".contains(filter.as_str()));
        Ok(wanted.then_some(plan))
    }
}

fn main() -> ExitCode {
    let plan = match Plan::from_args(std::env::args()) {
        Ok(Some(plan)) => plan,
        Ok(None) => return ExitCode::SUCCESS,
        Err(wrong) => {
            eprintln!("chaos: {wrong}; see tests/chaos/run.sh");
            return ExitCode::from(2);
        }
    };
    if let Some(code) = testbed::skip_without("chaos", &["K8SOPS_TEST_REDIS_SERVER", "K8SOPS_TEST_NGINX"]) {
        return code;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(run(plan))
}

async fn run(plan: Plan) -> ExitCode {
    println!(
        "chaos: {} kills, {} pauses, {} restarts; {} sessions, {} replicas, --seed {}",
        plan.kills, plan.pauses, plan.restarts, plan.sessions, plan.replicas, plan.seed
    );
    let (asked, ran) = (model::Asked::default(), tools::Ran::default());
    let world = World::start(plan.replicas, &model::start(asked.clone()), &tools::start(ran.clone())).await;
    let world = Arc::new(world);
    let mut sessions = Vec::new();
    for index in 0..plan.sessions {
        sessions.push(Session::create(&world.http, &world.nginx.url, index).await);
    }
    let watcher = Watcher::new(world.clone(), &sessions);
    let began = Instant::now();
    let broken = tokio::select! {
        outcome = torment(&plan, &world, &watcher, &sessions) => match outcome {
            Ok(()) => {
                report::report(&plan, &world, &sessions, &watcher.deeds(), &asked, &ran, began.elapsed()).await
            }
            Err(why) => vec![why],
        },
        () = told_to_stop() => vec!["it was told to stop".to_owned()],
    };
    drop(watcher);
    if broken.is_empty() {
        println!("chaos: all that is promised was kept");
        return ExitCode::SUCCESS;
    }
    println!("chaos: not all that is promised was kept (--seed {}):", plan.seed);
    for broken in broken {
        println!("  - {broken}");
    }
    println!("{}", world.last_lines());
    println!("The whole logs of the replicas are in {}", world.keep_logs().display());
    ExitCode::FAILURE
}

/// Runs the clients and the killer to their ends; what went wrong, if something broke off.
async fn torment(
    plan: &Plan,
    world: &Arc<World>,
    watcher: &Arc<Watcher>,
    sessions: &[Arc<Session>],
) -> Result<(), String> {
    let mut random = fastrand::Rng::with_seed(plan.seed);
    let enough = CancellationToken::new();
    // Dropping a set ends its tasks. Each of them ends by itself only when it is done; one that panics ends the test.
    let (mut clients, mut others) = (JoinSet::new(), JoinSet::new());
    others.spawn(watcher.clone().watch());
    for session in sessions {
        let client = Client {
            session: session.clone(),
            http: world.http.clone(),
            base: world.nginx.url.clone(),
            random: random.fork(),
            enough: enough.clone(),
        };
        clients.spawn(client.run());
    }
    let killer = tokio::spawn(killer::torment(world.clone(), watcher.clone(), plan.clone()));
    let mut killer = tokio_util::task::AbortOnDropHandle::new(killer);
    let acts = u32::try_from(plan.kills + plan.pauses + plan.restarts).unwrap_or(u32::MAX);
    tokio::select! {
        done = timeout(ACT * (acts + 4), &mut killer) => match done {
            Ok(done) => done.map_err(panicked)?,
            Err(_) => return Err(format!("the kills did not come to an end within {:?}", ACT * (acts + 4))),
        },
        Some(ended) = clients.join_next() => return Err(broke_off("a client", ended)),
        Some(ended) = others.join_next() => return Err(broke_off("the watcher", ended)),
    }
    enough.cancel();
    let last_turns = async {
        while let Some(ended) = clients.join_next().await {
            ended.map_err(panicked)?;
        }
        Ok(())
    };
    match timeout(LAST_TURNS, last_turns).await {
        Ok(ended) => ended,
        Err(_) => Err(format!("the last turns did not come to an end within {LAST_TURNS:?}")),
    }
}

fn broke_off(who: &str, ended: Result<(), JoinError>) -> String {
    match ended {
        Ok(()) => format!("{who} ended before it was told to"),
        Err(error) => panicked(error),
    }
}

/// The words of a panic.
fn panicked(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(words) => match words.downcast::<String>() {
            Ok(words) => *words,
            Err(words) => words.downcast::<&str>().map_or_else(|_| "a panic".to_owned(), |words| (*words).to_owned()),
        },
        Err(error) => error.to_string(),
    }
}

async fn told_to_stop() {
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be heard");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
