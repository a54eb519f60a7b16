//! The version of the protocol that a client speaks, and what it can do.

use actix_web::http::header::HeaderMap;
use data_encoding::{BASE64, HEXLOWER};
use k8sops_core::CommandId;
use serde_json::Value;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::json_rpc::{RpcError, RpcRequest};

const VERSION_HEADER: &str = "mcp-protocol-version";
const SESSION_HEADER: &str = "mcp-session-id";
const METHOD_HEADER: &str = "mcp-method";
const NAME_HEADER: &str = "mcp-name";

const VERSION_META: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_META: &str = "io.modelcontextprotocol/clientCapabilities";

/// The versions in which each request says all that the server has to know.
pub(super) const PER_REQUEST_VERSIONS: [&str; 1] = ["2026-07-28"];
/// The versions that begin with `initialize`, the newest first.
const HANDSHAKE_VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];

/// How the client and the server get to know each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ProtocolEra {
    /// By `initialize`, up to version 2025-11-25.
    Handshake,
    /// By the metadata of each request, from version 2026-07-28 on.
    PerRequest,
}

/// Which elicitations a client can show.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ElicitationSupport {
    /// Forms.
    pub(super) form: bool,
    /// Pages to open.
    pub(super) url: bool,
}

/// The session id of the protocol. It says what the client can do, so that no replica has to remember it. It opens nothing:
/// a client that makes one up only says of itself what is not true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClientSession {
    support: ElicitationSupport,
    /// The id as the client sends it.
    text: String,
}

/// What a client speaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ClientProtocol {
    pub(super) era: ProtocolEra,
    pub(super) support: ElicitationSupport,
    /// Whether a stream may begin with an event without data, which gives it an id.
    pub(super) resumes_streams: bool,
    session: Option<ClientSession>,
}

impl ElicitationSupport {
    /// Reads the capabilities of a client. An empty `elicitation` stands for forms.
    pub(super) fn from_capabilities(capabilities: &Value) -> Self {
        let Some(elicitation) = capabilities.get("elicitation").and_then(Value::as_object) else {
            return Self::default();
        };
        let has = |mode: &str| elicitation.get(mode).is_some_and(Value::is_object);
        Self { form: has("form") || !has("url"), url: has("url") }
    }
}

impl ClientSession {
    /// Creates the id for a client that begins.
    pub(super) fn new(support: ElicitationSupport) -> Self {
        let mark = match (support.form, support.url) {
            (false, false) => 'n',
            (true, false) => 'f',
            (false, true) => 'u',
            (true, true) => 'b',
        };
        Self { support, text: format!("{mark}-{}", Uuid::new_v4().simple()) }
    }

    fn parse(text: &str) -> Option<Self> {
        let (mark, id) = text.split_once('-')?;
        let (form, url) = match mark {
            "n" => (false, false),
            "f" => (true, false),
            "u" => (false, true),
            "b" => (true, true),
            _ => return None,
        };
        let is_id = id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit());
        is_id.then(|| Self { support: ElicitationSupport { form, url }, text: text.to_owned() })
    }

    /// Returns the name of the header, and its value.
    pub(super) fn header(&self) -> (&'static str, &str) {
        (SESSION_HEADER, &self.text)
    }
}

impl ClientProtocol {
    /// Finds out what the client of a message speaks. `request` is `None` for messages that are no requests.
    pub(super) fn negotiate(headers: &HeaderMap, request: Option<&RpcRequest>) -> Result<Self, RpcError> {
        let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
        let version = header(VERSION_HEADER);
        let meta = request.and_then(|request| request.params.get("_meta"));
        let meta_version = meta.and_then(|meta| meta.get(VERSION_META)).and_then(Value::as_str);
        let is_per_request = meta_version.is_some()
            || version.is_some_and(|version| PER_REQUEST_VERSIONS.contains(&version))
            || request.is_some_and(|request| request.method == "server/discover");
        if !is_per_request {
            return Self::after_handshake(version, header(SESSION_HEADER), request);
        }
        if let Some(request) = request {
            check_metadata(version, meta, request)?;
            check_standard_headers(header(METHOD_HEADER), header(NAME_HEADER), request)?;
        }
        let capabilities = meta.and_then(|meta| meta.get(CAPABILITIES_META)).unwrap_or(&Value::Null);
        Ok(Self {
            era: ProtocolEra::PerRequest,
            support: ElicitationSupport::from_capabilities(capabilities),
            resumes_streams: false,
            session: None,
        })
    }

