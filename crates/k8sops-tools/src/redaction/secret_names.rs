//! Names that sound like a secret.
//!
//! The last word of a name says what the value is: `TOKEN_URL` is a URL and `DB_URL_TOKEN` is a token. So a name is split
//! into words, qualifiers at its end (`_B64`, `_2`, `_PROD`) are dropped, and the last word that is left decides, with
//! the words before it.

use std::sync::LazyLock;

use aho_corasick::AhoCorasick;

use super::word_set::{WordSet, word_set};

/// How likely the value behind a name is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SecretNameLevel {
    /// The name says nothing about secrets, or it says that the value is none.
    Unlikely,
    /// The value is a secret if it looks random.
    Possible,
    /// The value is a secret unless it looks like a name or a word.
    Likely,
    /// The value is a secret even if it is an ordinary word.
    Certain,
}

/// Longest name that is rated, in bytes.
pub(super) const MAX_NAME_LEN: usize = 100;

/// Parts of words, one of which is in every name that may be rated above `Unlikely`.
const STEMS: &str = "pas pw secret token key cred auth pat psk salt sk jwt cookie phrase pin communit hmac webhook sess sid otp \
    sas sig seed mnemonic pepper bearer fernet bindpw licen hook code conn login";

/// Words at the end of a name that do not change what the value is.
static QUALIFIERS: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "b64 base64 old new prev previous current prod production dev development staging stage test value val plain \
    plaintext raw text data json default primary secondary live sandbox ro rw readonly encoded content base env \
    override here",
    )
});

/// Words that make a name one of a reference, a digest or a switch, wherever they are in it.
static HARMLESS_WORDS: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "checksum digest fingerprint sha sha1 sha256 thumbprint existing public pub enable enabled disable disabled \
    allow allowed require required has is automount max min num count limit ttl topology encrypted",
    )
});

/// Words for values that look generated and are no secrets.
static IDENTIFIER_WORDS: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "kid jti accessor hash commit revision etag nonce cursor continue page trace span request session image container \
    node pod build serial subject san cert certificate ca arn",
    )
});

/// Words whose value is a password.
static PASSWORD_HEADS: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "password passwords passwd passphrase passcode pass pwd pw psk userpass sshpass dbpass rootpass \
    adminpass authpass smtppass mypass requirepass masterauth rootpw bindpw userpw mnemonic pgpassword \
        authtok storepass keypass srcstorepass deststorepass srckeypass destkeypass keystorepass truststorepass masterpass",
    )
});
/// Words before `pin` that make it a password.
static PIN_KINDS: LazyLock<WordSet> =
    LazyLock::new(|| word_set("admin user login access security hsm token card auth wallet yubikey so device"));
/// Heads that mean a password only behind another word, because alone they are ordinary words.
static SHORT_PASSWORD_HEADS: LazyLock<WordSet> = LazyLock::new(|| word_set("pass pw psk"));
/// Words before `secret` that make it a value. Without them it may be the name of a Secret.
static SECRET_KINDS: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "client app application shared consumer oauth oauth2 oidc jwt session cookie webhook signing api hmac \
    nextauth auth bot totp access master encryption hash csrf",
    )
});
/// Words before `secret` that make it the name of a Secret.
static SECRET_REFERENCES: LazyLock<WordSet> = LazyLock::new(|| {
    word_set("pull image tls cert certificate ca external sealed registry k8s kube kubernetes target source parent")
});
/// Words before `token` that make it a position in a list or a count of words.
static TOKEN_KINDS_WITHOUT_SECRET: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "next page paging pagination continuation continue sync skip resume starting start cursor list change delta \
    watch scroll last sequence sequencer input output prompt completion total used cached reasoning context \
    window syntax unexpected stop special pad bos eos unk cls sep mask",
    )
});
/// Words before `key` that make it a secret.
static KEY_KINDS: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "api secret private encryption encrypt decrypt decryption signing sign master access license licence fernet \
    session auth account storage app application deploy shared hmac jwt ssh client cipher aes crypto bot \
    subscription unseal recovery sa service integration ingest preshared root instrumentation wg security \
    webhook activation replica sec",
    )
});
/// Words before `key` that make it an identifier.
static KEY_KINDS_WITHOUT_SECRET: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "partition foreign sort cache object label annotation dedup idempotency group map hot lookup index \
    unique shard row range pub known config feature order translation field json metadata attribute \
    property websocket socket",
    )
});
/// Words that are secrets only if the value looks random.
static POSSIBLE_HEADS: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "auth jwt salt sk pat pin otp totp cookie cookies bearer sas signature sig session sid sessionid hmac fernet \
    pepper seed community license licence webhook phpsessid jsessionid authorization code string key keys login",
    )
});
/// Words that mean a secret where they are not the last word, too, unless the last word is known to mean something else.
static STRONG_WORDS: LazyLock<WordSet> =
    LazyLock::new(|| word_set("password passwd passphrase secret token apikey credential credentials pass pwd"));
