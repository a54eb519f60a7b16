//! The body of a request to the Responses API.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::reasoning_items::{PHASE_FIELD, rebuild_item, returnable_item};
use crate::{
    ChatRequest, FoundTools, ToolChoice, ToolSpec,
    openai::request_plan::{NO_EFFORT, OpenAiPlan, reasoning_effort_value},
    prompt::{PromptTurn, ToolExchange, arguments_object, prompt_turns, sanitize_tool_name},
    provider_blocks::{BlockFormat, ReplyPart, without_trailing_reasoning},
    quirks::ModelQuirk,
};

/// Requests the reasoning in encrypted form, so that it can be returned: nothing is stored at the provider.
const ENCRYPTED_REASONING: &str = "reasoning.encrypted_content";

/// The body of a request.
#[derive(Serialize)]
pub(crate) struct ResponsesBody<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    instructions: &'a str,
    input: Vec<ResponsesItem<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<ResponsesTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<ReasoningOptions>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    include: Vec<&'static str>,
    store: bool,
    stream: bool,
}

#[derive(Serialize)]
struct ReasoningOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ResponsesItem<'a> {
    User {
        role: &'static str,
        content: [InputText<'a>; 1],
    },
    Assistant {
        role: &'static str,
        content: Cow<'a, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        phase: Option<Value>,
    },
    FunctionCall {
        r#type: &'static str,
        call_id: &'a str,
        name: Cow<'a, str>,
        /// A JSON object, encoded as a string.
        arguments: String,
    },
    FunctionOutput {
        r#type: &'static str,
        call_id: &'a str,
        output: Cow<'a, str>,
    },
    /// Tools that the model may call from here on.
    AdditionalTools {
        r#type: &'static str,
        role: &'static str,
        tools: Vec<ResponsesTool<'a>>,
    },
    /// Reasoning that is returned unchanged.
    Reasoning(Value),
}

#[derive(Serialize)]
struct InputText<'a> {
    r#type: &'static str,
    text: Cow<'a, str>,
}

#[derive(Serialize)]
struct ResponsesTool<'a> {
    r#type: &'static str,
    name: &'a str,
    description: &'a str,
    parameters: &'a Map<String, Value>,
    /// Schemas of MCP servers rarely meet the requirements of strict mode.
    strict: bool,
}

impl ResponsesBody<'_> {
    /// Returns the quirks that would remove a parameter of this body, those with more specific keywords first.
    pub(crate) fn removable_parameters(&self) -> Vec<ModelQuirk> {
        let reasoning = self.reasoning.as_ref();
        let loads_tools = self.input.iter().any(|item| matches!(item, ResponsesItem::AdditionalTools { .. }));
        let parts = [
            (loads_tools, ModelQuirk::NoDeferredTools),
            (self.temperature.is_some(), ModelQuirk::NoTemperature),
            (!self.include.is_empty(), ModelQuirk::NoEncryptedReasoning),
            (reasoning.is_some_and(|reasoning| reasoning.summary.is_some()), ModelQuirk::NoReasoningSummary),
            (reasoning.is_some_and(|reasoning| reasoning.effort == Some(NO_EFFORT)), ModelQuirk::AlwaysThinks),
            (reasoning.is_some(), ModelQuirk::NoThinking),
            (self.tool_choice.is_some(), ModelQuirk::NoToolChoice),
            (!self.tools.is_empty(), ModelQuirk::NoTools),
        ];
        parts.into_iter().filter_map(|(sent, quirk)| sent.then_some(quirk)).collect()
    }

    /// Returns whether the body contains data that only this model can read.
    pub(crate) fn has_returned_blocks(&self) -> bool {
        self.input.iter().any(|item| matches!(item, ResponsesItem::Reasoning(_)))
    }
}

