//! Content negotiation by the `Accept` header.

use std::cmp::Reverse;

use actix_web::{
    HttpRequest,
    http::header::{Accept, Header as _, Quality},
};

/// The media type of JSON.
pub(super) const JSON: &str = "application/json";
/// The media type of server-sent events.
pub(super) const SSE: &str = "text/event-stream";
/// The media type of newline-delimited JSON.
pub(super) const NDJSON: &str = "application/x-ndjson";
/// The media type of plain text.
pub(super) const TEXT: &str = "text/plain";

/// Returns the offered media type that the client's `Accept` prefers: by quality, then by position in the header. If it names
/// none of them, returns the first that it does not exclude, since any answer is better than 406.
pub(super) fn preferred_media_type<'a>(request: &HttpRequest, offers: &[&'a str]) -> &'a str {
    let Accept(ranges) = Accept::parse(request).unwrap_or_else(|_| Accept(Vec::new()));
    // The quality and position of the most specific range that matches an offer.
    let preference = |offer: &str| {
        let matching = ranges.iter().enumerate().filter_map(|(position, range)| {
            let specificity = match (range.item.type_().as_str(), range.item.subtype().as_str()) {
                _ if range.item.essence_str() == offer => 2,
                (main, "*") if offer.split('/').next() == Some(main) => 1,
                ("*", "*") => 0,
                _ => return None,
            };
            Some((Reverse(specificity), position, range.quality))
        });
        matching
            .min_by_key(|(specificity, position, _)| (*specificity, *position))
            .map(|(_, position, quality)| (quality, position))
    };
    let allowed = offers
        .iter()
        .map(|offer| (*offer, preference(offer)))
        .filter(|(_, preference)| preference.is_none_or(|(quality, _)| quality > Quality::ZERO));
    // Ties and unnamed offers keep the order of the offers.
    let best = allowed.min_by_key(|(_, preference)| match preference {
        Some((quality, position)) => (Reverse(*quality), *position),
        None => (Reverse(Quality::ZERO), usize::MAX),
    });
    best.map_or(offers[0], |(offer, _)| offer)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn most_preferred_media_type_wins() {
        for (accept, offers, best) in [
            ("application/json, text/event-stream", [JSON, SSE], JSON),
            ("text/event-stream, application/json", [JSON, SSE], SSE),
            ("text/event-stream;q=0.5, application/json;q=0.4", [JSON, SSE], SSE),
            ("text/event-stream; q=0.5, application/json; q=0.9", [JSON, SSE], JSON),
            ("Text/Event-Stream", [JSON, SSE], SSE),
            ("text/event-stream;charset=utf-8", [JSON, SSE], SSE),
            ("text/*", [JSON, SSE], SSE),
            ("text/html, text/*;q=0.1, */*;q=0.2", [JSON, SSE], JSON),
            ("*/*", [JSON, SSE], JSON),
            ("*/*, text/event-stream", [JSON, SSE], JSON),
            ("text/event-stream, */*", [JSON, SSE], SSE),
            ("*/*, application/json;q=0.1", [JSON, SSE], SSE),
            ("*/*, application/json;q=0", [JSON, SSE], SSE),
            ("text/event-stream;q=0", [JSON, SSE], JSON),
            ("text/event-stream;q=0", [SSE, NDJSON], NDJSON),
            ("text/event-stream;q=0, application/x-ndjson;q=0", [SSE, NDJSON], SSE),
            ("application/x-ndjson", [SSE, NDJSON], NDJSON),
            ("application/x-ndjson;q=0.1, text/event-stream", [SSE, NDJSON], SSE),
            ("text/html", [SSE, NDJSON], SSE),
            ("", [SSE, NDJSON], SSE),
            ("not a media type", [SSE, NDJSON], SSE),
        ] {
            let request = TestRequest::default().insert_header(("accept", accept)).to_http_request();
            assert_eq!(preferred_media_type(&request, &offers), best, "{accept}");
        }
        assert_eq!(preferred_media_type(&TestRequest::default().to_http_request(), &[SSE, NDJSON]), SSE);
        let twice = TestRequest::default().append_header(("accept", "text/html")).append_header(("accept", NDJSON));
        assert_eq!(preferred_media_type(&twice.to_http_request(), &[SSE, NDJSON]), NDJSON);
    }
}
