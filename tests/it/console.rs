//! The console: how it is served, and its own tests, which run in Node.js and in a browser.

use std::path::Path;

use k8sops::auth::UserRole;
use k8sops_testing::testbed;
use reqwest::{Method, StatusCode, header};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    keys::ApiKeyFile,
    service::{ServiceSetup, TestService},
};

const CONSOLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/console");
const CONTRACT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi/openapi.json");

async fn get(service: &TestService, path: &str, headers: &[(header::HeaderName, &str)]) -> reqwest::Response {
    let request = service.request(Method::GET, path);
    headers.iter().fold(request, |request, (name, value)| request.header(name, *value)).send().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn console_is_served_with_tags_compressed_and_without_credentials() {
    let mut keys = ApiKeyFile::new();
    keys.add("anna", &[UserRole::User]);
    let service = TestService::start(ServiceSetup { env: keys.env(), ..ServiceSetup::default() }).await;
    let page = get(&service, "/", &[]).await;
    assert_eq!(page.status(), StatusCode::OK);
    let policy = page.headers()[header::CONTENT_SECURITY_POLICY].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()[header::CACHE_CONTROL], "no-cache");
    assert!(page.text().await.unwrap().contains("console/console.js"));

    let script = get(&service, "/console/console.js", &[(header::ACCEPT_ENCODING, "gzip")]).await;
    assert_eq!(script.headers()[header::CONTENT_ENCODING], "gzip");
    assert_eq!(script.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    let tag = script.headers()[header::ETAG].to_str().unwrap().to_owned();
    let compressed = script.bytes().await.unwrap().len();
    let plain = get(&service, "/console/console.js", &[(header::ACCEPT_ENCODING, "gzip;q=0")]).await;
    assert_eq!(plain.headers().get(header::CONTENT_ENCODING), None);
    assert!(plain.bytes().await.unwrap().len() > 2 * compressed);
    let again = get(&service, "/console/console.js", &[(header::IF_NONE_MATCH, &tag)]).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(service.request(Method::HEAD, "/").send().await.unwrap().status(), StatusCode::OK);

    for path in ["/console/", "/console/nothing.js", "/console/../Cargo.toml", "/console/%2e%2e/Cargo.toml"] {
        let status = get(&service, path, &[]).await.status();
        assert!(matches!(status, StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED), "{path}: {status}");
    }
    assert_eq!(get(&service, "/v1/info", &[]).await.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test(flavor = "multi_thread")]
async fn console_can_be_turned_off() {
    let env = vec![("K8SOPS_CONSOLE", "off".into())];
    let service = TestService::start(ServiceSetup { env, ..ServiceSetup::default() }).await;
    for path in ["/", "/console/console.js"] {
        assert_eq!(get(&service, path, &[]).await.status(), StatusCode::NOT_FOUND, "{path}");
    }
}

async fn run(command: &mut Command) {
    let output = command.env("NO_PROXY", "*").env("no_proxy", "*").kill_on_drop(true).output().await.unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{command:?}:\n{said}");
}

/// Runs test files of a folder with Node.js, one after the other.
async fn run_node_tests(folder: &str) {
    let mut files: Vec<_> = std::fs::read_dir(Path::new(CONSOLE).join(folder))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(".test.mjs"))
        .collect();
    files.sort();
    let mut node = Command::new(testbed::path("K8SOPS_TEST_NODE"));
    node.args(["--test", "--test-concurrency=1"]).args(files).env("K8SOPS_TEST_PROGRAM", env!("CARGO_BIN_EXE_k8sops"));
    run(&mut node).await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn console_folds_recorded_logs() {
    run_node_tests("tests").await;
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn console_works_in_a_browser() {
    run_node_tests("tests/browser").await;
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn console_bundle_is_that_of_its_sources() {
    let folder = TempDir::new().unwrap();
    copy_folder(Path::new(CONSOLE), folder.path());
    let machine = if std::env::consts::ARCH == "aarch64" { "linux-arm64" } else { "linux-x64" };
    let esbuild = format!("{}/@esbuild/{machine}/bin/esbuild", testbed::path("K8SOPS_TEST_CONSOLE_MODULES"));
    run(Command::new("bash").arg(folder.path().join("build.sh")).env("ESBUILD", esbuild)).await;
    for entry in std::fs::read_dir(folder.path().join("dist")).unwrap() {
        let path = entry.unwrap().path();
        let committed = Path::new(CONSOLE).join("dist").join(path.file_name().unwrap());
        let same = std::fs::read(&path).unwrap() == std::fs::read(&committed).unwrap();
        assert!(same, "{} is not what console/build.sh writes", committed.display());
    }
}

#[ignore = "needs the test bed: bash tests/run.sh"]
#[tokio::test(flavor = "multi_thread")]
async fn console_types_match_the_contract() {
    let folder = TempDir::new().unwrap();
    copy_folder(Path::new(CONSOLE), folder.path());
    // The types of the libraries take the place of their compressed code.
    for entry in std::fs::read_dir(folder.path().join("types/vendored")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        std::fs::copy(&path, folder.path().join("vendor").join(&name)).unwrap();
        std::fs::remove_file(folder.path().join("vendor").join(name.replace(".d.ts", ".js"))).unwrap();
    }
    let node = testbed::path("K8SOPS_TEST_NODE");
    let generator = testbed::path("K8SOPS_TEST_TYPESCRIPT_CLIENT");
    let schema = folder.path().join("types/schema.d.ts");
    run(Command::new(&node).args([&generator, CONTRACT, "--output"]).arg(schema)).await;
    run(Command::new(&node).arg(testbed::path("K8SOPS_TEST_TSC")).arg("-p").arg(folder.path())).await;
}