/// Last words of names whose value is no secret.
static HARMLESS_HEADS: LazyLock<WordSet> = LazyLock::new(|| {
    word_set(
        "name names ref refs keyref file files filename path paths dir mount mounts type types kind policy expiration \
    expires expiry seconds length limits usage version rotation provider store audience audiences issuer \
    algorithm alg id ids uid status review reviews request requests url uri endpoint host hostname port mode \
    method header prefix suffix format duration lifetime timeout interval window age backend engine class \
    controller operator service manager role scope scopes user username helper hasher hash hint error reason \
    message index size bytes created updated at time date location region namespace volume source target \
    template",
    )
});
/// Ends of words that are written without a separator: `dbpassword`, `authtoken`.
const JOINED_ENDS: &str = "password passwd passphrase secret token tokens apikey credentials accesskey secretkey privatekey signingkey \
    licensekey masterkey encryptionkey presharedkey routingkey accountkey privkey";

static STEM_MATCHER: LazyLock<AhoCorasick> = LazyLock::new(|| {
    AhoCorasick::builder().ascii_case_insensitive(true).build(STEMS.split_whitespace()).expect("constant patterns")
});

/// Returns how likely the value behind a name is a secret.
pub(super) fn rate_secret_name(name: &str) -> SecretNameLevel {
    if name.len() > MAX_NAME_LEN || !STEM_MATCHER.is_match(name) {
        return SecretNameLevel::Unlikely;
    }
    let words = split_words(name);
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    while words.len() > 1 && words.last().is_some_and(|word| is_qualifier(word)) {
        words.pop();
    }
    // `VAULT_SECRET_ID` is the password of an AppRole.
    if let [.., kind @ ("secret" | "token"), "id"] = words[..] {
        return if kind == "secret" { SecretNameLevel::Likely } else { SecretNameLevel::Possible };
    }
    let Some((head, kinds)) = words.split_last() else { return SecretNameLevel::Unlikely };
    // What stands before a dot may be the name of a whole: `xpack.encryptedSavedObjects.encryptionKey`.
    let last_words = split_words(name.rsplit('.').next().unwrap_or(name)).len();
    let is_harmless = |(at, word): (usize, &&str)| {
        HARMLESS_WORDS.contains(word) && (*word != "encrypted" || at + last_words >= words.len())
    };
    if words.iter().enumerate().any(is_harmless) {
        return SecretNameLevel::Unlikely;
    }
    let has_kind = |list: &WordSet| kinds.iter().any(|kind| list.contains(kind));
    let head = trim_digits(head);
    if PASSWORD_HEADS.contains(&head) || (head == "phrase" && kinds.last() == Some(&"pass")) {
        let is_short = kinds.is_empty() && SHORT_PASSWORD_HEADS.contains(&head);
        return if is_short { SecretNameLevel::Likely } else { SecretNameLevel::Certain };
    }
    match head {
        "pin" if has_kind(&PIN_KINDS) => SecretNameLevel::Certain,
        // The annotation of an object, as `…/auth-secret`, names a Secret.
        "secret" | "secrets" if has_kind(&SECRET_KINDS) => match name.contains('/') {
            true => SecretNameLevel::Likely,
            false => SecretNameLevel::Certain,
        },
        "secret" | "secrets" if has_kind(&SECRET_REFERENCES) => SecretNameLevel::Unlikely,
        "token" | "tokens" if has_kind(&TOKEN_KINDS_WITHOUT_SECRET) => SecretNameLevel::Unlikely,
        "secret" | "secrets" | "token" | "tokens" | "cred" | "creds" | "credential" | "credentials" | "apikey"
        | "apikeys" | "sshkey" => SecretNameLevel::Likely,
        // `adminPasswordKey` is the name of a key in a Secret.
        // The word directly before it counts most: `config.api_key`.
        "key" | "keys" if kinds.last().is_some_and(|kind| KEY_KINDS.contains(kind)) && !has_kind(&PASSWORD_HEADS) => {
            SecretNameLevel::Likely
        }
        "key" | "keys" if has_kind(&KEY_KINDS_WITHOUT_SECRET) || has_kind(&PASSWORD_HEADS) => SecretNameLevel::Unlikely,
        "key" | "keys" if has_kind(&KEY_KINDS) => SecretNameLevel::Likely,
        _ if POSSIBLE_HEADS.contains(&head) => SecretNameLevel::Possible,
        "hash" if has_kind(&PASSWORD_HEADS) => SecretNameLevel::Possible,
        _ if !HARMLESS_HEADS.contains(&head) && has_kind(&STRONG_WORDS) => SecretNameLevel::Possible,
        _ => SecretNameLevel::Unlikely,
    }
}

/// Returns whether a name, or the words of a sentence, end with the word for something that is no secret, or have a word in them
/// that says so: an identifier, a reference, a digest, a position in a list.
pub(super) fn is_identifier_name(name: &str) -> bool {
    let words = split_words(name);
    words.last().is_some_and(|word| HARMLESS_HEADS.contains(word.as_str()))
        || words.iter().any(|word| HARMLESS_WORDS.contains(word.as_str()) || IDENTIFIER_WORDS.contains(word.as_str()))
}

