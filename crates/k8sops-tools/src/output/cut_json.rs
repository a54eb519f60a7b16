//! JSON whose end is missing, as servers cut it at a size: closed, so that it can be parsed up to the cut.

/// Fewest bytes of JSON that are worth closing.
const MIN_BYTES: usize = 2_000;

/// Returns JSON that is cut at its end with the brackets that it lacks, without its last value if that is incomplete; `None` if it
/// is not cut, or if nothing of it is complete. Text before the JSON stays, and the JSON begins in a line of its own.
pub(super) fn close_cut_json(text: &str) -> Option<String> {
    let start = find_start(text)?;
    let (before, json) = text.split_at(start);
    let mut closers: Vec<u8> = Vec::new();
    // The end of the last complete value, and how many brackets are open there.
    let mut complete = None;
    let mut is_in_text = false;
    let mut is_escaped = false;
    for (at, byte) in json.bytes().enumerate() {
        if is_in_text {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => is_in_text = true,
            b'{' => closers.push(b'}'),
            b'[' => closers.push(b']'),
            b'}' | b']' => {
                if closers.pop() != Some(byte) {
                    break;
                }
                complete = Some((at + 1, closers.len()));
                if closers.is_empty() {
                    break;
                }
            }
            b',' => complete = Some((at, closers.len())),
            _ => {}
        }
    }
    let (end, open) = complete.filter(|(end, open)| *open > 0 && *end >= MIN_BYTES)?;
    let mut closed = before.to_owned();
    if !closed.is_empty() && !closed.ends_with('\n') {
        closed.push('\n');
    }
    closed.push_str(&json[..end]);
    closed.extend(closers.get(..open)?.iter().rev().map(|byte| char::from(*byte)));
    Some(closed)
}

/// Returns where JSON begins: at a bracket behind which a key, a value or another bracket stands.
fn find_start(text: &str) -> Option<usize> {
    let beginning = &text[..text.floor_char_boundary(MIN_BYTES)];
    let begins = |at: usize, bracket: &str| {
        let next = text[at + 1..].trim_start().chars().next();
        match (bracket, next) {
            ("{", Some(next)) => next == '"',
            (_, Some(next)) => matches!(next, '{' | '[' | '"'),
            _ => false,
        }
    };
    beginning.match_indices(['{', '[']).find(|(at, bracket)| begins(*at, bracket)).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_json_is_closed_after_its_last_complete_value() {
        let filler = "x".repeat(MIN_BYTES);
        let rows = [
            (r#"{"a": "F", "b": [1, 2, {"c": "#, Some(r#"{"a": "F", "b": [1, 2]}"#)),
            (r#"{"a": "F", "b": {"c": 1}, "d": "half"#, Some(r#"{"a": "F", "b": {"c": 1}}"#)),
            (r#"note: [{"a": "F"}, {"b\"}": "F]", "c"#, Some("note: \n[{\"a\": \"F\"}, {\"b\\\"}\": \"F]\"}]")),
            (r#"{"a": "F"}"#, None),
            (r#"{"a": "F"#, None),
            ("plain F text [1, 2", None),
            ("", None),
        ];
        for (text, expected) in rows {
            let text = text.replace('F', &filler);
            let expected = expected.map(|expected| expected.replace('F', &filler));
            assert_eq!(close_cut_json(&text), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_cut_can_be_parsed(end in 0_usize..4_000) {
            let values: Vec<_> = (0..120).map(|n| serde_json::json!({"n": n, "t": "a\"]},\\", "l": [null, {}, []]})).collect();
            let text = serde_json::Value::from(values).to_string();
            if let Some(closed) = close_cut_json(&text[..end.min(text.len() - 1)]) {
                proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&closed).is_ok(), "{closed}");
            }
        }
    }
}
