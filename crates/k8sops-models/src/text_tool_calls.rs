//! Tool calls in the text of a reply, as small models write them, and servers that do not know the format of a model.
//!
//! Text that may start a call is held back. At the end of the reply it becomes calls, or is released as text.

use crate::{
    ProviderNotice,
    requested_calls::WrittenToolCall,
    text_call_formats::{CALL_MARKS, CODE_FENCES, parse_held_text},
};

/// The keys that an object with a call may start with.
const CALL_KEYS: [&str; 8] = ["name", "function", "type", "id", "tool_calls", "arguments", "parameters", "tool"];

/// Whether a mark starts with a byte.
const STARTS_MARK: [bool; 256] = {
    let mut starts = [false; 256];
    let mut at = 0;
    while at < CALL_MARKS.len() {
        starts[CALL_MARKS[at].as_bytes()[0] as usize] = true;
        at += 1;
    }
    starts
};

/// Returns the notice for a session whose model writes tool calls as text.
pub(crate) fn text_tool_calls_notice(model: &str) -> ProviderNotice {
    let message = format!(
        "`{model}` writes tool calls as text, from which they are parsed. A model that is trained for tools works better"
    );
    ProviderNotice { code: "tool_calls_as_text", message }
}

/// Finds tool calls in a reply that arrives in pieces.
#[derive(Debug)]
pub(crate) struct TextToolCallParser {
    /// The tools that the model may call. Calls of other names are text.
    names: Vec<String>,
    held: String,
    state: ParserState,
    code: CodeSpanTracker,
}

/// Tracks whether released text ends inside code, where a call is only an example.
#[derive(Debug, Default)]
struct CodeSpanTracker {
    /// The number of backticks at the end of the text.
    ticks: usize,
    /// Whether the text ends inside a fenced block.
    fenced: bool,
    /// Whether the text ends inside backticks on one line.
    quoted: bool,
}

impl CodeSpanTracker {
    fn scan(&mut self, text: &str) {
        for c in text.chars() {
            if c == '`' {
                self.ticks += 1;
                continue;
            }
            self.close_backtick_run();
            self.quoted &= c != '\n';
        }
    }

    fn is_inside_code(&mut self) -> bool {
        self.close_backtick_run();
        self.fenced || self.quoted
    }

