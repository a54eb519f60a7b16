//! To which receivers notifications may be sent. Clients name the URLs, so that each could be an attempt to reach what only the
//! service can reach (server-side request forgery).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use url::{Host, Url};

/// The longest URL of a receiver, in bytes.
const MAX_URL_BYTES: usize = 2048;

/// Networks of IPv4 that are not public (IANA's special-purpose registry, multicast, reserved).
const SPECIAL_V4: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];

/// Networks within the global unicast space of IPv6 that are not public, or contain IPv4 addresses (Teredo, 6to4).
const SPECIAL_V6: [([u16; 2], u8); 4] =
    [([0x2001, 0], 23), ([0x2001, 0xdb8], 32), ([0x2002, 0], 16), ([0x3fff, 0], 20)];

/// A receiver, or several, to which notifications may be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllowedTarget {
    hosts: AllowedHosts,
    /// Whether plain HTTP is allowed, too.
    is_plain_http_allowed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum AllowedHosts {
    Any,
    Name(String),
    /// The names below a domain, which begins with a dot here.
    BelowDomain(String),
    Network(IpNet),
}

impl AllowedTarget {
    /// Parses an entry of the list of allowed targets.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (text, is_plain_http_allowed) = match text.strip_prefix("http://") {
            Some(rest) => (rest, true),
            None => (text, false),
        };
        let hosts = if text == "*" {
            // Plain HTTP to all of the internet is no allow-list.
            (!is_plain_http_allowed).then_some(AllowedHosts::Any)?
        } else if let Some(domain) = text.strip_prefix("*.") {
            AllowedHosts::BelowDomain(format!(".{}", parse_name(domain)?))
        } else if let Ok(network) = text.parse::<IpNet>() {
            AllowedHosts::Network(network.trunc())
        } else if let Ok(address) = text.parse::<IpAddr>() {
            AllowedHosts::Network(address.to_canonical().into())
        } else {
            AllowedHosts::Name(parse_name(text)?)
        };
        Some(Self { hosts, is_plain_http_allowed })
    }

    fn includes_name(&self, name: &str) -> bool {
        match &self.hosts {
            AllowedHosts::Any => true,
            AllowedHosts::Name(allowed) => name == allowed,
            AllowedHosts::BelowDomain(domain) => name.ends_with(domain.as_str()),
            AllowedHosts::Network(_) => false,
        }
    }

    fn includes_address(&self, address: IpAddr) -> bool {
        match &self.hosts {
            AllowedHosts::Any => is_public(address),
            AllowedHosts::Network(network) => network.contains(&address),
            AllowedHosts::Name(_) | AllowedHosts::BelowDomain(_) => false,
        }
    }
}

/// Parses a host name, in the form in which URLs have it.
fn parse_name(text: &str) -> Option<String> {
    let is_valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let is_name = !name.is_empty() && name.chars().all(is_valid) && !name.starts_with('.');
    // A name that URLs take for an address would never match.
    (is_name && matches!(Host::parse(&name), Ok(Host::Domain(_)))).then_some(name)
}

/// Why a URL of a receiver is refused. No message contains the URL, which may be a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TargetRejection {
    /// It is no absolute URL with a host.
    #[error("the URL of the receiver is not a valid http or https URL of at most {MAX_URL_BYTES} bytes")]
    Invalid,
    /// It contains a user or a password.
    #[error("the URL of the receiver contains a user or a password; use `authentication`")]
    Credentials,
    /// Its host is not among the allowed ones.
    #[error("the host of the receiver is not allowed (K8SOPS_NOTIFY_ALLOW)")]
    HostNotAllowed,
    /// It is not encrypted.
    #[error("the URL of the receiver must begin with https://")]
    PlainHttp,
}

/// Which receivers are allowed.
#[derive(Debug, Clone, Default)]
pub(super) struct TargetPolicy {
    allowed: Vec<AllowedTarget>,
}

impl TargetPolicy {
    pub(super) fn new(allowed: Vec<AllowedTarget>) -> Self {
        Self { allowed }
    }

    /// Parses the URL of a receiver and checks everything but the addresses of its name.
    pub(super) fn check_url(&self, text: &str) -> Result<Url, TargetRejection> {
        let url = Url::parse(text).ok().filter(|_| text.len() <= MAX_URL_BYTES).ok_or(TargetRejection::Invalid)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetRejection::Invalid);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetRejection::Credentials);
        }
        let includes = |target: &&AllowedTarget| match url.host() {
            Some(Host::Domain(name)) => target.includes_name(name.trim_end_matches('.')),
            Some(Host::Ipv4(address)) => target.includes_address(address.into()),
            Some(Host::Ipv6(address)) => target.includes_address(IpAddr::from(address).to_canonical()),
            None => false,
        };
        let mut matching = self.allowed.iter().filter(includes).peekable();
        if matching.peek().is_none() {
            return Err(TargetRejection::HostNotAllowed);
        }
        if url.scheme() == "http" && !matching.any(|target| target.is_plain_http_allowed) {
            return Err(TargetRejection::PlainHttp);
        }
        Ok(url)
    }

    /// Whether the service may connect to an address that a name was resolved to.
    pub(super) fn allows_address(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let is_in_network = |target: &AllowedTarget| match &target.hosts {
            AllowedHosts::Network(network) => network.contains(&address),
            _ => false,
        };
        is_public(address) || self.allowed.iter().any(is_in_network)
    }
}

