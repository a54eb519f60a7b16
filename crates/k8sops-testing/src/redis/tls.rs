//! Certificates for a server with TLS, made by the openssl command.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::{ANSWER, output};

/// A configuration of our own: what openssl adds by itself differs between machines, and clients are strict about it.
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

/// Makes a CA and a server's certificate in `dir`; the CA's file, and the server's options.
pub(super) async fn certificates(dir: &Path) -> (PathBuf, Vec<String>) {
    std::fs::write(dir.join("openssl.cnf"), CONFIG).unwrap();
    request(dir, "ca", &[]).await;
    request(dir, "server", &["-CA", "ca.crt", "-CAkey", "ca.key"]).await;
    let file = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let files = [("--tls-cert-file", "server.crt"), ("--tls-key-file", "server.key"), ("--tls-ca-cert-file", "ca.crt")];
    let mut options: Vec<_> = files.iter().flat_map(|(option, name)| [(*option).to_owned(), file(name)]).collect();
    // A client needs no certificate of its own.
    options.extend(["--tls-auth-clients".into(), "no".into()]);
    (dir.join("ca.crt"), options)
}

/// Makes a key and a certificate for it, signed by itself unless `signer` says otherwise.
async fn request(dir: &Path, name: &str, signer: &[&str]) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.crt"));
    let mut openssl = Command::new("openssl");
    openssl.current_dir(dir).args(["req", "-x509", "-config", "openssl.cnf", "-days", "2", "-extensions", name]);
    openssl.args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-subj", &format!("/CN=k8sops test {name}"), "-keyout", &key, "-out", &certificate]).args(signer);
    output(&mut openssl, ANSWER).await.unwrap_or_else(|error| panic!("openssl made no {name} certificate: {error}"));
}
