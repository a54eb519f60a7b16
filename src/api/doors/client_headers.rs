//! What clients of OpenAI's API say in headers.

use actix_web::HttpRequest;
use k8sops_core::CommandId;

use crate::api::problem::ProblemDetails;

/// The headers that name the client's thread, in order of precedence. Open WebUI sends the second by itself.
const THREAD_HEADERS: [&str; 2] = ["x-k8sops-thread", "x-openwebui-chat-id"];
/// The header that names a task besides the conversation.
const TASK_HEADER: &str = "x-k8sops-task";
/// The header by which the official SDKs say that they send a request again.
const RETRY_HEADER: &str = "x-stainless-retry-count";
/// The response header with the session.
pub(super) const SESSION_HEADER: &str = "x-k8sops-session";

/// What the headers of a client say.
pub(super) struct ClientHeaders {
    /// The client's thread.
    pub(super) thread: Option<String>,
    /// The name of a task besides the conversation.
    pub(super) task: Option<String>,
    /// The client's key of the message.
    pub(super) key: Option<CommandId>,
    /// Whether the client sends a request again to which it got no response.
    pub(super) is_repeated: bool,
}

impl ClientHeaders {
    /// Reads the headers.
    ///
    /// # Errors
    /// The key of the message is not valid. Without it, a message that is sent again would be another one.
    pub(super) fn from_request(request: &HttpRequest) -> Result<Self, ProblemDetails> {
        // A template that the client has not filled in, such as `{{CHAT_ID}}`, names nothing.
        let read = |name: &str| {
            let value = request.headers().get(name)?.to_str().ok()?.trim();
            (!value.is_empty() && !value.contains("{{")).then(|| value.to_owned())
        };
        Ok(Self {
            thread: THREAD_HEADERS.into_iter().find_map(read),
            task: read(TASK_HEADER),
            key: read("idempotency-key").map(|key| key.parse()).transpose()?,
            is_repeated: read(RETRY_HEADER).is_some_and(|count| count != "0"),
        })
    }
}
