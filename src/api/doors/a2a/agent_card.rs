//! The card: what the agent can do, and how clients reach it.

use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{human_input::HITL_EXTENSION, service_parameters::VERSION};

/// Whether clients authenticate with a key or token of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CardCredentials {
    BearerToken,
    /// Nothing, or a proxy in front of the service does it.
    NotHere,
}

/// Whether clients can ask for push notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PushSupport {
    Available,
    Unavailable,
}

/// The card of the agent.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = A2aAgentCard)]
#[serde(rename_all = "camelCase")]
pub(super) struct AgentCard {
    name: &'static str,
    description: &'static str,
    version: &'static str,
    /// The pages with the API of the service.
    documentation_url: String,
    /// Where the agent is reached, and by which binding.
    #[schema(value_type = Vec<Object>)]
    supported_interfaces: Value,
    /// What of the protocol the agent can do, and the extensions that it knows.
    #[schema(value_type = Object)]
    capabilities: Value,
    /// The media types of messages.
    default_input_modes: [&'static str; 3],
    /// The media types of artifacts.
    default_output_modes: [&'static str; 2],
    /// What the agent is good at.
    #[schema(value_type = Vec<Object>)]
    skills: Value,
    /// How clients authenticate; absent if they do not, or a proxy does it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    security_schemes: Option<Value>,
    /// Which of the schemes are needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    security_requirements: Option<Value>,
}

/// Returns the card of an agent that clients reach at `base`.
pub(super) fn describe_agent(base: &str, credentials: CardCredentials, push: PushSupport) -> AgentCard {
    let interface = |path: &str, binding: &str| json!({"url": format!("{base}{path}"), "protocolBinding": binding, "protocolVersion": VERSION});
    let needs_token = credentials == CardCredentials::BearerToken;
    let bearer = || {
        json!({"bearer": {"httpAuthSecurityScheme": {
            "scheme": "Bearer",
            "description": "An API key that the operator issued, or a token of the OIDC issuer",
        }}})
    };
    AgentCard {
        name: "k8sops",
        description: "Finds out what is wrong in Kubernetes clusters and mends it. Changes wait for approval.",
        version: env!("CARGO_PKG_VERSION"),
        documentation_url: format!("{base}/docs/"),
        supported_interfaces: json!([interface("/a2a", "JSONRPC"), interface("/a2a/v1", "HTTP+JSON")]),
        capabilities: json!({
            "streaming": true,
            "pushNotifications": push == PushSupport::Available,
            "extendedAgentCard": false,
            "extensions": [{
                "uri": HITL_EXTENSION,
                "description": "Approvals of tool calls and questions, for programs",
                "required": false,
            }],
        }),
        default_input_modes: ["text/plain", "text/markdown", "application/json"],
        default_output_modes: ["text/markdown", "text/plain"],
        skills: list_skills(),
        security_schemes: needs_token.then(bearer),
        security_requirements: needs_token.then(|| json!([{"schemes": {"bearer": {"list": []}}}])),
    }
}

fn list_skills() -> Value {
    json!([
        {
            "id": "diagnose",
            "name": "Diagnose",
            "description": "Finds the cause of a problem in a cluster by reading workloads, events, logs and metrics.",
            "tags": ["kubernetes", "troubleshooting", "sre"],
            "examples": ["Why does checkout restart?", "What is broken in the namespace payments?"],
        },
        {
            "id": "inspect",
            "name": "Inspect",
            "description": "Answers questions about the state and the configuration of clusters.",
            "tags": ["kubernetes", "inventory"],
            "examples": ["Which deployments have no memory limit?"],
        },
        {
            "id": "change",
            "name": "Change",
            "description": "Changes resources: scales, restarts, rolls back, edits. A change waits for approval, with what it would do.",
            "tags": ["kubernetes", "remediation", "approval"],
            "examples": ["Scale checkout to 3 replicas."],
        },
    ])
}
