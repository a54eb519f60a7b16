//! The data of a dialect, and the catalog of all dialects.

use std::{collections::BTreeMap, sync::Arc};

use k8sops_settings::{
    ValueFormat,
    declaration::{list, map, or_empty, required},
    formats::{BOOLEAN, TEXT, whole_number},
    options, words,
};

/// The form of a request, of which there are dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DialectProtocol {
    /// Chat completions.
    Chat,
    /// The Responses API.
    Responses,
    /// Anthropic's Messages API.
    Messages,
    /// Ollama's own API.
    Ollama,
}

const DIALECT_PROTOCOL: ValueFormat<DialectProtocol> = words! {
    "chat" => DialectProtocol::Chat,
    "responses" => DialectProtocol::Responses,
    "messages" => DialectProtocol::Messages,
    "ollama" => DialectProtocol::Ollama,
};

/// Which ids of tool calls a server accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallIdForm {
    /// Up to 40 characters of `A-Z a-z 0-9 _ -`.
    Any,
    /// Exactly nine letters and digits.
    NineCharacters,
}

const CALL_ID_FORM: ValueFormat<CallIdForm> = words! {
    "any" => CallIdForm::Any,
    "nine_characters" => CallIdForm::NineCharacters,
};

/// Which earlier replies get their plain reasoning back. Signed and encrypted reasoning always goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReasoningReturn {
    /// None.
    Never,
    /// Those after the newest user message.
    CurrentTurn,
    /// Those after the newest user message, and all that called tools.
    WithCalls,
    /// All.
    Always,
}

const REASONING_RETURN: ValueFormat<ReasoningReturn> = words! {
    "never" => ReasoningReturn::Never,
    "current_turn" => ReasoningReturn::CurrentTurn,
    "with_calls" => ReasoningReturn::WithCalls,
    "always" => ReasoningReturn::Always,
};

/// Where the system prompt stands in chat completions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemRole {
    /// In a message of the role `system`.
    System,
    /// In a message of the role `developer`.
    Developer,
    /// At the beginning of the first user message, for models without system messages.
    FirstUserMessage,
}

const SYSTEM_ROLE: ValueFormat<SystemRole> = words! {
    "system" => SystemRole::System,
    "developer" => SystemRole::Developer,
    "first_user_message" => SystemRole::FirstUserMessage,
};

/// The text of a message that only calls tools.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentWithCalls {
    /// `null`.
    Null,
    /// A short text, for servers that accept neither `null` nor an empty text.
    Text,
}

const CONTENT_WITH_CALLS: ValueFormat<ContentWithCalls> = words! {
    "null" => ContentWithCalls::Null,
    "text" => ContentWithCalls::Text,
};

/// For which models a server loads tools in the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeferredTools {
    /// For none.
    Never,
    /// For models whose features name `deferred_tools`.
    ListedModels,
    /// For all models but those whose features are known without `deferred_tools`.
    AllModels,
}

const DEFERRED_TOOLS: ValueFormat<DeferredTools> = words! {
    "never" => DeferredTools::Never,
    "listed_models" => DeferredTools::ListedModels,
    "all_models" => DeferredTools::AllModels,
};

/// The field that limits the tokens of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyLimitField {
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
}

const REPLY_LIMIT_FIELD: ValueFormat<ReplyLimitField> = words! {
    "max_tokens" => ReplyLimitField::MaxTokens,
    "max_completion_tokens" => ReplyLimitField::MaxCompletionTokens,
};

