use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;
use crate::{event_framing::ProviderEvent, reply_assembly::ReplyAssembler as _};

/// Adds a field to some objects, with one of these values.
fn maybe(name: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    let value = prop::sample::select(values);
    prop::option::weighted(0.3, value.prop_map(move |value| format!("{name:?}:{value}")))
}

fn object(fields: impl IntoIterator<Item = Option<String>>) -> String {
    format!("{{{}}}", fields.into_iter().flatten().collect::<Vec<_>>().join(","))
}

fn delta() -> impl Strategy<Value = String> {
    const TEXT: &[&str] = &[
        r#""a""#,
        r#""""#,
        r#"" \n\u00e9\ud83d\ude80""#,
        r#""<think>""#,
        r#""</think>""#,
        r#""<tool_call>{\"name\":""#,
        "null",
        "7",
        r#"[{"type":"text","text":"a"}]"#,
        r#"[{"thinking":"b"}]"#,
        "{}",
    ];
    const CALLS: &[&str] =
        &["null", "[]", r#"[{"index":0,"id":"c","function":{"name":"logs","arguments":"{"}}]"#, "{}"];
    let fields = (
        prop::sample::select(TEXT).prop_map(|text| Some(format!(r#""content":{text}"#))),
        maybe("role", &[r#""assistant""#, "null"]),
        maybe("reasoning_content", TEXT),
        maybe("reasoning", TEXT),
        maybe("refusal", TEXT),
        maybe("tool_calls", CALLS),
        maybe("function_call", &["null", r#"{"name":"logs","arguments":"{}"}"#, "[]"]),
        maybe("reasoning_details", &["null", "[]", r#"[{"text":"b"}]"#]),
    );
    fields.prop_map(|(a, b, c, d, e, f, g, h)| object([b, a, c, d, e, f, g, h]))
}

fn choice() -> impl Strategy<Value = String> {
    let fields = (
        prop::option::weighted(0.95, delta().prop_map(|delta| format!(r#""delta":{delta}"#))),
        maybe("message", &["null", r#"{"content":"whole"}"#, "7"]),
        maybe("finish_reason", &["null", r#""stop""#, r#""""#, "7"]),
        maybe("error", &["null", "{}", r#""broken""#]),
        maybe("index", &["0", "1", "null"]),
        maybe("logprobs", &["null", r#"{"content":[{"token":"a"}]}"#]),
    );
    fields.prop_map(|(a, b, c, d, e, f)| object([e, a, b, c, d, f]))
}

fn chunk() -> impl Strategy<Value = ProviderEvent> {
    let choices = prop_oneof![
        8 => prop::collection::vec(choice(), 1..2),
        1 => prop::collection::vec(choice(), 0..3),
    ];
    let fields = (
        choices.prop_map(|choices| Some(format!(r#""choices":[{}]"#, choices.join(",")))),
        maybe("object", &[r#""chat.completion.chunk""#, r#""error""#, r#""err\u006fr""#, "null", "7"]),
        maybe("usage", &["null", r#"{"prompt_tokens":3,"completion_tokens":4}"#, "[]", "7"]),
        maybe("error", &["null", r#"{"message":"broken"}"#, r#""broken""#]),
        maybe("id", &[r#""1""#, "null"]),
        prop::option::weighted(0.02, Just(r#""choices":null"#.to_owned())),
    );
    // A field that occurs twice is an error.
    let data = fields.prop_map(|(a, b, c, d, e, f)| object([e, b, a, c, d, f]));
    let name = prop_oneof![9 => Just(""), 1 => Just("error"), 1 => Just("message")];
    (data, name).prop_map(|(data, name)| ProviderEvent { name: name.to_owned(), data })
}

fn assembler() -> ChatCompletionsAssembler {
    ChatCompletionsAssembler::new(test_support::test_call(), vec!["logs".into()], Vec::new())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, ..ProptestConfig::default() })]
    #[test]
    fn usual_chunks_are_read_like_all_others(chunks in prop::collection::vec(chunk(), 1..6)) {
        let (mut usual, mut all) = (assembler(), assembler());
        for chunk in &chunks {
            let (mut usual_out, mut all_out) = (VecDeque::new(), VecDeque::new());
            let of_usual = usual.apply_event(chunk, &mut usual_out);
            let of_all = all.apply_chunk(chunk, &mut all_out);
            prop_assert_eq!(format!("{:?} {:?}", of_usual, usual_out), format!("{:?} {:?}", of_all, all_out));
        }
        prop_assert_eq!(format!("{:?}", usual.finish_reply()), format!("{:?}", all.finish_reply()));
    }
}
