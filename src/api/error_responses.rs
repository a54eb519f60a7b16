//! Documents the error responses of operations in the OpenAPI document.

use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, Header, HeaderBuilder, Object, Ref, RefOr, Response, ResponseBuilder, Type};

use super::problem_code::ProblemCode;

/// Returns the responses for error codes: one response per status, which lists its codes.
/// [`ProblemCode::StoreUnavailable`] stands for all codes of a store that does not do what it is asked.
pub(super) fn error_responses(codes: &[ProblemCode]) -> BTreeMap<String, RefOr<Response>> {
    let mut by_status: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let outages: &[ProblemCode] = &ProblemCode::STORE_OUTAGES;
    let each = |code: &'_ ProblemCode| match code {
        ProblemCode::StoreUnavailable => outages.to_vec(),
        other => vec![*other],
    };
    for code in codes.iter().flat_map(each) {
        by_status.entry(code.status().as_str().to_owned()).or_default().push(format!("`{}`", code.name()));
    }
    let response = |status: &str, names: Vec<String>| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem"))).build();
        let response =
            ResponseBuilder::new().description(names.join(", ")).content("application/problem+json", content);
        let header = match status {
            "401" => Some(("WWW-Authenticate", "The expected authentication scheme.")),
            "426" => Some(("Upgrade", "The protocol to upgrade to.")),
            "429" | "503" => Some(("Retry-After", "Seconds to wait before a retry, if known.")),
            _ => None,
        };
        RefOr::T(match header {
            Some((name, description)) => response.header(name, text_header(description)).build(),
            None => response.build(),
        })
    };
    by_status.into_iter().map(|(status, names)| (status.clone(), response(&status, names))).collect()
}

fn text_header(description: &str) -> Header {
    HeaderBuilder::new().schema(Some(Object::with_type(Type::String))).description(Some(description)).build()
}

/// Declares a type that documents the error codes of an operation.
macro_rules! document_errors {
    ($name:ident: $($code:ident),+ $(,)?) => {
        struct $name;

        impl utoipa::IntoResponses for $name {
            fn responses()
            -> std::collections::BTreeMap<String, utoipa::openapi::RefOr<utoipa::openapi::response::Response>> {
                use $crate::api::{error_responses::error_responses, problem_code::ProblemCode};
                error_responses(&[$(ProblemCode::$code),+])
            }
        }
    };
}
pub(super) use document_errors;