options! {
    /// Rules by which a model server differs from others of its protocol, and signs by which it is recognized.
    #[derive(Debug, Clone, PartialEq)]
    pub struct Dialect at "" {
        /// Form of the requests that the dialect is about.
        pub protocol: DialectProtocol = required(DIALECT_PROTOCOL, "chat"),
        /// Hosts of the server. One that begins with a dot or a hyphen stands for all hosts that end with it.
        pub hosts: Vec<String> = list(TEXT),
        /// Response headers of the server, with a part of their value in lower case; an empty part matches any value.
        pub headers: BTreeMap<String, String> = map(TEXT),
        /// Values of `owned_by` in the server's list of models.
        pub owned_by: Vec<String> = list(TEXT),
        /// Parts of the server's error bodies, in lower case and without white space.
        pub error_texts: Vec<String> = list(TEXT),
        /// Ids of tool calls.
        pub call_ids: CallIdForm = required(CALL_ID_FORM, "any"),
        /// Earlier replies that get their reasoning back, if it has no signature.
        pub reasoning: ReasoningReturn = required(REASONING_RETURN, "current_turn"),
        /// Text in place of reasoning that has to go back and is not known. Empty if there is no such rule.
        pub reasoning_placeholder: String = or_empty(TEXT),
        /// Signature of tool calls of the current turn that have none. Empty if there is no such rule.
        pub signature_placeholder: String = or_empty(TEXT),
        /// Whether roles must alternate: the user first, the user or a tool last, no two messages of one role in a row, and an
        /// assistant message between the result of a tool and a user message.
        pub alternating_roles: bool = required(BOOLEAN, "false"),
        /// Where the system prompt stands.
        pub system_role: SystemRole = required(SYSTEM_ROLE, "system"),
        /// Whether one message may call several tools.
        pub parallel_calls: bool = required(BOOLEAN, "true"),
        /// Text of a message that only calls tools.
        pub content_with_calls: ContentWithCalls = required(CONTENT_WITH_CALLS, "null"),
        /// Whether tools must be listed if the conversation has tool calls.
        pub tools_with_calls: bool = required(BOOLEAN, "false"),
        /// Whether `stream_options` is accepted.
        pub stream_options: bool = required(BOOLEAN, "true"),
        /// Field that limits the tokens of a reply.
        pub reply_limit_field: ReplyLimitField = required(REPLY_LIMIT_FIELD, "max_tokens"),
        /// Whether the limit of the reply counts into the context window.
        pub reply_limit_in_window: bool = required(BOOLEAN, "true"),
        /// Fields of an error, as JSON pointers, that name the seconds to wait before a retry.
        pub wait_fields: Vec<String> = list(TEXT),
        /// Largest number of tools in a request.
        pub max_tools: u32 = required(whole_number(1), "128"),
        /// Models for which a tool that a search finds is loaded in the conversation instead of at the end of the list of
        /// tools. Only the Messages API and the Responses API can do so.
        pub deferred_tools: DeferredTools = required(DEFERRED_TOOLS, "never"),
        /// Longest description of a tool in bytes.
        pub max_description_bytes: u32 = required(whole_number(16), "1024"),
        /// Longest key of a property in a tool's schema in bytes.
        pub max_schema_key_bytes: u32 = required(whole_number(40), "64"),
    }
}

impl Default for Dialect {
    /// Returns the rules of a server of which nothing is known.
    fn default() -> Self {
        Self {
            protocol: DialectProtocol::Chat,
            hosts: Vec::new(),
            headers: BTreeMap::new(),
            owned_by: Vec::new(),
            error_texts: Vec::new(),
            call_ids: CallIdForm::Any,
            reasoning: ReasoningReturn::CurrentTurn,
            reasoning_placeholder: String::new(),
            signature_placeholder: String::new(),
            alternating_roles: false,
            system_role: SystemRole::System,
            parallel_calls: true,
            content_with_calls: ContentWithCalls::Null,
            tools_with_calls: false,
            stream_options: true,
            reply_limit_field: ReplyLimitField::MaxTokens,
            reply_limit_in_window: true,
            wait_fields: Vec::new(),
            max_tools: 128,
            deferred_tools: DeferredTools::Never,
            max_description_bytes: 1024,
            max_schema_key_bytes: 64,
        }
    }
}

impl Dialect {
    /// Returns the beginning of a tool's description that the server accepts.
    pub(crate) fn fit_description<'a>(&self, text: &'a str) -> &'a str {
        let most = usize::try_from(self.max_description_bytes).unwrap_or(usize::MAX);
        if text.len() <= most { text } else { &text[..text.floor_char_boundary(most)] }
    }

    /// Returns whether the server at this host speaks the dialect.
    fn matches_host(&self, host: &str) -> bool {
        self.hosts
            .iter()
            .any(|known| if known.starts_with(['.', '-']) { host.ends_with(known.as_str()) } else { host == known })
    }

    fn matches_headers(&self, headers: &http::HeaderMap) -> bool {
        self.headers.iter().any(|(name, part)| {
            headers.get_all(name).iter().any(|value| {
                value.to_str().is_ok_and(|value| part.is_empty() || value.to_ascii_lowercase().contains(part.as_str()))
            })
        })
    }

    fn matches_error(&self, text: &str) -> bool {
        self.error_texts.iter().any(|part| text.contains(part.as_str()))
    }

    fn matches_owner(&self, owner: &str) -> bool {
        self.owned_by.iter().any(|known| known == owner)
    }
}

