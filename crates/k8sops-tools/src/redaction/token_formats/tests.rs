//! A sample of each format, made from a template, so that no credential is in the source.

use super::*;

/// Format, and the template of a sample: `{a20}` stands for 20 letters and digits, `{h}` for hexadecimal digits, `{u}` for
/// capitals and digits, `{d}` for digits, `{l}` for lower-case letters and digits.
const SAMPLES: &[(&str, &str)] = &[
    ("private-key", "-----BEGIN RSA PRIVATE KEY-----\n{a64}\n{a40}\n-----END RSA PRIVATE KEY-----"),
    ("private-key", "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\n{a64}\n={a4}\n-----END PGP PRIVATE KEY BLOCK-----"),
    ("private-key", "-----BEGIN OPENSSH PRIVATE KEY-----\\n{a64}\\n-----END OPENSSH PRIVATE KEY-----"),
    ("private-key", "-----BEGIN EC PRIVATE KEY-----\n{a64}"),
    ("private-key-base64", "LS0tLS1CRUdJTiBSU0EgUFJJVkFURSBLRVktLS0tLQp{a120}"),
    ("registry-login-base64", "eyJhdXRocyI6eyJ{a60}"),
    ("openvpn-key", "-----BEGIN OpenVPN Static key V1-----\n{h32}\n{h32}\n-----END OpenVPN Static key V1-----"),
    ("putty-key", "\nPrivate-Lines: 2\n{a64}\n{a40}\nPrivate-MAC: {h40}"),
    ("openssh-key", "b3BlbnNzaC1rZXktdjEA{a80}"),
    ("plain-password", "{PLAIN}{a12}"),
    ("scram-verifier", "SCRAM-SHA-256$4096:{a22}==${a43}=:{a43}="),
    ("mysql-hash", " *2470C0C06DEE42FD1618BB99005ADCA2EC9D1E19"),
    ("password-hash", "pbkdf2_sha256$260000${a22}${a43}="),
    ("password-hash", "scrypt:32768:8:1${a16}${h128}"),
    ("aws-secret-key", "AKIA{u16} / {a40}"),
    ("fernet-token", "gAAAAABl{a120}"),
    ("compressed-token", "H4sIAAAAAAAC{a120}=="),
    ("enrollment-token", "eyJ2ZXIiOiI4LjE1{a120}"),
    ("k3s-token", "K10{h64}::server:{h32}"),
    ("launchdarkly-key", "sdk-{h8}-{h4}-{h4}-{h4}-{h12}"),
    ("firebase-key", "AAAA{a7}:APA91b{a134}"),
    ("nvidia-key", "nvapi-{a64}"),
    ("langsmith-key", "lsv2_pt_{h32}_{h10}"),
    ("pinecone-key", "pcsk_{a60}"),
    ("tavily-key", "tvly-{a32}"),
    ("jina-key", "jina_{a60}"),
    ("posthog-key", "phx_{a43}"),
    ("honeycomb-key", "hcaik_{l58}"),
    ("logfire-token", "pylf_v1_eu_{a43}"),
    ("hubspot-token", "pat-eu1-{h8}-{h4}-{h4}-{h4}-{h12}"),
    ("contentful-token", "CFPAT-{a43}"),
    ("okta-token", "SSWS {a42}"),
    ("netlify-token", "nfp_{a36}"),
    ("resend-key", "re_{a8}_{a24}"),
    ("neon-key", "napi_{l64}"),
    ("mongodb-secret", "mdb_sa_sk_{a40}"),
    ("paddle-key", "pdl_live_apikey_{l26}_{a22}_{a3}"),
    ("infisical-token", "st.{h8}-{h4}-{h4}-{h4}-{h12}.{h32}.{h32}"),
    ("age-secret-key", "AGE-SECRET-KEY-1{u58}"),
    ("jwt", "eyJhbGciOiJSUzI1NiJ9.eyJ{a40}.{a60}"),
    ("jwt-base64", "ZXlK{a120}"),
    ("crypt-hash", "$2y$10${a53}"),
    ("crypt-hash", "$6${a16}${a86}"),
    ("crypt-hash", "$apr1${a8}${a22}"),
    ("ldap-hash", "{SHA}{a27}="),
    ("argon2-hash", "$argon2id$v=19$m=65536,t=3,p=4${a22}${a43}"),
    ("aws-key-id", "AKIA{u16}"),
    ("aws-bedrock-key", "ABSK{a120}"),
    ("google-key", "AIza{a35}"),
    ("google-token", "ya29.{a60}"),
    ("google-client-secret", "GOCSPX-{a28}"),
    ("azure-key", "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey={a86}=="),
    ("azure-client-secret", " {a3}8Q~{a34}"),
    ("alibaba-key-id", "LTAI{a20}"),
    ("digitalocean-token", "dop_v1_{h64}"),
    ("heroku-key", "HRKU-AA{a58}"),
    ("flyio-token", "fo1_{a43}"),
    ("scalingo-token", "tk-us-{a48}"),
    ("yandex-key", "AQVN{a36}"),
    ("openshift-token", "sha256~{a43}"),
    ("kubeadm-token", "kubeadm join --token {h6}.{h16}"),
    ("cloudflare-origin-key", "v1.0-{h24}-{h146}"),
    ("render-key", "rnd_{a32}"),
    ("supabase-key", "sbp_{h40}"),
    ("github-token", "ghp_{a36}"),
    ("github-token", "github_pat_{a82}"),
    ("gitlab-token", "glpat-{a20}"),
    ("gitlab-token", "glcbt-64_{a20}"),
    ("gitlab-runner-token", "GR1348941{a20}"),
    ("bitbucket-token", "ATBB{a32}"),
    ("sourcegraph-token", "sgp_local_{h40}"),
    ("npm-token", "npm_{a36}"),
    ("pypi-token", "pypi-AgEIcHlwaS5vcmc{a60}"),
    ("rubygems-key", "rubygems_{h48}"),
    ("clojars-token", "CLOJARS_{l60}"),
    ("docker-token", "dckr_pat_{a27}"),
    ("artifactory-key", "AKCp{a69}"),
    ("octopus-key", "API-{u26}"),
    ("circleci-token", "CCIPAT_{a22}_{h40}"),
    ("buildkite-token", "bkua_{a40}"),
    ("sonar-token", "squ_{h40}"),
    ("harness-key", "pat.{a22}.{a24}.{a20}"),
    ("prefect-key", "pnu_{a36}"),
    ("vault-token", "hvs.{a90}"),
    ("vault-token", " s.{a24}"),
    ("terraform-token", "{a14}.atlasv1.{a64}"),
    ("pulumi-token", "pul-{h40}"),
    ("1password-key", "A3-{u6}-{u6}-{u5}-{u5}-{u5}-{u5}"),
    ("1password-token", "ops_eyJ{a260}"),
    ("doppler-token", "dp.pt.{a43}"),
    ("infracost-key", "ico-{a32}"),
    ("tailscale-key", "tskey-auth-{a16}-{a32}"),
    ("defined-networking-token", "dnkey-{a26}-{a52}"),
    ("nats-seed", "SU{n56}"),
    ("planetscale-token", "pscale_pw_{a43}"),
    ("clickhouse-key", "4b1d{a38}"),
    ("databricks-token", "dapi{h32}"),
    ("upstash-token", "AX{a2}A{a50}=="),
    ("grafana-token", "glsa_{a32}_{h8}"),
    ("grafana-token", "glc_{a80}"),
    ("sentry-token", "sntryu_{h64}"),
    ("sentry-token", "sntrys_eyJ{a80}_{a43}"),
    ("new-relic-key", "NRAK-{u27}"),
    ("new-relic-key", "{h36}NRAL"),
    ("dynatrace-token", "dt0c01.{u24}.{u64}"),
    ("datadog-key", "ddapp_{a34}"),
    ("wandb-key", "wandb_v1_{a60}"),
    ("slack-token", "xoxb-{d12}-{d12}-{a24}"),
    ("slack-app-token", "xapp-1-A{u10}-{d13}-{h64}"),
    ("slack-webhook", "https://hooks.slack.com/services/T{u8}/B{u10}/{a24}"),
    ("discord-webhook", "https://discord.com/api/webhooks/{d18}/{a68}"),
    ("teams-webhook", "https://acme.webhook.office.com/webhookb2/{h8}-{h4}@{h8}/IncomingWebhook/{h32}/{h8}"),
    ("telegram-token", "{d9}:A{a34}"),
    ("discord-token", "discord M{a25}.{a6}.{a38}"),
    ("atlassian-token", "ATATT3xFfGF0{a170}"),
    ("linear-key", "lin_api_{a40}"),
    ("notion-token", "ntn_{d11}{a35}"),
    ("airtable-token", "pat{a14}.{h64}"),
    ("asana-token", "1/{d16}:{h32}"),
    ("postman-key", "PMAK-{h24}-{h34}"),
    ("readme-key", "rdme_{l70}"),
    ("figma-token", "figd_{a40}"),
    ("typeform-token", "tfp_{a59}"),
    ("sendgrid-key", "SG.{a22}.{a43}"),
    ("brevo-key", "xkeysib-{h64}-{a16}"),
    ("mailgun-key", "key-{h32}"),
    ("mailchimp-key", "{h32}-us12"),
    ("twilio-key", "SK{h32}"),
    ("stripe-key", "sk_live_{a24}"),
    ("stripe-key", "whsec_{a32}"),
    ("square-token", "sq0atp-{a22}"),
    ("shopify-token", "shpat_{h32}"),
    ("shippo-token", "shippo_live_{h40}"),
    ("easypost-key", "EZAK{a54}"),
    ("duffel-token", "duffel_test_{a43}"),
    ("flutterwave-key", "FLWSECK_TEST-{h32}-X"),
    ("plaid-token", "access-sandbox-{h8}-{h4}-{h4}-{h4}-{h12}"),
    ("facebook-token", "EAAM{a120}"),
    ("maxmind-key", "{a6}_{a29}_mmk"),
    ("frameio-token", "fio-u-{a64}"),
    ("mapbox-token", "sk.ey{a60}.{a22}"),
    ("dropbox-token", "sl.{a135}"),
    ("adobe-secret", "p8e-{a32}"),
    ("api-key", "sk-proj-{a74}"),
    ("api-key", "sk-ant-api03-{a93}"),
    ("huggingface-token", "hf_{a34}"),
    ("groq-key", "gsk_{a52}"),
    ("xai-key", "xai-{a80}"),
    ("perplexity-key", "pplx-{a48}"),
    ("replicate-token", "r8_{a37}"),
];

