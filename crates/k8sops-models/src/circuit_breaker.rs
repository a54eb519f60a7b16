//! Circuit breakers: a model that is down is not asked by every turn anew, and is asked again after a while.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// How long a model is left alone after it has failed; doubles with every further failure.
const MIN_PAUSE: Duration = Duration::from_secs(30);
/// The longest time that it is left alone.
const MAX_PAUSE: Duration = Duration::from_mins(10);
/// How long one turn may look whether it is back, before another may.
const PROBE_TIMEOUT: Duration = Duration::from_mins(2);

/// Whether a model is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitAdmission {
    /// It is, as ever.
    Allowed,
    /// It has failed, and this turn is the one that looks whether it is back: one attempt, without waiting.
    Probe,
    /// It has failed, and is left alone for so long.
    Rejected(Duration),
}

/// The breaker of one model. In the memory of one process: each finds out for itself.
#[derive(Debug, Default)]
pub struct CircuitBreaker(Mutex<BreakerState>);

#[derive(Debug, Default)]
struct BreakerState {
    /// Times that it has failed since it last answered.
    failures: u32,
    /// Set while it is left alone.
    until: Option<Instant>,
}

impl CircuitBreaker {
    /// Whether to ask now. Whoever is told to look has to say what came of it.
    #[must_use]
    pub fn admit_call(&self) -> CircuitAdmission {
        let mut state = self.0.lock();
        let now = Instant::now();
        match state.until {
            None => CircuitAdmission::Allowed,
            Some(until) if until > now => CircuitAdmission::Rejected(until - now),
            Some(_) => {
                // The next to ask waits for this one; for a while, should this one never say what came of it.
                state.until = Some(now + PROBE_TIMEOUT);
                CircuitAdmission::Probe
            }
        }
    }

    /// It has answered.
    pub fn record_success(&self) {
        *self.0.lock() = BreakerState::default();
    }

    /// It has failed for good, all attempts included.
    pub fn record_failure(&self) {
        let mut state = self.0.lock();
        let pause = MIN_PAUSE.saturating_mul(1 << state.failures.min(10)).min(MAX_PAUSE);
        state.failures = state.failures.saturating_add(1);
        state.until = Some(Instant::now() + pause);
    }

    /// Whether it has failed, and has not answered since.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.until().is_some()
    }

    fn until(&self) -> Option<Instant> {
        self.0.lock().until
    }
}

/// The breakers of all models that were asked, by provider and model.
#[derive(Debug, Default)]
pub(crate) struct CircuitBreakers(Mutex<HashMap<(String, String), Arc<CircuitBreaker>>>);

/// The most breakers that are kept: providers without a list take any model id.
const MAX_BREAKERS: usize = 1000;

impl CircuitBreakers {
    /// The breaker of one model.
    pub(crate) fn for_model(&self, provider: &str, model: &str) -> Arc<CircuitBreaker> {
        let mut circuits = self.0.lock();
        let id = (provider.to_owned(), model.to_owned());
        if circuits.len() >= MAX_BREAKERS && !circuits.contains_key(&id) {
            circuits.retain(|_, circuit| circuit.is_open());
            // All of them: the one that is asked again soonest goes.
            if circuits.len() >= MAX_BREAKERS
                && let Some(first) =
                    circuits.iter().min_by_key(|(_, circuit)| circuit.until()).map(|(id, _)| id.clone())
            {
                circuits.remove(&first);
            }
        }
        Arc::clone(circuits.entry(id).or_default())
    }

    /// The models that have failed and have not answered since.
    pub(crate) fn open_circuits(&self) -> Vec<(String, String)> {
        let circuits = self.0.lock();
        let mut broken: Vec<_> =
            circuits.iter().filter(|(_, circuit)| circuit.is_open()).map(|(id, _)| id.clone()).collect();
        broken.sort();
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_and_one_probe_is_admitted() {
        let circuit = CircuitBreaker::default();
        assert_eq!(circuit.admit_call(), CircuitAdmission::Allowed);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            circuit.record_failure();
            let CircuitAdmission::Rejected(pause) = circuit.admit_call() else { panic!("{:?}", circuit.admit_call()) };
            pauses.push(pause.as_secs());
            tokio::time::advance(pause).await;
            assert_eq!(circuit.admit_call(), CircuitAdmission::Probe);
            assert!(
                matches!(circuit.admit_call(), CircuitAdmission::Rejected(_)),
                "one looks, the others do not wait for it"
            );
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
        assert!(circuit.is_open());
        circuit.record_success();
        assert_eq!((circuit.admit_call(), circuit.is_open()), (CircuitAdmission::Allowed, false));
    }

    #[tokio::test(start_paused = true)]
    async fn number_of_breakers_is_bounded() {
        let circuits = CircuitBreakers::default();
        for n in 0..2 * MAX_BREAKERS {
            circuits.for_model("local", &format!("no-such-model-{n}")).record_failure();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(circuits.open_circuits().len(), MAX_BREAKERS);
        assert!(
            circuits.for_model("local", &format!("no-such-model-{}", 2 * MAX_BREAKERS - 1)).is_open(),
            "the newest stay"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn unfinished_probe_expires() {
        let circuit = CircuitBreaker::default();
        circuit.record_failure();
        tokio::time::advance(MIN_PAUSE).await;
        assert_eq!(circuit.admit_call(), CircuitAdmission::Probe);
        tokio::time::advance(PROBE_TIMEOUT).await;
        assert_eq!(circuit.admit_call(), CircuitAdmission::Probe);
    }
}
