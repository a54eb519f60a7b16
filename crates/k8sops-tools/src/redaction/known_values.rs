//! The values that a session knows, and the search for them.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::{
    encodings::{SearchScope, ValueEncodings, encode_value, search_scope},
    found_secret::{Replacement, ValueForm},
    placeholder::format_placeholder,
};

/// Most encodings that are searched for in one session; a value has about eight. Further values are redacted only where they
/// are found as secrets.
const MAX_ENCODINGS: usize = 160_000;

/// The values that a session knows.
#[derive(Default)]
pub(super) struct KnownValues {
    /// The values by their digest.
    values: HashMap<String, String>,
    /// Digests of the values that are searched for.
    searched: HashSet<String>,
    /// What is searched for, with its placeholder and whether it must stand alone.
    encodings: HashMap<String, (String, SearchScope)>,
    /// Finds all encodings; built again when there are more of them.
    matcher: Option<Arc<ValueMatcher>>,
    /// There are more encodings than are searched for.
    is_full: bool,
}

impl KnownValues {
    /// Returns the value with a digest.
    pub(super) fn value(&self, digest: &str) -> Option<&String> {
        self.values.get(digest)
    }

    /// Keeps a value, so that its placeholder can be revealed. Returns whether it is new.
    pub(super) fn keep_value(&mut self, digest: &str, plain: &str) -> bool {
        let is_new = !self.values.contains_key(digest);
        if is_new {
            self.values.insert(digest.to_owned(), plain.to_owned());
        }
        is_new
    }

    /// Searches for a value in all later texts, unless it is an ordinary word or a name. Returns whether it was not searched for
    /// before.
    pub(super) fn search_value(&mut self, key: &str, digest: &str, plain: &str) -> bool {
        let scope = search_scope(key, plain);
        if scope == SearchScope::Nowhere || self.searched.contains(digest) {
            return false;
        }
        if self.encodings.len() >= MAX_ENCODINGS {
            if !std::mem::replace(&mut self.is_full, true) {
                tracing::warn!(
                    limit = MAX_ENCODINGS,
                    "redaction vault full: further secrets are redacted only where found"
                );
            }
            return false;
        }
        self.searched.insert(digest.to_owned());
        let ValueEncodings { plain, base64 } = encode_value(plain);
        let plain_placeholder = format_placeholder(key, digest, ValueForm::Plain);
        let base64_placeholder = format_placeholder(key, digest, ValueForm::Base64);
        for encoding in base64 {
            self.encodings.insert(encoding, (base64_placeholder.clone(), SearchScope::Anywhere));
        }
        for encoding in plain {
            self.encodings.insert(encoding, (plain_placeholder.clone(), scope));
        }
        self.matcher = None;
        true
    }

    /// Returns the matcher of all encodings; `None` if there are none, or if it cannot be built.
    pub(super) fn matcher(&mut self) -> Option<Arc<ValueMatcher>> {
        if self.encodings.is_empty() {
            return None;
        }
        if self.matcher.is_none() {
            match ValueMatcher::new(&self.encodings) {
                Ok(matcher) => self.matcher = Some(Arc::new(matcher)),
                Err(error) => tracing::error!(%error, "search for known secrets failed"),
            }
        }
        self.matcher.clone()
    }
}

/// Finds known values in all their encodings.
pub(super) struct ValueMatcher {
    anywhere: EncodingMatcher,
    whole_words: EncodingMatcher,
}

struct EncodingMatcher {
    automaton: AhoCorasick,
    placeholders: Vec<String>,
}

impl ValueMatcher {
    fn new(encodings: &HashMap<String, (String, SearchScope)>) -> Result<Self, aho_corasick::BuildError> {
        let build = |scope: SearchScope| -> Result<EncodingMatcher, aho_corasick::BuildError> {
            let encodings = encodings.iter().filter(|(_, (_, of_encoding))| *of_encoding == scope);
            let (patterns, placeholders): (Vec<&String>, Vec<String>) =
                encodings.map(|(encoding, (placeholder, _))| (encoding, placeholder.clone())).unzip();
            // A DFA, which the library would choose for few patterns, takes quadratic time to build for one that repeats itself.
            let automaton = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .kind(Some(AhoCorasickKind::ContiguousNFA))
                .build(patterns)?;
            Ok(EncodingMatcher { automaton, placeholders })
        };
        Ok(Self { anywhere: build(SearchScope::Anywhere)?, whole_words: build(SearchScope::WholeWords)? })
    }

    /// Returns where known values are in a text.
    pub(super) fn find_values(&self, text: &str) -> Vec<Replacement> {
        let mut found = self.anywhere.find_values(text);
        let is_joined = |byte: Option<&u8>| byte.is_some_and(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
        let bytes = text.as_bytes();
        found.extend(self.whole_words.find_values(text).into_iter().filter(|(range, _)| {
            let before = range.start.checked_sub(1).and_then(|at| bytes.get(at));
            !is_joined(before) && !is_joined(bytes.get(range.end))
        }));
        found
    }

    /// Returns whether a text contains a known value.
    pub(super) fn contains_value(&self, text: &str) -> bool {
        !self.find_values(text).is_empty()
    }
}

impl EncodingMatcher {
    fn find_values(&self, text: &str) -> Vec<Replacement> {
        let found = self.automaton.find_iter(text);
        found.map(|found| (found.range(), self.placeholders[found.pattern().as_usize()].clone())).collect()
    }
}
