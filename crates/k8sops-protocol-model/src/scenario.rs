//! The questions to the checker, and the expected answers.

use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    model::{
        EFFECT_IS_LOGGED, LOSS_IS_ANNOUNCED, NO_LATE_CALL, NO_SECOND_EFFECT, NOTHING_ACKNOWLEDGED_LOST, ONE_WRITER,
        ProtocolModel, RUN_SUCCEEDS, RUN_SURVIVES_FAILOVER, SEQ_IS_UNIQUE, TAKEOVER_ENDS_CALL,
    },
    settings::{PromotionRule, ProtocolRule, ProtocolSettings, SearchBounds, StoreCopies, WriteConfirmation},
    trace::describe_path,
};

/// A question to the checker.
#[derive(Debug, Clone)]
pub struct ModelScenario {
    /// The setting and the faults, in words.
    pub name: &'static str,
    settings: ProtocolSettings,
    checked: Vec<&'static str>,
    /// The property that must fail; `None` if all must hold.
    pub fails: Option<&'static str>,
}

/// What the checker found.
#[derive(Debug, Clone)]
pub struct ScenarioResult {
    /// How many different states there are, up to the first counterexample.
    pub states: usize,
    /// The properties that fail.
    pub failed: Vec<&'static str>,
    /// What should be reachable and is not.
    pub unreachable: Vec<&'static str>,
    /// The steps to the state in which the expected property fails.
    pub trace: Vec<String>,
}

/// The properties that hold with confirmation, whatever happens within the bounds.
const ALWAYS: [&str; 5] =
    [NO_SECOND_EFFECT, EFFECT_IS_LOGGED, NOTHING_ACKNOWLEDGED_LOST, LOSS_IS_ANNOUNCED, SEQ_IS_UNIQUE];
/// What must be reachable, so that the properties do not hold only because nothing happens.
const REACHABLE: [&str; 3] = [RUN_SUCCEEDS, TAKEOVER_ENDS_CALL, RUN_SURVIVES_FAILOVER];

/// One failover with a crash, two owners, and no watcher.
const BOUNDS: SearchBounds = SearchBounds { failovers: 1, crashes: 1, leases: 2, runs: 1, watchers: false };

/// Two replicas of k8sops, and one replica of the store that confirms everything that must not be lost.
const CONFIRMED: ProtocolSettings = ProtocolSettings {
    copies: StoreCopies::Replicas(1),
    confirmation: WriteConfirmation::Replicas(1),
    promotion: PromotionRule::Any,
    split_brain: false,
    omitted: None,
    bounds: BOUNDS,
};
const UNCONFIRMED: ProtocolSettings = ProtocolSettings { confirmation: WriteConfirmation::Off, ..CONFIRMED };
const RESTARTED: ProtocolSettings = ProtocolSettings {
    copies: StoreCopies::AppendOnlyFile,
    confirmation: WriteConfirmation::AppendOnlyFile,
    ..CONFIRMED
};
const TWO_REPLICAS: ProtocolSettings = ProtocolSettings { copies: StoreCopies::Replicas(2), ..CONFIRMED };

impl ModelScenario {
    fn holds(name: &'static str, settings: ProtocolSettings) -> Self {
        Self { name, settings, checked: [&ALWAYS[..], &REACHABLE].concat(), fails: None }
    }

    fn fails(name: &'static str, settings: ProtocolSettings, property: &'static str) -> Self {
        Self { name, settings, checked: vec![property], fails: Some(property) }
    }

    fn omits(name: &'static str, rule: ProtocolRule, settings: ProtocolSettings, property: &'static str) -> Self {
        Self::fails(name, ProtocolSettings { omitted: Some(rule), ..settings }, property)
    }

