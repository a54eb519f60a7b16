//! The dialect of one server: configured, or recognized by what the server says of itself.

use std::sync::Arc;

use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::Value;

use super::rules::{Dialect, DialectChoice, DialectProtocol, NamedDialect};

/// The dialect of the server of one provider.
#[derive(Debug)]
pub(crate) struct ServerDialect {
    choice: DialectChoice,
    protocol: DialectProtocol,
    state: Mutex<RecognizedDialect>,
}

#[derive(Debug)]
struct RecognizedDialect {
    name: Option<String>,
    dialect: Arc<Dialect>,
    /// Whether the list of models was requested to recognize the server.
    has_asked: bool,
}

impl ServerDialect {
    /// Chooses the dialect by the configuration, or else by the host.
    pub(crate) fn new(choice: &DialectChoice, protocol: DialectProtocol, host: &str) -> Self {
        let configured = choice.name.as_ref().and_then(|name| Some((name.clone(), choice.known.get(name)?.clone())));
        let found = configured.or_else(|| choice.known.find_by_host(protocol, host));
        let (name, dialect) = match found {
            Some((name, dialect)) => (Some(name), dialect),
            None => (None, Arc::new(Dialect { protocol, ..Dialect::default() })),
        };
        let state = Mutex::new(RecognizedDialect { name, dialect, has_asked: false });
        Self { choice: choice.clone(), protocol, state }
    }

    /// Returns the rules of the server, as far as they are known.
    pub(crate) fn current(&self) -> Arc<Dialect> {
        Arc::clone(&self.state.lock().dialect)
    }

    /// Returns the name of the dialect, if it is known.
    #[cfg(test)]
    pub(crate) fn name(&self) -> Option<String> {
        self.state.lock().name.clone()
    }

    /// Returns whether the list of models should be requested to recognize the server. Returns true at most once.
    pub(crate) fn should_ask_server(&self) -> bool {
        let mut state = self.state.lock();
        state.name.is_none() && !self.choice.known.is_empty() && !std::mem::replace(&mut state.has_asked, true)
    }

    /// Recognizes the server by the head of a response.
    pub(crate) fn observe_headers(&self, headers: &HeaderMap) {
        self.recognize(|| self.choice.known.find_by_headers(self.protocol, headers));
    }

    /// Recognizes the server by the body of an error.
    pub(crate) fn observe_error_body(&self, body: &[u8]) {
        self.recognize(|| self.choice.known.find_by_error(self.protocol, &String::from_utf8_lossy(body)));
    }

    /// Recognizes the server by its list of models.
    pub(crate) fn observe_models(&self, list: &Value) {
        let models = list.get("data").and_then(Value::as_array).into_iter().flatten();
        let owners: Vec<&str> = models.filter_map(|model| model.get("owned_by")?.as_str()).collect();
        self.recognize(|| owners.iter().find_map(|owner| self.choice.known.find_by_owner(self.protocol, owner)));
    }

    /// Sets the dialect that `find` returns, unless one is known.
    fn recognize(&self, find: impl FnOnce() -> Option<NamedDialect>) {
        let mut state = self.state.lock();
        if state.name.is_some() {
            return;
        }
        if let Some((name, dialect)) = find() {
            tracing::info!(dialect = name, "dialect of the model server recognized");
            state.name = Some(name);
            // A gateway may pass on what one of many servers says. Without these options no model would report its usage; a server
            // that rejects them is learned for its model.
            state.dialect = Arc::new(Dialect { stream_options: true, ..(*dialect).clone() });
        }
    }
}
