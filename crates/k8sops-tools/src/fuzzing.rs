//! Properties of redaction that hold for any input. The target in `fuzz/` looks for a counterexample; the test tries the
//! seeds.

use serde_json::{Map, Value, json};

use crate::redaction::{ContentHint, RedactionVault};

/// A value that no input contains by chance.
const SECRET: &str = "Zq7vT9wLx2Rk4BnM";

/// Checks that a known secret is redacted in any text, and that a second redaction does not bring it back.
///
/// # Panics
/// If the secret is still there.
pub fn check_redaction(text: &str) {
    let vault = RedactionVault::new(&[7; 32], "fuzzing");
    let secret = json!({"kind": "Secret", "stringData": {"password": SECRET}}).to_string();
    let _ = vault.redact_text(&secret, ContentHint::Objects);

    let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default();
    let (before, after) = text.split_at(middle);
    let redacted = vault.redact_text(&format!("{before} {SECRET} {after}"), ContentHint::Any).into_owned();
    assert!(!redacted.contains(SECRET), "not redacted: {redacted:?}");
    let again = vault.redact_text(&redacted, ContentHint::Any).into_owned();
    assert!(!again.contains(SECRET), "not redacted the second time: {again:?}");

    if let Ok(mut value) = serde_json::from_str::<Value>(text) {
        vault.redact_json(&mut value, ContentHint::Objects);
        let arguments = Map::from_iter([("value".to_owned(), value)]);
        let _ = vault.reveal_placeholders(&arguments);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redaction_holds_for_the_seeds() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/redaction");
        for seed in std::fs::read_dir(folder).unwrap() {
            check_redaction(&std::fs::read_to_string(seed.unwrap().path()).unwrap());
        }
    }
}
