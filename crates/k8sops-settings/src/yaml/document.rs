//! Reading a YAML document into nodes, against the shape that the catalog gives it.

use std::{cell::RefCell, fmt};

use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::Spanned;

use super::{
    interpolation::{ReferenceValues, replace_references},
    node::{YamlNode, YamlValue},
    shape::{NodeForm, NodeShape},
};
use crate::{descriptor::SectionDescriptor, suggestion::nearest_name};

/// A document as far as it could be read, so that one start reports the problems of its values as well.
pub(crate) struct ParsedDocument {
    /// What could be read; `None` if the text is not YAML, or has another shape.
    pub(crate) root: Option<YamlNode>,
    /// One line for each problem, without the name of the file.
    pub(crate) problems: Vec<String>,
}

/// Reads a document. `values` replace its references; `None` leaves them as they are.
pub(crate) fn read_document(
    text: &str,
    sections: &[&'static SectionDescriptor],
    values: Option<ReferenceValues<'_>>,
) -> ParsedDocument {
    // A snippet would show the lines around a mistake, and those may contain a key.
    let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
    let unknown_keys = RefCell::new(Vec::new());
    let seed =
        NodeSeed { shape: NodeShape::Branch { sections, path: "" }, line: 1, path: "", unknown_keys: &unknown_keys };
    let parsed = serde_saphyr::with_deserializer_from_str_with_options(text, options, |deserializer| {
        seed.deserialize(deserializer)
    });
    let mut problems = unknown_keys.into_inner();
    match parsed {
        Ok(mut root) => {
            if let Some(values) = values {
                replace_references(&mut root, values, &mut problems);
            }
            ParsedDocument { root: Some(root), problems }
        }
        Err(error) => {
            let problem = error.render().replace('\n', " ").trim().to_owned();
            ParsedDocument { root: None, problems: vec![problem] }
        }
    }
}

/// What is known of a node before it is read.
#[derive(Clone, Copy)]
struct NodeSeed<'a> {
    shape: NodeShape<'a>,
    line: u64,
    path: &'a str,
    unknown_keys: &'a RefCell<Vec<String>>,
}

impl<'de> DeserializeSeed<'de> for NodeSeed<'_> {
    type Value = YamlNode;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<YamlNode, D::Error> {
        if self.shape.form() != NodeForm::Scalar {
            return deserializer.deserialize_any(self);
        }
        let scalar = Spanned::<Option<String>>::deserialize(deserializer)?;
        Ok(YamlNode { line: scalar.referenced.line(), value: YamlValue::Scalar(scalar.value) })
    }
}

impl<'de> Visitor<'de> for NodeSeed<'_> {
    type Value = YamlNode;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = self.shape.form().describe();
        if self.path.is_empty() { f.write_str(form) } else { write!(f, "{form} at {}", self.path) }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<YamlNode, E> {
        Ok(YamlNode { line: self.line, value: YamlValue::Scalar(None) })
    }

    // Serde's own message shows a misplaced scalar, which may be a key.
    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<YamlNode, E> {
        let form = self.shape.form().describe();
        Err(E::custom(format_args!("a single value where there should be {form} ({})", self.path)))
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<YamlNode, E> {
        self.visit_str("")
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<YamlNode, E> {
        self.visit_str("")
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<YamlNode, E> {
        self.visit_str("")
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<YamlNode, E> {
        self.visit_str("")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<YamlNode, A::Error> {
        if self.shape.form() != NodeForm::List {
            return Err(serde::de::Error::invalid_type(serde::de::Unexpected::Seq, &self));
        }
        let mut items = Vec::new();
        loop {
            let path = format!("{}[{}]", self.path, items.len());
            match seq.next_element_seed(NodeSeed { shape: self.shape.element(), path: &path, ..self })? {
                Some(item) => items.push(item),
                None => return Ok(YamlNode { line: self.line, value: YamlValue::List(items) }),
            }
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<YamlNode, A::Error> {
        if self.shape.form() != NodeForm::Mapping {
            return Err(serde::de::Error::invalid_type(serde::de::Unexpected::Map, &self));
        }
        let known = self.shape.known_keys();
        let mut entries = Vec::new();
        let mut first_line = None;
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let line = key.referenced.line();
            first_line.get_or_insert(line);
            let path = if self.path.is_empty() { key.value.clone() } else { format!("{}.{}", self.path, key.value) };
            let shape = match &known {
                None => Some(self.shape.element()),
                Some(known) => known.iter().find(|(name, _)| *name == key.value).map(|(_, shape)| *shape),
            };
            if let Some(shape) = shape {
                let node = map.next_value_seed(NodeSeed { shape, line, path: &path, ..self })?;
                entries.push((key.value, node));
            } else {
                map.next_value::<IgnoredAny>()?;
                let names: Vec<&str> = known.iter().flatten().map(|(name, _)| *name).collect();
                let hint = match nearest_name(&key.value, &names) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("allowed: {}", names.join(", ")),
                };
                self.unknown_keys.borrow_mut().push(format!("line {line}: there is no setting `{path}`; {hint}"));
            }
        }
        Ok(YamlNode { line: first_line.unwrap_or(self.line), value: YamlValue::Map(entries) })
    }
}
