//! The MCP conformance suite (`@modelcontextprotocol/conformance`) against `k8sops-mcp`: every client scenario, in both
//! protocol eras.
//!
//! `cargo test --test conformance [PART OF A SCENARIO'S NAME]` runs them and prints a table. A scenario that is not in
//! [`scenarios::NOT_OURS`] must pass with its full number of successful checks, because the suite also reports a pass when
//! nothing was checked. A scenario in the list must fail; otherwise it has to be removed from the list.
//!
//! The suite starts this program as the client under test, too; the program detects that by the suite's variables.

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
