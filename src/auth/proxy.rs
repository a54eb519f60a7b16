//! Callers that a reverse proxy has authenticated. Its headers are accepted from its own addresses only.

use super::{
    credentials::Credentials,
    errors::AuthRejection,
    identity::{CallerIdentity, CredentialExpiry},
    options::ProxyOptions,
    roles::RoleSet,
    user_ids::user_id_from_name,
};

/// The longest user name, in bytes.
const MAX_NAME_BYTES: usize = 512;

/// Authenticates by a header of the proxy.
pub(super) struct ProxyBackend(ProxyOptions);

impl ProxyBackend {
    pub(super) fn new(config: ProxyOptions) -> Self {
        Self(config)
    }

    pub(super) fn authenticate(&self, credentials: &Credentials<'_>) -> Result<CallerIdentity, AuthRejection> {
        let Self(config) = self;
        let peer = credentials.peer.map(|peer| peer.to_canonical());
        if !peer.is_some_and(|peer| config.sources.iter().any(|source| source.contains(&peer))) {
            return Err(AuthRejection::Invalid(
                "requests must come through the authenticating proxy; this request came from another address \
                 (AUTH_PROXY_SOURCES)"
                    .into(),
            ));
        }
        let mut names = (credentials.header)(&config.user_header);
        let name = match (names.pop(), names.is_empty()) {
            (Some(name), true) => name,
            (None, _) => return Err(AuthRejection::Missing("the proxy sent no user (AUTH_PROXY_USER_HEADER)")),
            // One of the values came from the client.
            (Some(_), false) => {
                return Err(AuthRejection::Invalid("the proxy's user header occurs more than once".into()));
            }
        };
        // Only what HTTP allows around a value: other white space belongs to the name.
        let name = read_text(&name)?.trim_matches([' ', '\t']);
        if name.is_empty() {
            return Err(AuthRejection::Missing("the proxy sent no user (AUTH_PROXY_USER_HEADER)"));
        }
        if name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
            return Err(AuthRejection::Invalid("the proxy's user header is not a valid name".into()));
        }
        let roles = match &config.roles_header {
            None => RoleSet::USER,
            Some(header) => match (credentials.header)(header).as_slice() {
                [] => RoleSet::default(),
                [one] => RoleSet::from_names(read_text(one)?.split([',', ' ']).map(str::trim)),
                _ => return Err(AuthRejection::Invalid("the proxy's roles header occurs more than once".into())),
            },
        };
        Ok(CallerIdentity { user: user_id_from_name(name), roles, user_token: None, expiry: CredentialExpiry::Never })
    }
}

/// Reads a header. Bytes that are not UTF-8 are rejected: replaced by a sign, two users would become one.
fn read_text(value: &[u8]) -> Result<&str, AuthRejection> {
    std::str::from_utf8(value).map_err(|_| AuthRejection::Invalid("a header of the proxy is not UTF-8".into()))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn authenticate(peer: &str, headers: &[(&str, &str)]) -> Result<CallerIdentity, AuthRejection> {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect();
        authenticate_bytes(peer, &headers)
    }

    fn authenticate_bytes(peer: &str, headers: &[(&str, &[u8])]) -> Result<CallerIdentity, AuthRejection> {
        let proxy = ProxyBackend::new(ProxyOptions {
            user_header: "x-user".into(),
            roles_header: Some("x-roles".into()),
            sources: vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
            allow_any_source: false,
        });
        let header = |name: &str| {
            headers.iter().filter(|(n, _)| *n == name).map(|(_, value)| value.to_vec()).collect::<Vec<_>>()
        };
        let peer = peer.parse::<IpAddr>().ok();
        proxy.authenticate(&Credentials { bearer: None, peer, header: &header })
    }

    #[test]
    fn header_is_accepted_from_the_proxy_only() {
        let anna =
            authenticate("10.1.2.3", &[("x-user", "anna@example.org"), ("x-roles", "user, approver,ops")]).unwrap();
        assert_eq!((anna.user.as_str(), anna.roles.to_string().as_str()), ("anna@example.org", "user, approver"));
        assert!(authenticate("::ffff:10.1.2.3", &[("x-user", "anna")]).is_ok(), "IPv4-mapped IPv6 address");
        assert!(!authenticate("fd00::1", &[("x-user", "anna")]).unwrap().roles.can_read());
        for peer in ["10.2.0.1", "127.0.0.1", "::1", ""] {
            let spoofed = [("x-user", "anna"), ("x-forwarded-for", "10.1.2.3")];
            assert!(matches!(authenticate(peer, &spoofed), Err(AuthRejection::Invalid(_))), "{peer}");
        }
        assert!(matches!(authenticate("10.1.2.3", &[]), Err(AuthRejection::Missing(_))));
        assert!(matches!(authenticate("10.1.2.3", &[("x-user", " ")]), Err(AuthRejection::Missing(_))));
        assert!(authenticate("10.1.2.3", &[("x-user", "anna"), ("x-user", "root")]).is_err());
        assert!(authenticate("10.1.2.3", &[("x-user", "a"), ("x-roles", "user"), ("x-roles", "admin")]).is_err());
    }

    #[test]
    fn names_in_utf_8_are_distinct_and_others_are_rejected() {
        let user = |name: &str| authenticate("10.1.2.3", &[("x-user", name)]).unwrap().user;
        assert_ne!(user("jos\u{e9}"), user("jos\u{ea}"));
        for name in [b"jos\xe9".as_slice(), b"jos\xea"] {
            assert!(matches!(authenticate_bytes("10.1.2.3", &[("x-user", name)]), Err(AuthRejection::Invalid(_))));
        }
        for other in ["anna\u{a0}", "anna\u{2003}", "\u{3000}anna", "anna\u{2028}", "an\u{200b}na"] {
            assert_ne!(user(other), user("anna"), "{other:?}");
        }
        assert_eq!(user("\tanna "), user("anna"));
        assert!(authenticate("10.1.2.3", &[("x-user", "anna\u{85}")]).is_err(), "a control character");
        let roles: &[(&str, &[u8])] = &[("x-user", b"anna"), ("x-roles", b"user\xff")];
        assert!(authenticate_bytes("10.1.2.3", roles).is_err());
    }
}
