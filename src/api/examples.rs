//! Examples of what each operation is asked and answers, from `examples.yaml`: what a reader of the document sees, and
//! what is tried first by who tests the service against it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::{Content, OpenApi, RefOr};

/// By operation id.
const EXAMPLES: &str = include_str!("examples.yaml");

/// The examples of an operation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Examples {
    /// A body that it is sent.
    request: Option<Value>,
    /// What it answers when it succeeds: the first content of its success.
    response: Option<Value>,
    /// What it answers in its other ways of success, by the type of the content.
    #[serde(default)]
    others: BTreeMap<String, Value>,
}

/// Puts the examples into the document.
pub(super) fn add(contract: &mut OpenApi) {
    let mut all: BTreeMap<String, Examples> =
        serde_saphyr::from_str(EXAMPLES).expect("the file is part of the program, and tested");
    for item in contract.paths.paths.values_mut() {
        let operations = [&mut item.delete, &mut item.get, &mut item.patch, &mut item.post, &mut item.put];
        for operation in operations.into_iter().flatten() {
            let Some(mut examples) = operation.operation_id.as_ref().and_then(|id| all.remove(id)) else { continue };
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                body.content.values_mut().for_each(|content| set(content, examples.request.take()));
            }
            let successes = operation.responses.responses.iter_mut().filter(|(status, _)| status.starts_with('2'));
            for (_, answer) in successes {
                let RefOr::T(answer) = answer else { continue };
                for (kind, content) in &mut answer.content {
                    let example = examples.others.remove(kind).or_else(|| examples.response.take());
                    set(content, example);
                }
            }
        }
    }
    debug_assert!(all.is_empty(), "examples of no operation: {:?}", all.keys());
}

fn set(content: &mut RefOr<Content>, example: Option<Value>) {
    if let (RefOr::T(content), Some(example)) = (content, example) {
        content.example = Some(example);
    }
}
