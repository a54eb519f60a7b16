//! Reading YAML into a tree whose leaves are the text as it was written.
//!
//! Every leaf stays text until the table of settings says what it is: so `1.10` does not become 1.1, a key of digits stays
//! a key, one parser serves YAML and environment alike, and all wrong values of a file are reported at once. The shape
//! (what is a mapping, what a list) is known here, which is also what finds keys that do not exist.

use std::{cell::RefCell, collections::BTreeMap, fmt};

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::{
    USER_TOKEN,
    parse::{self, nearest},
    settings::SETTINGS,
};

/// A place in the YAML.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// Its line, from 1 on.
    pub line: u64,
    /// What is there.
    pub value: Value,
}

/// What is at a place in the YAML.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Text, or nothing at all.
    Leaf(Option<String>),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in its order.
    Map(Vec<(String, Node)>),
}

impl Node {
    /// The entries of a mapping; none for anything else.
    pub(super) fn entries(&self) -> &[(String, Node)] {
        if let Value::Map(entries) = &self.value { entries } else { &[] }
    }

    /// What a mapping has under `key`.
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().find(|(k, _)| k == key).map(|(_, node)| node)
    }

    /// The items of a list; none for anything else.
    pub(super) fn items(&self) -> &[Node] {
        if let Value::List(items) = &self.value { items } else { &[] }
    }

    /// The text of a leaf, if it is not empty.
    pub(super) fn text(&self) -> Option<&str> {
        if let Value::Leaf(text) = &self.value { text.as_deref().filter(|t| !t.trim().is_empty()) } else { None }
    }
}

/// Reads a document. `variables` are what `${NAME}` stands for; `None` leaves it as it is written.
///
/// # Errors
/// One line for each problem, without the name of the file.
pub(super) fn read(text: &str, variables: Option<&BTreeMap<String, String>>) -> Result<Node, Vec<String>> {
    // A snippet would show the lines around a mistake, and those may hold a key.
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let Document { mut root, unknown: mut problems } = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| vec![error.render().replace('\n', " ").trim().to_owned()])?;
    if let Some(variables) = variables {
        interpolate(&mut root, variables, &mut problems);
    }
    if problems.is_empty() { Ok(root) } else { Err(problems) }
}

/// Puts variables into all leaves: `${NAME}`, `${NAME:-what if it is not set}`; `$${` stands for `${`.
///
/// Done here and not by the parser, whose own interpolation leaves quoted text alone, and `"Bearer ${TOKEN}"` is where it
/// is wanted most. It comes after parsing, so that nothing in a value can be taken for YAML.
fn interpolate(node: &mut Node, variables: &BTreeMap<String, String>, problems: &mut Vec<String>) {
    match &mut node.value {
        Value::Leaf(None) => {}
        Value::Leaf(Some(text)) => match expanded(text, variables) {
            Ok(whole) => *text = whole,
            Err(problem) => problems.push(format!("line {}: {problem}", node.line)),
        },
        Value::List(items) => items.iter_mut().for_each(|item| interpolate(item, variables, problems)),
        Value::Map(entries) => entries.iter_mut().for_each(|(_, entry)| interpolate(entry, variables, problems)),
    }
}

fn expanded(text: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    let mut whole = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, reference) = (&rest[..at], &rest[at + 2..]);
        if let Some(before) = before.strip_suffix('$') {
            whole.extend([before, "${"]);
            rest = reference;
            continue;
        }
        let end = reference.find('}').ok_or("`${` without `}`; write `$${` for `${` itself")?;
        // No variable: it stands for itself until there is a call.
        if rest[at..].starts_with(USER_TOKEN) {
            whole.extend([before, USER_TOKEN]);
            rest = &reference[end + 1..];
            continue;
        }
        let (name, default) =
            reference[..end].split_once(":-").map_or((&reference[..end], None), |(name, text)| (name, Some(text)));
        let value = variables.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let value = value.or(default).ok_or_else(|| {
            format!("the variable `{}` is not set; set it, or write `${{{0}:-}}` for nothing", parse::shown(name))
        })?;
        whole.extend([before, value]);
        rest = &reference[end + 1..];
    }
    whole.push_str(rest);
    Ok(whole)
}