    /// Asks the checker. Returns the shortest counterexample.
    #[must_use]
    pub fn check(&self) -> ScenarioResult {
        let mut result = self.search(None);
        // The checker looks at states in blocks, and reports the last counterexample of a block.
        while !result.trace.is_empty() {
            let shorter = self.search(Some(result.trace.len() + 1));
            if shorter.trace.is_empty() {
                break;
            }
            result = shorter;
        }
        result
    }

    /// Searches, up to a number of states in a row if there is one.
    fn search(&self, depth: Option<usize>) -> ScenarioResult {
        let model = ProtocolModel { settings: self.settings, checked: self.checked.clone() };
        let mut checker = model.checker();
        checker = match self.fails {
            Some(property) => checker.finish_when(HasDiscoveries::AllOf([property].into())),
            // Every state is looked at: a property that fails does not end the search.
            None => checker.finish_when(HasDiscoveries::AllOf(["no property"].into())),
        };
        if let Some(depth) = depth {
            checker = checker.target_max_depth(depth);
        }
        let done = checker.spawn_bfs().join();
        let mut discoveries = done.discoveries();
        let properties = done.model().properties();
        let (failures, examples): (Vec<_>, Vec<_>) =
            properties.iter().partition(|property| property.expectation.discovery_is_failure());
        let found = |name: &str| discoveries.contains_key(name);
        let failed: Vec<_> = failures.iter().map(|property| property.name).filter(|name| found(name)).collect();
        let unreachable = examples.iter().map(|property| property.name).filter(|name| !found(name)).collect();
        let first = failed.first().and_then(|name| discoveries.remove(name));
        let trace = first.map(describe_path).unwrap_or_default();
        ScenarioResult { states: done.unique_state_count(), failed, unreachable, trace }
    }
}

/// The questions whose answer is that everything holds. `large` widens the bounds.
fn questions_that_hold(large: bool) -> Vec<ModelScenario> {
    let within = |bounds: SearchBounds, settings| {
        let more = u8::from(large);
        let bounds = SearchBounds { leases: bounds.leases + more, runs: bounds.runs + more, ..bounds };
        ProtocolSettings { bounds, ..settings }
    };
    let split = |settings| ProtocolSettings { split_brain: true, ..settings };
    let by_two = ProtocolSettings { confirmation: WriteConfirmation::Replicas(2), ..TWO_REPLICAS };
    let most_advanced = ProtocolSettings { promotion: PromotionRule::MostAdvanced, ..TWO_REPLICAS };
    let watched = SearchBounds { crashes: 0, watchers: true, ..BOUNDS };
    let calm = SearchBounds { crashes: 0, ..BOUNDS };
    let twice = ProtocolSettings { bounds: SearchBounds { failovers: 2, ..calm }, ..CONFIRMED };
    let alone = SearchBounds { failovers: 0, leases: 3, runs: 2, ..BOUNDS };
    let mut questions = vec![
        ModelScenario::holds("1 replica, confirmed by 1: failover, crash", within(BOUNDS, CONFIRMED)),
        ModelScenario::holds("1 replica, confirmed by 1: split brain, crash", within(BOUNDS, split(CONFIRMED))),
        ModelScenario::holds("1 replica, confirmed by 1: failover, watchers", within(watched, CONFIRMED)),
        ModelScenario::holds("2 replicas, confirmed by 2: split brain", within(calm, split(by_two))),
        ModelScenario::holds(
            "2 replicas, confirmed by 1: the most advanced is promoted, crash",
            within(BOUNDS, most_advanced),
        ),
        ModelScenario::holds("1 server, confirmed by its file: restart, crash", within(BOUNDS, RESTARTED)),
        ModelScenario {
            checked: [&ALWAYS[..], &[NO_LATE_CALL, ONE_WRITER, RUN_SUCCEEDS, TAKEOVER_ENDS_CALL]].concat(),
            ..ModelScenario::holds("no failover, pauses and a crash", within(alone, CONFIRMED))
        },
    ];
    if large {
        let mut question = ModelScenario::holds("1 replica, confirmed by 1: two failovers", twice);
        question.checked.retain(|name| *name != LOSS_IS_ANNOUNCED);
        questions.push(question);
    }
    questions
}

