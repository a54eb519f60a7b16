//! The MCP conformance suite (`@modelcontextprotocol/conformance`) against our MCP room: every client scenario, in both eras.
//!
//! `cargo test --test conformance [PART OF A SCENARIO'S NAME]` runs them and prints a table. A scenario that is not in
//! [`scenarios::NOT_OURS`] must pass with as many successful checks as it has; the suite itself calls it a pass when
//! nothing was checked at all. One that is in it must not pass: then it has to leave the list.
//!
//! This program is also the client that the suite starts: it is that when the suite has set its variables.

mod client;
mod runner;
mod scenarios;

use std::process::ExitCode;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be made");
    match std::env::var(client::SCENARIO) {
        Ok(scenario) => runtime.block_on(client::run(&scenario)),
        Err(_) => runtime.block_on(runner::run(std::env::args().skip(1).collect())),
    }
}
