//! Circuit breakers: a failing model is not called by every run, and is probed after a pause.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The pause after the first failure. It doubles with every further failure.
const MIN_PAUSE: Duration = Duration::from_secs(30);
/// The longest pause.
const MAX_PAUSE: Duration = Duration::from_mins(10);
/// How long a probe may take before another call is admitted as a probe.
const PROBE_TIMEOUT: Duration = Duration::from_mins(2);

/// Whether a call of a model is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitAdmission {
    /// The circuit is closed: the model can be called as usual.
    Allowed,
    /// The circuit is half-open: this call tests whether the model is back. It gets one attempt and no retries.
    Probe,
    /// The circuit is open for this much longer.
    Rejected(Duration),
}

/// The circuit breaker of one model. Its state is in the memory of one process, and replicas do not share it.
#[derive(Debug, Default)]
pub struct CircuitBreaker(Mutex<BreakerState>);

#[derive(Debug, Default)]
struct BreakerState {
    /// The number of failures since the last success.
    failures: u32,
    /// The end of the pause, while the circuit is open.
    until: Option<Instant>,
}

impl CircuitBreaker {
    /// Decides whether the model can be called now. A caller that gets [`CircuitAdmission::Probe`] must report the
    /// outcome.
    #[must_use]
    pub fn admit_call(&self) -> CircuitAdmission {
        let mut state = self.0.lock();
        let now = Instant::now();
        match state.until {
            None => CircuitAdmission::Allowed,
            Some(until) if until > now => CircuitAdmission::Rejected(until - now),
            Some(_) => {
                // Other calls wait for this probe. The pause ends if the probe never reports its outcome.
                state.until = Some(now + PROBE_TIMEOUT);
                CircuitAdmission::Probe
            }
        }
    }

    /// Records a reply and closes the circuit.
    pub fn record_success(&self) {
        *self.0.lock() = BreakerState::default();
    }

    /// Records a failed call, after all its retries, and opens the circuit.
    pub fn record_failure(&self) {
        let mut state = self.0.lock();
        let pause = MIN_PAUSE.saturating_mul(1 << state.failures.min(10)).min(MAX_PAUSE);
        state.failures = state.failures.saturating_add(1);
        state.until = Some(Instant::now() + pause);
    }

    /// Returns whether the model has failed since its last reply.
    pub(crate) fn is_open(&self) -> bool {
        self.until().is_some()
    }

    fn until(&self) -> Option<Instant> {
        self.0.lock().until
    }
}

/// The circuit breakers of all models that were called, by provider and model.
#[derive(Debug, Default)]
pub(crate) struct CircuitBreakers(Mutex<HashMap<(String, String), Arc<CircuitBreaker>>>);

/// The maximum number of circuit breakers: providers without a model list accept any id, so that the ids are unbounded.
const MAX_BREAKERS: usize = 1000;

impl CircuitBreakers {
    /// Returns the circuit breaker of a model.
    pub(crate) fn for_model(&self, provider: &str, model: &str) -> Arc<CircuitBreaker> {
        let mut circuits = self.0.lock();
        let id = (provider.to_owned(), model.to_owned());
        if circuits.len() >= MAX_BREAKERS && !circuits.contains_key(&id) {
            circuits.retain(|_, circuit| circuit.is_open());
            // If all circuits are open, the one whose pause ends first is dropped.
            if circuits.len() >= MAX_BREAKERS
                && let Some(first) =
                    circuits.iter().min_by_key(|(_, circuit)| circuit.until()).map(|(id, _)| id.clone())
            {
                circuits.remove(&first);
            }
        }
        Arc::clone(circuits.entry(id).or_default())
    }

    /// Returns the models with an open circuit, as provider and model id.
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
                "only one call is admitted as a probe"
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
            "the latest ones are kept"
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
