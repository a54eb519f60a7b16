//! `/docs`: the API as pages (Swagger UI), served without network access.

use std::{
    borrow::Cow,
    sync::{Arc, LazyLock},
};

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use utoipa_swagger_ui::Config;

use super::{
    embedded_file::stream_in_chunks, fallback::answer_unmatched, problem::ProblemDetails, problem_code::ProblemCode,
};

pub(super) fn register_pages(config: &mut web::ServiceConfig) {
    config.route("/docs", web::get().to(redirect_to_pages)).route("/docs/{file:.*}", web::get().to(serve_page_file));
}

async fn redirect_to_pages() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

async fn serve_page_file(request: HttpRequest) -> HttpResponse {
    static CONFIG: LazyLock<Arc<Config<'_>>> =
        LazyLock::new(|| Arc::new(Config::from("/openapi.json").try_it_out_enabled(true)));
    match utoipa_swagger_ui::serve(request.match_info().query("file"), CONFIG.clone()) {
        Ok(Some(file)) => {
            let mut response = HttpResponse::Ok();
            if file.gzpipped {
                response.insert_header(header::ContentEncoding::Gzip);
            }
            let content = match file.bytes {
                Cow::Borrowed(content) => web::Bytes::from_static(content),
                Cow::Owned(content) => content.into(),
            };
            response.content_type(file.content_type).body(stream_in_chunks(content))
        }
        Ok(None) => answer_unmatched(request).await,
        Err(error) => ProblemDetails::new(ProblemCode::Internal, error.to_string()).response(),
    }
}
