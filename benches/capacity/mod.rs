//! How far a deployment carries, on paper: a simulation of replicas and one Redis with the measured costs of each.
//!
//! It needs no service and no other program, and prints the same on every machine.

mod costs;
mod deployment;
mod takeover;

use costs::{AFTER, BEFORE, CapacityCosts};
use deployment::{DeploymentLoad, SimulatedDeployment, WatcherPlacement};

/// A core or a Redis that is used this much has no reserve for peaks.
const SATURATED: f64 = 0.8;

/// Prints what is saturated first, for some sizes of deployments, with the costs before and after the changes of this release.
pub(crate) fn print() {
    for costs in [&BEFORE, &AFTER] {
        println!("\ncapacity: {}; each replica has one core", costs.name);
        println!(
            "  {:>8} {:>8} {:<12} {:>16} {:>16}  {:<28} all resumed after a replica was killed",
            "replicas", "sessions", "clients", "busiest replica", "Redis", "saturated first"
        );
        for replicas in [10, 100] {
            for sessions in [1_000, 10_000, 100_000] {
                for placement in [WatcherPlacement::WithOwner, WatcherPlacement::Anywhere] {
                    print_row(costs, &SimulatedDeployment { replicas, sessions, placement });
                }
            }
        }
    }
}

fn print_row(costs: &CapacityCosts, deployment: &SimulatedDeployment) {
    let load = deployment.simulate(costs);
    let resumed = takeover::seconds_until_resumed(costs, deployment, &load);
    let placement = match deployment.placement {
        WatcherPlacement::WithOwner => "with owner",
        WatcherPlacement::Anywhere => "anywhere",
    };
    println!(
        "  {:>8} {:>8} {placement:<12} {:>16} {:>16}  {:<28} {resumed:4.1} s ({} runs)",
        deployment.replicas,
        deployment.sessions,
        describe_load(load.replica, load.replica_delay),
        describe_load(load.redis, load.redis_delay),
        describe_limit(deployment, &load),
        load.runs_of_a_replica,
    );
}

/// Returns a load, and the longest that work has waited if there is enough capacity for it.
fn describe_load(load: f64, delay: f64) -> String {
    if load >= 1.0 { format!("{load:.2} too much") } else { format!("{load:.2} ({:.0} ms)", delay * 1e3) }
}

/// Returns what is saturated first when sessions are added, and at how many.
fn describe_limit(deployment: &SimulatedDeployment, load: &DeploymentLoad) -> String {
    let sessions = |load: f64| deployment.sessions as f64 * SATURATED / load;
    let replica = sessions(load.replica);
    // The replicas themselves ask Redis for work, also without sessions.
    let redis = deployment.sessions as f64 * (SATURATED - load.redis_idle) / (load.redis - load.redis_idle);
    let (name, limit) = if redis < replica { ("Redis", redis) } else { ("replicas", replica) };
    // The figure is an extrapolation, and not more precise than this.
    let digits = 10_f64.powf(limit.max(100.0).log10().floor() - 1.0);
    format!("{name} at {:.0}", (limit / digits).round() * digits)
}
