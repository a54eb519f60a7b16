//! Properties of the parser of client frames that hold for any input. The target in `fuzz/` looks for a counterexample;
//! the test tries the seeds.

use serde_json::Value;

use super::frames::{ParsedFrame, RejectedFrame, parse_frame};

/// Checks that a rejected frame is answered with the `command_id` that it came with.
///
/// # Panics
/// If the response names another command.
pub fn check_client_frame(text: &str) {
    let given = serde_json::from_str::<Value>(text).ok().and_then(|frame| frame.get("command_id").cloned());
    match parse_frame(text) {
        Ok(ParsedFrame { command_id, .. }) => {
            if let Some(Value::String(given)) = given.filter(|_| text.trim_start().starts_with('{')) {
                assert_eq!(command_id.to_string(), given);
            }
        }
        Err(rejected) => {
            let RejectedFrame { command_id, .. } = *rejected;
            assert_eq!(command_id, given.unwrap_or(Value::Null));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn properties_hold_for_the_seeds() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/client_frame");
        for seed in std::fs::read_dir(&folder).unwrap() {
            super::check_client_frame(&std::fs::read_to_string(seed.unwrap().path()).unwrap());
        }
    }
}
