//! The tables that the benches print.

mod idle;
mod latency;
mod options;
mod outputs;
mod profile;
mod redis_load;
mod report;
mod sessions;
mod short_turns;
mod streams;

use std::time::Duration;

use clap::ValueEnum;

pub(crate) use options::{BenchOptions, BenchTable};
pub(crate) use report::BenchReport;

use crate::support::{BenchProgram, BenchRedis, ProgramOptions};

/// Tokens per second of each stream.
const TOKENS_PER_SECOND: u64 = 50;

/// Prints one table, and adds its figures to the report.
pub(crate) async fn print_table(table: BenchTable, options: &BenchOptions, report: &mut BenchReport) {
    match table {
        BenchTable::Tokens => streams::print_tokens(options, report).await,
        BenchTable::Watchers => streams::print_watchers(options, report).await,
        BenchTable::Syscalls => profile::print_syscalls(options, report).await,
        BenchTable::Instructions => profile::print_instructions(options, report).await,
        BenchTable::FirstToken => latency::print_first_token(options).await,
        BenchTable::ToolTurn => latency::print_tool_turn(options).await,
        BenchTable::ShortTurn => short_turns::print(options, report).await,
        BenchTable::LongSession => sessions::print_long_session().await,
        BenchTable::Redis => redis_load::print().await,
        BenchTable::Idle => idle::print(report).await,
        BenchTable::Outputs => outputs::print().await,
        BenchTable::Start => sessions::print_start().await,
        BenchTable::Memories => crate::memories::run().await,
        BenchTable::Capacity => crate::capacity::print(),
    }
}

/// A store that the service is measured with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchStore {
    Memory,
    Files,
    Redis,
}

impl BenchStore {
    fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Files => "files",
            Self::Redis => "redis",
        }
    }
}

/// The service with a store, and the Redis server of the store.
struct MeasuredService {
    store: BenchStore,
    program: BenchProgram,
    redis: Option<BenchRedis>,
}

impl MeasuredService {
    async fn start(store: BenchStore, upstream: &str, options: &ProgramOptions<'_>) -> Self {
        let redis = if store == BenchStore::Redis { Some(BenchRedis::start().await) } else { None };
        let url = redis.as_ref().map(BenchRedis::url).unwrap_or_default();
        let mut env = options.env.to_vec();
        match store {
            BenchStore::Memory => env.push(("MEMORY_BACKEND", "memory")),
            BenchStore::Files => env.push(("MEMORY_BACKEND", "filesystem")),
            BenchStore::Redis => env.extend([("MEMORY_BACKEND", "redis"), ("REDIS_URL", &*url)]),
        }
        let options = ProgramOptions { env: &env, wrapper: options.wrapper };
        let program = BenchProgram::start_with(upstream, &options).await;
        Self { store, program, redis }
    }

    /// Returns the CPU times of the service and of its Redis so far.
    fn cpu_times(&self) -> CpuTimes {
        let redis = self.redis.as_ref().map_or(Duration::ZERO, BenchRedis::cpu_time);
        CpuTimes { service: self.program.cpu_time(), redis }
    }
}

/// CPU times of a service and of its Redis.
#[derive(Debug, Clone, Copy)]
struct CpuTimes {
    service: Duration,
    redis: Duration,
}

impl CpuTimes {
    /// Returns the microseconds since an earlier reading, per unit of `units`.
    fn micros_since(self, earlier: Self, units: u64) -> CpuCost {
        let micros = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() * 1e6 / units as f64;
        CpuCost { service: micros(self.service, earlier.service), redis: micros(self.redis, earlier.redis) }
    }
}

/// Microseconds of CPU of a service and of its Redis, per token or per turn.
#[derive(Debug, Clone, Copy)]
struct CpuCost {
    service: f64,
    redis: f64,
}

/// Starts the service with each store.
async fn start_services(stores: &[BenchStore], upstream: &str, env: &[(&str, &str)]) -> Vec<MeasuredService> {
    let mut services = Vec::new();
    for store in stores {
        services.push(MeasuredService::start(*store, upstream, &ProgramOptions { env, wrapper: None }).await);
    }
    services
}

/// Returns the median.
fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2])
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}

fn kib(before: u64, after: u64, count: u32) -> f64 {
    (after as f64 - before as f64) / 1024.0 / f64::from(count)
}
