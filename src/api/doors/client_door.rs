//! The protocols in which clients connect, and which of them are open.

use k8sops_settings::ValueFormat;

/// A protocol in which clients connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientDoor {
    /// The API of k8sops itself.
    Native,
    /// Chat completions as OpenAI's API has them.
    OpenAi,
    /// Responses, the newer of OpenAI's APIs.
    Responses,
    /// AG-UI, the protocol between agents and user interfaces.
    AgUi,
    /// MCP, the protocol between agents and their tools: k8sops as a tool.
    Mcp,
    /// A2A, the protocol between agents: k8sops as one of them.
    A2a,
}

impl ClientDoor {
    /// All doors.
    pub const ALL: [Self; 6] = [Self::Native, Self::OpenAi, Self::Responses, Self::AgUi, Self::Mcp, Self::A2a];

    /// Returns the name in `K8SOPS_DOORS`, in `GET /v1/info` and in metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::OpenAi => "openai",
            Self::Responses => "responses",
            Self::AgUi => "agui",
            Self::Mcp => "mcp",
            Self::A2a => "a2a",
        }
    }

    /// Returns the door that a path belongs to; `None` for probes, documents and pages, which belong to none.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        // A base URL with a slash at its end: the client is to understand the error.
        if path.contains("//") {
            return Self::of_path(&path.replace("//", "/"));
        }
        let is_under =
            |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if is_under("/v1/models") || is_under("/v1/chat/completions") {
            return Some(Self::OpenAi);
        }
        if is_under("/v1/responses") {
            return Some(Self::Responses);
        }
        if is_under("/agui") || is_under("/api/agui") {
            return Some(Self::AgUi);
        }
        if is_under("/mcp") {
            return Some(Self::Mcp);
        }
        if is_under("/a2a") {
            return Some(Self::A2a);
        }
        // Every client asks this before it knows which doors there are.
        (is_under("/v1") && path != "/v1/info").then_some(Self::Native)
    }
}

/// The doors that are open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenDoors(Vec<ClientDoor>);

impl OpenDoors {
    /// All doors.
    #[must_use]
    pub fn all() -> Self {
        Self(ClientDoor::ALL.to_vec())
    }

    /// Whether a door is open.
    #[must_use]
    pub fn contains(&self, door: ClientDoor) -> bool {
        self.0.contains(&door)
    }

    /// Returns the names of the open doors.
    #[must_use]
    pub fn names(&self) -> Vec<&'static str> {
        self.0.iter().map(|door| door.name()).collect()
    }
}

/// Names of doors with commas between.
pub(in crate::api) const DOORS: ValueFormat<OpenDoors> = ValueFormat::described(
    "names of doors with commas between: native, openai, responses, agui, mcp, a2a",
    parse_doors,
);

fn parse_doors(text: &str) -> Option<OpenDoors> {
    let parse = |name: &str| ClientDoor::ALL.into_iter().find(|door| door.name() == name.trim());
    let named: Vec<ClientDoor> = text.split(',').map(parse).collect::<Option<_>>()?;
    // In the order of the list, each once.
    Some(OpenDoors(ClientDoor::ALL.into_iter().filter(|door| named.contains(door)).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_are_named_in_any_order() {
        assert_eq!(parse_doors("openai, native,openai").unwrap().names(), ["native", "openai"]);
        assert_eq!(parse_doors("openai").unwrap().names(), ["openai"]);
        for text in ["", "native,", "ftp", "Native", "native;openai"] {
            assert_eq!(parse_doors(text), None, "{text}");
        }
        let all: Vec<_> = ClientDoor::ALL.iter().map(|door| door.name()).collect();
        assert_eq!(parse_doors(&all.join(",")).unwrap().names(), all);
    }

    #[test]
    fn paths_belong_to_doors() {
        for (path, door) in [
            ("/v1/models", Some(ClientDoor::OpenAi)),
            ("/v1/models/k8sops", Some(ClientDoor::OpenAi)),
            ("/v1/chat/completions", Some(ClientDoor::OpenAi)),
            ("/v1/responses", Some(ClientDoor::Responses)),
            ("/v1/responses/resp_1/cancel", Some(ClientDoor::Responses)),
            ("/agui", Some(ClientDoor::AgUi)),
            ("/api/agui/chat", Some(ClientDoor::AgUi)),
            ("/mcp", Some(ClientDoor::Mcp)),
            ("/mcp/", Some(ClientDoor::Mcp)),
            ("/v1//chat/completions", Some(ClientDoor::OpenAi)),
            ("//agui", Some(ClientDoor::AgUi)),
            ("/mcpx", None),
            ("/a2a", Some(ClientDoor::A2a)),
            ("/a2a/v1/tasks/1:cancel", Some(ClientDoor::A2a)),
            ("/.well-known/agent-card.json", None),
            ("/v1/modelsX", Some(ClientDoor::Native)),
            ("/v1/sessions", Some(ClientDoor::Native)),
            ("/v1/info", None),
            ("/healthz", None),
            ("/", None),
        ] {
            assert_eq!(ClientDoor::of_path(path), door, "{path}");
        }
    }
}