/// Whether an address is one of the public internet.
fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|(start, prefix)| {
            Ipv4Net::new(Ipv4Addr::from(*start), *prefix).is_ok_and(|network| network.contains(&address))
        }),
        IpAddr::V6(address) => {
            let is_global = address.segments()[0] & 0xe000 == 0x2000;
            is_global
                && !SPECIAL_V6.iter().any(|([first, second], prefix)| {
                    let start = Ipv6Addr::new(*first, *second, 0, 0, 0, 0, 0, 0);
                    Ipv6Net::new(start, *prefix).is_ok_and(|network| network.contains(&address))
                })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(list: &str) -> TargetPolicy {
        TargetPolicy::new(list.split(',').map(|text| AllowedTarget::parse(text).unwrap()).collect())
    }

    #[test]
    fn entries_are_hosts_domains_addresses_and_networks() {
        for text in [
            "*",
            "a.example",
            "A.example.",
            "*.svc",
            "10.0.0.1",
            "10.0.0.0/8",
            "fd00::/8",
            "http://a",
            "http://10.0.0.0/8",
        ] {
            assert!(AllowedTarget::parse(text).is_some(), "{text}");
        }
        for text in ["", "http://*", "https://a", "a/b", "a:80", "*a", "a.*", ".a", "*.", "[::1]", "0x7f.1", "user@a"] {
            assert_eq!(AllowedTarget::parse(text), None, "{text}");
        }
    }

    #[test]
    fn url_needs_an_allowed_host_and_encryption() {
        use TargetRejection::{Credentials, HostNotAllowed, Invalid, PlainHttp};
        let policy = policy("hooks.example.com,*.corp.example,http://receiver.svc,10.1.0.0/16,http://127.0.0.1");
        for url in [
            "https://hooks.example.com/a?b=c",
            "https://HOOKS.example.com.:8443/",
            "https://a.b.corp.example",
            "http://receiver.svc:9000/x",
            "https://receiver.svc",
            "https://10.1.2.3/",
            "http://127.0.0.1:1",
            "https://[::ffff:10.1.2.3]/",
        ] {
            assert!(policy.check_url(url).is_ok(), "{url}");
        }
        for (url, rejection) in [
            ("http://hooks.example.com", PlainHttp),
            ("http://10.1.2.3/", PlainHttp),
            ("https://example.com", HostNotAllowed),
            ("https://corp.example", HostNotAllowed),
            ("https://evilcorp.example", HostNotAllowed),
            ("https://hooks.example.com.evil.example", HostNotAllowed),
            ("https://10.2.0.1", HostNotAllowed),
            ("https://169.254.169.254/latest/meta-data", HostNotAllowed),
            ("https://[fd00::1]/", HostNotAllowed),
            ("https://0x7f000002/", HostNotAllowed),
            ("https://localhost/", HostNotAllowed),
            ("https://user:pw@hooks.example.com", Credentials),
            ("https://hooks.example.com@evil.example/", Credentials),
            ("file:///etc/passwd", Invalid),
            ("gopher://hooks.example.com/", Invalid),
            ("hooks.example.com", Invalid),
            ("https://", Invalid),
            ("", Invalid),
        ] {
            assert_eq!(policy.check_url(url), Err(rejection), "{url}");
        }
        let long = format!("https://hooks.example.com/{}", "a".repeat(MAX_URL_BYTES));
        assert_eq!(policy.check_url(&long), Err(Invalid));
        assert_eq!(TargetPolicy::default().check_url("https://hooks.example.com"), Err(HostNotAllowed));
    }

    #[test]
    fn all_hosts_means_public_ones() {
        let policy = policy("*");
        assert!(policy.check_url("https://anything.example").is_ok());
        assert!(policy.check_url("https://93.184.216.34/").is_ok());
        for url in ["https://127.0.0.1/", "https://2130706433/", "https://[::1]/", "https://[::ffff:169.254.169.254]/"]
        {
            assert_eq!(policy.check_url(url), Err(TargetRejection::HostNotAllowed), "{url}");
        }
    }

    #[test]
    fn address_is_public_or_in_a_network_of_the_list() {
        let only_names = policy("*,receiver.svc");
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "ff02::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "2001::1",
        ] {
            assert!(!only_names.allows_address(address.parse().unwrap()), "{address}");
        }
        for address in ["93.184.216.34", "172.32.0.1", "2606:4700::1111", "::ffff:8.8.8.8"] {
            assert!(only_names.allows_address(address.parse().unwrap()), "{address}");
        }
        let with_network = policy("receiver.svc,10.96.0.0/12");
        assert!(with_network.allows_address("10.96.0.10".parse().unwrap()));
        assert!(with_network.allows_address("::ffff:10.96.0.10".parse().unwrap()));
        assert!(!with_network.allows_address("10.112.0.1".parse().unwrap()));
    }
}
