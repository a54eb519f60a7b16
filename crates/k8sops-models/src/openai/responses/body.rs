//! The request as the Responses API takes it.

use std::borrow::Cow;

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{API, thought};
use crate::{
    ChatRequest, ToolChoice, native,
    native::Part,
    openai,
    openai::Plan,
    quirks::Quirk,
    render,
    render::{Exchange, Turn},
};

/// What the model thought comes encrypted, so that it can go back: nothing is kept at the provider.
const ENCRYPTED_REASONING: &str = "reasoning.encrypted_content";

/// The body of a request.
#[derive(Serialize)]
pub(in crate::openai) struct Body<'a> {
    model: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    instructions: &'a str,
    input: Vec<Item<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<WireTool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_choice: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning: Option<Reasoning>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    include: Vec<&'static str>,
    store: bool,
    stream: bool,
}

#[derive(Serialize)]
struct Reasoning {
    #[serde(skip_serializing_if = "Option::is_none")]
    effort: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'static str>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Item<'a> {
    User {
        role: &'static str,
        content: [InputText<'a>; 1],
    },
    Assistant {
        role: &'static str,
        content: &'a str,
    },
    Call {
        r#type: &'static str,
        call_id: &'a str,
        name: Cow<'a, str>,
        /// JSON in a string, as the protocol has it.
        arguments: String,
    },
    Output {
        r#type: &'static str,
        call_id: &'a str,
        output: Cow<'a, str>,
    },
    /// What the model thought, as it came.
    Thought(Value),
}

#[derive(Serialize)]
struct InputText<'a> {
    r#type: &'static str,
    text: &'a str,
}

#[derive(Serialize)]
struct WireTool<'a> {
    r#type: &'static str,
    name: &'a str,
    description: &'a str,
    parameters: &'a Map<String, Value>,
    /// The schemas of MCP servers are seldom of the kind that can be enforced.
    strict: bool,
}

impl Body<'_> {
    /// What of it can be left out, the more telling words first.
    pub(in crate::openai) fn optional(&self) -> Vec<Quirk> {
        let reasoning = self.reasoning.as_ref();
        let parts = [
            (self.temperature.is_some(), Quirk::NoTemperature),
            (!self.include.is_empty(), Quirk::NoEncryptedReasoning),
            (reasoning.is_some_and(|reasoning| reasoning.summary.is_some()), Quirk::NoReasoningSummary),
            (reasoning.is_some_and(|reasoning| reasoning.effort == Some(openai::NO_EFFORT)), Quirk::AlwaysThinks),
            (reasoning.is_some(), Quirk::NoThinking),
            (self.tool_choice.is_some(), Quirk::NoToolChoice),
            (!self.tools.is_empty(), Quirk::NoTools),
        ];
        parts.into_iter().filter_map(|(sent, quirk)| sent.then_some(quirk)).collect()
    }

    /// Whether the model gets anything back that only it can read.
    pub(in crate::openai) fn has_own_blocks(&self) -> bool {
        self.input.iter().any(|item| matches!(item, Item::Thought(_)))
    }
}

/// The body of a request.
pub(in crate::openai) fn of<'a>(request: &'a ChatRequest, plan: &Plan) -> Body<'a> {
    let offered = if plan.takes(Quirk::NoTools) { &request.tools[..] } else { &[] };
    let tools: Vec<_> = offered
        .iter()
        .map(|tool| WireTool {
            r#type: "function",
            name: &tool.name,
            description: &tool.description,
            parameters: &tool.input_schema,
            strict: false,
        })
        .collect();
    let forbidden = request.tool_choice == ToolChoice::None && !tools.is_empty() && plan.takes(Quirk::NoToolChoice);
    let thinks = plan.takes(Quirk::NoThinking);
    let reasoning = Reasoning {
        effort: openai::effort(request, plan),
        summary: plan.takes(Quirk::NoReasoningSummary).then_some("auto"),
    };
    let says_something = reasoning.effort.is_some() || reasoning.summary.is_some();
    let encrypted = plan.takes(Quirk::NoEncryptedReasoning);
    Body {
        model: &request.model,
        instructions: &request.system,
        input: items(request, plan.own_blocks),
        tools,
        tool_choice: forbidden.then_some("none"),
        temperature: request.temperature.filter(|_| plan.takes(Quirk::NoTemperature)),
        max_output_tokens: request.max_tokens,
        reasoning: (thinks && says_something).then_some(reasoning),
        include: if encrypted { vec![ENCRYPTED_REASONING] } else { Vec::new() },
        store: false,
        stream: true,
    }
}

fn items(request: &ChatRequest, own_blocks: bool) -> Vec<Item<'_>> {
    let mut items = Vec::with_capacity(request.messages.len());
    for turn in render::conversation(request, API) {
        match turn {
            Turn::User(text) => {
                items.push(Item::User { role: "user", content: [InputText { r#type: "input_text", text }] });
            }
            Turn::Assistant { text, exchanges, own } => {
                let (calls, outputs): (Vec<_>, Vec<_>) = exchanges.into_iter().map(exchange).unzip();
                if let Some(parts) = own.filter(|_| own_blocks).and_then(|own| own.parts) {
                    let mut calls = calls.into_iter();
                    items.extend(native::without_last_thoughts(parts).into_iter().filter_map(|part| match part {
                        Part::Text(text) => Some(Item::Assistant { role: "assistant", content: text }),
                        Part::Reasoning(text, data) => thought::rebuilt(text, data).map(Item::Thought),
                        Part::Opaque(item) => thought::given_back(item).map(Item::Thought),
                        Part::Call(_) => calls.next(),
                    }));
                } else {
                    items.extend(text.map(|text| Item::Assistant { role: "assistant", content: text }));
                    items.extend(calls);
                }
                items.extend(outputs);
            }
        }
    }
    items
}

fn exchange(exchange: Exchange<'_>) -> (Item<'_>, Item<'_>) {
    let Exchange { call, result, .. } = exchange;
    let call_id = call.id.as_str();
    let arguments = json!(render::arguments(call)).to_string();
    (
        Item::Call { r#type: "function_call", call_id, name: render::tool_name(&call.name), arguments },
        Item::Output { r#type: "function_call_output", call_id, output: result },
    )
}
