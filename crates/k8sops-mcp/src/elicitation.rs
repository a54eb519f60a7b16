//! Elicitation: questions of a server to the user during a call.

use async_trait::async_trait;
use serde_json::{Map, Value};

/// A question of a server to the user. Everything in it comes from the server and is untrusted.
#[derive(Debug, Clone, PartialEq)]
pub struct ElicitationRequest {
    /// The question, as text for the user.
    pub message: String,
    /// What the user is asked to do.
    pub form: ElicitationForm,
}

/// What the user is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub enum ElicitationForm {
    /// To fill in an object that conforms to this JSON Schema (flat: strings, numbers, booleans and choices).
    Fields(Map<String, Value>),
    /// To open a page in a browser. The answer only says whether the user agrees to.
    Page {
        /// The http(s) URL of the page.
        url: String,
    },
}

/// The user's answer to an [`ElicitationRequest`].
#[derive(Debug, Clone, PartialEq)]
pub enum ElicitationAnswer {
    /// The user agrees, with these values; they are empty for a page.
    Accept(Map<String, Value>),
    /// The user refuses.
    Decline,
    /// There was no answer, or the call ended first.
    Cancel,
}

/// Puts elicitations of a call to its user.
#[async_trait]
pub trait ElicitationHandler: Send + Sync {
    /// Returns the user's answer, waiting for as long as the user may take. Dropping the future withdraws the request.
    async fn handle_elicitation(&self, request: ElicitationRequest) -> ElicitationAnswer;
}
