//! Properties of the classifier that hold for any input. The target in `fuzz/` looks for a counterexample; the test tries
//! the seeds.

use serde_json::{Map, Value};

use crate::{EffectClass, ToolDescription, classify_tool_call};

/// Checks that a line that deletes something is mutating, no matter which text follows the deletion.
///
/// # Panics
/// If such a line is classified as read-only.
pub fn check_shell_command(text: &str) {
    let _ = effect_of_line("kubectl", text);
    let _ = effect_of_line("bash", text);
    for destructive in ["kubectl delete namespace prod; ", "kubectl delete namespace prod && ", "rm -rf / | "] {
        let line = format!("{destructive}{text}");
        assert_ne!(effect_of_line("bash", &line), Some(EffectClass::Read), "read-only: {line:?}");
    }
}

fn effect_of_line(tool: &str, line: &str) -> Option<EffectClass> {
    let arguments = Map::from_iter([("command".to_owned(), Value::from(line))]);
    classify_tool_call(&ToolDescription::named(tool), &arguments).map(|classification| classification.effect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classification_holds_for_the_seeds() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/shell_command");
        for seed in std::fs::read_dir(folder).unwrap() {
            check_shell_command(&std::fs::read_to_string(seed.unwrap().path()).unwrap());
        }
    }
}
