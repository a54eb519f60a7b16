//! The formats in which models write tool calls as text: those of their chat templates, which a server has to parse and may not
//! know.

use serde_json::{Map, Value};

use crate::requested_calls::{WrittenToolCall, resolve_tool_name};

/// Marks that start a call anywhere in the text, except in code. Each begins with an ASCII character.
pub(crate) const CALL_MARKS: [&str; 16] = [
    "<tool_call>",
    "<function_call>",
    "<function_calls>",
    "<function=",
    "<invoke name=",
    "<|tool_call|>",
    "[TOOL_CALLS]",
    "<|python_tag|>",
    "<minimax:tool_call>",
    "<|tool_calls_section_begin|>",
    "<|tool_call_begin|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜DSML｜function_calls>",
    "<|channel|>commentary to=",
    "<|start|>assistant<|channel|>commentary to=",
];
/// Marks around calls, with their end marks. A missing end mark is implied at the end of the text.
const ENCLOSING_MARKS: [(&str, &str); 7] = [
    ("<tool_call>", "</tool_call>"),
    ("<function_call>", "</function_call>"),
    ("<function_calls>", "</function_calls>"),
    ("<|tool_call|>", "<|/tool_call|>"),
    ("<minimax:tool_call>", "</minimax:tool_call>"),
    ("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
    ("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
];
/// Marks before the name of a call, between its name and its arguments, and after them. The last one may be missing.
const NAMED_CALL_MARKS: [[&str; 3]; 5] = [
    // Kimi.
    ["<|tool_call_begin|>", "<|tool_call_argument_begin|>", "<|tool_call_end|>"],
    // DeepSeek.
    ["<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"],
    // Mistral.
    ["[TOOL_CALLS]", "[ARGS]", ""],
    // gpt-oss.
    ["<|start|>assistant<|channel|>commentary to=", "<|message|>", "<|call|>"],
    ["<|channel|>commentary to=", "<|message|>", "<|call|>"],
];
/// The word of DeepSeek's older models before the name of a call.
const CALL_TYPE: &str = "function";
/// What DeepSeek's newer models write in each tag of a call.
const TAG_MARK: &str = "｜DSML｜";
/// Fences that may enclose a call at the beginning of the text.
pub(crate) const CODE_FENCES: [&str; 3] = ["```json", "```tool_call", "```\n"];

/// Parses held text into calls and remaining text. Returns `None` if a part of it is not a call.
pub(crate) fn parse_held_text(held: &str, names: &[String]) -> Option<(String, Vec<WrittenToolCall>)> {
    if held.contains(TAG_MARK) {
        return parse_held_text(&held.replace(TAG_MARK, ""), names);
    }
    let mut calls = Vec::new();
    let mut rest = held;
    loop {
        rest = rest.trim_start_matches(|c: char| c.is_whitespace() || matches!(c, ',' | ';'));
        if rest.is_empty() {
            return Some((String::new(), calls));
        }
        if let Some((inside, end)) =
            ENCLOSING_MARKS.iter().find_map(|(mark, end)| Some((rest.strip_prefix(mark)?, end)))
        {
            let (body, after) = inside.split_once(end).unwrap_or((inside, ""));
            let (other, found) = match parse_argument_pairs(body, names) {
                Some(call) => (String::new(), vec![call]),
                None => parse_held_text(body, names)?,
            };
            if !other.is_empty() || found.iter().any(|call| !names.contains(&call.name)) {
                return None;
            }
            calls.extend(found);
            rest = after;
            continue;
        }
        let (found, after) = match parse_marked_call(rest, names) {
            Some(found) => found?,
            None => match parse_json_calls(without_mark(rest)) {
                Some(found) => found,
                // Text may follow the calls.
                None if !calls.is_empty() => return Some((rest.to_owned(), calls)),
                None => return None,
            },
        };
        if found.is_empty() || found.iter().any(|call| !names.contains(&call.name)) {
            return None;
        }
        calls.extend(found);
        rest = after;
    }
}

/// Calls, and the text after them.
type ParsedCalls<'a> = (Vec<WrittenToolCall>, &'a str);

/// Parses the call that a mark at the beginning of a text announces. Returns `None` if there is no such mark, and `Some(None)`
/// if what follows it is not a call.
fn parse_marked_call<'a>(text: &'a str, names: &[String]) -> Option<Option<ParsedCalls<'a>>> {
    let one = |(call, after): (WrittenToolCall, &'a str)| (vec![call], after);
    if let Some(inside) = text.strip_prefix("<function=") {
        return Some(parse_function_tag(inside).map(one));
    }
    if let Some(inside) = text.strip_prefix("<invoke name=") {
        return Some(parse_invoke_tag(inside).map(one));
    }
    if let Some(inside) = CODE_FENCES.iter().find_map(|fence| text.strip_prefix(fence)) {
        return Some(parse_fenced_calls(inside));
    }
    let [begin, separator, end] = NAMED_CALL_MARKS.iter().find(|[begin, ..]| text.starts_with(begin))?;
    let inside = text.strip_prefix(begin)?;
    let (name, arguments) = inside.split_once(separator)?;
    Some(parse_named_call(name, arguments, end, names).map(one))
}

