//! Certificates for a server with TLS, created with the openssl command.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::redis_cli::{COMMAND_TIMEOUT, run_command};

/// The whole configuration: openssl's defaults differ between machines, and clients are strict.
const CONFIG: &str = "\
[req]
distinguished_name = name
prompt = no
[name]
CN = k8sops test
[ca]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:FALSE
extendedKeyUsage = serverAuth
subjectAltName = DNS:localhost, IP:127.0.0.1
";

/// Creates a CA and a server certificate in `dir`. Returns the file of the CA, and the options of the server.
pub(super) async fn create_certificates(dir: &Path) -> (PathBuf, Vec<String>) {
    std::fs::write(dir.join("openssl.cnf"), CONFIG).unwrap();
    create_certificate(dir, "ca", &[]).await;
    create_certificate(dir, "server", &["-CA", "ca.crt", "-CAkey", "ca.key"]).await;
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let files = [("--tls-cert-file", "server.crt"), ("--tls-key-file", "server.key"), ("--tls-ca-cert-file", "ca.crt")];
    let mut options: Vec<_> = files.iter().flat_map(|(option, name)| [(*option).to_owned(), file(name)]).collect();
    // Clients need no certificate.
    options.extend(["--tls-auth-clients".into(), "no".into()]);
    (dir.join("ca.crt"), options)
}

/// Creates a key and a certificate for it, which is self-signed unless there are options for a signer.
async fn create_certificate(dir: &Path, name: &str, signer: &[&str]) {
    let key = format!("{name}.key");
    let certificate = format!("{name}.crt");
    let mut openssl = Command::new("openssl");
    openssl.current_dir(dir).args(["req", "-x509", "-config", "openssl.cnf", "-days", "2", "-extensions", name]);
    openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-subj", &format!("/CN=k8sops test {name}"), "-keyout", &key, "-out", &certificate]).args(signer);
    run_command(&mut openssl, COMMAND_TIMEOUT)
        .await
        .unwrap_or_else(|error| panic!("openssl made no {name} certificate: {error}"));
}