impl<'a> ResponsesBody<'a> {
    /// Builds the body of a request.
    pub(crate) fn build(request: &'a ChatRequest, plan: &OpenAiPlan) -> Self {
        let offered = if plan.allows(ModelQuirk::NoTools) { &request.tools[..] } else { &[] };
        let tools: Vec<_> = offered.iter().map(|tool| describe_tool(tool, plan)).collect();
        let tools_forbidden =
            request.tool_choice == ToolChoice::None && !tools.is_empty() && plan.allows(ModelQuirk::NoToolChoice);
        let allows_thinking = plan.allows(ModelQuirk::NoThinking);
        let reasoning = ReasoningOptions {
            effort: reasoning_effort_value(request, plan),
            summary: plan.allows(ModelQuirk::NoReasoningSummary).then_some("auto"),
        };
        let has_options = reasoning.effort.is_some() || reasoning.summary.is_some();
        let is_encrypted = plan.allows(ModelQuirk::NoEncryptedReasoning);
        Self {
            model: &request.model,
            instructions: &request.system,
            input: build_items(request, plan),
            tools,
            tool_choice: tools_forbidden.then_some("none"),
            temperature: request.temperature.filter(|_| plan.allows(ModelQuirk::NoTemperature)),
            max_output_tokens: request.max_tokens,
            reasoning: (allows_thinking && has_options).then_some(reasoning),
            include: if is_encrypted { vec![ENCRYPTED_REASONING] } else { Vec::new() },
            store: false,
            stream: true,
        }
    }
}

fn describe_tool<'a>(tool: &'a ToolSpec, plan: &OpenAiPlan) -> ResponsesTool<'a> {
    ResponsesTool {
        r#type: "function",
        name: &tool.name,
        description: plan.dialect.fit_description(&tool.description),
        parameters: &tool.input_schema,
        strict: false,
    }
}

fn build_items<'a>(request: &'a ChatRequest, plan: &OpenAiPlan) -> Vec<ResponsesItem<'a>> {
    let mut items = Vec::with_capacity(request.messages.len());
    for turn in prompt_turns(request, BlockFormat::OpenaiResponses, &plan.dialect) {
        match turn {
            PromptTurn::User(text) => {
                items.push(ResponsesItem::User { role: "user", content: [InputText { r#type: "input_text", text }] });
            }
            PromptTurn::Assistant { text, exchanges, same_model } => {
                let new_tools = exchanges.iter().flat_map(|e| request.found_tools.find_new_by_search(&e.call.id));
                let new_tools: Vec<_> = match plan.allows(ModelQuirk::NoTools) {
                    true => new_tools.map(|tool| describe_tool(tool, plan)).collect(),
                    false => Vec::new(),
                };
                let (calls, outputs): (Vec<_>, Vec<_>) =
                    exchanges.into_iter().map(|exchange| tool_items(exchange, &request.found_tools)).unzip();
                if let Some(parts) = same_model.filter(|_| plan.return_blocks).and_then(|content| content.parts) {
                    let mut calls = calls.into_iter();
                    items.extend(without_trailing_reasoning(parts).into_iter().filter_map(|part| match part {
                        ReplyPart::Text(text, mut data) => {
                            let phase = data.remove(PHASE_FIELD);
                            Some(ResponsesItem::Assistant { role: "assistant", content: Cow::Borrowed(text), phase })
                        }
                        ReplyPart::Reasoning(text, data) => rebuild_item(text, data).map(ResponsesItem::Reasoning),
                        ReplyPart::Opaque(item) => returnable_item(item).map(ResponsesItem::Reasoning),
                        ReplyPart::Call(_) => calls.next(),
                    }));
                } else {
                    items.extend(text.map(|text| ResponsesItem::Assistant {
                        role: "assistant",
                        content: text,
                        phase: None,
                    }));
                    items.extend(calls);
                }
                items.extend(outputs);
                if !new_tools.is_empty() {
                    items.push(ResponsesItem::AdditionalTools {
                        r#type: "additional_tools",
                        role: "developer",
                        tools: new_tools,
                    });
                }
            }
        }
    }
    items
}

fn tool_items<'a>(exchange: ToolExchange<'a>, found_tools: &FoundTools) -> (ResponsesItem<'a>, ResponsesItem<'a>) {
    let ToolExchange { call, result, .. } = exchange;
    let call_id = call.id.as_str();
    let found: Vec<&str> = found_tools.find_by_search(&call.id).iter().map(|tool| tool.name.as_str()).collect();
    // The schemas follow as definitions.
    let result = if found.is_empty() { result } else { format!("These tools are loaded: {}", found.join(", ")).into() };
    let arguments = json!(arguments_object(call)).to_string();
    (
        ResponsesItem::FunctionCall {
            r#type: "function_call",
            call_id,
            name: sanitize_tool_name(&call.name),
            arguments,
        },
        ResponsesItem::FunctionOutput { r#type: "function_call_output", call_id, output: result },
    )
}
