//! The list of MCP servers.

use k8sops_mcp::McpTransport;
use secrecy::ExposeSecret as _;

use super::*;

#[test]
fn user_token_is_accepted_in_headers_only() {
    let good = load_valid(yaml_sources(
        "mcp:\n  servers:\n  - {name: a, url: 'http://h/mcp', headers: {Authorization: 'Bearer ${user.token}'}}\n",
    ));
    let McpTransport::Http { headers, .. } = &good.config.mcp.servers[0].transport else { panic!() };
    assert_eq!(headers["Authorization"].expose_secret(), "Bearer ${user.token}");
    let bad = load_problems(yaml_sources(
        "mcp:\n  servers:\n  - {name: a, url: 'http://h/mcp?t=${user.token}'}\n  - {name: b, command: x, args: ['${user.token}'], env: {T: '${user.token}'}}\n",
    ));
    assert_eq!(bad.len(), 3, "{bad:?}");
    assert!(bad.iter().all(|problem| problem.contains("in the headers of an http server only")), "{bad:?}");
}

#[test]
fn variables_define_the_default_server() {
    let server = |env: &[(&str, &str)]| load_valid(env_sources(env)).config.mcp.servers.remove(0);
    let http = server(&[("MCP_TRANSPORT", "http"), ("MCP_SERVER_URL", "https://h/mcp"), ("MCP_SSL_VERIFY", "Off")]);
    assert_eq!(http.name, "default");
    assert!(matches!(http.transport, McpTransport::Http { ref url, ssl_verify: false, .. } if url == "https://h/mcp"));
    let stdio = server(&[("MCP_SERVER_COMMAND", "npx"), ("MCP_SERVER_ARGS", "-y 'a b'")]);
    assert!(
        matches!(stdio.transport, McpTransport::Stdio { ref command, ref args, .. } if command == "npx" && *args == ["-y", "a b"])
    );
    let both = server(&[("MCP_TRANSPORT", "stdio"), ("MCP_SERVER_URL", "http://h"), ("MCP_SERVER_COMMAND", "x")]);
    assert!(matches!(both.transport, McpTransport::Stdio { .. }), "the transport decides");

    for (env, expected) in [
        (vec![("MCP_TRANSPORT", "http")], "MCP_SERVER_URL is not set; http needs it, like http://127.0.0.1:8000/mcp"),
        (vec![("MCP_TRANSPORT", "stdio")], "MCP_SERVER_COMMAND is not set; stdio needs it, like npx"),
        (vec![("MCP_TRANSPORT", "sse")], "MCP_TRANSPORT is `sse`; allowed: http or stdio"),
        (
            vec![("MCP_SERVER_URL", "http://h"), ("MCP_SERVER_COMMAND", "x")],
            "MCP_TRANSPORT is not set; it has a URL and a command; say http or stdio",
        ),
    ] {
        assert_eq!(load_problems(env_sources(&env)), [expected]);
    }
    let warnings = load_valid(env_sources(&[("MCP_SSL_VERIFY", "false"), ("ANTHROPIC_API_KEY", "k")])).warnings;
    assert!(warnings.len() == 1 && warnings[0].starts_with("MCP_SSL_VERIFY"), "{warnings:?}");
}

#[test]
fn variables_override_the_default_server_of_the_yaml() {
    let text = "mcp:\n  servers:\n  - {name: k8s, command: kubernetes-mcp-server, args: [--read-only, '']}\n  - {name: default, url: http://old/mcp, headers: {X-A: b}}\n";
    let mut layered = yaml_sources(text);
    layered.env.insert("MCP_SERVER_URL".to_owned(), "http://new/mcp".to_owned());
    let servers = load_valid(layered).config.mcp.servers;
    assert_eq!(servers.iter().map(|s| s.name.as_str()).collect::<Vec<_>>(), ["k8s", "default"]);
    assert!(matches!(servers[0].transport, McpTransport::Stdio { ref args, .. } if *args == ["--read-only", ""]));
    assert!(
        matches!(servers[1].transport, McpTransport::Http { ref url, ref headers, ssl_verify: true } if url == "http://new/mcp" && headers.len() == 1)
    );

    let found = load_problems(yaml_sources(
        "mcp:\n  servers:\n  - {name: a, transport: http}\n  - {name: a, command: x}\n  - {name: B, command: x}\n  - {command: x}\n",
    ));
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(found.iter().all(|p| p.starts_with("/etc/k8sops.yaml line ")), "{found:?}");
}
