//! How long it takes until the runs of a killed replica are resumed by the others.

use super::{
    costs::CapacityCosts,
    deployment::{DeploymentLoad, SimulatedDeployment},
};

/// Length of a step in seconds.
const STEP: f64 = 0.05;
/// A takeover that takes longer is not simulated further.
const LIMIT: f64 = 600.0;

/// Returns the seconds from the end of a replica until another one has claimed the last of its runs.
pub(super) fn seconds_until_resumed(
    costs: &CapacityCosts,
    deployment: &SimulatedDeployment,
    load: &DeploymentLoad,
) -> f64 {
    let runs = load.runs_of_a_replica as f64;
    let survivors = deployment.replicas - 1;
    // Leases were renewed at different times, so that they expire within one interval of renewals.
    let first_expiry = costs.lease.as_secs_f64() - costs.renewal.as_secs_f64();
    let interval = costs.claim_interval.as_secs_f64();
    let mut next_claims: Vec<f64> = (0..survivors).map(|n| interval * n as f64 / survivors as f64).collect();
    // What Redis does besides leaves it this much of a step.
    let spare = (1.0 - load.redis).max(0.02) * STEP;
    let mut claimed = 0.0;
    let mut now = 0.0;
    while claimed < runs && now < LIMIT {
        let expired = ((now - first_expiry) / costs.renewal.as_secs_f64()).clamp(0.0, 1.0) * runs;
        let mut redis = spare;
        for next in &mut next_claims {
            while *next <= now {
                let takes = (expired - claimed).min(costs.claim_limit as f64).min(redis * 1e6 / costs.redis_takeover);
                claimed += takes;
                redis -= takes * costs.redis_takeover / 1e6;
                let is_full = takes >= costs.claim_limit as f64;
                let pause = if is_full { costs.full_claim_interval.as_secs_f64() } else { interval };
                // A claim that is repeated at once is a round trip later.
                *next = now + pause.max(STEP);
            }
        }
        now += STEP;
    }
    now
}
