//! Everything between a model's tool call and the MCP server that runs it: the catalog of tools, the classification of calls,
//! the approval policy, the redaction of secrets, and the truncation of outputs.
//!
//! ```text
//! model ─▶ tool name ─▶ catalog ─▶ classified call ─▶ (approval, by the agent) ─▶ redaction ─▶ MCP server
//!                                                                                                  │
//! session log, model ◀─ truncated output ◀─ stored whole ◀─ redaction ◀────────── output ◀─────────┘
//! ```
//!
//! | module | holds |
//! |---|---|
//! | `executor` | the port of the agent: [`ToolExecutor`], and [`ToolExecutorFactory`] |
//! | `session_tools` | the implementation over MCP servers: [`SessionToolFactory`] |
//! | `catalog` | all tools of all servers under names that model providers accept: [`ToolCatalog`] |
//! | `tool_offer`, `tool_search` | which tools every request has, and `find_tools`, which finds the others |
//! | `tool_text` | the texts of tools, without what says nothing |
//! | `tool_schema` | schemas of servers, rebuilt so that every model provider accepts them |
//! | `call_policy` | effect of a call: operator's rules, then the classifier, then the server's annotations |
//! | `approval_gate` | whether a call runs, waits for an approval, or is rejected: one pure function |
//! | `server_introduction` | what the model reads about a server |
//! | `redaction` | secrets become placeholders in outputs, and values again in arguments |
//! | `output` | outputs of any size, truncated to a budget of tokens and bytes |
//! | `call_preview`, `release_preview` | read what a preview shows of objects and of Helm releases |
//! | `preview_reads` | the calls of a preview, through the server of the call |
//! | `preview` | what a person who approves a call is shown of it |
//! | `attachments` | texts that come with a message of the user, treated like outputs |
//! | `output_tools` | `read_output` and `search_output`, which show the rest of a truncated output |
//!
//! What kubectl, helm and argocd do is known by the crate `k8sops-classifier`. This crate knows neither the transport to a
//! server nor the user's identity.

mod approval_gate;
mod argument_schema;
mod attachments;
mod call_errors;
mod call_policy;
mod call_preview;
mod catalog;
mod classified_call;
mod executor;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod kept_texts;
mod offered_tools;
mod options;
mod output;
mod output_tools;
mod preview;
mod preview_reads;
mod redacted_output;
mod redacting_elicitation;
mod redaction;
mod release_preview;
mod sanitize;
mod server_introduction;
mod session_tools;
#[cfg(test)]
mod tests;
mod tool_info;
mod tool_names;
mod tool_offer;
mod tool_schema;
mod tool_search;
mod tool_text;
mod user_tokens;
mod vault_registry;

pub use approval_gate::{ApprovalRequirement, ToolGate, UntrustedWord};
pub use argument_schema::ArgumentMismatch;
pub use catalog::ToolCatalog;
pub use classified_call::{ClassifiedCall, ToolRef};
pub use executor::{CallPreview, PreviewFreshness, ToolCallContext, ToolExecutor, ToolExecutorFactory, ToolOutcome};
pub use offered_tools::OfferedTools;
pub use options::*;
pub use redaction::contains_secret;
pub use server_introduction::introduce_connected_servers;
pub use session_tools::SessionToolFactory;
pub use tool_info::{LeftOutTool, ToolInfo};
pub use tool_offer::ToolOffer;
pub use user_tokens::UserTokens;

pub use k8sops_mcp::{
    CallProgress, ElicitationAnswer, ElicitationForm, ElicitationHandler, ElicitationMismatch, ElicitationRequest,
    OperatorNote, fill_elicitation_defaults, validate_elicitation_answer,
};
