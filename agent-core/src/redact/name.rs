//! Which names say that their value is a secret. The tables are the whole policy.
//!
//! Names are compared in a normal form: percent-decoded, ASCII letters in lower case, all that is
//! no letter or digit left out. So `X-Amz-Signature`, `api_key`, `apiKey`, `user[password]` and
//! `--client-secret` need one entry each. A name too many costs a reader one value; a name too few
//! costs a user a secret: when in doubt a name is in.

/// Longest part of a name that is looked at, from its end: twice the longest entry.
const LONGEST: usize = 48;

/// Names that are secret when they are the end of a longer one, too: `password` covers
/// `db_password`, `token` covers `access_token`, `refresh_token`, `id_token` and `csrf-token`.
const ENDS: &[&str] = &[
    // Passwords.
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "passwort",
    "pwd",
    // Tokens and keys: a page token is redacted with the rest, it is often signed.
    "token",
    "secret",
    "apikey",
    "accesskey",
    "secretkey",
    "privatekey",
    "authkey",
    "signingkey",
    "encryptionkey",
    "masterkey",
    "accountkey",
    "sharedkey",
    "credential",
    "credentials",
    // Signed URLs of AWS, Google Cloud and Azure (semantic conventions 1.44, `url.query`).
    "xamzsignature",
    "xamzcredential",
    "xamzsecuritytoken",
    "awsaccesskeyid",
    "xgoogsignature",
    "signature",
    // Session cookies by their usual names.
    "sessionid",
    "sessid",
    "connectsid",
    "authorization",
    // Headers, also glued to an option: -HCookie.
    "cookie",
    // curl --oauth2-bearer.
    "oauth2bearer",
    // Holds a password, without saying so.
    "connectionstring",
];

/// Names that are secret only when they are the whole name.
const WHOLE: &[&str] = &[
    "sig", // Azure shared access signature (semantic conventions)
    "pass",
    "pw",
    "auth",
    "jwt",
    "bearer",
    "hmac",
    "otp",
    "totp",
    "assertion",       // SAML
    "clientassertion", // RFC 7521
    "samlresponse",
    "samlrequest",
    "pgpass",
    "passin",  // openssl
    "passout", // openssl
];

/// Names that are secret in a URL query only: on a command line they mostly name a file, a place
/// or a number.
const IN_QUERY: &[&str] = &[
    "key",          // API keys of Google and many others; a look-up key lost is the lesser harm
    "code",         // RFC 6749 authorization code: still good when the span arrives
    "codeverifier", // RFC 7636
    "session",
    "sid",
    "pin",
    "oauthverifier",
];

/// Where a name stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A URL query.
    Query,
    /// A command line: option, assignment, header, JSON key.
    Command,
}

/// Whether the value of `name` is a secret.
pub(super) fn is_secret(name: &[u8], place: Place) -> bool {
    let mut normal = [0; LONGEST];
    let normal = normal_form(name, &mut normal);
    if normal.is_empty() {
        return false;
    }
    let is = |entry: &&str| entry.as_bytes() == normal;
    ENDS.iter().any(|entry| normal.ends_with(entry.as_bytes()))
        || WHOLE.iter().any(is)
        || (place == Place::Query && IN_QUERY.iter().any(is))
}

/// Writes the normal form of the end of `name` to the end of `out` and returns it.
fn normal_form<'a>(name: &[u8], out: &'a mut [u8; LONGEST]) -> &'a [u8] {
    let mut start = out.len();
    let mut rest = name;
    while let Some((&last, before)) = rest.split_last() {
        let byte = match before {
            [front @ .., b'%', high] if hex(*high).is_some() && hex(last).is_some() => {
                rest = front;
                hex(*high).unwrap_or(0) << 4 | hex(last).unwrap_or(0)
            }
            _ => {
                rest = before;
                last
            }
        };
        if !byte.is_ascii_alphanumeric() {
            continue;
        }
        let Some(place) = start.checked_sub(1).and_then(|at| out.get_mut(at)) else { break };
        *place = byte.to_ascii_lowercase();
        start -= 1;
    }
    out.get(start..).unwrap_or_default()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_in_their_normal_form() {
        let cases: &[(&str, &str, bool, bool)] = &[
            ("standard", "X-Amz-Signature", true, true),
            ("standard", "X-Amz-Credential", true, true),
            ("standard", "X-Amz-Security-Token", true, true),
            ("standard", "AWSAccessKeyId", true, true),
            ("standard", "Signature", true, true),
            ("standard", "sig", true, true),
            ("standard", "X-Goog-Signature", true, true),
            ("case and separators", "API_key", true, true),
            ("camel case", "clientSecret", true, true),
            ("nested", "user[password]", true, true),
            ("percent-encoded letters", "%74%6Fken", true, true),
            ("half an escape", "token%", true, true),
            ("environment", "AWS_SECRET_ACCESS_KEY", true, true),
            ("environment", "MYSQL_PWD", true, true),
            ("query only", "key", true, false),
            ("query only", "code", true, false),
            ("not at the end", "token_type", false, false),
            ("not at the end", "password-file", false, false),
            ("plain", "q", false, false),
            ("inside a word", "signal", false, false),
            ("not a word of its own", "monkey", false, false),
            ("empty", "", false, false),
            ("separators only", "---", false, false),
        ];
        for (why, name, in_query, in_command) in cases {
            assert_eq!(is_secret(name.as_bytes(), Place::Query), *in_query, "{why}: {name}");
            assert_eq!(is_secret(name.as_bytes(), Place::Command), *in_command, "{why}: {name}");
        }
    }

    #[test]
    fn a_long_name_is_judged_by_its_end_in_bounded_time() {
        let name = "a".repeat(100_000) + "_password";
        assert!(is_secret(name.as_bytes(), Place::Query));
    }

    #[test]
    fn entries_are_in_normal_form() {
        for entry in ENDS.iter().chain(WHOLE).chain(IN_QUERY) {
            assert!(entry.len() * 2 <= LONGEST, "{entry}");
            assert!(entry.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()));
        }
    }
}
