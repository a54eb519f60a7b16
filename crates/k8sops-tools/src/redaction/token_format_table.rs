//! The known formats of credentials.
//!
//! The formats are those of the public rule set of gitleaks, version 8
//! (<https://github.com/gitleaks/gitleaks/blob/master/config/gitleaks.toml>), as far as a prefix or a shape is enough to know
//! them; `crypt`, `apr1`, `kubeadm`, `groq`, `xai`, `tailscale`, `dockerhub`, `circleci`, `buildkite`, `figma`, `replicate`,
//! `render`, `supabase`, `upstash`, `nats` and `wandb` follow the documentation of their vendors. Lengths are lower bounds
//! where vendors have changed them.

/// A format: name of the placeholder, words of which one must occur in the text (in any case), and the pattern. The secret is
/// the group `v`, or the whole match if there is no such group.
pub(super) type TokenFormat = (&'static str, &'static str, &'static str);

/// All formats. Of two that match at one place, the longer match counts.
pub(super) const TOKEN_FORMATS: &[TokenFormat] = &[
    // Keys and signed tokens.
    (
        "private-key",
        "PRIVATE",
        r#"-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----(?:(?:[^"'<>{}-]|-[^"'<>{}-])*-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|(?:(?:\s|\\[nr])*[A-Za-z0-9+/=]{16,})*)"#,
    ),
    (
        "private-key-base64",
        "LS0tLS1CRUdJTi",
        r"\bLS0tLS1CRUdJTi(?:BSU0EgUFJJVkFUR|BQUklWQVRF|BFQyBQUklWQVRF|BPUEVOU1NIIFBSSVZBVE|BFTkNSWVBURUQgUFJJVkFUR|BEU0EgUFJJVkFUR|BQR1AgUFJJVkFUR)[A-Za-z0-9+/]{20,}={0,2}",
    ),
    (
        "registry-login-base64",
        "eyJhdXRocyI6 ewogICJhdXRocyI6 ewoJImF1dGhzIj eyAiYXV0aHMiO",
        r"\b(?:eyJhdXRocyI6|ewogICJhdXRocyI6|ewoJImF1dGhzIj|eyAiYXV0aHMiO)[A-Za-z0-9+/]{20,}={0,2}",
    ),
    ("age-secret-key", "AGE-SECRET-KEY", r"\bAGE-SECRET-KEY-1[0-9A-Z]{58}\b"),
    ("jwt", "eyJ", r"\beyJ[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)?"),
    ("jwt-base64", "ZXlK", r"\bZXlK[A-Za-z0-9+/_-]{80,}={0,2}"),
    (
        "crypt-hash",
        "$",
        r"\$(?:2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}|(?:1|5|6|y|apr1)\$[^\s:$]{1,32}(?:\$[./A-Za-z0-9]{20,})+)",
    ),
    ("ldap-hash", "{SHA} {SSHA", r"\{S?SHA(?:256|384|512)?\}(?P<v>[A-Za-z0-9+/]{20,}={0,2})"),
    ("argon2-hash", "$argon2", r"\$argon2(?:id|i|d)\$v=[0-9]+\$[^\s$]+\$[A-Za-z0-9+/]+\$[A-Za-z0-9+/]{16,}"),
    // Cloud providers.
    ("aws-key-id", "A3T AKIA ASIA ABIA ACCA", r"\b(?:A3T[A-Z0-9]|AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
    ("aws-bedrock-key", "ABSK", r"\bABSK[A-Za-z0-9+/]{100,}={0,2}"),
    ("google-key", "AIza", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("google-token", "ya29", r"\bya29\.[A-Za-z0-9_-]{20,}"),
    ("google-client-secret", "GOCSPX", r"\bGOCSPX-[A-Za-z0-9_-]{28}"),
    (
        "azure-key",
        "AccountKey SharedAccess sig=",
        r"(?i:AccountKey|SharedAccessKey|SharedAccessSignature|\bsig)=(?P<v>[A-Za-z0-9+/%=]{20,})",
    ),
    ("azure-client-secret", "Q~", r#"(?:^|[\\'"`\s>=:(,])(?P<v>[a-zA-Z0-9_~.]{3}[0-9]Q~[a-zA-Z0-9_~.-]{31,34})"#),
    ("alibaba-key-id", "LTAI", r"\bLTAI[A-Za-z0-9]{20}\b"),
    ("digitalocean-token", "_v1_", r"\bdo[opr]_v1_[0-9a-f]{40,}"),
    ("heroku-key", "HRKU", r"\bHRKU-AA[0-9a-zA-Z_-]{58}"),
    (
        "flyio-token",
        "fo1_ fm1 fm2",
        r"\b(?:fo1_[A-Za-z0-9_-]{43}|fm1[ar]_[a-zA-Z0-9+/]{100,}={0,3}|fm2_[a-zA-Z0-9+/]{100,}={0,3})",
    ),
    ("scalingo-token", "tk-us", r"\btk-us-[A-Za-z0-9_-]{48}"),
    ("yandex-key", "AQVN", r"\bAQVN[A-Za-z0-9_-]{35,38}"),
    ("openshift-token", "sha256~", r"\bsha256~[A-Za-z0-9_-]{43}"),
    (
        "kubeadm-token",
        "token",
        r"\b(?P<v>[a-f0-9]{6}\.[a-f0-9]{16}|[a-z0-9]{5}[0-9]\.[a-z0-9]{16}|[0-9][a-z0-9]{5}\.[a-z0-9]{16})\b",
    ),
    ("cloudflare-origin-key", "v1.0-", r"\bv1\.0-[a-f0-9]{24}-[a-f0-9]{146}"),
    ("render-key", "rnd_", r"\brnd_[A-Za-z0-9]{32,}"),
    ("supabase-key", "sbp_ sb_secret", r"\b(?:sbp_[a-f0-9]{40}|sb_secret_[A-Za-z0-9_-]{20,})"),
    // Source code, packages and images.
    (
        "github-token",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat",
        r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,})",
    ),
    (
        "gitlab-token",
        "gl",
        r"\b(?:gl(?:pat|dt|rt|ptt|ft|imt|soat|oas|ffct|agent|rtr)-[A-Za-z0-9_.-]{16,}|glcbt-[A-Za-z0-9]{1,5}_[A-Za-z0-9_-]{16,})",
    ),
    ("gitlab-runner-token", "GR1348941", r"\bGR1348941[A-Za-z0-9_-]{20}"),
    ("bitbucket-token", "ATBB ATCTT3", r"\b(?:ATBB[A-Za-z0-9]{24,}|ATCTT3xFfG[A-Za-z0-9_=-]{60,})"),
    ("sourcegraph-token", "sgp_", r"\bsgp_(?:(?:[a-fA-F0-9]{16}|local)_)?[a-fA-F0-9]{40}"),
    ("npm-token", "npm_", r"\bnpm_[A-Za-z0-9]{30,}"),
    ("pypi-token", "pypi-", r"\bpypi-[A-Za-z0-9_-]{50,}"),
    ("rubygems-key", "rubygems_", r"\brubygems_[a-f0-9]{48}"),
    ("clojars-token", "clojars_", r"\b(?i:CLOJARS)_[A-Za-z0-9]{60}"),
    ("docker-token", "dckr_", r"\bdckr_(?:pat|oat)_[A-Za-z0-9_-]{20,}"),
    ("artifactory-key", "AKCp cmVmd", r"\b(?:AKCp[A-Za-z0-9]{69}|cmVmd[A-Za-z0-9]{59})"),
    ("octopus-key", "API-", r"\bAPI-[A-Z0-9]{26}\b"),
    ("circleci-token", "CCIPAT CCIPRJ", r"\bCCI(?:PAT|PRJ)_[A-Za-z0-9]{16,}_[a-f0-9]{40}"),
    ("buildkite-token", "bkua_ bkaj_ bkct_", r"\bbk(?:ua|aj|ct)_[A-Za-z0-9]{32,}"),
    ("sonar-token", "squ_ sqp_ sqa_", r"\bsq[upa]_[a-f0-9]{40}"),
    ("harness-key", "pat. sat.", r"\b[ps]at\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9]{24}\.[A-Za-z0-9]{20}"),
    ("prefect-key", "pnu_", r"\bpn[ub]_[A-Za-z0-9]{36}"),
    // Infrastructure and secrets.
    ("vault-token", "hvs. hvb. hvr.", r"\bhv[sbr]\.[A-Za-z0-9_-]{20,}"),
    ("vault-token", "s.", r"(?:^|[\s\x22'=:])(?P<v>s\.[A-Za-z0-9]{24})(?:$|[\s\x22',;])"),
    ("terraform-token", "atlasv1", r"\b[A-Za-z0-9]{14}\.atlasv1\.[A-Za-z0-9_=-]{60,70}"),
    ("pulumi-token", "pul-", r"\bpul-[a-f0-9]{40}"),
    (
        "1password-key",
        "A3-",
        r"\bA3-[A-Z0-9]{6}-(?:[A-Z0-9]{11}|[A-Z0-9]{6}-[A-Z0-9]{5})-[A-Z0-9]{5}-[A-Z0-9]{5}-[A-Z0-9]{5}\b",
    ),
    ("1password-token", "ops_eyJ", r"\bops_eyJ[A-Za-z0-9+/_-]{100,}={0,3}"),
    ("doppler-token", "dp.", r"\bdp\.(?:pt|st|ct|scim|audit|sa)\.(?:[A-Za-z0-9_-]+\.)?[A-Za-z0-9]{40,44}"),
    ("infracost-key", "ico-", r"\bico-[A-Za-z0-9]{32}\b"),
    ("tailscale-key", "tskey-", r"\btskey-(?:[a-z]+-)?[A-Za-z0-9]+-[A-Za-z0-9]{16,}"),
    ("defined-networking-token", "dnkey-", r"\bdnkey-[A-Za-z0-9=_-]{26}-[A-Za-z0-9=_-]{52}"),
    ("nats-seed", "SU SA SO SN SC", r"\bS[UAONC][A-Z2-7]{56}\b"),
    ("planetscale-token", "pscale_", r"\bpscale_(?:tkn|oauth|pw)_[A-Za-z0-9_=.-]{32,64}"),
    ("clickhouse-key", "4b1d", r"\b4b1d[A-Za-z0-9]{38}\b"),
    ("databricks-token", "dapi", r"\bdapi[a-f0-9]{32}(?:-[0-9])?\b"),
    ("upstash-token", "AX", r"\bAX[A-Za-z0-9_-]{2}A[A-Za-z0-9+/_-]{45,90}={1,2}"),
    // Monitoring.
    (
        "grafana-token",
        "glsa_ glc_ eyJrIjoi",
        r"\b(?:glsa_[A-Za-z0-9]{32}_[A-Fa-f0-9]{8}|glc_[A-Za-z0-9+/=]{32,}|eyJrIjoi[A-Za-z0-9]{50,}={0,3})",
    ),
    ("sentry-token", "sntrys_ sntryu_", r"\b(?:sntrys_eyJ[A-Za-z0-9+/=]{20,}_[A-Za-z0-9+/]{43}|sntryu_[a-f0-9]{64})"),
    (
        "new-relic-key",
        "NRAK NRII NRJS NRAL",
        r"\b(?:NRAK-[A-Za-z0-9]{27}|NRII-[A-Za-z0-9-]{32}|NRJS-[a-f0-9]{19}|[a-f0-9]{36}NRAL)\b",
    ),
    ("dynatrace-token", "dt0", r"\bdt0[a-z][0-9]{2}\.[A-Za-z0-9]{8,24}\.[A-Za-z0-9]{64}"),
    ("datadog-key", "ddapi ddapp", r"\bdd(?:api|app)_[A-Za-z0-9]{30,}"),
    ("wandb-key", "wandb", r"\bwandb_v1_[A-Za-z0-9_]{40,}"),
    // Messages and offices.
    ("slack-token", "xox", r"\b(?:xoxe\.)?xox[abceoprs]-[A-Za-z0-9-]{10,}"),
    ("slack-app-token", "xapp-", r"\bxapp-[0-9]-[A-Z0-9]+-[0-9]+-[a-z0-9]+"),
    (
        "slack-webhook",
        "hooks.slack.com",
        r"hooks\.slack\.com/(?:services|workflows|triggers)/(?P<v>[A-Za-z0-9/+_-]{16,})",
    ),
    ("discord-webhook", "api/webhooks", r"/api/webhooks/[0-9]{10,}/(?P<v>[A-Za-z0-9_-]{40,})"),
    (
        "teams-webhook",
        "webhook.office.com",
        r"webhook\.office\.com/webhookb2/(?P<v>[A-Za-z0-9@-]+/IncomingWebhook/[A-Za-z0-9/-]{32,})",
    ),
    ("telegram-token", ":A", r"\b[0-9]{8,10}:A[A-Za-z0-9_-]{34}\b"),
    ("discord-token", "discord", r"\b[MNO][A-Za-z0-9_-]{23,27}\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27,}"),
    ("atlassian-token", "ATATT3", r"\bATATT3[A-Za-z0-9_=-]{60,}"),
    ("linear-key", "lin_", r"\blin_(?:api|oauth)_[A-Za-z0-9]{32,}"),
    ("notion-token", "ntn_", r"\bntn_[0-9]{11}[A-Za-z0-9]{35}"),
    ("airtable-token", "pat", r"\bpat[A-Za-z0-9]{14}\.[a-f0-9]{64}"),
    ("asana-token", "/", r"\b[12]/[0-9]{15,17}(?:/[0-9]{15,17})?:[a-f0-9]{32}\b"),
    ("postman-key", "PMAK", r"\bPMAK-[A-Fa-f0-9]{24}-[A-Fa-f0-9]{34}"),
    ("readme-key", "rdme_", r"\brdme_[a-z0-9]{70}"),
    ("figma-token", "figd_", r"\bfigd_[A-Za-z0-9_-]{36,}"),
    ("typeform-token", "tfp_", r"\btfp_[A-Za-z0-9_.=-]{40,}"),
    // Mail and payments.
    ("sendgrid-key", "SG.", r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    ("brevo-key", "xkeysib", r"\bxkeysib-[a-f0-9]{64}-[A-Za-z0-9]{16}"),
    ("mailgun-key", "key-", r"\bkey-[a-f0-9]{32}\b"),
    ("mailchimp-key", "-us", r"\b[a-f0-9]{32}-us[0-9]{1,2}\b"),
    ("twilio-key", "SK", r"\bSK[0-9a-fA-F]{32}\b"),
    (
        "stripe-key",
        "k_live_ k_test_ k_prod_ whsec_",
        r"\b(?:[sr]k_(?:live|test|prod)_[A-Za-z0-9]{10,}|whsec_[A-Za-z0-9+/=]{24,})",
    ),
    ("square-token", "sq0 EAAA", r"\b(?:sq0(?:atp|csp|idp)-[A-Za-z0-9_-]{22,60}|EAAA[A-Za-z0-9_-]{50,60})"),
    ("shopify-token", "shp", r"\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{32}"),
    ("shippo-token", "shippo_", r"\bshippo_(?:live|test)_[a-fA-F0-9]{40}"),
    ("easypost-key", "EZAK EZTK", r"\bEZ[AT]K[A-Za-z0-9]{54}"),
    ("duffel-token", "duffel_", r"\bduffel_(?:test|live)_[A-Za-z0-9_=-]{43}"),
    ("flutterwave-key", "FLWSECK", r"\bFLWSECK(?:_TEST)?-[A-Za-z0-9]{12,}(?:-X)?"),
    (
        "plaid-token",
        "access-",
        r"\baccess-(?:sandbox|development|production)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}",
    ),
    ("facebook-token", "EAAM EAAC", r"\bEAA[MC][A-Za-z0-9]{100,}"),
    ("maxmind-key", "_mmk", r"\b[A-Za-z0-9]{6}_[A-Za-z0-9]{29}_mmk\b"),
    ("frameio-token", "fio-u", r"\bfio-u-[A-Za-z0-9_=-]{64}"),
    ("mapbox-token", "sk.ey", r"\bsk\.ey[A-Za-z0-9_-]{40,}\.[A-Za-z0-9_-]{20,}"),
    ("dropbox-token", "sl.", r"\bsl\.(?:u\.)?[A-Za-z0-9_=-]{100,}"),
    ("adobe-secret", "p8e-", r"\bp8e-[A-Za-z0-9_-]{32}\b"),
    // Models.
    ("api-key", "sk-", r"\bsk-[A-Za-z0-9_-]{20,}"),
    ("huggingface-token", "hf_ api_org_", r"\b(?:hf_|api_org_)[A-Za-z0-9]{20,}"),
    ("groq-key", "gsk_", r"\bgsk_[A-Za-z0-9]{40,}"),
    ("xai-key", "xai-", r"\bxai-[A-Za-z0-9]{60,}"),
    ("perplexity-key", "pplx-", r"\bpplx-[A-Za-z0-9]{40,}"),
    ("replicate-token", "r8_", r"\br8_[A-Za-z0-9]{32,}"),
];
