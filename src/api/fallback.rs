//! Answers requests that match no route.

use actix_web::{HttpRequest, HttpResponse, http::header, web};

use super::{
    doors::ClientDoor, openapi::documented_methods, problem::ProblemDetails, problem_code::ProblemCode, state::ApiState,
};

/// Answers with `not_found`, or with `method_not_allowed` if the path exists for other methods.
pub(super) async fn answer_unmatched(request: HttpRequest) -> HttpResponse {
    let state = request.app_data::<web::Data<ApiState>>();
    let is_closed = |door: &ClientDoor| state.is_some_and(|state| !state.server.doors.contains(*door));
    if let Some(door) = ClientDoor::of_path(request.path()).filter(is_closed) {
        let detail = format!("the door {} is not open on this service (K8SOPS_DOORS)", door.name());
        return HttpResponse::from_error(ProblemDetails::new(ProblemCode::NotFound, detail));
    }
    let methods = documented_methods(request.path());
    if methods.is_empty() {
        let plain = plain_path(request.path());
        let hint = if plain != request.path() && !documented_methods(&plain).is_empty() {
            format!("the path is {plain}, without the slash that is too many")
        } else {
            "see /openapi.json or /docs for all routes".to_owned()
        };
        let detail = format!("no route matches {}; {hint}", request.path());
        return HttpResponse::from_error(ProblemDetails::new(ProblemCode::NotFound, detail));
    }
    let allow = methods.join(", ");
    let detail = format!("{} is not allowed for {}; allowed methods: {allow}", request.method(), request.path());
    let mut response = HttpResponse::from_error(ProblemDetails::new(ProblemCode::MethodNotAllowed, detail));
    if let Ok(value) = allow.parse() {
        response.headers_mut().insert(header::ALLOW, value);
    }
    response
}

/// Returns a path without empty segments, which come from base URLs with a slash at their end.
fn plain_path(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    format!("/{}", segments.join("/"))
}
