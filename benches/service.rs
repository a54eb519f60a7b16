//! Performance of the running service: CPU time as ratios to nginx in the same run, bytes, and counts.
//!
//! `cargo bench --bench service -- [TABLE…] [OPTIONS]` prints tables, or all of them without an argument; `--help` lists
//! them. nginx and Redis must be installed: `bash tests/testbed/setup.sh` installs them and writes their paths to `env.sh`,
//! which is to be sourced. valgrind and perf are used where they are installed.
//!
//! cargo builds the bench's program with features that only tests need. `K8SOPS_BENCH_PROGRAM` names another one to measure: a
//! copy of what `cargo build --release` builds, or an earlier version.
//!
//! nginx forwards the same streams of the same model provider. It stands for what a proxy costs on this machine. All rows of
//! a table are measured in turn in each round, so that the load of the machine concerns them all.
//!
//! A run fails if a figure is worse by 15 % than in `benches/baseline.yaml`, which `--save-baseline` writes at a release.

mod capacity;
mod memories;
mod support;
mod tables;

use std::process::ExitCode;

use clap::{Parser as _, ValueEnum as _};
use tables::{BenchOptions, BenchReport, BenchTable, print_table};

#[tokio::main]
async fn main() -> ExitCode {
    let options = BenchOptions::parse();
    let mut report = BenchReport::default();
    for table in BenchTable::value_variants() {
        if options.includes(*table) {
            print_table(*table, &options, &mut report).await;
        }
    }
    if options.save_baseline {
        report.save_baseline();
        return ExitCode::SUCCESS;
    }
    if report.compare_with_baseline() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