/// Parses `NAME>BODY</function>`.
fn parse_function_tag(inside: &str) -> Option<(WrittenToolCall, &str)> {
    let (name, inside) = inside.split_once('>')?;
    let (body, after) = inside.split_once("</function>").unwrap_or((inside, ""));
    let arguments = parse_parameters(body, "<parameter=")?;
    Some((WrittenToolCall { key: None, name: name.trim().to_owned(), arguments }, after))
}

/// Parses `"NAME">BODY</invoke>`.
fn parse_invoke_tag(inside: &str) -> Option<(WrittenToolCall, &str)> {
    let (name, inside) = inside.split_once('>')?;
    let (body, after) = inside.split_once("</invoke>").unwrap_or((inside, ""));
    let arguments = parse_parameters(body, "<parameter name=")?;
    Some((WrittenToolCall { key: None, name: name.trim().trim_matches('"').to_owned(), arguments }, after))
}

fn parse_fenced_calls(inside: &str) -> Option<ParsedCalls<'_>> {
    let (body, after) = inside.split_once("```").unwrap_or((inside, ""));
    // Text after the fence indicates an example.
    if !after.trim_start().is_empty() && !after.trim_start().starts_with("```") {
        return None;
    }
    parse_json_calls(body).filter(|(_, left)| left.trim().is_empty()).map(|(found, _)| (found, after))
}

/// Parses a call whose name stands before its arguments.
fn parse_named_call<'a>(
    name: &str,
    arguments: &'a str,
    end: &str,
    names: &[String],
) -> Option<(WrittenToolCall, &'a str)> {
    let (name, arguments) = match arguments.split_once('\n') {
        Some((second, after)) if name.trim() == CALL_TYPE => (second, after),
        _ => (name, arguments),
    };
    // What follows the name (`<|constrain|>json`, `:0`) is not a part of it.
    let name = resolve_tool_name(name.trim().split(['<', ' ']).next().unwrap_or_default(), names);
    let fenced = arguments.trim_start().strip_prefix("```json");
    let arguments = fenced.unwrap_or(arguments);
    let mut values = serde_json::Deserializer::from_str(arguments).into_iter::<Map<String, Value>>();
    let written = Value::Object(values.next()?.ok()?).to_string();
    let mut after = arguments[values.byte_offset()..].trim_start();
    if fenced.is_some() {
        after = after.strip_prefix("```").unwrap_or(after).trim_start();
    }
    after = after.strip_prefix(end).unwrap_or(after);
    Some((WrittenToolCall { key: None, name, arguments: written }, after))
}

/// Parses a call of GLM: its name, then pairs of keys and values.
fn parse_argument_pairs(body: &str, names: &[String]) -> Option<WrittenToolCall> {
    let name = body.trim();
    if names.iter().any(|known| known == name) {
        return Some(WrittenToolCall { key: None, name: name.to_owned(), arguments: "{}".to_owned() });
    }
    let (name, pairs) = body.split_once("<arg_key>")?;
    let mut arguments = Map::new();
    for pair in pairs.split("<arg_key>") {
        let (key, value) = pair.split_once("</arg_key>")?;
        let (_, value) = value.split_once("<arg_value>")?;
        let value = value.split_once("</arg_value>").map_or(value, |(value, _)| value);
        arguments.insert(key.trim().to_owned(), parse_value(value));
    }
    Some(WrittenToolCall { key: None, name: name.trim().to_owned(), arguments: Value::Object(arguments).to_string() })
}

/// Returns a text without a mark before the JSON of a call.
fn without_mark(text: &str) -> &str {
    ["[TOOL_CALLS]", "<|python_tag|>"].iter().find_map(|mark| text.strip_prefix(mark)).unwrap_or(text)
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

/// Parses the arguments of a call: a JSON object, or one element per argument. `tag` is the beginning of its tag.
fn parse_parameters(body: &str, tag: &str) -> Option<String> {
    let body = body.trim();
    if body.is_empty() {
        return Some("{}".to_owned());
    }
    if !body.starts_with(tag) {
        return serde_json::from_str::<Map<String, Value>>(body).ok().map(|_| body.to_owned());
    }
    let mut arguments = Map::new();
    for part in body.split(tag).skip(1) {
        let (attributes, value) = part.split_once('>')?;
        let key = match attributes.trim().strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?.0,
            None => attributes.trim(),
        };
        let value = value.split_once("</parameter>").map_or(value, |(value, _)| value);
        let is_text = attributes.contains("string=\"true\"");
        let value = if is_text { Value::String(value.to_owned()) } else { parse_value(value) };
        arguments.insert(key.to_owned(), value);
    }
    Some(Value::Object(arguments).to_string())
}

/// Parses the value of an argument: JSON, or else text.
fn parse_value(value: &str) -> Value {
    let value = value.trim();
    serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()))
}