/// All dialects by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DialectCatalog(BTreeMap<String, Arc<Dialect>>);

impl FromIterator<(String, Dialect)> for DialectCatalog {
    fn from_iter<I: IntoIterator<Item = (String, Dialect)>>(dialects: I) -> Self {
        Self(dialects.into_iter().map(|(name, dialect)| (name, Arc::new(dialect))).collect())
    }
}

/// A dialect with its name.
pub(crate) type NamedDialect = (String, Arc<Dialect>);

impl DialectCatalog {
    /// Returns the names of all dialects.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the dialect of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Arc<Dialect>> {
        self.0.get(name)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn find(&self, protocol: DialectProtocol, is_match: impl Fn(&Dialect) -> bool) -> Option<NamedDialect> {
        let mut found = self.0.iter().filter(|(_, dialect)| dialect.protocol == protocol && is_match(dialect));
        found.next().map(|(name, dialect)| (name.clone(), Arc::clone(dialect)))
    }

    pub(crate) fn find_by_host(&self, protocol: DialectProtocol, host: &str) -> Option<NamedDialect> {
        self.find(protocol, |dialect| dialect.matches_host(host))
    }

    pub(crate) fn find_by_headers(&self, protocol: DialectProtocol, headers: &http::HeaderMap) -> Option<NamedDialect> {
        self.find(protocol, |dialect| dialect.matches_headers(headers))
    }

    /// Finds the dialect whose server sends such an error body.
    pub(crate) fn find_by_error(&self, protocol: DialectProtocol, body: &str) -> Option<NamedDialect> {
        let text: String = body.chars().filter(|char| !char.is_whitespace()).collect();
        let text = text.to_lowercase();
        self.find(protocol, |dialect| dialect.matches_error(&text))
    }

    pub(crate) fn find_by_owner(&self, protocol: DialectProtocol, owner: &str) -> Option<NamedDialect> {
        self.find(protocol, |dialect| dialect.matches_owner(owner))
    }

    /// Returns the bounds of tools that all dialects accept. A session may change its provider between two calls, so tools have
    /// one form for all.
    #[must_use]
    pub fn common_tool_bounds(&self) -> ToolBounds {
        let start = ToolBounds::of_dialect(&Dialect::default());
        self.0.values().map(|dialect| ToolBounds::of_dialect(dialect)).fold(start, ToolBounds::smaller)
    }
}

/// Bounds of the tools in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToolBounds {
    /// Largest number of tools.
    pub max_tools: usize,
    /// Longest description of a tool in bytes.
    pub max_description_bytes: usize,
    /// Longest key of a property in a schema in bytes.
    pub max_schema_key_bytes: usize,
}

impl ToolBounds {
    fn of_dialect(dialect: &Dialect) -> Self {
        let size = |bound: u32| usize::try_from(bound).unwrap_or(usize::MAX);
        Self {
            max_tools: size(dialect.max_tools),
            max_description_bytes: size(dialect.max_description_bytes),
            max_schema_key_bytes: size(dialect.max_schema_key_bytes),
        }
    }

    fn smaller(self, other: Self) -> Self {
        Self {
            max_tools: self.max_tools.min(other.max_tools),
            max_description_bytes: self.max_description_bytes.min(other.max_description_bytes),
            max_schema_key_bytes: self.max_schema_key_bytes.min(other.max_schema_key_bytes),
        }
    }
}

impl Default for ToolBounds {
    fn default() -> Self {
        Self::of_dialect(&Dialect::default())
    }
}

/// Which dialect a provider speaks: the one that its configuration names, or any that is recognized.
#[derive(Debug, Clone, Default)]
pub struct DialectChoice {
    /// The configured name.
    pub name: Option<String>,
    /// The dialects to choose from.
    pub known: Arc<DialectCatalog>,
}
