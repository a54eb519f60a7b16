//! The arguments of the benches.

use clap::{Parser, ValueEnum};

use super::BenchStore;

/// Measures the running service, next to nginx as a proxy of the same model provider.
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench service --")]
pub(crate) struct BenchOptions {
    /// Tables to print; without this argument, all.
    #[arg(value_enum)]
    pub tables: Vec<BenchTable>,
    /// Rounds in which the rows of a table are measured in turn; the table shows the medians.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,
    /// Tokens of a reply in the tables `tokens` and `watchers`.
    #[arg(long, default_value_t = 500)]
    pub tokens: u64,
    /// Numbers of concurrent streams in the table `tokens`.
    #[arg(long, value_delimiter = ',', default_value = "1,32,256")]
    pub streams: Vec<usize>,
    /// Stores to measure.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "memory,files,redis")]
    pub stores: Vec<BenchStore>,
    /// Write the figures of this run to `benches/baseline.yaml`, with which later runs are compared.
    #[arg(long)]
    pub save_baseline: bool,
    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    pub bench: bool,
}

impl BenchOptions {
    /// Returns whether a table is to be printed.
    pub(crate) fn includes(&self, table: BenchTable) -> bool {
        self.tables.is_empty() || self.tables.contains(&table)
    }
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BenchTable {
    /// CPU and bytes of a streamed token, over SSE and WebSocket.
    Tokens,
    /// CPU of a token that 100 clients of one session receive.
    Watchers,
    /// System calls and context switches of a streamed token.
    Syscalls,
    /// Instructions of a streamed token, counted by valgrind.
    Instructions,
    /// Time to the first token, over the provider's own.
    FirstToken,
    /// Time of a turn with one tool call.
    ToolTurn,
    /// CPU of a turn whose reply is one token.
    ShortTurn,
    /// CPU and bytes written per turn, at turn 10 and at turn 1,000 of one session.
    LongSession,
    /// Commands of a turn and of an idle session in Redis, commits per second, and reopening 5,000 events.
    Redis,
    /// Memory of idle sessions and WebSockets, and what stays after they have closed.
    Idle,
    /// Memory and time of a turn whose tool returns 14,000 pods, 3 MB of Secrets, or a log of 100 MB.
    Outputs,
    /// From the start of the process to ready, and to the first token.
    Start,
    /// CPU of a search among 1,000, 10,000 and 100,000 memories.
    Memories,
    /// What deployments of 10 and 100 replicas carry, by a simulation with measured costs.
    Capacity,
}
