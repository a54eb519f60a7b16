//! Properties of the classifier and of redaction that hold for any input. The targets in `fuzz/` look for a
//! counterexample; the tests try the seeds.

use serde_json::{Map, Value, json};

use k8sops_core::ToolEffect;

use crate::{
    effects,
    secrets::{Expect, Vault},
};

/// A value that no input holds by chance.
const SECRET: &str = "Zq7vT9wLx2Rk4BnM";

/// Checks that a command line is read-only only if nothing in it can change anything.
///
/// # Panics
/// If a command that deletes something is classified as read-only because of the text after it.
pub fn check_shell_command(text: &str) {
    let _ = effect_of("kubectl", text);
    let _ = effect_of("bash", text);
    for destructive in ["kubectl delete namespace prod; ", "kubectl delete namespace prod && ", "rm -rf / | "] {
        let line = format!("{destructive}{text}");
        let effect = effect_of("bash", &line);
        assert_ne!(effect, Some(ToolEffect::Read), "read-only: {line:?}");
    }
}

fn effect_of(tool: &str, line: &str) -> Option<ToolEffect> {
    let Value::Object(arguments) = json!({"command": line}) else { return None };
    effects::judge(tool, &arguments).map(|judged| judged.effect)
}

/// Checks that a secret that was seen once is masked in any text, and that masking a second time changes nothing.
///
/// # Panics
/// If the secret is still there, or the second pass finds something new.
pub fn check_redaction(text: &str) {
    let vault = Vault::new(&[7; 32], "fuzzing");
    let secret = json!({"kind": "Secret", "stringData": {"password": SECRET}}).to_string();
    let _ = vault.mask(&secret, Expect::Objects);

    let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    let (before, after) = text.split_at(middle);
    let masked = vault.mask(&format!("{before} {SECRET} {after}"), Expect::Any).into_owned();
    assert!(!masked.contains(SECRET), "unmasked: {masked:?}");
    let again = vault.mask(&masked, Expect::Any).into_owned();
    assert_eq!(masked, again, "masked a second time");

    // Values in JSON are masked in place.
    if let Ok(mut value) = serde_json::from_str::<Value>(text) {
        vault.mask_json(&mut value, Expect::Objects);
        let arguments = Map::from_iter([("value".to_owned(), value)]);
        let _ = vault.reveal(&arguments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_hold_for_the_seeds() {
        for (target, check) in
            [("shell_command", check_shell_command as fn(&str)), ("redaction", check_redaction as fn(&str))]
        {
            let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
            for seed in std::fs::read_dir(&folder).unwrap() {
                check(&std::fs::read_to_string(seed.unwrap().path()).unwrap());
            }
        }
    }
}