    fn after_handshake(
        version: Option<&str>,
        session: Option<&str>,
        request: Option<&RpcRequest>,
    ) -> Result<Self, RpcError> {
        if let Some(version) = version.filter(|version| !HANDSHAKE_VERSIONS.contains(version)) {
            return Err(RpcError::unsupported_version(version, &supported_versions()));
        }
        let begins = request.is_some_and(|request| request.method == "initialize");
        let session = match session {
            Some(text) if !begins => Some(ClientSession::parse(text).ok_or_else(RpcError::unknown_client_session)?),
            _ => None,
        };
        Ok(Self {
            era: ProtocolEra::Handshake,
            support: session.as_ref().map(|session| session.support).unwrap_or_default(),
            // Clients of earlier versions may fail on an event without data.
            resumes_streams: version == Some(HANDSHAKE_VERSIONS[0]),
            session,
        })
    }

    /// Returns the name of a request, by which a notification can cancel it, and which makes a repeated request the same one.
    /// `None` if the client has no session: its ids are not its own then.
    pub(super) fn request_key(&self, id: &Value) -> Option<CommandId> {
        let session = self.session.as_ref()?;
        let digest = Sha256::digest(format!("{}\n{id}", session.text));
        format!("mcp-{}", HEXLOWER.encode(&digest[..16])).parse().ok()
    }
}

/// Returns the version with which the server answers `initialize`.
pub(super) fn negotiate_version(requested: &str) -> &'static str {
    HANDSHAKE_VERSIONS.into_iter().find(|version| *version == requested).unwrap_or(HANDSHAKE_VERSIONS[0])
}

fn supported_versions() -> Vec<&'static str> {
    PER_REQUEST_VERSIONS.into_iter().chain(HANDSHAKE_VERSIONS).collect()
}

fn check_metadata(version: Option<&str>, meta: Option<&Value>, request: &RpcRequest) -> Result<(), RpcError> {
    let Some(meta_version) = meta.and_then(|meta| meta.get(VERSION_META)).and_then(Value::as_str) else {
        return Err(RpcError::missing_metadata(format!("_meta of {} has no {VERSION_META}", request.method)));
    };
    if version != Some(meta_version) {
        let header = version.unwrap_or("absent");
        return Err(RpcError::header_mismatch(format!(
            "the header MCP-Protocol-Version ({header}) and {VERSION_META} ({meta_version}) differ"
        )));
    }
    if !PER_REQUEST_VERSIONS.contains(&meta_version) {
        return Err(RpcError::unsupported_version(meta_version, &PER_REQUEST_VERSIONS));
    }
    if !meta.and_then(|meta| meta.get(CAPABILITIES_META)).is_some_and(Value::is_object) {
        return Err(RpcError::missing_metadata(format!("_meta of {} has no {CAPABILITIES_META}", request.method)));
    }
    Ok(())
}

/// Intermediaries route by these headers, so they must say what the body says.
fn check_standard_headers(method: Option<&str>, name: Option<&str>, request: &RpcRequest) -> Result<(), RpcError> {
    if method != Some(request.method.as_str()) {
        let method = method.unwrap_or("absent");
        return Err(RpcError::header_mismatch(format!(
            "the header Mcp-Method ({method}) and the method ({}) differ",
            request.method
        )));
    }
    let field = match request.method.as_str() {
        "tools/call" | "prompts/get" => "name",
        "resources/read" => "uri",
        _ => return Ok(()),
    };
    let Some(called) = request.params.get(field).and_then(Value::as_str) else { return Ok(()) };
    if name.and_then(decode_header).as_deref() == Some(called) {
        return Ok(());
    }
    let name = name.unwrap_or("absent");
    Err(RpcError::header_mismatch(format!("the header Mcp-Name ({name}) and {field} ({called}) differ")))
}

