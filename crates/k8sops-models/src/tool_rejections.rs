//! Tools that a model's server rejects, learned from its rejections: the tool is left out, and the request is sent again.
//!
//! A provider answers 400 to the whole request because of the schema of one tool, and names the tool. Without this, one tool
//! of one MCP server would make every message of every session fail.

use std::{
    collections::{BTreeSet, HashMap},
    sync::LazyLock,
};

use parking_lot::Mutex;
use regex::Regex;

use crate::{ChatRequest, Dialect, ModelError, ProviderNotice, ToolSpec, quirks::rejection_text};

/// Names of tools that a notice lists.
const MAX_NAMED_TOOLS: usize = 10;

/// The position of a tool in the request, as `tools[3].function`, `tools.3.custom` or `tools[0].function_declarations[3]`.
static TOOL_POSITION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\b(?:tools\[0\]\.function_?declarations|tools|functions)(?:\[|\.)(\d{1,4})\b")
        .expect("a valid pattern")
});

/// The largest number of tools, as `maximum length 128`, `at most 64 tools` or `limit of 20`.
static TOOL_LIMIT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:maximum|max\b|at most|up to|limit|no more than|less than or equal to)\D{0,40}?(\d{1,4})\b")
        .expect("a valid pattern")
});

/// What the models of one provider reject.
#[derive(Debug, Default)]
pub(crate) struct RejectedTools(Mutex<HashMap<String, ModelRejections>>);

#[derive(Debug, Default, Clone)]
struct ModelRejections {
    /// The tools as they were sent: one that changes is tried again.
    tools: Vec<ToolSpec>,
    /// The largest number of tools that the model accepts.
    limit: Option<usize>,
}

impl RejectedTools {
    /// Removes the tools of a request that its model rejects, and those beyond the number that its server accepts. Tools that
    /// are loaded in the conversation do not count.
    pub(crate) fn leave_out_rejected(&self, request: &mut ChatRequest, dialect: &Dialect) {
        let most = usize::try_from(dialect.max_tools).unwrap_or(usize::MAX);
        let all = self.0.lock();
        let Some(rejections) = all.get(&request.model) else {
            if request.tools.len() > most {
                request.tools = request.tools[..most].into();
            }
            return;
        };
        let accepted = request.tools.iter().filter(|tool| !rejections.tools.contains(tool));
        request.tools = accepted.take(rejections.limit.unwrap_or(most).min(most)).cloned().collect();
        request.found_tools.retain_tools(|tool| !rejections.tools.contains(tool));
    }

    /// Records what of the tools of `request` was the reason of a rejection. If it returns true, the request is to be sent
    /// again [without those that are rejected](Self::leave_out_rejected), which are more.
    pub(crate) fn learn_from_rejection(&self, request: &ChatRequest, error: &ModelError) -> bool {
        let Some(text) = rejection_text(error, &request.model) else { return false };
        let mut all = self.0.lock();
        let sent: Vec<&ToolSpec> = request.tools.iter().chain(request.found_tools.specs()).collect();
        if let Some(tool) = find_rejected_tool(&text, &sent) {
            tracing::warn!(model = request.model, tool = tool.name, "tool left out: the provider rejects it");
            all.entry(request.model.clone()).or_default().tools.push(tool.clone());
            return true;
        }
        if let Some(limit) = find_tool_limit(&text, request.tools.len()) {
            tracing::warn!(model = request.model, limit, "tools left out: the provider accepts fewer");
            all.entry(request.model.clone()).or_default().limit = Some(limit);
            return true;
        }
        false
    }
}

/// Returns the notice for the session if tools of a request were left out.
pub(crate) fn left_out_notice(offered: &[ToolSpec], request: &ChatRequest) -> Option<ProviderNotice> {
    let sent: BTreeSet<&str> =
        request.tools.iter().chain(request.found_tools.specs()).map(|tool| tool.name.as_str()).collect();
    let left_out: Vec<&str> =
        offered.iter().map(|tool| tool.name.as_str()).filter(|name| !sent.contains(name)).collect();
    let model = &request.model;
    if left_out.is_empty() {
        return None;
    }
    let named = left_out[..left_out.len().min(MAX_NAMED_TOOLS)].join(", ");
    let more = left_out.len().saturating_sub(MAX_NAMED_TOOLS);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let message = format!("the provider of `{model}` rejects these tools, so they are left out: {named}{more}");
    Some(ProviderNotice { code: "tools_left_out", message })
}

