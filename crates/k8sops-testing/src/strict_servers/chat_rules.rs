//! Rules of servers with chat completions.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    server::StrictServer,
    violation::{ATTACK_PHRASE, VALID_SIGNATURE, Violation, is_tool_name, require},
};

/// Checks a request by the rules that all servers have, and by those of one server.
pub(super) fn check_chat(server: StrictServer, body: &Value) -> Result<(), Violation> {
    let messages = body["messages"].as_array().cloned().unwrap_or_default();
    check_tools(body)?;
    check_contents(&messages)?;
    // Real servers render the template before they look at calls.
    match server {
        StrictServer::OpenaiChat | StrictServer::AzureOpenai => {
            // OpenAI, "Reasoning models": `max_tokens` is not supported with these models.
            require(body.get("max_tokens").is_none(), || {
                "Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.".into()
            })?;
            if server == StrictServer::AzureOpenai {
                check_content_filter(&messages)?;
            }
            check_pairs(&messages)
        }
        StrictServer::Gemini => check_signatures(&messages).and_then(|()| check_pairs(&messages)),
        StrictServer::Mistral | StrictServer::MistralByGateway => {
            check_mistral_fields(body, &messages)?;
            check_mistral_order(&messages)?;
            check_pairs(&messages)
        }
        StrictServer::Deepseek => {
            check_pairs(&messages)?;
            // DeepSeek, "Thinking mode": a turn with tool calls keeps its reasoning for the whole conversation.
            let lacks =
                |m: &&Value| has_calls(m) && m["reasoning_content"].as_str().is_none_or(|text| text.trim().is_empty());
            require(!messages.iter().any(|m| lacks(&m)), || {
                "The `reasoning_content` in the thinking mode must be passed back to the API.".into()
            })
        }
        StrictServer::Groq => {
            check_groq_fields(&messages)?;
            check_pairs(&messages)
        }
        StrictServer::BedrockGateway => check_bedrock(body, &messages),
        StrictServer::Vllm => check_alternation(&messages).and_then(|()| check_pairs(&messages)),
        StrictServer::LlamaCpp => {
            // The template of Llama 3: one call per message.
            let calls = messages.iter().map(|m| m["tool_calls"].as_array().map_or(0, Vec::len)).max().unwrap_or(0);
            require(calls < 2, || "This model only supports single tool-calls at once!".into())?;
            check_pairs(&messages)
        }
        StrictServer::LmStudio | StrictServer::Silent => check_gemma_template(&messages),
        StrictServer::OpenaiResponses | StrictServer::Anthropic | StrictServer::Ollama => Ok(()),
    }
}

fn role(message: &Value) -> &str {
    message["role"].as_str().unwrap_or_default()
}

fn has_calls(message: &Value) -> bool {
    message["tool_calls"].as_array().is_some_and(|calls| !calls.is_empty())
}

/// OpenAI, chat completions: bounds of tools, and `tool_choice` only with tools.
fn check_tools(body: &Value) -> Result<(), Violation> {
    let tools = body.get("tools").and_then(Value::as_array);
    if let Some(tools) = tools {
        require(!tools.is_empty(), || "Invalid 'tools': empty array. Expected an array with minimum length 1.".into())?;
        require(tools.len() <= 128, || {
            format!(
                "Invalid 'tools': array too long. Expected an array with maximum length 128, but got an array with length {} instead.",
                tools.len()
            )
        })?;
        for (at, tool) in tools.iter().enumerate() {
            let function = &tool["function"];
            require(function["name"].as_str().is_some_and(is_tool_name), || {
                format!("Invalid 'tools[{at}].function.name': string does not match pattern '^[a-zA-Z0-9_-]{{1,64}}$'.")
            })?;
            require(function["description"].as_str().is_none_or(|text| text.chars().count() <= 1024), || {
                format!(
                    "Invalid 'tools[{at}].function.description': string too long. Expected a string with maximum length 1024."
                )
            })?;
        }
    }
    require(tools.is_some() || body.get("tool_choice").is_none(), || {
        "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.".into()
    })
}

