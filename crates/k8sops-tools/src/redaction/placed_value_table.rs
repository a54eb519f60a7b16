//! The places at which a secret stands without a name before it: addresses, statements, commands, protocols, files, sentences,
//! and outputs of tools in which a field beside the value says that it is a secret.

/// What tells the secret at a place from something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueCheck {
    /// Any value that is no reference and no mask.
    Any,
    /// Any value at all, in base64.
    Base64,
    /// A value that is no name and no number.
    NotName,
    /// A value behind a name that sounds like a secret, which is the group `k`.
    Named,
    /// A value behind a name that certainly is the one of a secret.
    NamedCertain,
    /// A value with a digit, which no word of a sentence has.
    HasDigit,
    /// A value that looks random.
    Random,
    /// A value of a command that handles a Secret.
    SecretCommand,
    /// All strings in a flat object or list of JSON, which is the group `v`.
    Strings,
}

/// A place: name of the placeholder, words of which one must occur in the text (in any case), the check, and the pattern, whose
/// group `v` is the secret.
pub(super) type PlacedValue = (&'static str, &'static str, ValueCheck, &'static str);

/// All places.
pub(super) const PLACED_VALUES: &[PlacedValue] = &[
    // Addresses. A password may contain `@`: the last one ends it.
    (
        "url-password",
        "://",
        ValueCheck::Any,
        r#"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://[^\s/:@"'<>\[\]]*:(?P<v>[^\s/"'<>]+)@"#,
    ),
    (
        "url-token",
        "://",
        ValueCheck::Random,
        r#"\b[A-Za-z][A-Za-z0-9+.-]{1,20}://(?P<v>[^\s/:@"'<>\[\]]{16,})(?::[^\s/:@"'<>]*)?@"#,
    ),
    // `user:password@tcp(host:3306)/db` of Go, `user/password@//host/service` of Oracle.
    ("dsn-password", "@", ValueCheck::Any, r#"(?:^|[\s"'=])[A-Za-z0-9_.-]+:(?P<v>[^\s"']+)@(?:tcp|tcp4|tcp6|unix)?\("#),
    (
        "dsn-password",
        "@",
        ValueCheck::Any,
        r#"\b(?:thin:|oci:|sqlplus[ \t]+(?:-[A-Za-z0-9_]+[ \t]+)*)[A-Za-z0-9_.$-]+/(?P<v>[^\s@/"']+)@"#,
    ),
    // `user:password@host:port` without a scheme.
    (
        "url-password",
        "@",
        ValueCheck::NotName,
        r#"(?:^|[\s"'=,(])[A-Za-z][A-Za-z0-9_.-]*:(?P<v>[^\s@/"'=,:]{6,})@[A-Za-z0-9][A-Za-z0-9_.-]*(?::[0-9]+)?"#,
    ),
    // A part of the path of a webhook.
    (
        "webhook",
        "hook",
        ValueCheck::Random,
        r#"(?i)\b(?:https?://[^\s"'<>]*hooks?[^\s"'<>]*/)(?P<v>[A-Za-z0-9_-]{16,})"#,
    ),
    (
        "webhook",
        "pagerduty.com zapier.com ifttt.com nosnch.in hc-ping.com api.day.app /integrations/ /api/push/",
        ValueCheck::Any,
        r"(?i)(?:pagerduty\.com/(?:integration|x-ere)|zapier\.com/hooks/catch|ifttt\.com/trigger/[a-z0-9_-]+/with/key|nosnch\.in|hc-ping\.com|api\.day\.app|/integrations/v[0-9]+/[a-z0-9_-]+|/api/push)/(?P<v>[a-z0-9_-]{8,}(?:/[a-z0-9]{6,})?)",
    ),
    ("telegram-token", "/bot", ValueCheck::Any, r"/bot(?P<v>[0-9]{8,10}:A[A-Za-z0-9_-]{34})"),
    // A signed URL.
    (
        "signature",
        "ignature= security-token=",
        ValueCheck::Random,
        r"(?i)[?&](?:x-amz-signature|x-goog-signature|signature|x-amz-security-token)=(?P<v>[^\s&\x22'<>]{16,})",
    ),
    // A private JSON web key.
    ("jwk", "\"kty\"", ValueCheck::Random, r#""(?:d|k|p|q|dp|dq|qi)"\s*:\s*"(?P<v>[A-Za-z0-9_-]{16,})""#),
    // Calls and tuples with a name and a value: `define('DB_PASSWORD', 'value')`, `{default_pass,<<"value">>}`.
    (
        "password",
        "(",
        ValueCheck::Named,
        r#"\b[A-Za-z.]+\(\s*["'](?P<k>[A-Za-z0-9_.-]+)["']\s*,\s*["'](?P<v>[^"'\n]+)["']"#,
    ),
    ("password", "{", ValueCheck::Named, r#"\{\s*:?(?P<k>[a-z_]{3,40})\s*,\s*(?:<<)?"(?P<v>[^"\n]+)""#),
    ("password", "->", ValueCheck::Named, r#"\b(?P<k>[\w.-]+)["']?\s*->\s*["'](?P<v>[^"'\n]+)["']"#),
    // Calls with a user and a password.
    (
        "password",
        "auth account user login credential",
        ValueCheck::Any,
        r#"\b(?i:new\s+)?[A-Za-z.]*(?i:account|adduser|createuser|login|authenticate|credentials?|basicauth|usernamepassword[a-z]*)\(\s*["'][^"'\n]*["']\s*,\s*["'](?P<v>[^"'\n]+)["']"#,
    ),
    // Statements of SQL.
    (
        "password",
        "'",
        ValueCheck::Any,
        r"(?i)\b(?:identified(?:\s+with\s+[A-Za-z0-9_]+)?\s+by(?:\s+password)?|(?:with|encrypted|role|user)\s+(?:[A-Za-z0-9_]+\s+)*?password|options\s*\([^()]*?\bpassword)\s+'(?P<v>[^'\n]+)'",
    ),
    ("password", "password(", ValueCheck::Any, r"(?i)\bpassword\(\s*'(?P<v>[^'\n]+)'"),
    // Files: .netrc, redis.conf, slapd.conf, and `host:port:database:user:password` of PostgreSQL.
    ("password", "login", ValueCheck::Any, r"\blogin\s+\S+\s+password\s+(?P<v>\S+)"),
    (
        "password",
        ":",
        ValueCheck::Any,
        r"(?m)^[ \t]*(?:[A-Za-z0-9_.*-]+:(?:[0-9]{2,5}|\*):[A-Za-z0-9_.*-]+:[A-Za-z0-9_.*-]+):(?P<v>\S+)$",
    ),
    (
        "password",
        "community",
        ValueCheck::NotName,
        r"(?im)^\s*(?:r[ow]community|snmp-server[ \t]+community)[ \t]+(?P<v>[^\s:=]\S{5,})[ \t]*(?:r[ow]\b.*)?$",
    ),
    (
        "password",
        "pas pw auth",
        ValueCheck::NamedCertain,
        r"(?m)^[ \t]*(?P<k>[A-Za-z][\w.-]*)[ \t]+(?P<v>[^\s:=]\S{5,})[ \t]*\r?$",
    ),
    // Lists of users of PgBouncer, Postfix and Redis, the log of Redis, the clients of ZooKeeper, Db2 and RabbitMQ, HAProxy, files
    // of OpenVPN, and jars of cookies.
    ("password", "\"", ValueCheck::Random, r#"(?m)^"[^"\s]+" "(?P<v>[^"\s]+)"\s*$"#),
    (
        "password",
        "]",
        ValueCheck::Random,
        r"(?m)^\[[^\s\]]+\](?::[0-9]+)?[ \t]+[A-Za-z0-9_.@-]+:(?P<v>[^\s:/@]{12,})[ \t]*$",
    ),
    ("password", "user", ValueCheck::Any, r"(?mi)\b(?:set)?user[ \t]+\S+[ \t]+(?:[^\s>]+[ \t]+)*>(?P<v>\S+)"),
    ("password", "password secret", ValueCheck::NotName, r"\b(?:password|secret)[ \t]+[0-9][ \t]+(?P<v>[^\s:]{8,})"),
    ("password", "using", ValueCheck::Any, r"(?i)\buser[ \t]+\S+[ \t]+using[ \t]+(?P<v>\S+)"),
    ("password", "AUTH", ValueCheck::Any, r#""AUTH"(?: "[^"]*")? "(?P<v>[^"]+)""#),
    ("password", "AUTH", ValueCheck::NotName, r"(?m)^(?:\S+>[ \t]+)?AUTH[ \t]+(?:[\w.-]+[ \t]+)?(?P<v>\S+)[ \t]*$"),
    ("password", "digest", ValueCheck::Any, r"\bdigest[ \t]+[A-Za-z0-9_.-]+:(?P<v>[^\s:]*[^\s:0-9a-f][^\s:]*)"),
    ("password", "digest,'", ValueCheck::Any, r"digest,'[\w.-]+:(?P<v>[^\s']+)"),
    ("password", ":", ValueCheck::Any, r#"(?m)(?:^|["'])[\w.@-]+:[\w .@-]+:(?P<v>[0-9a-f]{32})(?:\r?$|["'])"#),
    ("encrypt", "encrypt", ValueCheck::Any, r#"\bencrypt"?\s*[:=]\s*"(?P<v>[A-Za-z0-9+/]{43}=|[A-Za-z0-9+/]{22}==)""#),
    ("private-key", "=\t", ValueCheck::Any, r"(?m)^(?:\w+\t)?(?P<v>[A-Za-z0-9+/]{43}=)\t[A-Za-z0-9+/]{43}=\t[0-9]+\t"),
    ("password", "auth", ValueCheck::Any, r"\bstats[ \t]+auth[ \t]+[^\s:]+:(?P<v>\S+)"),
    (
        "password",
        "_AUTH _USER",
        ValueCheck::NotName,
        r#"\b[A-Z0-9_]*_(?:AUTH|USERS?)["']?[ \t]*[:=][ \t]*["']?[\w.-]+[/:](?P<v>[^\s"',;/]+)"#,
    ),
    ("password", "<auth-user-pass>", ValueCheck::Any, r"<auth-user-pass>\s+\S+\s+(?P<v>\S+)\s"),
    (
        "cookie",
        "TRUE",
        ValueCheck::Random,
        r"(?m)^\S+\t(?:TRUE|FALSE)\t\S+\t(?:TRUE|FALSE)\t[0-9]+\t[^\t\n]+\t(?P<v>\S+)$",
    ),
    // Protocols.
    ("password", "AUTH", ValueCheck::Base64, r"\bAUTH[ \t]+(?:PLAIN|LOGIN|XOAUTH2)[ \t]+(?P<v>[A-Za-z0-9+/=]{8,})"),
    (
        "password",
        "PASS",
        ValueCheck::Any,
        r"\bUSER[ \t]+\S+[ \t]*(?:\r?\n[^\n]*){0,2}\r?\n[^\n]{0,40}\bPASS[ \t]+(?P<v>\S+)",
    ),
    (
        "password",
        "LOGIN",
        ValueCheck::NotName,
        r"(?m)^[^\n]{0,60}\b[A-Za-z]+[0-9]+[ \t]+LOGIN[ \t]+\S+[ \t]+(?P<v>\S+)",
    ),
    ("form-data", "name=", ValueCheck::Named, r#"\bname="(?P<k>[\w.-]+)"\r?\n(?:[A-Z][^\n]*\n)*\r?\n(?P<v>[^\r\n]+)"#),
    // An attribute of LDIF, and a setting with its value in the line below it, as Redis answers.
    ("password", "::", ValueCheck::Named, r"(?m)^(?P<k>[A-Za-z][A-Za-z-]*):: (?P<v>\S+)$"),
    (
        "password",
        "1)",
        ValueCheck::Named,
        r#"[0-9]+\)[ \t]*"(?P<k>[A-Za-z][\w.-]*)"\s*\n\s*[0-9]+\)[ \t]*"(?P<v>[^"\n]+)""#,
    ),
    ("password", "requirepass masterauth", ValueCheck::Any, r"(?m)^(?:requirepass|masterauth)\r?\n(?P<v>\S+)\r?$"),
    // A path with its value in the line below it, as etcd and ZooKeeper answer, and what `pass` prints.
    ("password", "/", ValueCheck::NamedCertain, r"(?m)^(?:get[ \t]+)?(?P<k>/[\w./-]+)\r?\n(?P<v>\S+)\r?$"),
    (
        "password",
        "login user url email",
        ValueCheck::NotName,
        r"\A(?P<v>[^\s:]{8,})\r?\n(?:login|user|username|url|email):[ \t]",
    ),
    // Arguments of commands.
    ("password", "%", ValueCheck::NotName, r#"-U[ \t]+["']?[A-Za-z0-9_\\.-]+%(?P<v>[^\s"']+)"#),
    (
        "password",
        "rabbitmqctl",
        ValueCheck::Any,
        r"\brabbitmqctl[ \t]+(?:add_user|change_password)[ \t]+\S+[ \t]+(?P<v>\S+)",
    ),
    (
        "password",
        "stdin passphrase-fd sudo",
        ValueCheck::Any,
        r#"\b(?:echo|printf)[ \t]+(?:-[ne]+[ \t]+|["']?%s["']?[ \t]+)*["']?(?P<v>[^\s"'|$]+)["']?[ \t]*\|[^\n]*(?:stdin\b|--passphrase-fd|sudo[ \t]+-S)"#,
    ),
    (
        "password",
        "chpasswd",
        ValueCheck::Any,
        r#"\b(?:echo|printf)[ \t]+["']?[\w.-]+:(?P<v>[^\s"'|$]+)["']?[ \t]*\|[^\n|]*chpasswd"#,
    ),
    ("password", "chpasswd:", ValueCheck::Any, r"\bchpasswd:[^\n]*\n\s*list:[^\n]*\n\s*[\w.-]+:(?P<v>[^\s$]+)"),
    (
        "account-key",
        "account.key",
        ValueCheck::Any,
        r"\baccount\.key\.[\w.-]+[ \t]*[= \t][ \t]*(?P<v>[A-Za-z0-9+/]{60,}={0,2})",
    ),
    ("secret", "from-literal", ValueCheck::SecretCommand, r#"--from-literal[= ]["']?[\w.-]+=(?P<v>[^\s"']+)"#),
    ("secret", "secretGenerator", ValueCheck::SecretCommand, r#"(?m)^[ \t]*- ["']?[\w.-]+=(?P<v>[^\s"']+)"#),
    ("secret", "secret", ValueCheck::Any, r#"\bsecret[ \t]+set\b[^\n]*?[ \t](?:--body|-b)[= ]["']?(?P<v>[^\s"'$]+)"#),
    (
        "secret-key",
        "mc",
        ValueCheck::Any,
        r"\bmc[ \t]+(?:alias[ \t]+set|config[ \t]+host[ \t]+add)[ \t]+\S+[ \t]+\S+[ \t]+\S+[ \t]+(?P<v>\S+)",
    ),
    (
        "password",
        "htpasswd",
        ValueCheck::NotName,
        r"\bhtpasswd[ \t]+-[A-Za-z]*b[A-Za-z]*[ \t]+(?:\S+[ \t]+){1,2}(?P<v>[^\s|>]+)",
    ),
    (
        "token",
        "vault",
        ValueCheck::NotName,
        r"\bvault[ \t]+(?:login|operator[ \t]+unseal)[ \t]+(?:-\S+[ \t]+)*(?P<v>[A-Za-z0-9+/.=_-]{8,})",
    ),
    (
        "password",
        "SecureString",
        ValueCheck::Any,
        r#"(?i)ConvertTo-SecureString[ \t]+(?:-String[ \t]+)?["'](?P<v>[^"'\n$]+)["']"#,
    ),
    ("password", "freerdp", ValueCheck::Any, r#"freerdp\b[^\n]*[ \t]/p:["']?(?P<v>[^\s"']+)"#),
    (
        "password",
        "zip 7z",
        ValueCheck::NotName,
        r#"\b(?:(?:un)?zip\b[^\n|]*?[ \t]-P[ \t]*|7za?\b[^\n|]*?[ \t]-p)["']?(?P<v>[^\s"']+)"#,
    ),
    ("community", "snmp", ValueCheck::NotName, r"\bsnmp[a-z]+\b[^\n|]*?[ \t]-c[ \t]*(?P<v>\S+)"),
    (
        "password",
        "snmp ipmitool",
        ValueCheck::NotName,
        r"\b(?:snmp[a-z]+\b[^\n|]*?[ \t]-A|ipmitool\b[^\n|]*?[ \t]-P)[ \t]*(?P<v>\S+)",
    ),
    ("password", "snmp", ValueCheck::NotName, r"\bsnmp[a-z]+\b[^\n|]*?[ \t]-X[ \t]*(?P<v>\S+)"),
    ("password", "createUser", ValueCheck::NotName, r#"\bcreateUser[ \t]+\S+[ \t]+[A-Z0-9-]+[ \t]+"?(?P<v>[^\s"]+)"#),
    ("password", "--auth", ValueCheck::NotName, r#"[ \t]--auth[= ]["']?[A-Za-z][\w.@-]*:(?P<v>[^\s"':]+)"#),
    (
        "cookie",
        "--cookie -b",
        ValueCheck::Random,
        r#"(?:-b|--cookie)[= ]["'][^"'\n]*?\b[\w.-]*(?i:sess|sid|token|auth|jwt)[\w.-]*=(?P<v>[^\s;"']+)"#,
    ),
    ("token", "microk8s", ValueCheck::Any, r"\bmicrok8s[ \t]+join[ \t]+[^\s/]+/(?P<v>[0-9a-f]{32}(?:/[0-9a-f]+)?)"),
    ("password", "openssl", ValueCheck::Any, r"\bopenssl\b[^\n|]*?[ \t]-k[ \t]+(?P<v>\S+)"),
    ("masked", "add-mask", ValueCheck::Any, r"::add-mask::(?P<v>\S+)"),
    // Sentences: one that says the value, one that announces it on a line below it, and one behind it.
    (
        "password",
        "password passphrase token secret",
        ValueCheck::HasDigit,
        r#"(?i)\b(?:password|passphrase|token|secret)\s+(?:is|was|set to)(?::|\s)\s*["'`]?(?P<v>[^\s"'`]{6,})"#,
    ),
    (
        "password",
        "pass token secret",
        ValueCheck::Random,
        r"(?im)\b(?:password|passphrase|token|secret)\b[^\n]{0,80}:[ \t]*\r?\n(?:[ \t]*\r?\n)?[ \t]*(?P<v>\S{12,})[ \t]*\r?$",
    ),
    (
        "password",
        "pass token secret",
        ValueCheck::Random,
        r"(?im)\b(?:password|passphrase|token|secret)\b[^\n]*\n(?:[^\n]*\n)?[^\n]*?[=*#|]{2,}[ \t]+(?P<v>\S{12,})[ \t]+[=*#|]{2,}[ \t]*\r?$",
    ),
    (
        "password",
        "password passphrase",
        ValueCheck::Any,
        r#"(?i)\b(?:password|passphrase)[ \t]*\([^()\n]*\)[ \t]*[:=][ \t]*["']?(?P<v>[^"'\n]{6,})"#,
    ),
    ("password", "new", ValueCheck::Any, r"(?i)\bpassword\b[^\n]{0,100}\r?\n\s*new value:[ \t]*(?P<v>\S+)"),
    ("password", "must", ValueCheck::Any, r"(?m)^(?P<v>[^\s:]{8,})[ \t]*\r?\n\s*This password must"),
    ("bearer", "bearer basic", ValueCheck::NotName, r"\b(?i:bearer|basic)[ \t]+(?P<v>[A-Za-z0-9_./+=~-]{12,})"),
    // Fields that another field of the same object says are secret: Terraform, the secret stores of clouds, 1Password, Doppler,
    // Composer.
    (
        "result",
        "random_password",
        ValueCheck::Any,
        r#"random_password[\s\S]{0,1500}?\bresult"?\s*[:=]\s*"(?P<v>[^"\n]+)""#,
    ),
    (
        "data",
        "Data:map",
        ValueCheck::Any,
        r"\b(?:String)?Data:map\[string\](?:string|\[\](?:byte|uint8))\{(?P<v>[^{}]+)\}",
    ),
    (
        "value",
        "sensitive",
        ValueCheck::Any,
        r#""sensitive"\s*:\s*true[^{}]{0,300}?"value"\s*:\s*"(?P<v>(?:[^"\\\n]|\\.)+)""#,
    ),
    (
        "value",
        "sensitive",
        ValueCheck::Any,
        r#""value"\s*:\s*"(?P<v>(?:[^"\\\n]|\\.)+)"[^{}]{0,300}?"sensitive"\s*:\s*true"#,
    ),
    (
        "value",
        "sensitive",
        ValueCheck::Strings,
        r#""sensitive"\s*:\s*true(?:[^{}]|"type"\s*:\s*\[[^\[\]]*\]){0,300}?"value"\s*:\s*(?P<v>\{[^{}]*\}|\[[^\[\]{}]*\])"#,
    ),
    (
        "value",
        "SecureString",
        ValueCheck::Any,
        r#""SecureString"[^{}]{0,600}?"Value"\s*:\s*"(?P<v>(?:[^"\\\n]|\\.)+)""#,
    ),
    (
        "value",
        "SecureString",
        ValueCheck::Any,
        r#""Value"\s*:\s*"(?P<v>(?:[^"\\\n]|\\.)+)"[^{}]{0,600}?"SecureString""#,
    ),
    (
        "secret-string",
        "SecretString SecretBinary",
        ValueCheck::Any,
        r#""?Secret(?:String|Binary)"?\s*[:=]\s*"(?P<v>(?:[^"\\\n]|\\.)+)""#,
    ),
    (
        "payload",
        "payload",
        ValueCheck::Base64,
        r#"\bpayload"?\s*:\s*\{?\s*(?:"?dataCrc32c"?\s*:\s*["']?[0-9]+["']?\s*,?\s*)?"?data"?\s*:\s*["']?(?P<v>[A-Za-z0-9+/_-]{4,}={0,2})"#,
    ),
    (
        "value",
        "vault.azure.net",
        ValueCheck::Any,
        r#"vault\.azure\.net/secrets/[\s\S]{0,600}?"value"\s*:\s*"(?P<v>(?:[^"\\\n]|\\.)+)""#,
    ),
    ("value", "CONCEALED", ValueCheck::Any, r#""CONCEALED"[^{}]{0,300}?"value"\s*:\s*"(?P<v>(?:[^"\\\n]|\\.)+)""#),
    ("value", "computed", ValueCheck::Any, r#""computed"\s*:\s*"(?P<v>(?:[^"\\\n]|\\.)+)"[^{}]{0,300}?"note""#),
    (
        "token",
        "-oauth -token",
        ValueCheck::Any,
        r#""(?:github|gitlab|bitbucket)-(?:oauth|token)"\s*:\s*\{\s*"[^"\n]+"\s*:\s*"(?P<v>[^"\n]+)""#,
    ),
    (
        "encoded",
        "encoded",
        ValueCheck::Base64,
        r#""api_key"\s*:\s*"[^"\n]*"\s*,\s*"encoded"\s*:\s*"(?P<v>[A-Za-z0-9+/=_-]{8,})""#,
    ),
    ("value", "\"data\"", ValueCheck::Strings, r#""data"\s*:\s*\{\s*"data"\s*:\s*(?P<v>\{[^{}]*\})"#),
    (
        "value",
        "2764800",
        ValueCheck::Strings,
        r#""lease_duration"\s*:\s*2764800\b[^{}]{0,100}"data"\s*:\s*(?P<v>\{[^{}]*\})"#,
    ),
];