/// What may be at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Root,
    Section(&'static str),
    Providers,
    Provider,
    Models,
    Model,
    Prices,
    LongPrices,
    Servers,
    Server,
    Rules,
    Rule,
    Texts,
    NamedTexts,
    Leaf,
}

const SECTIONS: [&str; 11] =
    ["server", "auth", "limits", "llm", "memory", "agent", "budgets", "tools", "log", "telemetry", "audit"];
const PROVIDER: [&str; 10] = [
    "name",
    "protocol",
    "base_url",
    "api_key",
    "key_optional",
    "key_variable",
    "connect_timeout",
    "read_timeout",
    "max_context",
    "keep_alive",
];
const MODEL: [&str; 5] = ["id", "name", "description", "context_window", "max_output_tokens"];
const PRICES: [&str; 4] = ["input", "output", "cached_input", "cache_write"];
const LONG_PRICES: [&str; 5] = ["above", "input", "output", "cached_input", "cache_write"];
const RULE: [&str; 5] = ["server", "tool", "effect", "approval", "reason"];
const SERVER: [&str; 5] = ["name", "transport", "url", "ssl_verify", "command"];

impl Kind {
    /// The keys that a mapping of this kind may have, and what is under them. Empty: any key.
    fn keys(self) -> Vec<(&'static str, Kind)> {
        let leaves = |keys: &[&'static str]| keys.iter().map(|key| (*key, Kind::Leaf)).collect::<Vec<_>>();
        match self {
            Kind::Root => SECTIONS
                .into_iter()
                .chain(["mcp"])
                .map(|section| (section, Kind::Section(section)))
                .chain([("providers", Kind::Providers)])
                .collect(),
            Kind::Section(section) => {
                let lists = [("mcp", "servers", Kind::Servers), ("tools", "rules", Kind::Rules)];
                let of_section = lists.into_iter().filter(|(of, ..)| *of == section);
                let mut keys: Vec<_> = of_section.map(|(_, key, kind)| (key, kind)).collect();
                for setting in SETTINGS {
                    let Some(rest) = setting.path.strip_prefix(section).and_then(|r| r.strip_prefix('.')) else {
                        continue;
                    };
                    let (key, kind) = match rest.split_once('.') {
                        Some((key, _)) => (key, Kind::Section(&setting.path[..=section.len() + key.len()])),
                        None => (rest, Kind::Leaf),
                    };
                    if keys.iter().all(|(known, _)| *known != key) {
                        keys.push((key, kind));
                    }
                }
                keys
            }
            Kind::Provider => {
                [leaves(&PROVIDER), vec![("models", Kind::Models), ("headers", Kind::NamedTexts)]].concat()
            }
            Kind::Model => [leaves(&MODEL), vec![("features", Kind::Texts), ("prices", Kind::Prices)]].concat(),
            Kind::Prices => [leaves(&PRICES), vec![("long", Kind::LongPrices)]].concat(),
            Kind::LongPrices => leaves(&LONG_PRICES),
            Kind::Server => {
                [leaves(&SERVER), vec![("args", Kind::Texts), ("env", Kind::NamedTexts), ("headers", Kind::NamedTexts)]]
                    .concat()
            }
            Kind::Rule => [leaves(&RULE), vec![("arguments", Kind::NamedTexts)]].concat(),
            Kind::Providers
            | Kind::NamedTexts
            | Kind::Models
            | Kind::Servers
            | Kind::Rules
            | Kind::Texts
            | Kind::Leaf => Vec::new(),
        }
    }

    /// What is under any key, where every key is allowed, or in a list.
    fn element(self) -> Kind {
        match self {
            Kind::Providers => Kind::Provider,
            Kind::Models => Kind::Model,
            Kind::Servers => Kind::Server,
            Kind::Rules => Kind::Rule,
            _ => Kind::Leaf,
        }
    }

    fn expects(self) -> &'static str {
        match self {
            Kind::Leaf => "a single value",
            Kind::Models | Kind::Servers | Kind::Rules | Kind::Texts => "a list",
            _ => "a mapping",
        }
    }
}