/// Returns the tool that a rejection is about. Rejections of past calls and of messages name tools, too, so the text must be
/// about a schema, or name a position in the list of tools.
fn find_rejected_tool<'a>(text: &str, tools: &[&'a ToolSpec]) -> Option<&'a ToolSpec> {
    let position = TOOL_POSITION.captures(text).and_then(|found| found[1].parse::<usize>().ok());
    if let Some(tool) = position.and_then(|position| tools.get(position)) {
        return Some(*tool);
    }
    let is_about_schema = ["schema", "parameters", "function name", "tool name", "description"];
    if !is_about_schema.iter().any(|word| text.contains(word)) {
        return None;
    }
    let is_part_of_name = |char: char| char.is_ascii_alphanumeric() || matches!(char, '_' | '-');
    let named = |tool: &&&ToolSpec| {
        let name = tool.name.to_lowercase();
        text.match_indices(&name).any(|(at, _)| {
            let before = text[..at].chars().next_back();
            let after = text[at + name.len()..].chars().next();
            // A short name may be a word of the message.
            matches!(before, Some('\'' | '"' | '`'))
                || name.contains(['_', '-'])
                    && !before.is_some_and(is_part_of_name)
                    && !after.is_some_and(is_part_of_name)
        })
    };
    tools.iter().filter(named).max_by_key(|tool| tool.name.len()).copied()
}

/// Returns the number of tools that a rejection allows, if it is about their number.
fn find_tool_limit(text: &str, sent: usize) -> Option<usize> {
    let is_about_number = text.contains("tool") || text.contains("function");
    let is_too_long = ["too long", "too many", "exceed", "maximum", "at most", "no more than"];
    if !is_about_number || !is_too_long.iter().any(|words| text.contains(words)) {
        return None;
    }
    let limits = TOOL_LIMIT.captures_iter(text).filter_map(|found| found[1].parse::<usize>().ok());
    limits.filter(|limit| (1..sent).contains(limit)).max()
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn tools(names: &[&str]) -> Vec<ToolSpec> {
        let spec =
            |name: &&str| ToolSpec { name: (*name).to_owned(), description: String::new(), input_schema: Map::new() };
        names.iter().map(spec).collect()
    }

    #[test]
    fn rejected_tool_is_found_by_name_or_position() {
        let tools = tools(&["get", "pods_list", "pods_list_in_namespace"]);
        let tools: Vec<&ToolSpec> = tools.iter().collect();
        let rows = [
            (
                "invalid schema for function 'pods_list': in context=('properties', 'x'), array schema missing items",
                Some(1),
            ),
            ("invalid schema for function 'pods_list_in_namespace': no type", Some(2)),
            ("invalid schema for function 'get': no type", Some(0)),
            ("tools.2.custom.input_schema: json schema is invalid. it must match json schema draft 2020-12", Some(2)),
            ("tools.1.custom.input_schema.properties: property keys should match pattern", Some(1)),
            ("invalid 'tools[0].function.name': string does not match pattern", Some(0)),
            ("* generatecontentrequest.tools[0].function_declarations[1].parameters: should be non-empty", Some(1)),
            ("tools[0].function_declarations[2].parameters.properties[a].items: missing field", Some(2)),
            ("the schema of pods_list cannot be compiled to a grammar", Some(1)),
            // About the conversation, or about no tool in particular.
            ("an assistant message with 'tool_calls' must be followed by tool messages: pods_list", None),
            ("messages[3].tool_calls[0].function.arguments is no object: pods_list", None),
            ("messages.3.content.0: no `tool_result` for pods_list", None),
            ("unsupported parameter: 'temperature'", None),
            ("get a valid schema", None),
            ("tools[99] is invalid", None),
        ];
        for (text, expected) in rows {
            assert_eq!(
                find_rejected_tool(text, &tools).map(|tool| &*tool.name),
                expected.map(|at: usize| &*tools[at].name),
                "{text}"
            );
        }
    }

    #[test]
    fn largest_number_of_tools_is_found() {
        let rows = [
            (
                "invalid 'tools': array too long. expected an array with maximum length 128, but got an array with length 150 instead.",
                Some(128),
            ),
            ("too many tools: at most 64 are accepted", Some(64)),
            ("the number of functions exceeds the limit of 20", Some(20)),
            ("maximum number of tools is 16 (150 given)", Some(16)),
            ("maximum context length is 100 tokens", None),
            ("too many tools", None),
            ("tools: at most 500", None),
        ];
        for (text, expected) in rows {
            assert_eq!(find_tool_limit(text, 150), expected, "{text}");
        }
    }
}
