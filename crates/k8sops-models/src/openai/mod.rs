//! OpenAI's two protocols and the servers that speak them: the Responses API of OpenAI itself, and chat completions,
//! which most other servers speak (vLLM, llama.cpp, LM Studio, Gemini, OpenRouter, Azure, …).

mod chat;
mod model;
#[cfg(test)]
mod published_types;
mod request_plan;
mod responses;

#[cfg(any(test, fuzzing))]
pub(crate) use chat::{ChatCompletionsAssembler, ChatCompletionsBody};
pub(crate) use model::OpenAiModel;
#[cfg(any(test, fuzzing))]
pub(crate) use request_plan::OpenAiPlan;
#[cfg(any(test, fuzzing))]
pub(crate) use responses::{ResponsesAssembler, ResponsesBody};
