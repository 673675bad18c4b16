//! Programs whose one-letter options carry a secret: what `-p` means depends on who reads it.

/// Which part of an option's value is the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// What follows the first such byte; nothing when it is not there.
    After(u8),
    /// All of it, a request's body, unless it names a file by `@`.
    Body,
}

/// Where the value of an option stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Only behind the letter: `-pSECRET` (`-p` alone asks).
    Attached,
    /// Behind the letter or in the next argument.
    Either,
}

/// A program and the option that carries its secret.
#[derive(Debug)]
pub(super) struct Tool {
    names: &'static [&'static str],
    /// The options: letter, form, part.
    pub options: &'static [(u8, Form, Part)],
    /// Long options whose value has a secret part.
    pub long: &'static [(&'static str, Part)],
    /// Options without a value that may stand before the letter in one word (`curl -su a:b`).
    pub cluster: &'static [u8],
    /// Only after this subcommand.
    pub subcommand: Option<&'static str>,
}

const PLAIN: Tool = Tool { names: &[], options: &[], long: &[], cluster: &[], subcommand: None };

const TOOLS: &[Tool] = &[
    Tool {
        names: &[
            "mysql",
            "mysqldump",
            "mysqladmin",
            "mysqlimport",
            "mysqlshow",
            "mysqlcheck",
            "mysqlslap",
            "mysqlbinlog",
            "mysqlsh",
            "mariadb",
            "mariadb-dump",
            "mariadb-admin",
            "mariadb-import",
            "mariadb-show",
            "mariadb-check",
            "mycli",
        ],
        options: &[(b'p', Form::Attached, Part::Whole)],
        ..PLAIN
    },
    Tool {
        names: &["curl"],
        options: &[
            (b'u', Form::Either, Part::After(b':')),
            (b'U', Form::Either, Part::After(b':')),
            (b'b', Form::Either, Part::Whole),
            (b'E', Form::Either, Part::After(b':')),
            (b'd', Form::Either, Part::Body),
            (b'F', Form::Either, Part::After(b'=')),
        ],
        long: &[
            ("--user", Part::After(b':')),
            ("--proxy-user", Part::After(b':')),
            ("--cert", Part::After(b':')),
            ("--data", Part::Body),
            ("--data-ascii", Part::Body),
            ("--data-binary", Part::Body),
            ("--data-raw", Part::Whole),
            ("--data-urlencode", Part::Body),
            ("--json", Part::Body),
            ("--form", Part::After(b'=')),
            ("--form-string", Part::After(b'=')),
            ("--url-query", Part::After(b'=')),
            ("--expand-user", Part::After(b':')),
            ("--expand-data", Part::Body),
            ("--expand-data-raw", Part::Whole),
            ("--expand-json", Part::Body),
        ],
        cluster: b"#0123469:BGIJLMNORSVZafgijklnpqsv",
        ..PLAIN
    },
    Tool {
        names: &["wget"],
        long: &[("--post-data", Part::Whole), ("--body-data", Part::Whole)],
        ..PLAIN
    },
    Tool {
        names: &["http", "https", "httpie", "xh"],
        options: &[(b'a', Form::Either, Part::After(b':'))],
        ..PLAIN
    },
    Tool { names: &["lftp"], options: &[(b'u', Form::Either, Part::After(b','))], ..PLAIN },
    Tool {
        names: &["smbclient", "rpcclient", "net"],
        options: &[(b'U', Form::Either, Part::After(b'%'))],
        ..PLAIN
    },
    Tool {
        names: &["redis-cli", "valkey-cli"],
        options: &[(b'a', Form::Either, Part::Whole)],
        ..PLAIN
    },
    Tool {
        names: &[
            "sshpass",
            "mongo",
            "mongosh",
            "mongodump",
            "mongorestore",
            "mongoexport",
            "mongoimport",
            "7z",
            "7za",
            "7zz",
            "clickhouse-client",
        ],
        options: &[(b'p', Form::Either, Part::Whole)],
        ..PLAIN
    },
    Tool {
        names: &["docker", "podman", "nerdctl", "buildah", "skopeo", "helm", "az", "oc", "crane"],
        options: &[(b'p', Form::Either, Part::Whole)],
        subcommand: Some("login"),
        ..PLAIN
    },
    Tool {
        names: &["ldapsearch", "ldapadd", "ldapmodify", "ldapdelete", "ldapwhoami", "ldappasswd"],
        options: &[(b'w', Form::Either, Part::Whole)],
        ..PLAIN
    },
    Tool {
        names: &["sqlcmd", "bcp", "ipmitool", "mosquitto_pub", "mosquitto_sub", "zip", "unzip"],
        options: &[(b'P', Form::Either, Part::Whole)],
        ..PLAIN
    },
];

/// The tool of that name (without its path).
pub(super) fn tool(name: &[u8]) -> Option<&'static Tool> {
    TOOLS.iter().find(|tool| tool.names.iter().any(|known| known.as_bytes() == name))
}

/// Beginnings by which tokens of well-known issuers are recognised wherever they stand. The
/// beginning stays, what follows is redacted.
pub(super) const TOKEN_PREFIXES: &[&str] = &[
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_", // GitHub
    "glpat-",      // GitLab
    "xoxb-",
    "xoxp-",
    "xoxa-",
    "xapp-", // Slack
    "sk_live_",
    "rk_live_", // Stripe
    "npm_",
    "pypi-",
    "dckr_pat_", // registries
    "hvs.",
    "hvb.", // Vault
    "AIza", // Google
    "eyJ",  // JSON Web Token: {" in base64url
];
