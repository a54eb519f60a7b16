//! What a server says of itself in its answer to `initialize` or `server/discover`.

use rmcp::{RoleClient, service::Peer};

use crate::server_text::quote_server_text;

/// Bytes of a server's instructions that are kept. Far more than a model is told, and far less than a message may have.
const MAX_INSTRUCTIONS_BYTES: usize = 64 << 10;

/// What a server says of itself. Everything in it comes from the server and is untrusted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerIdentity {
    /// Name of its program, on one line.
    pub program: Option<String>,
    /// Version of its program, on one line.
    pub version: Option<String>,
    /// How its tools are to be used.
    pub instructions: Option<String>,
}

impl ServerIdentity {
    /// Returns what the server said in the handshake of this connection.
    pub(crate) fn of_peer(peer: &Peer<RoleClient>) -> Self {
        let Some(info) = peer.peer_info() else { return Self::default() };
        let line = |text: &str| Some(quote_server_text(text)).filter(|text| !text.is_empty());
        let program = info.server_info.as_ref();
        let instructions = info.instructions.as_deref().map(str::trim).filter(|text| !text.is_empty());
        Self {
            program: program.and_then(|program| line(&program.name)),
            version: program.and_then(|program| line(&program.version)),
            instructions: instructions.map(|text| text[..text.floor_char_boundary(MAX_INSTRUCTIONS_BYTES)].to_owned()),
        }
    }
}
