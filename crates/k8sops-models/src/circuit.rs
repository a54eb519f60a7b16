//! Circuit breakers: a model that is down is not asked by every turn anew, and is asked again after a while.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How long a model is left alone after it has failed; doubles with every further failure.
const FIRST: Duration = Duration::from_secs(30);
/// The longest time that it is left alone.
const LONGEST: Duration = Duration::from_mins(10);
/// How long one turn may look whether it is back, before another may.
const PROBE: Duration = Duration::from_mins(2);

/// Whether a model is to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CircuitAdmission {
    /// It is, as ever.
    Open,
    /// It has failed, and this turn is the one that looks whether it is back: one attempt, without waiting.
    Probe,
    /// It has failed, and is left alone for so long.
    Refused(Duration),
}

/// The breaker of one model. In the memory of one process: each finds out for itself.
#[derive(Debug, Default)]
pub struct CircuitBreaker(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Times that it has failed since it last answered.
    failures: u32,
    /// Set while it is left alone.
    until: Option<Instant>,
}

impl CircuitBreaker {
    /// Whether to ask now. Whoever is told to look has to say what came of it.
    #[must_use]
    pub fn admission(&self) -> CircuitAdmission {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match state.until {
            None => CircuitAdmission::Open,
            Some(until) if until > now => CircuitAdmission::Refused(until - now),
            Some(_) => {
                // The next to ask waits for this one; for a while, should this one never say what came of it.
                state.until = Some(now + PROBE);
                CircuitAdmission::Probe
            }
        }
    }

    /// It has answered.
    pub fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// It has failed for good, all attempts included.
    pub fn failed(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let pause = FIRST.saturating_mul(1 << state.failures.min(10)).min(LONGEST);
        state.failures = state.failures.saturating_add(1);
        state.until = Some(Instant::now() + pause);
    }

    /// Whether it has failed, and has not answered since.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.until().is_some()
    }

    fn until(&self) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).until
    }
}

/// The breakers of all models that were asked, by provider and model.
#[derive(Debug, Default)]
pub(super) struct Circuits(Mutex<HashMap<(String, String), Arc<CircuitBreaker>>>);

/// The most breakers that are kept: providers without a list take any model id.
const MOST: usize = 1000;

impl Circuits {
    /// The breaker of one model.
    pub(super) fn of(&self, provider: &str, model: &str) -> Arc<CircuitBreaker> {
        let mut circuits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = (provider.to_owned(), model.to_owned());
        if circuits.len() >= MOST && !circuits.contains_key(&id) {
            circuits.retain(|_, circuit| circuit.is_broken());
            // All of them: the one that is asked again soonest goes.
            if circuits.len() >= MOST
                && let Some(first) =
                    circuits.iter().min_by_key(|(_, circuit)| circuit.until()).map(|(id, _)| id.clone())
            {
                circuits.remove(&first);
            }
        }
        Arc::clone(circuits.entry(id).or_default())
    }

    /// The models that have failed and have not answered since.
    pub(super) fn broken(&self) -> Vec<(String, String)> {
        let circuits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut broken: Vec<_> =
            circuits.iter().filter(|(_, circuit)| circuit.is_broken()).map(|(id, _)| id.clone()).collect();
        broken.sort();
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_left_alone_for_longer_each_time_and_asked_by_one() {
        let circuit = CircuitBreaker::default();
        assert_eq!(circuit.admission(), CircuitAdmission::Open);
        let mut pauses = Vec::new();
        for _ in 0..7 {
            circuit.failed();
            let CircuitAdmission::Refused(pause) = circuit.admission() else { panic!("{:?}", circuit.admission()) };
            pauses.push(pause.as_secs());
            tokio::time::advance(pause).await;
            assert_eq!(circuit.admission(), CircuitAdmission::Probe);
            assert!(
                matches!(circuit.admission(), CircuitAdmission::Refused(_)),
                "one looks, the others do not wait for it"
            );
        }
        assert_eq!(pauses, [30, 60, 120, 240, 480, 600, 600]);
        assert!(circuit.is_broken());
        circuit.answered();
        assert_eq!((circuit.admission(), circuit.is_broken()), (CircuitAdmission::Open, false));
    }

    #[tokio::test(start_paused = true)]
    async fn there_are_never_more_than_so_many_whoever_asks_for_what_is_not_there() {
        let circuits = Circuits::default();
        for n in 0..2 * MOST {
            circuits.of("local", &format!("no-such-model-{n}")).failed();
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(circuits.broken().len(), MOST);
        assert!(circuits.of("local", &format!("no-such-model-{}", 2 * MOST - 1)).is_broken(), "the newest stay");
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_that_nobody_ends_does_not_keep_the_others_away_for_ever() {
        let circuit = CircuitBreaker::default();
        circuit.failed();
        tokio::time::advance(FIRST).await;
        assert_eq!(circuit.admission(), CircuitAdmission::Probe);
        tokio::time::advance(PROBE).await;
        assert_eq!(circuit.admission(), CircuitAdmission::Probe);
    }
}
