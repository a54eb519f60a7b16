//! Answers requests that match no route.

use actix_web::{HttpRequest, HttpResponse, http::header};

use super::{openapi::documented_methods, problem::ProblemDetails, problem_code::ProblemCode};

/// Answers with `not_found`, or with `method_not_allowed` if the path exists for other methods.
pub(super) async fn answer_unmatched(request: HttpRequest) -> HttpResponse {
    let methods = documented_methods(request.path());
    if methods.is_empty() {
        let detail = format!("no route matches {}; see /openapi.json or /docs for all routes", request.path());
        return ProblemDetails::new(ProblemCode::NotFound, detail).response();
    }
    let allow = methods.join(", ");
    let detail = format!("{} is not allowed for {}; allowed methods: {allow}", request.method(), request.path());
    let mut response = ProblemDetails::new(ProblemCode::MethodNotAllowed, detail).response();
    if let Ok(value) = allow.parse() {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}
