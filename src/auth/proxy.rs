//! Callers whom a proxy has authenticated: believed from its own addresses only.

use super::{Identity, Lapse, Presented, Refusal, Roles, user_id};
use crate::auth::ProxyOptions;

/// The longest name of a user, in bytes.
const MAX_NAME: usize = 512;

pub(super) struct Proxy(ProxyOptions);

impl Proxy {
    pub(super) fn new(config: ProxyOptions) -> Self {
        Self(config)
    }

    /// Who the proxy says it is.
    pub(super) fn identify(&self, presented: &Presented<'_>) -> Result<Identity, Refusal> {
        let Self(config) = self;
        let peer = presented.peer.map(|peer| peer.to_canonical());
        if !peer.is_some_and(|peer| config.sources.iter().any(|source| source.contains(&peer))) {
            return Err(Refusal::Invalid(
                "requests are taken from the authenticating proxy only; this one came from elsewhere \
                 (AUTH_PROXY_SOURCES)"
                    .into(),
            ));
        }
        let mut names = (presented.header)(&config.user_header);
        let name = match (names.pop(), names.is_empty()) {
            (Some(name), true) => name,
            (None, _) => return Err(Refusal::Missing("the proxy sent no user (AUTH_PROXY_USER_HEADER)")),
            // One of them came from the client.
            (Some(_), false) => return Err(Refusal::Invalid("the proxy's header with the user is there twice".into())),
        };
        let name = name.trim();
        if name.is_empty() {
            return Err(Refusal::Missing("the proxy sent no user (AUTH_PROXY_USER_HEADER)"));
        }
        if name.len() > MAX_NAME || name.chars().any(char::is_control) {
            return Err(Refusal::Invalid("the proxy's header with the user holds no name".into()));
        }
        let roles = match &config.roles_header {
            None => Roles::USER,
            Some(header) => match (presented.header)(header).as_slice() {
                [] => Roles::default(),
                [one] => Roles::of_words(one.split([',', ' ']).map(str::trim)),
                _ => return Err(Refusal::Invalid("the proxy's header with the roles is there twice".into())),
            },
        };
        Ok(Identity { user: user_id(name), roles, own_token: None, lapse: Lapse::Never })
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn ask(peer: &str, headers: &[(&str, &str)]) -> Result<Identity, Refusal> {
        let proxy = Proxy::new(ProxyOptions {
            user_header: "x-user".into(),
            roles_header: Some("x-roles".into()),
            sources: vec!["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()],
        });
        let header = |name: &str| {
            headers.iter().filter(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()).collect::<Vec<_>>()
        };
        let peer = peer.parse::<IpAddr>().ok();
        proxy.identify(&Presented { bearer: None, peer, header: &header })
    }

    #[test]
    fn a_header_is_believed_from_the_proxy_alone_and_once() {
        let anna = ask("10.1.2.3", &[("x-user", "anna@example.org"), ("x-roles", "user, approver,ops")]).unwrap();
        assert_eq!((anna.user.as_str(), anna.roles.to_string().as_str()), ("anna@example.org", "user, approver"));
        assert!(ask("::ffff:10.1.2.3", &[("x-user", "anna")]).is_ok(), "an IPv4 address in an IPv6 socket");
        assert!(!ask("fd00::1", &[("x-user", "anna")]).unwrap().roles.may_look());
        for peer in ["10.2.0.1", "127.0.0.1", "::1", ""] {
            let spoofed = [("x-user", "anna"), ("x-forwarded-for", "10.1.2.3")];
            assert!(matches!(ask(peer, &spoofed), Err(Refusal::Invalid(_))), "{peer}");
        }
        assert!(matches!(ask("10.1.2.3", &[]), Err(Refusal::Missing(_))));
        assert!(matches!(ask("10.1.2.3", &[("x-user", " ")]), Err(Refusal::Missing(_))));
        assert!(ask("10.1.2.3", &[("x-user", "anna"), ("x-user", "root")]).is_err());
        assert!(ask("10.1.2.3", &[("x-user", "a"), ("x-roles", "user"), ("x-roles", "admin")]).is_err());
    }
}