struct Document {
    root: Node,
    unknown: Vec<String>,
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let unknown = RefCell::new(Vec::new());
        let root = Seed { kind: Kind::Root, line: 1, path: "", unknown: &unknown }.deserialize(deserializer)?;
        Ok(Self { root, unknown: unknown.into_inner() })
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    kind: Kind,
    line: u64,
    path: &'a str,
    unknown: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        if self.kind != Kind::Leaf {
            return deserializer.deserialize_any(self);
        }
        let leaf = Spanned::<Option<String>>::deserialize(deserializer)?;
        Ok(Node { line: leaf.referenced.line(), value: Value::Leaf(leaf.value) })
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.path {
            "" => f.write_str(self.kind.expects()),
            path => write!(f, "{} at {path}", self.kind.expects()),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Node, E> {
        Ok(Node { line: self.line, value: Value::Leaf(None) })
    }

    // Serde's own message for a scalar in a wrong place shows it, and it may be a key.
    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<Node, E> {
        Err(E::custom(format_args!("a single value where there should be {} ({})", self.kind.expects(), self.path)))
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Node, E> {
        self.visit_str("")
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<Node, E> {
        self.visit_str("")
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<Node, E> {
        self.visit_str("")
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<Node, E> {
        self.visit_str("")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        if self.kind.expects() != "a list" {
            return Err(serde::de::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let mut items = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, items.len());
            match seq.next_element_seed(Seed { kind: self.kind.element(), path: &path, ..self })? {
                Some(item) => items.push(item),
                None => return Ok(Node { line: self.line, value: Value::List(items) }),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        if self.kind.expects() != "a mapping" {
            return Err(serde::de::Error::invalid_type(serde::de::Unexpected::Map, &self));
        }
        let known = self.kind.keys();
        let mut entries = Vec::new();
        let mut first_line = None;
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let line = key.referenced.line();
            first_line.get_or_insert(line);
            let path = if self.path.is_empty() { key.value.clone() } else { format!("{}.{}", self.path, key.value) };
            let kind = if known.is_empty() {
                Some(self.kind.element())
            } else {
                known.iter().find(|(k, _)| *k == key.value).map(|(_, kind)| *kind)
            };
            if let Some(kind) = kind {
                let node = map.next_value_seed(Seed { kind, line, path: &path, ..self })?;
                entries.push((key.value, node));
            } else {
                map.next_value::<IgnoredAny>()?;
                let keys: Vec<_> = known.iter().map(|(k, _)| *k).collect();
                let hint = match nearest(&key.value, keys.iter().copied()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("allowed: {}", keys.join(", ")),
                };
                self.unknown.borrow_mut().push(format!("line {line}: there is no setting `{path}`; {hint}"));
            }
        }
        Ok(Node { line: first_line.unwrap_or(self.line), value: Value::Map(entries) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_stay_as_they_were_written() {
        let text = "llm:\n  model: 1.10\n  provider: 007\n  temperature:\n  max_tokens: ~\nmemory:\nmcp:\n  servers:\n  - name: yes\n    args: [-y, 8080, \"\"]\n    env: {A: no, B: 1e3}\n";
        let root = read(text, None).unwrap();
        let llm = root.get("llm").unwrap();
        assert_eq!(llm.get("model").unwrap().text(), Some("1.10"));
        assert_eq!(llm.get("model").unwrap().line, 2);
        assert_eq!(llm.get("provider").unwrap().text(), Some("007"));
        assert_eq!(llm.get("temperature").unwrap().text(), None);
        assert_eq!(llm.get("max_tokens").unwrap().text(), None);
        let server = &root.get("mcp").unwrap().get("servers").unwrap().items()[0];
        assert_eq!(server.get("name").unwrap().text(), Some("yes"));
        let args: Vec<_> = server.get("args").unwrap().items().iter().map(|n| n.value.clone()).collect();
        assert_eq!(args, ["-y", "8080", ""].map(|t| Value::Leaf(Some(t.to_owned()))));
        assert_eq!(server.get("env").unwrap().get("B").unwrap().text(), Some("1e3"));
    }

    #[test]
    fn an_empty_document_is_an_empty_configuration() {
        for text in ["", "# nothing\n", "---\n", "{}"] {
            assert_eq!(read(text, None).map(|n| n.entries().len()), Ok(0), "{text:?}");
        }
    }

    #[test]
    fn all_unknown_keys_are_named_with_their_line() {
        let problems =
            read("server:\n  prot: 1\nmpc: {}\nproviders:\n  x:\n    models: [{idd: a}]\n", None).unwrap_err();
        assert_eq!(
            problems,
            [
                "line 2: there is no setting `server.prot`; did you mean `port`?",
                "line 3: there is no setting `mpc`; did you mean `mcp`?",
                "line 6: there is no setting `providers.x.models[0].idd`; did you mean `id`?",
            ]
        );
    }

    #[test]
    fn a_wrong_shape_is_one_line_that_names_the_place() {
        for (text, place) in [
            ("server: 5\n", "server"),
            ("mcp:\n  servers:\n  - headers: 5e-1\n", "mcp.servers[0].headers"),
            ("mcp:\n  servers:\n  - headers: Bearer hidden\n", "line 3"),
            ("server:\n  port: [1]\n", "line 2"),
            ("mcp:\n  servers: {a: b}\n", "mcp.servers"),
            ("a: b: c\n", "line 1"),
            ("server: {}\nserver: {}\n", "line 2"),
        ] {
            let problems = read(text, None).unwrap_err();
            assert_eq!(problems.len(), 1);
            assert!(!problems[0].contains("hidden"), "{problems:?}");
            assert!(problems[0].contains(place) && !problems[0].contains('\n'), "{text:?}: {problems:?}");
        }
    }

    #[test]
    fn variables_are_put_in_after_parsing_and_must_exist() {
        let vars = BTreeMap::from([("T", "a: b # c"), ("P", "0")].map(|(k, v)| (k.to_owned(), v.to_owned())));
        let text = "mcp:\n  servers:\n  - headers: {Authorization: \"Bearer ${T}\"}\nserver: {port: '${P}', host: '${H:-::1}'}\nagent: {instructions: 'a $${P} $5 ${P}'}\n";
        let root = read(text, Some(&vars)).unwrap();
        let headers = root.get("mcp").unwrap().get("servers").unwrap().items()[0].get("headers").unwrap().clone();
        assert_eq!(headers.get("Authorization").unwrap().text(), Some("Bearer a: b # c"));
        assert_eq!(root.get("server").unwrap().get("host").unwrap().text(), Some("::1"));
        assert_eq!(root.get("agent").unwrap().get("instructions").unwrap().text(), Some("a ${P} $5 0"));
        let header =
            read("mcp:\n  servers:\n  - headers: {Authorization: 'Bearer ${user.token} ${P}'}\n", Some(&vars)).unwrap();
        let header = header.get("mcp").unwrap().get("servers").unwrap().items()[0].get("headers").unwrap().clone();
        assert_eq!(header.get("Authorization").unwrap().text(), Some("Bearer ${user.token} 0"));
        let problems = read("server:\n  host: ${NOPE}\n  port: ${P\n", Some(&vars)).unwrap_err();
        assert_eq!(
            problems,
            [
                "line 2: the variable `NOPE` is not set; set it, or write `${NOPE:-}` for nothing",
                "line 3: `${` without `}`; write `$${` for `${` itself",
            ]
        );
    }
}
