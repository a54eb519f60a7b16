//! The tools of the server, and their arguments.

use k8sops_core::SessionId;
use serde_json::{Value, json};

/// The tool that asks the agent.
pub(super) const ASK: &str = "ask";
/// The tool that shows a session.
pub(super) const GET_SESSION: &str = "get_session";

/// What clients tell their model about the server.
pub(super) const INSTRUCTIONS: &str = "k8sops is an agent that diagnoses and operates Kubernetes clusters. `ask` gives it a \
    question or a task in plain words and returns its answer, which can take minutes. Pass the session_id of an answer to go on in \
    the same conversation. Changes to a cluster wait until a person approves them; there is no tool for that. `get_session` shows \
    the state and the last answer of a session, also if `ask` was interrupted.";

/// Arguments of `ask`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AskArguments {
    pub(super) question: String,
    /// `None` begins a new session.
    pub(super) session: Option<SessionId>,
}

impl AskArguments {
    /// Reads the arguments. The error is for the model, which can correct them.
    pub(super) fn parse(arguments: &Value) -> Result<Self, String> {
        let question = match arguments.get("question") {
            Some(Value::String(question)) if !question.trim().is_empty() => question.clone(),
            Some(Value::String(_)) => return Err("`question` must not be empty".to_owned()),
            Some(_) => return Err("`question` must be a text".to_owned()),
            None => return Err("`question` is missing".to_owned()),
        };
        Ok(Self { question, session: parse_session(arguments)? })
    }
}

/// Reads the optional argument `session_id`. Models fill in an empty text for what they leave out.
pub(super) fn parse_session(arguments: &Value) -> Result<Option<SessionId>, String> {
    match arguments.get("session_id") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) if id.trim().is_empty() => Ok(None),
        Some(Value::String(id)) => id.trim().parse().map(Some).map_err(|_| {
            format!(
                "there is no session {id:?}: pass the session_id of an earlier answer, or none to begin a new session"
            )
        }),
        Some(_) => Err("`session_id` must be a text".to_owned()),
    }
}

/// Returns the definitions of all tools.
pub(super) fn describe_tools() -> Value {
    let waiting = json!({
        "type": "array",
        "description": "What waits for a decision or an answer of a person",
        "items": {"type": "object", "properties": {
            "kind": {"type": "string", "enum": ["approval", "question"]},
            "id": {"type": "string"},
            "text": {"type": "string"},
        }, "required": ["kind", "id", "text"]},
    });
    let session_id = json!({"type": "string", "description": "The session, to pass to the next `ask`"});
    json!([
        {
            "name": ASK,
            "title": "Ask k8sops",
            "description": "Asks the Kubernetes operations agent: a question about a cluster (\"why is checkout slow?\") or a task \
                (\"scale checkout to 3\"). The agent looks at the cluster with its own tools and returns its findings with \
                evidence. A change waits until a person approves it. It can take minutes.",
            "inputSchema": {
                "type": "object",
                "properties": {
                    "question": {"type": "string", "description": "The question or task, in plain words, with names and namespaces"},
                    "session_id": {"type": "string",
                        "description": "Session to continue, from an earlier answer. Leave it out to begin a new one."},
                },
                "required": ["question"],
            },
            "outputSchema": {
                "type": "object",
                "properties": {
                    "session_id": session_id,
                    "run_id": {"type": "string", "description": "The run that answers, as in the session's log"},
                    "outcome": {"type": "string", "enum": ["completed", "cancelled", "limit", "failed", "waiting", "interrupted"],
                        "description": "`waiting`: a person has to decide; `limit`: ask again to go on; `interrupted`: see get_session"},
                    "text": {"type": "string", "description": "The answer"},
                    "waiting": waiting,
                },
                "required": ["session_id", "outcome", "text"],
            },
            // The agent asks a person before it changes anything.
            "annotations": {"readOnlyHint": false, "destructiveHint": false, "idempotentHint": false, "openWorldHint": true},
        },
        {
            "name": GET_SESSION,
            "title": "Show a k8sops session",
            "description": "Shows what a session of the Kubernetes operations agent does: whether it works or waits for a person, the \
                steps of its newest run, and its last answer. Use it if `ask` was interrupted or returned `waiting`.",
            "inputSchema": {
                "type": "object",
                "properties": {"session_id": {"type": "string", "description": "The session, from an answer of `ask`"}},
                "required": ["session_id"],
            },
            "outputSchema": {
                "type": "object",
                "properties": {
                    "session_id": session_id,
                    "status": {"type": "string", "enum": ["idle", "working", "waiting"]},
                    "title": {"type": "string"},
                    "question": {"type": "string", "description": "The newest message of the user"},
                    "steps": {"type": "array", "description": "The tool calls since then", "items": {"type": "string"}},
                    "text": {"type": "string", "description": "The newest answer of the agent; empty if there is none yet"},
                    "waiting": waiting,
                },
                "required": ["session_id", "status", "title", "question", "steps", "text"],
            },
            "annotations": {"readOnlyHint": true, "openWorldHint": false},
        },
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_models_are_read_leniently() {
        let session = SessionId::new();
        for (arguments, expected) in [
            (json!({"question": "why?"}), None),
            (json!({"question": "why?", "session_id": null}), None),
            (json!({"question": "why?", "session_id": ""}), None),
            (json!({"question": "why?", "session_id": session, "extra": 1}), Some(session)),
            (json!({"question": "why?", "session_id": format!(" {session} ")}), Some(session)),
        ] {
            let read = AskArguments::parse(&arguments).unwrap();
            assert_eq!((read.question.as_str(), read.session), ("why?", expected), "{arguments}");
        }
        for arguments in [
            Value::Null,
            json!({}),
            json!({"question": " "}),
            json!({"question": 1}),
            json!({"question": "why?", "session_id": "default"}),
            json!({"question": "why?", "session_id": 1}),
        ] {
            assert!(AskArguments::parse(&arguments).is_err(), "{arguments}");
        }
    }
}
