//! OpenAI's two protocols and the servers that speak them: the Responses API of OpenAI itself, and chat completions,
//! which most other servers speak (vLLM, llama.cpp, LM Studio, Gemini, OpenRouter, Azure, …).

mod chat;
mod model;
mod request_plan;
mod responses;

pub(crate) use model::OpenAiModel;
