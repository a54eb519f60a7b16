//! Rules of the Responses API, the Messages API and Ollama's own API.

use std::collections::BTreeSet;

use serde_json::Value;

use super::violation::{VALID_SIGNATURE, Violation, is_tool_name, require};

/// OpenAI, Responses: every call has an output and every output a call, reasoning is followed by what it led to, and encrypted
/// reasoning is the account's own.
pub(super) fn check_responses(body: &Value) -> Result<(), Violation> {
    let items = body["input"].as_array().cloned().unwrap_or_default();
    let kind = |item: &Value| item["type"].as_str().unwrap_or("message").to_owned();
    let ids = |wanted: &str| -> BTreeSet<String> {
        let of_kind = items.iter().filter(|item| kind(item) == wanted);
        of_kind.filter_map(|item| item["call_id"].as_str().map(str::to_owned)).collect()
    };
    let calls = ids("function_call");
    let outputs = ids("function_call_output");
    if let Some(id) = calls.difference(&outputs).next() {
        return Err(Violation::new(format!("No tool output found for function call {id}.")));
    }
    if let Some(id) = outputs.difference(&calls).next() {
        return Err(Violation::new(format!("No tool call found for function call output with call_id {id}.")));
    }
    for (at, item) in items.iter().enumerate() {
        match kind(item).as_str() {
            "reasoning" => {
                let next = items.get(at + 1).map(&kind).unwrap_or_default();
                let is_followed = matches!(next.as_str(), "function_call" | "message" | "reasoning")
                    && items.get(at + 1).is_none_or(|next| next["role"] != "user");
                require(is_followed, || {
                    let id = item["id"].as_str().unwrap_or_default();
                    format!("Item '{id}' of type 'reasoning' was provided without its required following item.")
                })?;
                require(item["encrypted_content"] == VALID_SIGNATURE, || {
                    "The encrypted content for item rs_1 could not be verified. Reason: Encrypted content could not be decrypted or parsed.".into()
                })?;
            }
            "function_call" => {
                require(item["name"].as_str().is_some_and(is_tool_name), || {
                    format!("Invalid 'input[{at}].name': string does not match pattern '^[a-zA-Z0-9_-]+$'.")
                })?;
                require(item["call_id"].as_str().is_some_and(|id| id.len() <= 64), || {
                    format!("Invalid 'input[{at}].call_id': string too long. Expected a string with maximum length 64.")
                })?;
            }
            "function_call_output" => {
                require(item["output"].is_string(), || format!("Invalid type for 'input[{at}].output'."))?;
            }
            "additional_tools" => {
                require(item["role"] == "developer", || format!("Invalid value for 'input[{at}].role'."))?;
                let tools = item["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
                require(!tools.is_empty(), || format!("Invalid 'input[{at}].tools': empty array."))?;
                let is_function = |tool: &Value| tool["type"] == "function" && tool["parameters"].is_object();
                require(tools.iter().all(is_function), || format!("Invalid value for 'input[{at}].tools'."))?;
            }
            _ => {}
        }
    }
    let added = items.iter().filter(|item| kind(item) == "additional_tools").map(|item| &item["tools"]);
    let tools = [&body["tools"]].into_iter().chain(added).filter_map(Value::as_array).flatten();
    let mut names = BTreeSet::new();
    for name in tools.filter_map(|tool| tool["name"].as_str()) {
        require(names.insert(name), || format!("Tool names must be unique: '{name}'."))?;
    }
    let has_tools = body["tools"].as_array().is_some_and(|tools| !tools.is_empty());
    require(has_tools || body.get("tool_choice").is_none(), || {
        "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.".into()
    })
}

/// Anthropic, Messages: results follow their calls at once, roles alternate, texts are not blank, reasoning has its signature,
/// tools are defined where calls occur, and the user has the last word.
pub(super) fn check_messages(body: &Value) -> Result<(), Violation> {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    let blocks = |message: &Value| message["content"].as_array().cloned().unwrap_or_default();
    let ids = |message: &Value, kind: &str, key: &str| -> Vec<String> {
        let of_kind = blocks(message).into_iter().filter(|block| block["type"] == kind);
        of_kind.filter_map(|block| block[key].as_str().map(str::to_owned)).collect()
    };
    require(messages.first().is_some_and(|first| first["role"] == "user"), || {
        "messages: first message must use the \"user\" role".into()
    })?;
    require(messages.last().is_some_and(|last| last["role"] == "user"), || {
        "This model does not support assistant message prefill. The conversation must end with a user message.".into()
    })?;
    let mut known = BTreeSet::new();
    for (at, message) in messages.iter().enumerate() {
        require(!blocks(message).is_empty(), || format!("messages.{at}: all messages must have non-empty content"))?;
        for (n, block) in blocks(message).iter().enumerate() {
            let path = format!("messages.{at}.content.{n}");
            match block["type"].as_str().unwrap_or_default() {
                "text" => require(block["text"].as_str().is_some_and(|text| !text.trim().is_empty()), || {
                    format!("{path}: text content blocks must contain non-whitespace text")
                })?,
                "thinking" => require(block["signature"] == VALID_SIGNATURE, || {
                    format!("{path}: Invalid `signature` in `thinking` block")
                })?,
                "tool_use" => {
                    let id = block["id"].as_str().unwrap_or_default().to_owned();
                    let is_id = id.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
                    require(is_id && !id.is_empty(), || {
                        format!("{path}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
                    })?;
                    require(known.insert(id), || format!("{path}: `tool_use` ids must be unique"))?;
                    require(block["input"].is_object(), || {
                        format!("{path}.tool_use.input: Input should be a valid dictionary")
                    })?;
                    require(block["name"].as_str().is_some_and(is_tool_name), || {
                        format!("{path}.tool_use.name: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
                    })?;
                }
                _ => {}
            }
        }
        let uses = ids(message, "tool_use", "id");
        let results = messages.get(at + 1).map(|next| ids(next, "tool_result", "tool_use_id")).unwrap_or_default();
        require(uses.iter().all(|id| results.contains(id)), || {
            format!(
                "messages.{at}: `tool_use` ids were found without `tool_result` blocks immediately after: {uses:?}. Each `tool_use` block must have a corresponding `tool_result` block in the next message."
            )
        })?;
        let before = at.checked_sub(1).map(|at| ids(&messages[at], "tool_use", "id")).unwrap_or_default();
        let stray = ids(message, "tool_result", "tool_use_id").into_iter().find(|id| !before.contains(id));
        require(stray.is_none(), || {
            format!(
                "messages.{at}.content.0: unexpected `tool_use_id` found in `tool_result` blocks: {stray:?}. Each `tool_result` block must have a corresponding `tool_use` block in the previous message."
            )
        })?;
    }
    check_deferred_tools(body)?;
    let is_tool_block = |block: &Value| block["type"] == "tool_use" || block["type"] == "tool_result";
    let uses_tools = messages.iter().any(|message| blocks(message).iter().any(is_tool_block));
    let has_tools = body["tools"].as_array().is_some_and(|tools| !tools.is_empty());
    require(!uses_tools || has_tools, || {
        "Requests which include `tool_use` or `tool_result` blocks must define tools".into()
    })
}

/// Anthropic, "Tool search": one tool at least is not deferred, a deferred tool has no cache mark, and a search refers to deferred
/// tools only.
fn check_deferred_tools(body: &Value) -> Result<(), Violation> {
    let tools = body["tools"].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_deferred = |tool: &&Value| tool["defer_loading"] == true;
    require(tools.is_empty() || !tools.iter().all(|tool| is_deferred(&tool)), || {
        "All tools have defer_loading set. At least one tool must be non-deferred.".into()
    })?;
    let marked = tools.iter().filter(is_deferred).find(|tool| tool.get("cache_control").is_some());
    require(marked.is_none(), || {
        format!(
            "Tool '{}' cannot have both defer_loading=true and cache_control set. Tools with defer_loading cannot use prompt caching.",
            marked.and_then(|tool| tool["name"].as_str()).unwrap_or_default()
        )
    })?;
    let deferred: BTreeSet<&str> = tools.iter().filter(is_deferred).filter_map(|tool| tool["name"].as_str()).collect();
    let blocks = |value: &Value| value["content"].as_array().cloned().unwrap_or_default();
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    for result in messages.iter().flat_map(blocks).filter(|block| block["type"] == "tool_result") {
        let parts = blocks(&result);
        let is_one_kind = parts.iter().all(|part| part["type"] == parts[0]["type"]);
        require(is_one_kind && (!parts.is_empty() || result["content"].is_string()), || {
            "tool_result.content: Input should be a text, or blocks of one kind".into()
        })?;
        for part in parts.iter().filter(|part| part["type"] == "tool_reference") {
            let name = part["tool_name"].as_str().unwrap_or_default();
            require(deferred.contains(name), || {
                format!("Tool reference '{name}' has no corresponding tool definition")
            })?;
        }
    }
    Ok(())
}

/// Ollama, `/api/chat`: arguments are objects, and contents are strings.
pub(super) fn check_ollama(body: &Value) -> Result<(), Violation> {
    for message in body["messages"].as_array().into_iter().flatten() {
        require(message["content"].is_string(), || {
            "json: cannot unmarshal null into Go struct field ChatRequest.messages.content of type string".into()
        })?;
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            require(call["function"]["arguments"].is_object(), || {
                "json: cannot unmarshal string into Go struct field ChatRequest.messages.tool_calls.function.arguments of type api.ToolCallFunctionArguments".into()
            })?;
        }
    }
    Ok(())
}