fn is_qualifier(word: &str) -> bool {
    QUALIFIERS.contains(&word)
        || word.bytes().all(|b| b.is_ascii_digit())
        || (word.len() <= 3 && word.starts_with('v') && word[1..].bytes().all(|b| b.is_ascii_digit()))
}

fn trim_digits(word: &str) -> &str {
    word.trim_end_matches(|char: char| char.is_ascii_digit())
}

/// Splits a name at separators and at the humps of camel case, in lower case.
fn split_words(name: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let chars: Vec<char> = name.chars().collect();
    let mut word = String::new();
    for (at, char) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| chars[before]);
        let after = chars.get(at + 1);
        let is_hump = char.is_ascii_uppercase()
            && before.is_some_and(|before| {
                before.is_ascii_lowercase()
                    || before.is_ascii_digit()
                    || (before.is_ascii_uppercase() && after.is_some_and(char::is_ascii_lowercase))
            });
        if (is_hump || !char.is_ascii_alphanumeric()) && !word.is_empty() {
            push_word(&mut words, std::mem::take(&mut word));
        }
        if char.is_ascii_alphanumeric() {
            word.push(char.to_ascii_lowercase());
        }
    }
    if !word.is_empty() {
        push_word(&mut words, word);
    }
    words
}

/// Adds a word. If it ends with a word for a secret, the parts are added.
fn push_word(words: &mut Vec<String>, word: String) {
    let ends = || JOINED_ENDS.split_whitespace();
    let end = ends().find(|end| word.len() > end.len() && trim_digits(&word).ends_with(end));
    let key_kind =
        word.strip_suffix("keys").or_else(|| word.strip_suffix("key")).filter(|kind| KEY_KINDS.contains(kind));
    if let Some(kind) = key_kind {
        return words.extend([kind.to_owned(), "key".to_owned()]);
    }
    let Some(end) = end else {
        if let Some(kind) = ends().find(|end| *end == word).and_then(|end| end.strip_suffix("key")) {
            words.extend([kind.to_owned(), "key".to_owned()]);
        } else {
            words.push(word);
        }
        return;
    };
    let word = trim_digits(&word);
    words.push(word[..word.len() - end.len()].to_owned());
    match end.strip_suffix("key") {
        Some(kind) => words.extend([kind.to_owned(), "key".to_owned()]),
        None => words.push(end.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::{SecretNameLevel::*, *};

    #[test]
    fn names_are_rated() {
        for (level, names) in [
            (
                Certain,
                "DB_PASS PGPASSWORD password db_pwd userPassword spring.datasource.password smtp.pass CLIENT_SECRET \
                 clientSecret JWT_SECRET SSHPASS WG_PSK MYSQL_PWD password1 DB_PASSWORD_2 PASSWORD_B64 dbpassword ROOT_PW \
                 PULUMI_CONFIG_PASSPHRASE redis.requirepass mongodb.passwords",
            ),
            (
                Likely,
                "token API_TOKEN API_TOKENS accessToken authtoken GITHUB_TOKEN apikey OPSGENIE_APIKEY API_KEY apiKey \
                 AWS_SECRET_ACCESS_KEY SECRET_KEY secretKey PRIVATE_KEY NATS_CREDS credentials DD_APP_KEY JWT_KEY \
                 ENCRYPTION_KEYS GCP_SA_KEY VAULT_SECRET_ID client-key-data SECRET_KEY_BASE secret STRIPE_SECRET pass \
                 AZURE_STORAGE_KEY privatekey",
            ),
            (
                Possible,
                "OPENAI_KEY COSMOS_KEY key routing_key HASH_SALT BASIC_AUTH STRIPE_SK GITHUB_PAT SNMP_COMMUNITY \
                 VAULT_DEV_ROOT_TOKEN_ID LOGDNA_KEY SAML_SP_KEY AMQP_ROUTING_KEY password_reset passwordHash",
            ),
            (
                Unlikely,
                "SECRET_NAME TOKEN_URL AUTH_MODE AZURE_CLIENT_ID PASSWORD_POLICY TOKEN_LIFETIME TOKENIZERS_PARALLELISM \
                 SECRETS_BACKEND COMPASS_URL BYPASS_CACHE KEY_PREFIX CREDENTIALS_PROVIDER SECRET_ENGINE PASSWORD_HASHER \
                 TOKEN_HEADER_NAME JWT_ALGORITHM SECRET_STORE PASSENGER_APP_ENV CREDENTIAL_HELPER PASSTHROUGH_PATHS \
                 ROTATION_TOKEN_WINDOW existingSecret imagePullSecret secretName passwordSecretRef nextPageToken NextToken \
                 pagination_token continuationToken checksum/secret tokenExpirationSeconds token-service adminPasswordKey \
                 public_key topologyKey input_tokens max_tokens partition_key automountServiceAccountToken uid image \
                 secretProviderClass vault-secrets-operator sealed-secrets-controller tls_secret",
            ),
        ] {
            for name in names.split_whitespace() {
                assert_eq!(rate_secret_name(name), level, "{name}");
            }
        }
    }
}