/// Returns a sample of a template.
fn expand_template(template: &str) -> String {
    let placeholder = regex::Regex::new(r"\{([a-z])([0-9]+)\}").unwrap();
    let mut state = 20_261_129_u64;
    let expand = |captures: &regex::Captures<'_>| -> String {
        let letters: &[u8] = match &captures[1] {
            "a" => b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789",
            "h" => b"0123456789abcdef",
            "u" => b"ABCDEFGHJKLMNPQRSTUVWXYZ0123456789",
            "n" => b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567",
            "l" => b"abcdefghijklmnopqrstuvwxyz0123456789",
            _ => b"123456789",
        };
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(letters[usize::try_from(state >> 40).unwrap() % letters.len()])
        };
        (0..captures[2].parse::<usize>().unwrap()).map(next).collect()
    };
    placeholder.replace_all(template, expand).into_owned()
}

#[test]
fn each_format_finds_its_sample() {
    for (format, template) in SAMPLES {
        let sample = expand_template(template);
        for text in
            [format!("connected with {sample} to it"), format!("\"{sample}\",\n"), format!("- {sample}\n- other")]
        {
            let mut found = Vec::new();
            find_known_tokens(&text, &mut found);
            let secret = found.iter().find(|secret| secret.key == *format);
            let secret = secret.unwrap_or_else(|| panic!("{format} is not found in {text:?}"));
            assert_eq!(secret.reach, SecretReach::Session);
            let is_exact = !text[secret.range.clone()].contains([' ', '"']);
            assert!(is_exact || ["private-key", "openvpn-key"].contains(format), "{text}");
        }
    }
}

#[test]
fn each_format_has_a_sample() {
    for (format, ..) in TOKEN_FORMATS {
        assert!(SAMPLES.iter().any(|(sample, _)| sample == format), "{format}");
    }
    assert!(TOKEN_FORMATS.len() >= 100);
}

#[test]
fn ordinary_texts_have_no_token() {
    for text in [
        "disk-usage task-runner-with-a-long-name-2 risk-assessment-tool-for-kubernetes",
        "GET https://hooks.slack.com/services/",
        "sk-learn and pk_test and hf_home and npm_config_registry",
        "token reset for web-0.nginx in namespace default",
        "image sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "The file has no -----BEGIN RSA PRIVATE KEY----- line in it. Next line.\nSecond line.",
    ] {
        let mut found = Vec::new();
        find_known_tokens(text, &mut found);
        found.retain(|secret| secret.key != "private-key");
        assert_eq!(found, [], "{text}");
    }
}
