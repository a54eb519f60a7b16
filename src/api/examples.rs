//! Adds the examples of `examples.yaml` to the OpenAPI document.
//!
//! Readers of the document see them, and API test tools send them first.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use utoipa::openapi::{Content, OpenApi, RefOr};

/// The examples by operation id.
const EXAMPLES: &str = include_str!("examples.yaml");

/// The examples of an operation.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OperationExamples {
    /// A request body.
    request: Option<Value>,
    /// The body of the first content type of the success response.
    response: Option<Value>,
    /// The bodies of the other content types of the success response.
    #[serde(default)]
    others: BTreeMap<String, Value>,
}

/// Adds the examples of all operations.
pub(super) fn add_examples(contract: &mut OpenApi) {
    let mut all: BTreeMap<String, OperationExamples> =
        serde_saphyr::from_str(EXAMPLES).expect("the file is part of the program and tested");
    for item in contract.paths.paths.values_mut() {
        let operations = [&mut item.delete, &mut item.get, &mut item.patch, &mut item.post, &mut item.put];
        for operation in operations.into_iter().flatten() {
            let Some(mut examples) = operation.operation_id.as_ref().and_then(|id| all.remove(id)) else { continue };
            if let Some(RefOr::T(body)) = &mut operation.request_body {
                body.content.values_mut().for_each(|content| set_example(content, examples.request.take()));
            }
            let successes = operation.responses.responses.iter_mut().filter(|(status, _)| status.starts_with('2'));
            for (_, response) in successes {
                let RefOr::T(response) = response else { continue };
                for (media_type, content) in &mut response.content {
                    let example = examples.others.remove(media_type).or_else(|| examples.response.take());
                    set_example(content, example);
                }
            }
        }
    }
    debug_assert!(all.is_empty(), "examples of unknown operations: {:?}", all.keys());
}

fn set_example(content: &mut RefOr<Content>, example: Option<Value>) {
    if let (RefOr::T(content), Some(example)) = (content, example) {
        content.example = Some(example);
    }
}
