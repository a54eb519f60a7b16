//! The dialect of one server: configured, or recognized by what the server says of itself.

use std::{fmt, sync::Arc};

use http::HeaderMap;
use parking_lot::Mutex;
use serde_json::Value;

use super::rules::{Dialect, DialectChoice, DialectProtocol, NamedDialect};

/// The sign by which the dialect of a server is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DialectSign {
    /// The configuration of the provider names it.
    Configuration,
    /// The host in the base URL.
    Host,
    /// A header of a response.
    ResponseHeader,
    /// The body of an error.
    ErrorBody,
    /// The list of models.
    ModelList,
}

impl fmt::Display for DialectSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configuration => "configuration",
            Self::Host => "host",
            Self::ResponseHeader => "response headers",
            Self::ErrorBody => "error body",
            Self::ModelList => "list of models",
        })
    }
}

/// The dialect of a server that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecognizedDialect {
    /// The name of the dialect.
    pub name: String,
    /// How it is known.
    pub sign: DialectSign,
}

/// The dialect of the server of one provider.
#[derive(Debug)]
pub(crate) struct ServerDialect {
    choice: DialectChoice,
    protocol: DialectProtocol,
    state: Mutex<DialectState>,
}

#[derive(Debug)]
struct DialectState {
    recognized: Option<RecognizedDialect>,
    dialect: Arc<Dialect>,
    /// Whether the list of models was requested to recognize the server.
    has_asked: bool,
}

impl ServerDialect {
    /// Chooses the dialect by the configuration, or else by the host.
    pub(crate) fn new(choice: &DialectChoice, protocol: DialectProtocol, host: &str) -> Self {
        let configured = choice.name.as_ref().and_then(|name| Some((name.clone(), choice.known.get(name)?.clone())));
        let configured = configured.map(|found| (DialectSign::Configuration, found));
        let by_host = || choice.known.find_by_host(protocol, host).map(|found| (DialectSign::Host, found));
        let (recognized, dialect) = match configured.or_else(by_host) {
            Some((sign, (name, dialect))) => (Some(RecognizedDialect { name, sign }), dialect),
            None => (None, Arc::new(Dialect { protocol, ..Dialect::default() })),
        };
        let state = Mutex::new(DialectState { recognized, dialect, has_asked: false });
        Self { choice: choice.clone(), protocol, state }
    }

    /// Returns the rules of the server, as far as they are known.
    pub(crate) fn current(&self) -> Arc<Dialect> {
        Arc::clone(&self.state.lock().dialect)
    }

    /// Returns which dialect the server speaks, if it is known.
    pub(crate) fn recognized(&self) -> Option<RecognizedDialect> {
        self.state.lock().recognized.clone()
    }

    /// Returns whether the list of models should be requested to recognize the server. Returns true at most once.
    pub(crate) fn should_ask_server(&self) -> bool {
        let mut state = self.state.lock();
        state.recognized.is_none() && !self.choice.known.is_empty() && !std::mem::replace(&mut state.has_asked, true)
    }

    /// Recognizes the server by the head of a response.
    pub(crate) fn observe_headers(&self, headers: &HeaderMap) {
        self.recognize(DialectSign::ResponseHeader, || self.choice.known.find_by_headers(self.protocol, headers));
    }

    /// Recognizes the server by the body of an error.
    pub(crate) fn observe_error_body(&self, body: &[u8]) {
        let text = String::from_utf8_lossy(body);
        self.recognize(DialectSign::ErrorBody, || self.choice.known.find_by_error(self.protocol, &text));
    }

    /// Recognizes the server by its list of models.
    pub(crate) fn observe_models(&self, list: &Value) {
        let models = list.get("data").and_then(Value::as_array).into_iter().flatten();
        let owners: Vec<&str> = models.filter_map(|model| model.get("owned_by")?.as_str()).collect();
        let known = &self.choice.known;
        let find = || owners.iter().find_map(|owner| known.find_by_owner(self.protocol, owner));
        self.recognize(DialectSign::ModelList, find);
    }

    /// Sets the dialect that `find` returns, unless one is known.
    fn recognize(&self, sign: DialectSign, find: impl FnOnce() -> Option<NamedDialect>) {
        let mut state = self.state.lock();
        if state.recognized.is_some() {
            return;
        }
        if let Some((name, dialect)) = find() {
            tracing::info!(dialect = name, %sign, "dialect of the model server recognized");
            state.recognized = Some(RecognizedDialect { name, sign });
            // A gateway may pass on what one of many servers says. Without these options no model would report its usage; a server
            // that rejects them is learned for its model.
            state.dialect = Arc::new(Dialect { stream_options: true, ..(*dialect).clone() });
        }
    }
}