    /// Ends a run of backticks.
    fn close_backtick_run(&mut self) {
        match std::mem::take(&mut self.ticks) {
            0 => {}
            3.. => self.fenced = !self.fenced,
            _ => self.quoted = !self.quoted && !self.fenced,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum ParserState {
    /// Only whitespace has arrived.
    Undecided,
    /// Text is released, except what may be the beginning of a mark.
    PassThrough,
    /// Text is held until the end of the reply.
    Holding,
}

impl TextToolCallParser {
    /// Creates a parser for a reply to a request that offers these tools.
    pub(crate) fn new(names: impl IntoIterator<Item = String>) -> Self {
        let names: Vec<String> = names.into_iter().collect();
        let state = if names.is_empty() { ParserState::PassThrough } else { ParserState::Undecided };
        Self { names, held: String::new(), state, code: CodeSpanTracker::default() }
    }

    /// Adds a piece and returns the text that can be released.
    pub(crate) fn push(&mut self, piece: impl Into<String>) -> String {
        let piece = piece.into();
        if self.names.is_empty() {
            return piece;
        }
        // Most pieces are neither held nor searched.
        let is_plain = !piece.bytes().any(|byte| STARTS_MARK[usize::from(byte)]);
        if is_plain && self.state == ParserState::PassThrough && self.held.is_empty() {
            self.code.scan(&piece);
            return piece;
        }
        let piece = piece.as_str();
        self.held.push_str(piece);
        if self.state == ParserState::Undecided {
            self.state = detect_call_start(&self.held);
        }
        if self.state != ParserState::PassThrough {
            return String::new();
        }
        let mut released = String::new();
        loop {
            let mark = CALL_MARKS.iter().filter_map(|mark| self.held.find(mark)).min();
            released += &self.release(mark.unwrap_or(self.held.len() - partial_mark_len(&self.held)));
            match mark {
                None => return released,
                Some(_) if self.code.is_inside_code() => released += &self.release(1),
                Some(_) => {
                    self.state = ParserState::Holding;
                    return released;
                }
            }
        }
    }

    /// Releases the first bytes of the held text.
    fn release(&mut self, bytes: usize) -> String {
        let rest = self.held.split_off(bytes);
        let released = std::mem::replace(&mut self.held, rest);
        self.code.scan(&released);
        released
    }

    /// Returns the remaining text and the calls at the end of the reply.
    pub(crate) fn finish(self) -> (String, Vec<WrittenToolCall>) {
        if self.state == ParserState::PassThrough {
            return (self.held, Vec::new());
        }
        match parse_held_text(&self.held, &self.names) {
            Some((rest, calls)) if !calls.is_empty() => (rest, calls),
            _ => (self.held, Vec::new()),
        }
    }
}

/// Returns the state of a parser after the beginning of a reply: holding if it may be a call.
fn detect_call_start(text: &str) -> ParserState {
    let text = text.trim_start();
    if text.is_empty() || CODE_FENCES.iter().chain(&CALL_MARKS).any(|mark| mark.starts_with(text)) {
        return ParserState::Undecided;
    }
    if CALL_MARKS.iter().any(|mark| text.starts_with(mark)) {
        return ParserState::Holding;
    }
    let inner = CODE_FENCES.iter().find_map(|fence| text.strip_prefix(fence)).unwrap_or(text).trim_start();
    let inner = inner.strip_prefix('[').unwrap_or(inner).trim_start();
    if inner.is_empty() {
        return ParserState::Undecided;
    }
    let Some(inner) = inner.strip_prefix('{') else { return ParserState::PassThrough };
    let Some(key) = inner.trim_start().strip_prefix('"') else {
        return if inner.trim_start().is_empty() { ParserState::Undecided } else { ParserState::PassThrough };
    };
    match key.split_once('"') {
        Some((key, _)) if CALL_KEYS.contains(&key) => ParserState::Holding,
        None if CALL_KEYS.iter().any(|known| known.starts_with(key)) => ParserState::Undecided,
        _ => ParserState::PassThrough,
    }
}

/// Returns the number of bytes at the end of a text that may be the beginning of a mark.
fn partial_mark_len(text: &str) -> usize {
    let is_partial_mark = |length: &usize| {
        let end = text.as_bytes().get(text.len() - length..).unwrap_or_default();
        CALL_MARKS.iter().any(|mark| mark.as_bytes().starts_with(end))
    };
    // The first character of a mark is ASCII, so that its beginning starts at a character boundary.
    let longest = CALL_MARKS.iter().map(|mark| mark.len()).max().unwrap_or(0);
    (1..longest.min(text.len() + 1)).rev().find(is_partial_mark).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    /// Feeds a reply to a parser in pieces of `size` bytes and returns the text and the calls.
    fn parse_in_pieces(reply: &str, size: usize) -> (String, Vec<WrittenToolCall>) {
        let mut parser = TextToolCallParser::new(["pods_list".to_owned(), "logs".to_owned()]);
        let mut shown = String::new();
        let mut rest = reply;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.ceil_char_boundary(size.min(rest.len())));
            shown += &parser.push(piece);
            rest = after;
        }
        let (last, calls) = parser.finish();
        (shown + &last, calls)
    }

    #[test]
    fn all_text_call_forms_are_parsed() {
        let call =
            |name: &str, arguments: &str| WrittenToolCall { key: None, name: name.into(), arguments: arguments.into() };
        let pods = call("pods_list", r#"{"ns":"shöp"}"#);
        let logs = call("logs", r#"{"pod":"a","n":5}"#);
        for (reply, text, calls) in [
            (r#"{"name": "pods_list", "arguments": {"ns": "shöp"}}"#, "", vec![&pods]),
            ("\n {\"name\": \"pods_list\", \"parameters\": {\"ns\": \"shöp\"}}\n", "", vec![&pods]),
            (
                r#"{"type": "function", "function": {"name": "pods_list", "arguments": "{\"ns\":\"shöp\"}"}}"#,
                "",
                vec![&pods],
            ),
            (
                r#"[{"name": "pods_list", "arguments": {"ns": "shöp"}}, {"name": "logs", "arguments": {"pod":"a","n":5}}]"#,
                "",
                vec![&pods, &logs],
            ),
            ("```json\n{\"name\": \"pods_list\", \"arguments\": {\"ns\": \"shöp\"}}\n```", "", vec![&pods]),
            (
                "I look.\n<tool_call>\n{\"name\": \"pods_list\", \"arguments\": {\"ns\": \"shöp\"}}\n</tool_call>\n<tool_call>{\"name\": \"logs\", \"arguments\": {\"pod\":\"a\",\"n\":5}}</tool_call>",
                "I look.\n",
                vec![&pods, &logs],
            ),
            ("[TOOL_CALLS][{\"name\": \"pods_list\", \"arguments\": {\"ns\": \"shöp\"}}]", "", vec![&pods]),
            (
                "Sure. <|python_tag|>{\"name\": \"pods_list\", \"parameters\": {\"ns\": \"shöp\"}}",
                "Sure. ",
                vec![&pods],
            ),
            ("<function=pods_list>{\"ns\":\"shöp\"}</function>", "", vec![&pods]),
            (
                "<tool_call>\n<function=logs>\n<parameter=pod>\na\n</parameter>\n<parameter=n>\n5\n</parameter>\n</function>\n</tool_call>",
                "",
                vec![&logs],
            ),
            ("{\"name\": \"logs\", \"arguments\": {\"pod\":\"a\",\"n\":5}}\nThat is all.", "That is all.", vec![&logs]),
            (
                "```json\n{\"name\": \"pods_list\", \"arguments\": {\"ns\": \"shöp\"}}\n```\n\n```json\n{\"name\": \"logs\", \"arguments\": {\"pod\":\"a\",\"n\":5}}\n```\n",
                "",
                vec![&pods, &logs],
            ),
            (
                "[TOOL_CALLS]pods_list[ARGS]{\"ns\": \"shöp\"}[TOOL_CALLS]logs[ARGS]{\"pod\":\"a\",\"n\":5}",
                "",
                vec![&pods, &logs],
            ),
            (
                "<|tool_call|>[{\"name\": \"pods_list\", \"arguments\": {\"ns\": \"shöp\"}}]<|/tool_call|>",
                "",
                vec![&pods],
            ),
            (
                "<function_call>{\"name\": \"pods_list\", \"arguments\": {\"ns\": \"shöp\"}}</function_call>",
                "",
                vec![&pods],
            ),
            (
                "<|tool_calls_section_begin|><|tool_call_begin|>functions.pods_list:0<|tool_call_argument_begin|>{\"ns\": \"shöp\"}<|tool_call_end|><|tool_call_begin|>functions.logs:1<|tool_call_argument_begin|>{\"pod\":\"a\",\"n\":5}<|tool_call_end|><|tool_calls_section_end|>",
                "",
                vec![&pods, &logs],
            ),
            (
                "I look.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>pods_list\n```json\n{\"ns\": \"shöp\"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>logs\n```json\n{\"pod\":\"a\",\"n\":5}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
                "I look.",
                vec![&pods, &logs],
            ),
            (
                "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>logs<｜tool▁sep｜>{\"pod\":\"a\",\"n\":5}<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
                "",
                vec![&logs],
            ),
            (
                "<｜DSML｜function_calls>\n<｜DSML｜invoke name=\"logs\">\n<｜DSML｜parameter name=\"pod\" string=\"true\">a</｜DSML｜parameter>\n<｜DSML｜parameter name=\"n\" string=\"false\">5</｜DSML｜parameter>\n</｜DSML｜invoke>\n</｜DSML｜function_calls>",
                "",
                vec![&logs],
            ),
            (
                "<minimax:tool_call>\n<invoke name=\"pods_list\">\n<parameter name=\"ns\">shöp</parameter>\n</invoke>\n<invoke name=\"logs\">\n<parameter name=\"pod\">a</parameter><parameter name=\"n\">5</parameter>\n</invoke>\n</minimax:tool_call>",
                "",
                vec![&pods, &logs],
            ),
            (
                "<function_calls><invoke name=\"pods_list\"><parameter name=\"ns\">shöp</parameter></invoke></function_calls>",
                "",
                vec![&pods],
            ),
            (
                "<tool_call>logs\n<arg_key>pod</arg_key>\n<arg_value>a</arg_value>\n<arg_key>n</arg_key>\n<arg_value>5</arg_value>\n</tool_call>",
                "",
                vec![&logs],
            ),
            (
                "<|channel|>commentary to=functions.pods_list <|constrain|>json<|message|>{\"ns\": \"shöp\"}<|call|>",
                "",
                vec![&pods],
            ),
            (
                "<|start|>assistant<|channel|>commentary to=functions.pods_list<|channel|>json<|message|>{\"ns\": \"shöp\"}",
                "",
                vec![&pods],
            ),
            (
                "It's `done`.\n<tool_call>{\"name\": \"pods_list\", \"arguments\": {\"ns\": \"shöp\"}}</tool_call>",
                "It's `done`.\n",
                vec![&pods],
            ),
        ] {
            for size in 1..30 {
                let (shown, found) = parse_in_pieces(reply, size);
                let same = |call: &WrittenToolCall| {
                    (call.name.clone(), serde_json::from_str::<Value>(&call.arguments).unwrap())
                };
                assert_eq!(
                    found.iter().map(same).collect::<Vec<_>>(),
                    calls.iter().map(|c| same(c)).collect::<Vec<_>>(),
                    "{reply}"
                );
                assert_eq!(shown, text, "{reply}");
            }
        }
    }

    #[test]
    fn other_text_is_not_taken_for_a_call() {
        for reply in [
            r#"{"name": "delete_all", "arguments": {}}"#,
            r#"{"name": "pods_list"}"#,
            r#"{"name": "pods_list", "arguments": {"ns": "#,
            r#"{"apiVersion": "v1", "kind": "Pod"}"#,
            "[1, 2]",
            "```yaml\nname: x\n```",
            "```json\n{\"a\": 1}\n```",
            "Models write <tool_call> and <function= there.",
            "<tool_call>{\"name\": \"nodes\", \"arguments\": {}}</tool_call>",
            "a < b, [TOOL] and <|end|>",
            "ends with <tool_ca",
            "```json\n{\"name\": \"pods_list\", \"arguments\": {\"ns\": \"x\"}}\n```\nis how such a call looks.",
            "So:\n```json\n{\"name\": \"pods_list\", \"arguments\": {\"ns\": \"x\"}}\n```",
            "Say `<tool_call>{\"name\": \"pods_list\", \"arguments\": {}}</tool_call>` to list them.",
            "So:\n```\n<tool_call>{\"name\": \"pods_list\", \"arguments\": {}}</tool_call>\n```\nand that is all.",
            "[TOOL_CALLS]nodes[ARGS]{}",
            "<|tool_call_begin|>functions.nodes:0<|tool_call_argument_begin|>{}<|tool_call_end|>",
            "<invoke name=\"nodes\"></invoke>",
            "Use <invoke name=\"logs\"> for that.",
            "<｜DSML｜ is a mark, <｜tool▁call▁begin｜> as well",
            "<|channel|>commentary to=nodes<|message|>{}",
            "<|channel|>analysis<|message|>The pods are fine.",
            "<tool_call>logs, which is a tool</tool_call>",
            "",
            "   ",
        ] {
            for size in 1..20 {
                assert_eq!(parse_in_pieces(reply, size), (reply.to_owned(), Vec::new()), "{reply}");
            }
        }
    }

    #[test]
    fn plain_text_is_released_immediately() {
        let mut parser = TextToolCallParser::new(["pods_list".to_owned()]);
        assert_eq!(parser.push("All "), "All ");
        assert_eq!(parser.push("well <too"), "well ");
        assert_eq!(parser.push(" much"), "<too much");
        let mut json = TextToolCallParser::new(["pods_list".to_owned()]);
        assert_eq!(json.push("{\"kind\": "), "{\"kind\": ", "no call starts like this");
        let mut fenced = TextToolCallParser::new(["pods_list".to_owned()]);
        assert_eq!(fenced.push("```json\n{\"kind\": "), "```json\n{\"kind\": ", "nor in a fence");
        assert_eq!(TextToolCallParser::new([]).push("<tool_call>"), "<tool_call>", "no tools are offered");
    }

    proptest! {
        #[test]
        fn no_text_is_lost(reply in "[ -~é\n<\\[{`]{0,200}", size in 1_usize..40) {
            let (shown, calls) = parse_in_pieces(&reply, size);
            prop_assert_eq!(calls, Vec::new());
            prop_assert_eq!(shown, reply);
        }
    }
}
