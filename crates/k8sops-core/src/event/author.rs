//! Who caused an event.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ids::{InvalidId, UserId};

/// Who caused an event: a user (`user:anna`), or k8sops itself (`system`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum EventAuthor {
    /// k8sops itself.
    System,
    /// A user.
    User(UserId),
}

impl fmt::Display for EventAuthor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("system"),
            Self::User(id) => write!(f, "user:{id}"),
        }
    }
}

impl From<EventAuthor> for String {
    fn from(author: EventAuthor) -> String {
        author.to_string()
    }
}

impl TryFrom<String> for EventAuthor {
    type Error = InvalidId;
    fn try_from(s: String) -> Result<Self, Self::Error> {
        match s.strip_prefix("user:") {
            Some(id) => Ok(Self::User(id.parse()?)),
            None if s == "system" => Ok(Self::System),
            None => Err(InvalidId { what: "actor", expected: "`system` or `user:<id>`" }),
        }
    }
}