/// Decodes a header value: plain, or `=?base64?…?=` for what a header cannot hold.
fn decode_header(value: &str) -> Option<String> {
    let Some(encoded) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Some(value.to_owned());
    };
    String::from_utf8(BASE64.decode(encoded.as_bytes()).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};
    use serde_json::json;

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |(name, value): &(&str, &str)| {
            (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    fn request(method: &str, params: Value) -> RpcRequest {
        RpcRequest { id: json!(1), method: method.into(), params }
    }

    #[test]
    fn capabilities_name_the_elicitations() {
        for (capabilities, form, url) in [
            (json!({}), false, false),
            (json!({"elicitation": null}), false, false),
            (json!({"elicitation": {}}), true, false),
            (json!({"elicitation": {"form": {}}}), true, false),
            (json!({"elicitation": {"url": {}}}), false, true),
            (json!({"elicitation": {"form": {}, "url": {}}}), true, true),
        ] {
            let support = ElicitationSupport::from_capabilities(&capabilities);
            assert_eq!(support, ElicitationSupport { form, url }, "{capabilities}");
            let session = ClientSession::new(support);
            assert_eq!(ClientSession::parse(session.header().1), Some(session));
        }
        for text in ["", "f", "f-", "x-00000000000000000000000000000000", "f-0000", "00000000000000000000000000000000"]
        {
            assert_eq!(ClientSession::parse(text), None, "{text}");
        }
    }

    #[test]
    fn request_says_what_its_client_speaks() {
        let session = ClientSession::new(ElicitationSupport { form: true, url: false });
        let id = session.header().1;
        let call = request("tools/call", json!({"name": "ask"}));
        let protocol = |pairs: &[(&str, &str)]| ClientProtocol::negotiate(&headers(pairs), Some(&call));
        let known = protocol(&[(VERSION_HEADER, "2025-11-25"), (SESSION_HEADER, id)]).unwrap();
        assert_eq!((known.era, known.support.form, known.resumes_streams), (ProtocolEra::Handshake, true, true));
        assert_eq!(known.request_key(&json!(1)), known.request_key(&json!(1)));
        assert_ne!(known.request_key(&json!(1)), known.request_key(&json!("1")));
        let simple = protocol(&[]).unwrap();
        assert_eq!((simple.support.form, simple.request_key(&json!(1))), (false, None));
        assert!(protocol(&[(VERSION_HEADER, "2025-01-01")]).is_err());
        assert_eq!(protocol(&[(SESSION_HEADER, "other")]), Err(RpcError::unknown_client_session()));

        let meta = json!({VERSION_META: "2026-07-28", CAPABILITIES_META: {"elicitation": {}}});
        let call = request("tools/call", json!({"name": "ask", "_meta": meta}));
        let all = [(VERSION_HEADER, "2026-07-28"), (METHOD_HEADER, "tools/call"), (NAME_HEADER, "ask")];
        let protocol = |pairs: &[(&str, &str)]| ClientProtocol::negotiate(&headers(pairs), Some(&call));
        let stateless = protocol(&all).unwrap();
        assert_eq!((stateless.era, stateless.support.form), (ProtocolEra::PerRequest, true));
        assert!(protocol(&[all[0], all[1], (NAME_HEADER, "=?base64?YXNr?=")]).is_ok());
        for pairs in [
            &all[1..],
            &all[..2],
            &[all[0], (METHOD_HEADER, "Tools/Call"), all[2]],
            &[all[0], all[1], (NAME_HEADER, "=?base64?YXN?=")],
            &[(VERSION_HEADER, "2025-11-25"), all[1], all[2]],
        ] {
            assert!(protocol(pairs).is_err(), "{pairs:?}");
        }
    }

    #[test]
    fn initialize_is_answered_with_a_version_of_the_server() {
        for (requested, answer) in [
            ("2025-11-25", "2025-11-25"),
            ("2025-06-18", "2025-06-18"),
            ("2024-11-05", "2024-11-05"),
            ("2026-07-28", "2025-11-25"),
            ("1.0", "2025-11-25"),
        ] {
            assert_eq!(negotiate_version(requested), answer);
        }
    }
}
