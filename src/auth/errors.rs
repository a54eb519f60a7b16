//! Errors of authentication.

use std::{io, path::PathBuf, sync::Arc};

/// Why a caller is not authenticated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthRejection {
    /// The request has no credentials.
    #[error("{0}")]
    Missing(&'static str),
    /// The credentials are invalid. The text helps their owner and does not reveal anything about the credentials.
    #[error("{0}")]
    Invalid(String),
    /// The credentials cannot be verified at the moment.
    #[error("{0}")]
    Unavailable(String),
}

/// Why authentication cannot start.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The key file is unusable.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The HTTP client for the issuer cannot be created.
    #[error("the HTTP client for AUTH_JWT_ISSUER cannot be created")]
    Client(#[source] reqwest::Error),
}

/// Why a key file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("AUTH_API_KEYS_FILE {} cannot be used", .path.display())]
pub struct KeyFileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: KeyFileProblem,
}

/// What is wrong with a key file.
#[derive(Debug, Clone, thiserror::Error)]
pub enum KeyFileProblem {
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Unreadable(#[source] Arc<io::Error>),
    /// The file is larger than allowed.
    #[error("the file has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The file has no content.
    #[error("the file is empty; write [] for a list without keys")]
    Empty,
    /// The file is not a YAML list of keys.
    #[error("{0}")]
    Syntax(String),
    /// An entry is invalid.
    #[error("entry {number}: {problem}")]
    Entry {
        /// The position of the entry, counted from 1.
        number: usize,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl KeyFileProblem {
    /// Whether two reads of a file failed in the same way.
    pub(super) fn is_same_as(&self, other: &Self) -> bool {
        self.to_string() == other.to_string()
    }
}
