//! `GET /`: the console, a page that is a client of this API. `console/build.sh` writes its files, which are part of the
//! program.

use std::{io::Write as _, sync::LazyLock};

use actix_web::{
    HttpRequest, HttpResponse, Resource,
    http::header::{self, AcceptEncoding, ContentEncoding, Encoding, EntityTag, Header as _, IfNoneMatch},
    web,
};
use data_encoding::HEXLOWER;
use flate2::{Compression, write::GzEncoder};
use sha2::{Digest as _, Sha256};

use super::{embedded_file::stream_in_chunks, fallback::answer_unmatched};

/// The page, which `/` serves, and what it loads from `/console/`.
static FILES: LazyLock<[ConsoleFile; 4]> = LazyLock::new(|| {
    [
        ConsoleFile::new("index.html", "text/html; charset=utf-8", include_bytes!("../../console/src/index.html")),
        ConsoleFile::new(
            "console.js",
            "text/javascript; charset=utf-8",
            include_bytes!("../../console/dist/console.js"),
        ),
        ConsoleFile::new("console.css", "text/css; charset=utf-8", include_bytes!("../../console/dist/console.css")),
        ConsoleFile::new("icon.svg", "image/svg+xml", include_bytes!("../../console/src/icon.svg")),
    ]
});

/// A file of the console.
struct ConsoleFile {
    name: &'static str,
    content_type: &'static str,
    /// Weak, because it stands for the file in both encodings.
    tag: EntityTag,
    plain: &'static [u8],
    gzip: web::Bytes,
}

impl ConsoleFile {
    fn new(name: &'static str, content_type: &'static str, plain: &'static [u8]) -> Self {
        let digest = HEXLOWER.encode(&Sha256::digest(plain)[..16]);
        Self { name, content_type, tag: EntityTag::new_weak(digest), plain, gzip: compress(plain).into() }
    }
}

fn compress(content: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    // Writing to a vector cannot fail.
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

pub(super) fn register_console(config: &mut web::ServiceConfig) {
    config.service(page_resource("/").get(serve_index)).service(page_resource("/console/{file:.*}").get(serve_file));
}

fn page_resource(path: &str) -> Resource {
    web::resource(path).default_service(web::to(answer_unmatched))
}

async fn serve_index(request: HttpRequest) -> HttpResponse {
    serve_named(request, "index.html").await
}

async fn serve_file(request: HttpRequest, name: web::Path<String>) -> HttpResponse {
    serve_named(request, &name).await
}

async fn serve_named(request: HttpRequest, name: &str) -> HttpResponse {
    let Some(file) = FILES.iter().find(|file| file.name == name) else { return answer_unmatched(request).await };
    let is_current = match IfNoneMatch::parse(&request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|tag| tag.weak_eq(&file.tag)),
        Err(_) => false,
    };
    let mut response = if is_current { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    // A browser asks each time, so that a page never runs with files of another version.
    response
        .insert_header(header::ETag(file.tag.clone()))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::VARY, "accept-encoding"));
    if is_current {
        return response.finish();
    }
    response.content_type(file.content_type);
    let accepted = AcceptEncoding::parse(&request).ok();
    let chosen = accepted.and_then(|accepted| accepted.negotiate([Encoding::gzip(), Encoding::identity()].iter()));
    if chosen == Some(Encoding::gzip()) {
        response.insert_header(ContentEncoding::Gzip);
        return response.body(stream_in_chunks(file.gzip.clone()));
    }
    response.body(stream_in_chunks(web::Bytes::from_static(file.plain)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The most that a browser loads for the whole console, compressed.
    const MAX_GZIP_BYTES: usize = 90_000;

    #[test]
    fn whole_console_stays_small() {
        let sizes: Vec<_> = FILES.iter().map(|file| (file.name, file.gzip.len())).collect();
        let total: usize = sizes.iter().map(|(_, size)| size).sum();
        assert!(total <= MAX_GZIP_BYTES, "{total} bytes: {sizes:?}");
    }

    #[test]
    fn page_has_nothing_inline() {
        let page = std::str::from_utf8(FILES[0].plain).unwrap();
        for inline in ["<style", " style=", " on", "javascript:", "<script>"] {
            assert!(!page.contains(inline), "{inline}");
        }
    }
}
