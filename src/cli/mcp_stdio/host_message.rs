//! A message of the host, and the headers that it has over HTTP.

use data_encoding::BASE64;
use serde_json::Value;

const VERSION_META: &str = "io.modelcontextprotocol/protocolVersion";

/// The method by which a client of a version up to 2025-11-25 begins.
const INITIALIZE: &str = "initialize";

/// What a message asks of the bridge.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum HostMessageKind {
    /// A request, with its id.
    Request(Value),
    /// A notification that cancels the request with this id.
    Cancel(Value),
    /// A notification, or the response to an elicitation.
    Other,
}

/// A message of the host.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct HostMessage {
    pub(super) body: Value,
    pub(super) kind: HostMessageKind,
}

impl HostMessage {
    /// Parses a line. Returns `None` for a line that is no JSON object.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let body: Value = serde_json::from_str(line).ok().filter(Value::is_object)?;
        let id = body.get("id").filter(|id| !id.is_null()).cloned();
        let kind = match (body["method"].as_str(), id) {
            (Some(_), Some(id)) => HostMessageKind::Request(id),
            (Some("notifications/cancelled"), None) => HostMessageKind::Cancel(body["params"]["requestId"].clone()),
            _ => HostMessageKind::Other,
        };
        Some(Self { body, kind })
    }

    pub(super) fn is_initialize(&self) -> bool {
        self.body["method"] == INITIALIZE && self.stateless_version().is_none()
    }

    /// Returns the version that a request names itself, from version 2026-07-28 on.
    pub(super) fn stateless_version(&self) -> Option<&str> {
        self.body["params"]["_meta"][VERSION_META].as_str()
    }

    /// Returns the headers that a request of such a version needs.
    pub(super) fn stateless_headers(&self) -> Vec<(&'static str, String)> {
        let Some(version) = self.stateless_version() else { return Vec::new() };
        let mut headers = vec![("mcp-protocol-version", encode_header(version))];
        headers.extend(self.body["method"].as_str().map(|method| ("mcp-method", encode_header(method))));
        let params = &self.body["params"];
        let name = params["name"].as_str().or(params["uri"].as_str());
        headers.extend(name.map(|name| ("mcp-name", encode_header(name))));
        headers
    }
}

/// Encodes what a header cannot hold as it is.
fn encode_header(value: &str) -> String {
    let is_plain = value.bytes().all(|b| (0x21..0x7f).contains(&b) || b == b' ') && value.trim() == value;
    if is_plain && !value.starts_with("=?base64?") {
        return value.to_owned();
    }
    format!("=?base64?{}?=", BASE64.encode(value.as_bytes()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn messages_are_told_apart() {
        for (line, kind) in [
            (r#"{"id":1,"method":"ping"}"#, HostMessageKind::Request(json!(1))),
            (r#"{"method":"notifications/cancelled","params":{"requestId":"a"}}"#, HostMessageKind::Cancel(json!("a"))),
            (r#"{"method":"notifications/initialized"}"#, HostMessageKind::Other),
            (r#"{"id":1,"result":{}}"#, HostMessageKind::Other),
        ] {
            assert_eq!(HostMessage::parse(line).unwrap().kind, kind, "{line}");
        }
        for line in ["", "log line", "1", "[]", "{"] {
            assert_eq!(HostMessage::parse(line), None, "{line}");
        }
    }

    #[test]
    fn headers_are_made_of_the_message() {
        let meta = json!({VERSION_META: "2026-07-28"});
        let call = json!({"id": 1, "method": "tools/call", "params": {"name": "äsk", "_meta": meta}});
        let message = HostMessage::parse(&call.to_string()).unwrap();
        let expected =
            [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "=?base64?w6Rzaw==?=")];
        let headers = message.stateless_headers();
        assert_eq!(headers.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>(), expected);
        let old = HostMessage::parse(r#"{"id":0,"method":"initialize"}"#).unwrap();
        assert!(old.is_initialize() && old.stateless_headers().is_empty());
    }
}
