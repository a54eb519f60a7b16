//! JSON and YAML as one tree, which borrows from the text where it can.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::granit_parser::{Event, Parser, ScalarStyle};

use crate::redaction::is_only_placeholders;

/// Deepest YAML that is read. `serde_json` has the same limit for JSON.
const MAX_DEPTH: usize = 128;

/// A value of JSON or YAML.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node<'a> {
    /// A scalar as text, and whether it is a string (and not a number, a boolean or null).
    Scalar(Cow<'a, str>, ScalarKind),
    List(Vec<Node<'a>>),
    Map(Vec<(Cow<'a, str>, Node<'a>)>),
}

/// Whether a scalar is text or is written without quotes in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ScalarKind {
    Text,
    Literal,
}

impl<'a> Node<'a> {
    /// Returns the scalar as text.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Node::Scalar(text, _) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> Option<&[Node<'a>]> {
        match self {
            Node::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn as_map(&self) -> Option<&[(Cow<'a, str>, Node<'a>)]> {
        match self {
            Node::Map(fields) => Some(fields),
            _ => None,
        }
    }

    /// Returns the field of a map. Names are compared without regard to case, because some servers write `InvolvedObject`.
    pub(super) fn field(&self, name: &str) -> Option<&Node<'a>> {
        self.as_map()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Estimates the size of the node as text.
    pub(super) fn text_bytes(&self) -> usize {
        match self {
            Node::Scalar(text, _) => text.len() + 2,
            Node::List(items) => items.iter().map(|item| item.text_bytes() + 2).sum::<usize>() + 2,
            Node::Map(fields) => {
                fields.iter().map(|(key, value)| key.len() + value.text_bytes() + 6).sum::<usize>() + 2
            }
        }
    }

    /// Returns the text of a field that is not empty.
    pub(super) fn field_text(&self, name: &str) -> Option<&str> {
        self.field(name)?.as_text().filter(|text| !text.is_empty() && *text != "null")
    }
}

/// Reads the JSON values at the beginning of a text, and returns them with the rest of the text; `None` if there is none.
pub(super) fn read_json(text: &str) -> Option<(Vec<Node<'_>>, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Node<'_>>();
    let mut nodes = Vec::new();
    let mut end = 0;
    while let Some(Ok(node)) = values.next() {
        // A scalar between two values is prose.
        if !matches!(node, Node::List(_) | Node::Map(_)) {
            break;
        }
        nodes.push(node);
        end = values.byte_offset();
    }
    (!nodes.is_empty()).then(|| (nodes, &text[end..]))
}

/// Reads YAML documents; `None` if the text is not YAML, or if a document is only a scalar.
pub(super) fn read_yaml(text: &str) -> Option<Vec<Node<'_>>> {
    let mut documents = Vec::new();
    // The open lists and maps; of a map also the key whose value comes next.
    let mut open: Vec<(Node<'_>, Option<Cow<'_, str>>)> = Vec::new();
    for event in Parser::new_from_str(text) {
        let node = match event.ok()?.0 {
            Event::Scalar(text, style, ..) => {
                let is_literal = style == ScalarStyle::Plain && is_yaml_literal(&text);
                Node::Scalar(text, if is_literal { ScalarKind::Literal } else { ScalarKind::Text })
            }
            // An alias is not resolved: a few lines of aliases can stand for gigabytes.
            Event::Alias(_) => Node::Scalar("(alias)".into(), ScalarKind::Text),
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() >= MAX_DEPTH => return None,
            Event::SequenceStart(..) => {
                open.push((Node::List(Vec::new()), None));
                continue;
            }
            Event::MappingStart(..) => {
                open.push((Node::Map(Vec::new()), None));
                continue;
            }
            Event::SequenceEnd => restore_placeholder(open.pop()?.0),
            Event::MappingEnd => open.pop()?.0,
            _ => continue,
        };
        match open.last_mut() {
            None => documents.push(node),
            Some((Node::List(items), _)) => items.push(node),
            Some((Node::Map(fields), key)) => match (key.take(), node) {
                (Some(key), value) => fields.push((key, value)),
                (None, Node::Scalar(text, _)) => *key = Some(text),
                // A list or a map as a key does not occur in what clusters return.
                (None, _) => return None,
            },
            Some((Node::Scalar(..), _)) => return None,
        }
    }
    documents.retain(|document| !matches!(document, Node::Scalar(text, _) if text.is_empty() || &**text == "~"));
    // `INFO: started` in each line of a log is no map.
    let has_repeated_keys = documents.iter().any(|document| {
        let mut keys = HashSet::new();
        document.as_map().is_some_and(|fields| fields.iter().any(|(key, _)| !keys.insert(key)))
    });
    if has_repeated_keys {
        return None;
    }
    let are_collections = documents.iter().all(|document| !matches!(document, Node::Scalar(..)));
    (!documents.is_empty() && are_collections).then_some(documents)
}

/// Returns the placeholder of a secret as the scalar that it stands for: without quotes, its brackets are those of a list in YAML.
fn restore_placeholder(node: Node<'_>) -> Node<'_> {
    if let Node::List(items) = &node
        && let [Node::Scalar(text, ScalarKind::Text)] = items.as_slice()
    {
        let bracketed = format!("[{text}]");
        if is_only_placeholders(&bracketed) {
            return Node::Scalar(bracketed.into(), ScalarKind::Text);
        }
    }
    node
}

/// Returns whether a plain scalar of YAML is a number, a boolean or null.
fn is_yaml_literal(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "true" | "false")
        || (text.starts_with(|char: char| char.is_ascii_digit() || matches!(char, '-' | '+' | '.'))
            && text.parse::<f64>().is_ok())
}

impl<'de: 'a, 'a> Deserialize<'de> for Node<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor(std::marker::PhantomData))
    }
}

struct NodeVisitor<'a>(std::marker::PhantomData<&'a ()>);

impl<'de: 'a, 'a> Visitor<'de> for NodeVisitor<'a> {
    type Value = Node<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Node<'a>, E> {
        Ok(Node::Scalar(Cow::Borrowed(text), ScalarKind::Text))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node<'a>, E> {
        Ok(Node::Scalar(Cow::Owned(text.to_owned()), ScalarKind::Text))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node<'a>, E> {
        Ok(Node::Scalar(if value { "true" } else { "false" }.into(), ScalarKind::Literal))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node<'a>, E> {
        Ok(Node::Scalar(value.to_string().into(), ScalarKind::Literal))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node<'a>, E> {
        Ok(Node::Scalar(value.to_string().into(), ScalarKind::Literal))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Node<'a>, E> {
        let number = serde_json::Number::from_f64(value).ok_or_else(|| E::custom("not a finite number"))?;
        Ok(Node::Scalar(number.to_string().into(), ScalarKind::Literal))
    }

    fn visit_unit<E>(self) -> Result<Node<'a>, E> {
        Ok(Node::Scalar("null".into(), ScalarKind::Literal))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node<'a>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Node<'a>, A::Error> {
        let mut map = Vec::new();
        while let Some(key) = fields.next_key::<Node<'a>>()? {
            let Node::Scalar(key, _) = key else { return Err(A::Error::custom("a key that is no text")) };
            map.push((key, fields.next_value()?));
        }
        Ok(Node::Map(map))
    }
}
