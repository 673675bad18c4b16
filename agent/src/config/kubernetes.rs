//! Settings of what is asked of a Kubernetes API server, and their values.

use super::problem::{Wrong, quote};
use globset::{Glob, GlobSet, GlobSetBuilder};
use std::path::PathBuf;

/// Longest name of a node (a DNS subdomain, RFC 1123).
const MAX_NODE: usize = 253;

/// Where the API server is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ApiServer {
    /// That of the cluster in whose pod the agent runs, if it does.
    #[default]
    Auto,
    /// None is asked.
    Off,
    /// Here.
    Url(String),
}

/// See [`Settings`](super::Settings).
#[derive(Clone, Debug)]
pub struct KubernetesSettings {
    /// Where.
    pub server: ApiServer,
    /// Name of this node; by the environment or the host's name when absent.
    pub node: Option<String>,
    /// Pods' labels that become attributes; none by default.
    pub labels: GlobSet,
    /// `app.kubernetes.io/…` labels name services.
    pub name_labels: bool,
    /// File with the token; that of the pod's service account when absent.
    pub token_file: Option<PathBuf>,
    /// PEM file of the authority that signed the server's certificate; as above.
    pub ca: Option<PathBuf>,
}

impl Default for KubernetesSettings {
    fn default() -> Self {
        KubernetesSettings {
            server: ApiServer::Auto,
            node: None,
            labels: GlobSet::empty(),
            name_labels: true,
            token_file: None,
            ca: None,
        }
    }
}

/// `auto`, `off` or a URL.
pub fn server(text: &str) -> Result<ApiServer, Wrong> {
    let hint = "auto, off, or a URL such as https://10.0.0.1:6443";
    match text {
        "auto" => return Ok(ApiServer::Auto),
        "off" => return Ok(ApiServer::Off),
        _ => {}
    }
    match reqwest::Url::parse(text) {
        Ok(url) if !url.username().is_empty() || url.password().is_some() => {
            let hint = "the token goes into a file: kubernetes-token-file";
            Err(Wrong::new("the URL has a user in it", hint))
        }
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
            Ok(ApiServer::Url(text.trim_end_matches('/').to_owned()))
        }
        _ => Err(Wrong::value(text, "is no API server", hint)),
    }
}

/// A file with a token, read when it is needed.
pub fn token_file(text: &str) -> Result<PathBuf, Wrong> {
    let path = PathBuf::from(text);
    if path.is_file() {
        return Ok(path);
    }
    Err(Wrong::value(text, "is no file that can be reached", "the path of a file with a token"))
}

/// A node's name.
pub fn node(text: &str) -> Result<String, Wrong> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if text.is_empty() || text.len() > MAX_NODE || !text.chars().all(fits) {
        let hint = "a name as kubectl get nodes shows it";
        return Err(Wrong::value(text, "is no name of a node", hint));
    }
    Ok(text.to_owned())
}

/// A glob over keys of labels.
pub fn label(text: &str) -> Result<Glob, Wrong> {
    let hint = "a label's key or a glob such as app.kubernetes.io/*";
    match Glob::new(text) {
        Ok(glob) if !text.is_empty() => Ok(glob),
        _ => Err(Wrong::new(format!("{} is no label", quote(text)), hint)),
    }
}

/// All globs in one.
pub fn labels(globs: Vec<Glob>) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    globs.into_iter().for_each(|glob| {
        set.add(glob);
    });
    set.build()
}
