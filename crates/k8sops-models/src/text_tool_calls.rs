//! Tool calls in the text of a reply, as small models write them, and servers that do not know the format of a model.
//!
//! Text that may start a call is held back. At the end of the reply it becomes calls, or is released as text.

use serde_json::{Map, Value};

use crate::{ProviderNotice, requested_calls::WrittenToolCall};

/// Marks that start a call anywhere in the text, except in code.
const CALL_MARKS: [&str; 6] =
    ["<tool_call>", "<function_call>", "<function=", "<|tool_call|>", "[TOOL_CALLS]", "<|python_tag|>"];
/// Marks around calls, with their end marks. A missing end mark is implied at the end of the text.
const ENCLOSING_MARKS: [(&str, &str); 3] =
    [("<tool_call>", "</tool_call>"), ("<function_call>", "</function_call>"), ("<|tool_call|>", "<|/tool_call|>")];
/// The marks of Mistral's newer models before a call, and between its name and its arguments.
const MISTRAL_MARKS: (&str, &str) = ("[TOOL_CALLS]", "[ARGS]");
/// Fences that may enclose a call at the beginning of the text.
const CODE_FENCES: [&str; 3] = ["```json", "```tool_call", "```\n"];
/// The keys that an object with a call may start with.
const CALL_KEYS: [&str; 8] = ["name", "function", "type", "id", "tool_calls", "arguments", "parameters", "tool"];

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
    pub(crate) fn push(&mut self, piece: &str) -> String {
        if self.names.is_empty() {
            return piece.to_owned();
        }
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
    // Marks are ASCII, so that their beginnings start at a character boundary.
    let longest = CALL_MARKS.iter().map(|mark| mark.len()).max().unwrap_or(0);
    (1..longest.min(text.len() + 1)).rev().find(is_partial_mark).unwrap_or(0)
}

/// Parses held text into calls and remaining text. Returns `None` if a part of it is not a call.
fn parse_held_text(held: &str, names: &[String]) -> Option<(String, Vec<WrittenToolCall>)> {
    let mut calls = Vec::new();
    let mut rest = held;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';'));
        if rest.is_empty() {
            return Some((String::new(), calls));
        }
        let (found, after) = if let Some(inside) = rest.strip_prefix("<function=") {
            let (name, inside) = inside.split_once('>')?;
            let (body, after) = inside.split_once("</function>").unwrap_or((inside, ""));
            (
                vec![WrittenToolCall { key: None, name: name.trim().to_owned(), arguments: parse_parameters(body)? }],
                after,
            )
        } else if let Some((inside, end)) =
            ENCLOSING_MARKS.iter().find_map(|(mark, end)| Some((rest.strip_prefix(mark)?, end)))
        {
            let (body, after) = inside.split_once(end).unwrap_or((inside, ""));
            let (other, found) = parse_held_text(body, names)?;
            if !other.is_empty() {
                return None;
            }
            calls.extend(found);
            rest = after;
            continue;
        } else if let Some(inside) = CODE_FENCES.iter().find_map(|fence| rest.strip_prefix(fence)) {
            let (body, after) = inside.split_once("```").unwrap_or((inside, ""));
            // Text after the fence indicates an example.
            if !after.trim_start().is_empty() && !after.trim_start().starts_with("```") {
                return None;
            }
            parse_json_calls(body).filter(|(_, left)| left.trim().is_empty()).map(|(found, _)| (found, after))?
        } else if let Some((name, arguments)) =
            rest.strip_prefix(MISTRAL_MARKS.0).and_then(|call| call.split_once(MISTRAL_MARKS.1))
            && names.iter().any(|known| known == name.trim())
        {
            let mut values = serde_json::Deserializer::from_str(arguments).into_iter::<Map<String, Value>>();
            let written = Value::Object(values.next()?.ok()?).to_string();
            (
                vec![WrittenToolCall { key: None, name: name.trim().to_owned(), arguments: written }],
                &arguments[values.byte_offset()..],
            )
        } else {
            let marked = [MISTRAL_MARKS.0, "<|python_tag|>"].iter().find_map(|mark| rest.strip_prefix(mark));
            match parse_json_calls(marked.unwrap_or(rest)) {
                Some(found) => found,
                // Text may follow the calls.
                None if !calls.is_empty() => return Some((rest.to_owned(), calls)),
                None => return None,
            }
        };
        if found.is_empty() || found.iter().any(|call| !names.contains(&call.name)) {
            return None;
        }
        calls.extend(found);
        rest = after;
    }
}

/// Parses the JSON value at the beginning of a text as calls. Also returns the text after it.
fn parse_json_calls(text: &str) -> Option<(Vec<WrittenToolCall>, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let value = values.next()?.ok()?;
    let calls = calls_in_value(&value)?;
    Some((calls, &text[values.byte_offset()..]))
}

fn calls_in_value(value: &Value) -> Option<Vec<WrittenToolCall>> {
    match value {
        Value::Array(items) => {
            let calls = items.iter().map(calls_in_value).collect::<Option<Vec<_>>>()?;
            Some(calls.into_iter().flatten().collect())
        }
        Value::Object(fields) => match (fields.get("tool_calls"), fields.get("function")) {
            (Some(calls @ Value::Array(_)), _) => calls_in_value(calls),
            (_, Some(Value::Object(function))) => Some(vec![call_in_object(function)?]),
            _ => Some(vec![call_in_object(fields)?]),
        },
        _ => None,
    }
}

fn call_in_object(fields: &Map<String, Value>) -> Option<WrittenToolCall> {
    let name = ["name", "function", "tool"].iter().find_map(|key| fields.get(*key)?.as_str())?;
    let arguments = ["arguments", "parameters", "input", "args"].iter().find_map(|key| fields.get(*key));
    let arguments = match arguments? {
        Value::String(text) => text.clone(),
        arguments @ Value::Object(_) => arguments.to_string(),
        _ => return None,
    };
    Some(WrittenToolCall { key: None, name: name.to_owned(), arguments })
}

/// Parses the arguments inside of `<function=…>`: a JSON object, or one element per argument.
fn parse_parameters(body: &str) -> Option<String> {
    let body = body.trim();
    if body.is_empty() {
        return Some("{}".to_owned());
    }
    if !body.starts_with("<parameter=") {
        return serde_json::from_str::<Map<String, Value>>(body).ok().map(|_| body.to_owned());
    }
    let mut arguments = Map::new();
    for part in body.split("<parameter=").skip(1) {
        let (key, value) = part.split_once('>')?;
        let value = value.split_once("</parameter>").map_or(value, |(value, _)| value).trim();
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        arguments.insert(key.trim().to_owned(), value);
    }
    Some(Value::Object(arguments).to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
