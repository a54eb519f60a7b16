//! The address of the service as its clients know it.

use std::net::SocketAddr;

use actix_web::{
    HttpRequest,
    dev::Extensions,
    http::header::{FORWARDED, HOST},
    rt::net::TcpStream,
};

/// The address that a client has connected to.
#[derive(Debug, Clone, Copy)]
struct LocalAddress(SocketAddr);

/// Records what handlers need to know of a connection.
pub fn describe_connection(connection: &TcpStream, data: &mut Extensions) {
    if let Ok(address) = connection.local_addr() {
        data.insert(LocalAddress(address));
    }
}

/// Returns the beginning of the URLs by which the client reaches the service: what its proxy says, else what the request says. If they
/// name no host, it is the address that the client has connected to.
pub(super) fn public_base(request: &HttpRequest) -> String {
    let connection = request.connection_info();
    let is_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    let is_plain = matches!(connection.scheme(), "http" | "https") && connection.host().chars().all(is_host);
    if is_plain && names_host(request) {
        return format!("{}://{}", connection.scheme(), connection.host());
    }
    let config = request.app_config();
    let address = request.conn_data::<LocalAddress>().map_or_else(|| config.local_addr(), |address| address.0);
    format!("http://{address}")
}

/// Whether [`ConnectionInfo`](actix_web::dev::ConnectionInfo) has the host from the request.
fn names_host(request: &HttpRequest) -> bool {
    let headers = request.headers();
    let forwarded = headers.get_all(FORWARDED).filter_map(|value| value.to_str().ok());
    let mut names =
        forwarded.flat_map(|value| value.split([',', ';'])).filter_map(|pair| Some(pair.split_once('=')?.0.trim()));
    headers.contains_key(HOST)
        || headers.contains_key("x-forwarded-host")
        || request.uri().authority().is_some()
        || names.any(|name| name.eq_ignore_ascii_case("host"))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn url_is_the_one_of_the_client() {
        for (headers, base) in [
            (vec![("host", "k8sops.example.com")], "http://k8sops.example.com"),
            (
                vec![
                    ("host", "10.0.0.1:8080"),
                    ("x-forwarded-proto", "https"),
                    ("x-forwarded-host", "ops.example.com"),
                ],
                "https://ops.example.com",
            ),
            (vec![("host", "[::1]:8080")], "http://[::1]:8080"),
            (vec![("forwarded", "for=10.0.0.7;host=ops.example.com, for=10.0.0.8")], "http://ops.example.com"),
            (vec![("forwarded", "for=10.0.0.7;proto=https")], "http://127.0.0.1:8080"),
            (vec![], "http://127.0.0.1:8080"),
            (vec![("host", "a\", error=\"x")], "http://127.0.0.1:8080"),
            (vec![("host", "a"), ("x-forwarded-proto", "javascript")], "http://127.0.0.1:8080"),
        ] {
            let request =
                headers.iter().fold(TestRequest::get().uri("/mcp"), |request, header| request.insert_header(*header));
            assert_eq!(public_base(&request.to_http_request()), base, "{headers:?}");
        }
    }
}
