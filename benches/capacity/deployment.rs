//! Replicas with sessions, simulated in steps of 50 ms.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use super::costs::CapacityCosts;

/// Length of a step in seconds.
const STEP: f64 = 0.05;
/// Steps before the load is measured.
const WARM_UP_STEPS: u64 = 3_600;
/// Steps in which the load is measured.
const MEASURED_STEPS: u64 = 2_400;
/// From the end of a turn to the next message of the same session, in seconds, at the mean.
const PAUSE: f64 = 120.0;
/// From a message to the first token of its last reply: the first reply and its tool call, in seconds.
const TOOL_TIME: f64 = 2.0;
/// Tokens of a turn, and tokens per second.
const TOKENS: f64 = 250.0;
const TOKEN_RATE: f64 = 50.0;

/// Which replica a client is connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WatcherPlacement {
    /// The one that owns the session. This is so for a client that sends its messages over the WebSocket that it follows, and for
    /// all clients with sticky sessions.
    WithOwner,
    /// Any. This is so for clients that follow one stream and send messages in requests that are balanced on their own.
    Anywhere,
}

/// Replicas of one core each, on one Redis, and sessions that a client each follows all the time.
pub(super) struct SimulatedDeployment {
    pub replicas: usize,
    pub sessions: usize,
    pub placement: WatcherPlacement,
}

/// How much of its capacity is used; more than 1 is more than there is.
#[derive(Debug)]
pub(super) struct DeploymentLoad {
    pub replica: f64,
    pub redis: f64,
    /// The part of `redis` that is asked for by replicas without sessions.
    pub redis_idle: f64,
    /// How long work has waited at most, in seconds.
    pub replica_delay: f64,
    pub redis_delay: f64,
    /// Runs in progress on a replica.
    pub runs_of_a_replica: usize,
}

/// A processor that does one thing after another.
#[derive(Clone, Default)]
struct SerialProcessor {
    /// Work that waits, in seconds.
    backlog: f64,
    /// Work of the measured steps, in seconds.
    work: f64,
    longest_delay: f64,
}

impl SerialProcessor {
    fn add_micros(&mut self, micros: f64) {
        self.backlog += micros / 1e6;
        self.work += micros / 1e6;
    }

    fn end_step(&mut self) {
        self.longest_delay = self.longest_delay.max(self.backlog);
        self.backlog = (self.backlog - STEP).max(0.0);
    }

    fn start_measuring(&mut self) {
        self.work = 0.0;
        self.longest_delay = 0.0;
    }

    fn load(&self) -> f64 {
        self.work / (MEASURED_STEPS as f64 * STEP)
    }
}

/// A run in progress.
struct SimulatedRun {
    owner: usize,
    /// Replica of the client.
    watcher: usize,
    /// Step of the first token.
    first_token: u64,
    /// Step after the last token.
    end: u64,
}

impl SimulatedDeployment {
    /// Simulates five minutes, of which the last two are measured.
    pub(super) fn simulate(&self, costs: &CapacityCosts) -> DeploymentLoad {
        let mut random = fastrand::Rng::with_seed(4711);
        let mut replicas = vec![SerialProcessor::default(); self.replicas];
        let mut redis = SerialProcessor::default();
        let clients = (0..self.sessions).map(|_| random.usize(0..self.replicas)).collect::<Vec<_>>();
        let mut messages: BinaryHeap<Reverse<(u64, usize)>> =
            (0..self.sessions).map(|session| Reverse((pause_steps(&mut random), session))).collect();
        let mut runs: Vec<SimulatedRun> = Vec::new();
        let idle_redis = self.replicas as f64 * costs.redis_replica * STEP;
        for step in 0..WARM_UP_STEPS + MEASURED_STEPS {
            if step == WARM_UP_STEPS {
                redis.start_measuring();
                replicas.iter_mut().for_each(SerialProcessor::start_measuring);
            }
            while let Some(Reverse((_, session))) = messages.peek().copied().filter(|Reverse((at, _))| *at <= step) {
                messages.pop();
                let watcher = clients[session];
                let owner = match self.placement {
                    WatcherPlacement::WithOwner => watcher,
                    WatcherPlacement::Anywhere => random.usize(0..self.replicas),
                };
                replicas[owner].add_micros(costs.replica_turn);
                redis.add_micros(costs.redis_turn);
                let first_token = step + to_steps(TOOL_TIME);
                let end = first_token + to_steps(TOKENS / TOKEN_RATE);
                runs.push(SimulatedRun { owner, watcher, first_token, end });
                messages.push(Reverse((end + pause_steps(&mut random), session)));
            }
            runs.retain(|run| run.end > step);
            for run in &runs {
                redis.add_micros(costs.redis_run * STEP);
                if step < run.first_token {
                    continue;
                }
                let tokens = TOKEN_RATE * STEP;
                if run.watcher == run.owner {
                    replicas[run.owner].add_micros(costs.replica_token * tokens);
                    redis.add_micros(costs.redis_token * tokens);
                } else {
                    // The client that sent the message follows its run, too.
                    replicas[run.owner].add_micros(costs.replica_token * tokens);
                    replicas[run.watcher].add_micros(costs.replica_remote_token * tokens);
                    redis.add_micros(costs.redis_remote_token * tokens);
                }
            }
            redis.add_micros(idle_redis + (self.sessions - runs.len()) as f64 * costs.redis_followed * STEP);
            let followed = self.sessions as f64 / self.replicas as f64 * costs.replica_followed * STEP;
            for replica in &mut replicas {
                replica.add_micros(followed);
                replica.end_step();
            }
            redis.end_step();
        }
        DeploymentLoad {
            replica: replicas.iter().map(SerialProcessor::load).fold(0.0, f64::max),
            replica_delay: replicas.iter().map(|replica| replica.longest_delay).fold(0.0, f64::max),
            redis: redis.load(),
            redis_delay: redis.longest_delay,
            redis_idle: self.replicas as f64 * costs.redis_replica / 1e6,
            runs_of_a_replica: runs.len().div_ceil(self.replicas),
        }
    }
}

fn to_steps(seconds: f64) -> u64 {
    let steps = Duration::from_secs_f64(seconds / STEP).as_secs();
    steps.max(1)
}

/// Returns a pause before a message. The time between independent messages has an exponential distribution.
fn pause_steps(random: &mut fastrand::Rng) -> u64 {
    to_steps(-PAUSE * (1.0 - random.f64()).ln())
}
