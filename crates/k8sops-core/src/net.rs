//! Hosts and URLs as texts: which hosts are loopback, and how a URL is shown without its secrets.

/// Whether a host is this machine's loopback: `localhost`, a name under it, or a loopback address with or without brackets.
/// A proxy does not reach it.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// A URL as it may be shown: user, password, query and fragment are masked.
#[must_use]
pub fn mask_url(text: &str) -> String {
    let mut url = match url::Url::parse(text) {
        // With one slash, or a slash in the password, credentials are a part of the path.
        Ok(url) if url.has_host() && !url.path().contains('@') => url,
        _ => return mask_invalid_url(text),
    };
    let has_userinfo = !url.username().is_empty() || url.password().is_some();
    if !has_userinfo && url.query().is_none() && url.fragment().is_none() {
        return printable_excerpt(text);
    }
    if has_userinfo {
        let _ = url.set_username("****");
        let _ = url.set_password(None);
    }
    if url.query().is_some() {
        url.set_query(Some("****"));
    }
    if url.fragment().is_some() {
        url.set_fragment(Some("****"));
    }
    url.to_string()
}

/// Masks a text that should be a URL and cannot be parsed: everything where a URL has its secrets, and everything after.
fn mask_invalid_url(text: &str) -> String {
    let start = text.find("//").map_or(0, |at| at + 2);
    // A password may hold any character, so that only the last `@` is sure to be its end.
    let text = match text.rfind('@') {
        Some(end) if end >= start => format!("{}****{}", &text[..start], &text[end..]),
        Some(end) => format!("****{}", &text[end..]),
        None => text.to_owned(),
    };
    match text.find(['?', '#']) {
        Some(end) => printable_excerpt(&format!("{}****", &text[..=end])),
        None => printable_excerpt(&text),
    }
}

/// A value as it is shown in a message: one line of bounded length, with control characters escaped.
#[must_use]
pub fn printable_excerpt(text: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut line: String = text
        .chars()
        .take(MAX_CHARS)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(MAX_CHARS).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_loopback_recognizes_names_and_addresses() {
        for host in
            ["localhost", "LOCALHOST", "a.localhost", "127.0.0.1", "127.8.0.9", "[::1]", "::1", "::ffff:127.0.0.1"]
        {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "localhost.example", "127.0.0.1.example", "10.0.0.1", "[::2]", "0.0.0.0"] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn mask_url_hides_credentials_query_and_fragment() {
        assert_eq!(mask_url("https://u:p@h/x?token=1"), "https://****@h/x?****");
        assert_eq!(mask_url("http://127.0.0.1:8000/mcp"), "http://127.0.0.1:8000/mcp");
        assert_eq!(mask_url("https://h/x#token=1"), "https://h/x#****");
    }

    #[test]
    fn mask_url_hides_secrets_of_invalid_urls() {
        for (text, masked) in [
            ("//user:secret@host/mcp", "//****@host/mcp"),
            ("user:secret@host/mcp", "****@host/mcp"),
            ("http//user:secret@host", "http//****@host"),
            ("http://user:sec/ret@host", "http://****@host"),
            ("host:port/mcp?token=secret", "host:port/mcp?****"),
            ("http://[::1/mcp#secret", "http://[::1/mcp#****"),
            ("a@b//secret", "****@b//secret"),
            ("localhost:8000/mcp", "localhost:8000/mcp"),
            ("rediss:/user:secret@host", "****@host"),
            ("redis://user:1/secret@host", "redis://****@host"),
        ] {
            assert_eq!(mask_url(text), masked);
        }
    }
}
