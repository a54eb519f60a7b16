//! What clients say in the headers `A2A-Version` and `A2A-Extensions`.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HeaderName, HeaderValue},
};

use super::{
    a2a_error::{A2aError, A2aErrorKind},
    human_input::HITL_EXTENSION,
};

/// The version of the protocol.
pub(super) const VERSION: &str = "1.0";
/// The header with the version, and the query parameter of the same name.
const VERSION_HEADER: &str = "a2a-version";
/// The header with the extensions that are asked for, and in responses those that are active.
const EXTENSIONS_HEADER: HeaderName = HeaderName::from_static("a2a-extensions");

/// Whether approvals are described for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HitlActivation {
    Active,
    Inactive,
}

/// What the headers of a request say.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServiceParameters {
    pub(super) hitl: HitlActivation,
}

impl ServiceParameters {
    /// Reads the headers.
    ///
    /// # Errors
    /// The client speaks another version.
    pub(super) fn from_request(request: &HttpRequest) -> Result<Self, A2aError> {
        let header = request.headers().get(VERSION_HEADER).map(|value| value.to_str().unwrap_or("?").to_owned());
        let in_query = || {
            let mut pairs = url::form_urlencoded::parse(request.query_string().as_bytes());
            pairs.find(|(name, _)| name.eq_ignore_ascii_case(VERSION_HEADER)).map(|(_, value)| value.into_owned())
        };
        let version = header.filter(|text| !text.trim().is_empty()).or_else(in_query).unwrap_or_default();
        let version = version.trim();
        // The patch version is not considered.
        if !(version.is_empty() || version == VERSION || version.starts_with("1.0.")) {
            let message = format!("this agent speaks A2A {VERSION}, not {version:?}");
            return Err(A2aError::new(A2aErrorKind::VersionNotSupported, message));
        }
        let mut wanted = request.headers().get_all(&EXTENSIONS_HEADER).filter_map(|value| value.to_str().ok());
        let is_active = wanted.any(|value| value.split(',').any(|uri| uri.trim() == HITL_EXTENSION));
        Ok(Self { hitl: if is_active { HitlActivation::Active } else { HitlActivation::Inactive } })
    }

    /// Says in a response which extensions are active.
    pub(super) fn add_to(self, mut response: HttpResponse) -> HttpResponse {
        if self.hitl == HitlActivation::Active {
            response.headers_mut().insert(EXTENSIONS_HEADER, HeaderValue::from_static(HITL_EXTENSION));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn version_is_1_0_or_absent() {
        for (version, is_accepted) in
            [("1.0", true), ("1.0.3", true), ("", true), (" 1.0 ", true), ("0.3", false), ("2.0", false), ("1", false)]
        {
            let request = TestRequest::default().insert_header((VERSION_HEADER, version)).to_http_request();
            assert_eq!(ServiceParameters::from_request(&request).is_ok(), is_accepted, "{version}");
        }
        assert!(ServiceParameters::from_request(&TestRequest::default().to_http_request()).is_ok());
        let in_query = TestRequest::with_uri("/a2a?A2A-Version=0.3").to_http_request();
        assert!(ServiceParameters::from_request(&in_query).is_err());
    }

    #[test]
    fn extension_is_active_by_its_exact_uri() {
        let other = format!("{HITL_EXTENSION}0");
        let list = format!("https://example.com/x, {HITL_EXTENSION}");
        for (header, hitl) in [
            (HITL_EXTENSION, HitlActivation::Active),
            (&*list, HitlActivation::Active),
            (&*other, HitlActivation::Inactive),
        ] {
            let request = TestRequest::default().insert_header((EXTENSIONS_HEADER, header)).to_http_request();
            assert_eq!(ServiceParameters::from_request(&request).unwrap().hitl, hitl, "{header}");
        }
    }
}