/// OpenAI, chat completions: contents are strings, and only an assistant with calls may have none.
fn check_contents(messages: &[Value]) -> Result<(), Violation> {
    for (at, message) in messages.iter().enumerate() {
        let is_known = matches!(role(message), "system" | "developer" | "user" | "assistant" | "tool");
        require(is_known, || format!("Invalid value: '{}' (messages[{at}].role).", role(message)))?;
        let is_valid = message["content"].is_string() || role(message) == "assistant" && has_calls(message);
        require(is_valid, || {
            format!("Invalid value for 'content': expected a string, got null. (messages.[{at}].content)")
        })?;
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            let function = &call["function"];
            require(function["name"].as_str().is_some_and(is_tool_name), || {
                format!("Invalid 'messages[{at}].tool_calls[0].function.name': string does not match pattern.")
            })?;
            let arguments = function["arguments"].as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
            require(arguments.is_some_and(|arguments| arguments.is_object()), || {
                format!("messages[{at}].tool_calls[0].function.arguments is not a JSON object")
            })?;
            require(call["id"].as_str().is_some_and(|id| (1..=40).contains(&id.len())), || {
                format!(
                    "Invalid 'messages[{at}].tool_calls[0].id': string too long. Expected a string with maximum length 40."
                )
            })?;
        }
    }
    Ok(())
}

/// OpenAI, chat completions: calls and results follow each other.
fn check_pairs(messages: &[Value]) -> Result<(), Violation> {
    let mut open = BTreeSet::new();
    for message in messages {
        if role(message) == "tool" {
            let id = message["tool_call_id"].as_str().unwrap_or_default();
            require(open.remove(id), || {
                "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.".into()
            })?;
            continue;
        }
        require(open.is_empty(), || {
            format!(
                "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The following tool_call_ids did not have response messages: {open:?}"
            )
        })?;
        let calls = message["tool_calls"].as_array().into_iter().flatten();
        for call in calls {
            let id = call["id"].as_str().unwrap_or_default().to_owned();
            require(open.insert(id), || "Duplicate value for 'tool_call_id'".into())?;
        }
    }
    require(open.is_empty(), || {
        format!(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id': {open:?}"
        )
    })
}

/// Azure OpenAI, content filtering: a prompt that looks like an attack is refused, wherever its words come from.
fn check_content_filter(messages: &[Value]) -> Result<(), Violation> {
    let is_attack = |m: &Value| m["content"].as_str().is_some_and(|text| text.contains(ATTACK_PHRASE));
    if messages.iter().any(is_attack) {
        return Err(Violation::with_code(
            "content_filter",
            "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt and retry.",
        ));
    }
    Ok(())
}

/// Gemini, "Thought signatures": the first call of each step of the current turn must have its signature, or the documented
/// placeholder; a signature of another model is rejected.
fn check_signatures(messages: &[Value]) -> Result<(), Violation> {
    let current = messages.iter().rposition(|m| role(m) == "user").unwrap_or(0);
    for (at, message) in messages.iter().enumerate().filter(|(_, m)| has_calls(m)) {
        for (n, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
            let signature = call.pointer("/extra_content/google/thought_signature").and_then(Value::as_str);
            match signature {
                Some(VALID_SIGNATURE | "skip_thought_signature_validator") => {}
                Some(_) => return Err(Violation::new("Thought signature is not valid.")),
                None if at > current && n == 0 => {
                    let name = call["function"]["name"].as_str().unwrap_or_default();
                    return Err(Violation::new(format!(
                        "Function call is missing a thought_signature in functionCall parts. This is required for tools to work correctly. Function call `default_api:{name}` , position {at}."
                    )));
                }
                None => {}
            }
        }
    }
    Ok(())
}

/// Mistral, chat completions: fields that the reference does not list are forbidden.
fn check_mistral_fields(body: &Value, messages: &[Value]) -> Result<(), Violation> {
    let forbid = |value: &Value, allowed: &[&str], path: &str| {
        let mut fields = value.as_object().into_iter().flat_map(|fields| fields.keys());
        match fields.find(|name| !allowed.contains(&name.as_str())) {
            Some(name) => Err(Violation::with_code("extra_forbidden", format!("{path}{name}"))),
            None => Ok(()),
        }
    };
    let top = ["model", "messages", "tools", "tool_choice", "temperature", "max_tokens", "stream", "reasoning_effort"];
    forbid(body, &top, "")?;
    for (at, message) in messages.iter().enumerate() {
        let allowed: &[&str] = match role(message) {
            "assistant" => &["role", "content", "tool_calls", "prefix"],
            "tool" => &["role", "content", "tool_call_id", "name"],
            _ => &["role", "content"],
        };
        forbid(message, allowed, &format!("messages.{at}.{}.", role(message)))?;
        for call in message["tool_calls"].as_array().into_iter().flatten() {
            forbid(call, &["id", "type", "function", "index"], &format!("messages.{at}.assistant.tool_calls."))?;
            let id = call["id"].as_str().unwrap_or_default();
            require(id.len() == 9 && id.bytes().all(|b| b.is_ascii_alphanumeric()), || {
                format!("Tool call id was {id} but must be a-z, A-Z, 0-9, with a length of 9.")
            })?;
        }
    }
    Ok(())
}

