//! Hosts and URLs as texts: what is loopback, and how a URL is shown without its secrets.

/// Whether a host is this machine's own loopback: `localhost`, a name under it, or an address with or without brackets. No
/// proxy of the machine leads there.
#[must_use]
pub fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    let name = bare.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || bare.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// A URL as it may be shown: without user and password, and without the values of its query and fragment.
#[must_use]
pub fn mask_url(text: &str) -> String {
    let mut url = match url::Url::parse(text) {
        Ok(url) if !url.cannot_be_a_base() => url,
        _ => return mask_no_url(text),
    };
    let has_userinfo = !url.username().is_empty() || url.password().is_some();
    if !has_userinfo && url.query().is_none() && url.fragment().is_none() {
        return shown(text);
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

/// What should be a URL and is none: whatever stands where a URL has its secrets, or after, is left out.
fn mask_no_url(text: &str) -> String {
    let start = text.find("//").map_or(0, |at| at + 2);
    // A password may hold any character, so that only the last `@` is sure to be its end.
    let text = match text.rfind('@') {
        Some(end) if end >= start => format!("{}****{}", &text[..start], &text[end..]),
        Some(end) => format!("****{}", &text[end..]),
        None => text.to_owned(),
    };
    match text.find(['?', '#']) {
        Some(end) => shown(&format!("{}****", &text[..=end])),
        None => shown(&text),
    }
}

/// A value as it is shown in a message: one line, of bounded length.
#[must_use]
pub fn shown(text: &str) -> String {
    const MAX: usize = 80;
    let mut line: String = text
        .chars()
        .take(MAX)
        .flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] })
        .collect();
    if text.chars().nth(MAX).is_some() {
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_known_by_each_of_its_names() {
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
    fn what_is_no_url_shows_no_secret_either() {
        for (text, shown) in [
            ("//user:secret@host/mcp", "//****@host/mcp"),
            ("user:secret@host/mcp", "****@host/mcp"),
            ("http//user:secret@host", "http//****@host"),
            ("http://user:sec/ret@host", "http://****@host"),
            ("host:port/mcp?token=secret", "host:port/mcp?****"),
            ("http://[::1/mcp#secret", "http://[::1/mcp#****"),
            ("a@b//secret", "****@b//secret"),
            ("localhost:8000/mcp", "localhost:8000/mcp"),
        ] {
            assert_eq!(mask_url(text), shown);
        }
    }
}
