//! The reason of a failure: a message and its cause.

use std::{error::Error, fmt, sync::Arc};

use k8sops_core::ErrorChain;

/// What went wrong, and the error that caused it if there is one.
///
/// The message does not repeat the cause; [`ErrorChain`] displays both. Neither contains configured secrets or the URL of a
/// server, which can contain a credential. Two reasons are equal if they display the same.
#[derive(Debug, Clone)]
pub struct ErrorReason {
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ErrorReason {
    pub(crate) fn with_source(message: impl Into<String>, source: impl Error + Send + Sync + 'static) -> Self {
        Self { message: message.into(), source: Some(Arc::new(source)) }
    }
}

impl From<String> for ErrorReason {
    fn from(message: String) -> Self {
        Self { message, source: None }
    }
}

impl From<&str> for ErrorReason {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

impl fmt::Display for ErrorReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ErrorReason {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}

impl PartialEq for ErrorReason {
    fn eq(&self, other: &Self) -> bool {
        ErrorChain(self).to_string() == ErrorChain(other).to_string()
    }
}