/// Mistral, order of messages: an assistant stands between a tool and the user, and the user or a tool is last.
fn check_mistral_order(messages: &[Value]) -> Result<(), Violation> {
    for pair in messages.windows(2) {
        let [before, after] = [role(&pair[0]), role(&pair[1])];
        let is_wrong = before == "tool" && !matches!(after, "tool" | "assistant")
            || after == "tool" && !(before == "tool" || has_calls(&pair[0]));
        require(!is_wrong, || format!("Unexpected role '{after}' after role '{before}'"))?;
    }
    let last = messages.last().map(role).unwrap_or_default();
    require(matches!(last, "user" | "tool"), || {
        format!("Expected last role User or Tool (or Assistant with prefix True) for serving but got {last}")
    })
}

/// Groq: unknown properties of messages are unsupported.
fn check_groq_fields(messages: &[Value]) -> Result<(), Violation> {
    for (at, message) in messages.iter().enumerate() {
        for name in ["reasoning_content", "reasoning_details"] {
            require(message.get(name).is_none(), || {
                format!(
                    "'messages.{at}' : for 'role:assistant' the following must be satisfied[('messages.{at}' : property '{name}' is unsupported)]"
                )
            })?;
        }
        let mut calls = message["tool_calls"].as_array().into_iter().flatten();
        require(calls.all(|call| call.get("extra_content").is_none()), || {
            format!(
                "'messages.{at}' : for 'role:assistant' the following must be satisfied[('messages.{at}.tool_calls.0' : property 'extra_content' is unsupported)]"
            )
        })?;
    }
    Ok(())
}

/// Bedrock, Converse: tools are configured if calls occur, no text is blank, and the user begins.
fn check_bedrock(body: &Value, messages: &[Value]) -> Result<(), Violation> {
    let uses_tools = messages.iter().any(|m| has_calls(m) || role(m) == "tool");
    require(!uses_tools || body.get("tools").is_some(), || {
        "Bedrock doesn't support tool calling without `tools=` param specified. Pass `tools=` param OR set `modify_params=True`.".into()
    })?;
    for (at, message) in messages.iter().enumerate() {
        require(message["content"].as_str().is_some_and(|text| !text.trim().is_empty()), || {
            format!(
                "The text field in the ContentBlock object at messages.{at}.content.0 is blank. Add text to the text field, and try again."
            )
        })?;
    }
    let first = messages.iter().find(|m| !matches!(role(m), "system" | "developer"));
    require(first.is_none_or(|m| role(m) == "user"), || {
        "A conversation must start with a user message. Try again with a conversation that starts with a user message."
            .into()
    })?;
    check_pairs(messages)
}

/// The template of Mistral's models: user and assistant alternate, calls and results aside.
fn check_alternation(messages: &[Value]) -> Result<(), Violation> {
    let mut turn = 0;
    for message in messages {
        let counts = role(message) == "user" || role(message) == "assistant" && !has_calls(message);
        if counts {
            require((role(message) == "user") == (turn % 2 == 0), || {
                "After the optional system message, conversation roles must alternate user and assistant roles except for tool calls and results.".into()
            })?;
            turn += 1;
        }
    }
    Ok(())
}

/// The template of Gemma: user and assistant alternate, and there are neither calls nor results.
fn check_gemma_template(messages: &[Value]) -> Result<(), Violation> {
    let spoken = messages.iter().filter(|m| role(m) != "system");
    for (at, message) in spoken.enumerate() {
        let is_expected = if at % 2 == 0 { role(message) == "user" } else { role(message) == "assistant" };
        require(is_expected && !has_calls(message), || {
            "Conversation roles must alternate user/assistant/user/assistant/...".into()
        })?;
    }
    Ok(())
}
