//! Properties of the id scanner that hold for any input. The target in `fuzz/` looks for a counterexample; the test tries
//! the seeds.

use rmcp::model::RequestId;
use serde_json::Value;

use crate::transport::id_scanner::IdScanner;

/// Checks that the scanner finds the same id however the bytes are cut, and that of a response.
///
/// # Panics
/// If the id depends on how the bytes arrive, or differs from what a parser finds.
pub fn check_id_scanner(bytes: &[u8]) {
    let whole = scan_pieces(&[bytes]);
    let (first, second) = bytes.split_at(bytes.len() / 2);
    assert_eq!(whole, scan_pieces(&[first, second]));
    let single_bytes: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(whole, scan_pieces(&single_bytes));

    // What a parser reads without doubt: no key twice, and ids that fit into the scanner's buffer.
    let Ok(Value::Object(message)) = serde_json::from_slice(bytes) else { return };
    let text = serde_json::to_vec(&message).expect("it was parsed from JSON");
    let expected = match message.get("id") {
        Some(id)
            if !message.contains_key("method") && (message.contains_key("result") || message.contains_key("error")) =>
        {
            serde_json::from_value::<RequestId>(id.clone()).ok()
        }
        _ => None,
    };
    let is_short = message.get("id").is_none_or(|id| id.to_string().len() <= 128);
    let is_plain = message.keys().all(|key| key.len() <= 100 && key.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    if is_short && is_plain {
        assert_eq!(scan_pieces(&[&text]), expected);
    }
}

fn scan_pieces(pieces: &[&[u8]]) -> Option<RequestId> {
    let mut scanner = IdScanner::default();
    for piece in pieces {
        scanner.feed(piece);
    }
    scanner.answered_request()
}

#[cfg(test)]
mod tests {
    #[test]
    fn properties_hold_for_the_seeds() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds/id_scanner");
        for seed in std::fs::read_dir(&folder).unwrap() {
            super::check_id_scanner(&std::fs::read(seed.unwrap().path()).unwrap());
        }
    }
}
