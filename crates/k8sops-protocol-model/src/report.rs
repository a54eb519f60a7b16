//! The answers of the checker as text.

use std::fmt::Write as _;

use crate::scenario::{ModelScenario, ScenarioResult};

/// Describes an answer: one line, and the steps of a counterexample.
#[must_use]
pub fn describe_result(scenario: &ModelScenario, result: &ScenarioResult) -> String {
    let ScenarioResult { states, failed, unreachable, trace } = result;
    let answer = match (failed.as_slice(), unreachable.as_slice()) {
        ([], []) => "everything holds".to_owned(),
        (failed, unreachable) => {
            let failed = failed.iter().map(|name| format!("does not hold: {name}"));
            let unreachable = unreachable.iter().map(|name| format!("never happens: {name}"));
            failed.chain(unreachable).collect::<Vec<_>>().join("; ")
        }
    };
    let mut text = format!("{}\n    {answer} ({states} states)\n", scenario.name);
    for (index, step) in trace.iter().enumerate() {
        let _ = writeln!(text, "    {:>2}. {step}", index + 1);
    }
    text
}
