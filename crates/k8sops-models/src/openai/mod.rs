//! OpenAI's two protocols and the servers that speak them: the Responses API of OpenAI itself, and chat completions,
//! which most other servers speak (vLLM, llama.cpp, LM Studio, Gemini, OpenRouter, Azure, …).

mod chat;
mod model;
mod request_plan;
mod responses;

#[cfg(test)]
pub(crate) use chat::ChatCompletionsAssembler;
pub(crate) use model::OpenAiModel;
#[cfg(test)]
pub(crate) use responses::ResponsesAssembler;