/// The questions whose answer is a counterexample.
fn questions_that_fail() -> Vec<ModelScenario> {
    let restarted = ProtocolSettings { confirmation: WriteConfirmation::Off, ..RESTARTED };
    let by_file = ProtocolSettings { confirmation: WriteConfirmation::AppendOnlyFile, ..CONFIRMED };
    let calm = SearchBounds { crashes: 0, ..BOUNDS };
    let most_advanced =
        ProtocolSettings { promotion: PromotionRule::MostAdvanced, split_brain: true, bounds: calm, ..TWO_REPLICAS };
    let twice = ProtocolSettings { bounds: SearchBounds { failovers: 2, ..calm }, ..UNCONFIRMED };
    let split = ProtocolSettings { split_brain: true, ..CONFIRMED };
    let alone = ProtocolSettings { bounds: SearchBounds { failovers: 0, ..BOUNDS }, ..CONFIRMED };
    let watched = ProtocolSettings { bounds: SearchBounds { watchers: true, ..BOUNDS }, ..UNCONFIRMED };
    let three_leases = ProtocolSettings { bounds: SearchBounds { leases: 3, crashes: 0, ..BOUNDS }, ..CONFIRMED };
    vec![
        ModelScenario::fails("1 replica, not confirmed: failover", UNCONFIRMED, NO_SECOND_EFFECT),
        ModelScenario::fails("1 replica, not confirmed: failover", UNCONFIRMED, EFFECT_IS_LOGGED),
        ModelScenario::fails("1 replica, not confirmed: failover", UNCONFIRMED, NOTHING_ACKNOWLEDGED_LOST),
        ModelScenario::fails("1 server, not confirmed: restart", restarted, NO_SECOND_EFFECT),
        ModelScenario::fails("1 replica, confirmed by the file of the primary: failover", by_file, NO_SECOND_EFFECT),
        ModelScenario::fails("2 replicas, confirmed by 1: the other one is promoted", TWO_REPLICAS, NO_SECOND_EFFECT),
        ModelScenario::fails("2 replicas, confirmed by 1: split brain", most_advanced, NO_SECOND_EFFECT),
        ModelScenario::omits("no chain value in commits", ProtocolRule::CompareLineage, three_leases, NO_SECOND_EFFECT),
        ModelScenario::omits("no epoch in commits", ProtocolRule::CompareEpoch, alone, ONE_WRITER),
        ModelScenario::omits("no check of the lease before a call", ProtocolRule::CheckLease, alone, NO_LATE_CALL),
        ModelScenario::omits("no mark before a confirmation", ProtocolRule::MarkBeforeWait, split, NO_SECOND_EFFECT),
        ModelScenario::omits(
            "repeated commands not confirmed",
            ProtocolRule::ConfirmRetries,
            CONFIRMED,
            NOTHING_ACKNOWLEDGED_LOST,
        ),
        ModelScenario::omits("no reserve of seqs", ProtocolRule::ReserveSeqs, watched, SEQ_IS_UNIQUE),
        ModelScenario::omits("no memory of what was seen", ProtocolRule::RememberLogs, UNCONFIRMED, LOSS_IS_ANNOUNCED),
        ModelScenario::fails("a second failover loses the report of the first one's loss", twice, LOSS_IS_ANNOUNCED),
        ModelScenario::fails("lease renewals are lost in a failover", CONFIRMED, NO_LATE_CALL),
        ModelScenario::fails("the same epoch on both sides", split, ONE_WRITER),
    ]
}

/// All questions. `large` widens the bounds of those that hold.
#[must_use]
pub fn all_scenarios(large: bool) -> Vec<ModelScenario> {
    [questions_that_hold(large), questions_that_fail()].concat()
}
