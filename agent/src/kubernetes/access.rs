//! Where the API server is, and what opens it.

use crate::config::{ApiServer, Environment, KubernetesSettings};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// What every pod has that may speak to the API server (Kubernetes, Accessing the API from a Pod).
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Variables that the downward API is commonly asked to fill.
const NODE_VARIABLES: [&str; 2] = ["K8S_NODE_NAME", "NODE_NAME"];

/// An API server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// Without a slash at its end.
    pub url: String,
    /// Read before each request: tokens of service accounts are renewed within the hour.
    pub token: Option<PathBuf>,
    /// Else the system's authorities.
    pub ca: Option<PathBuf>,
}

/// What settings and environment say, or why nobody is asked.
pub fn find(settings: &KubernetesSettings, env: Environment<'_>) -> Result<Access, &'static str> {
    find_in(Path::new(SERVICE_ACCOUNT), settings, env)
}

fn find_in(
    account: &Path,
    settings: &KubernetesSettings,
    env: Environment<'_>,
) -> Result<Access, &'static str> {
    let KubernetesSettings { token_file, ca, .. } = settings;
    match &settings.server {
        ApiServer::Off => Err("turned off"),
        ApiServer::Url(url) => {
            Ok(Access { url: url.clone(), token: token_file.clone(), ca: ca.clone() })
        }
        ApiServer::Auto => {
            let variable = |name| env(name).filter(|text| !text.is_empty());
            let host = variable("KUBERNETES_SERVICE_HOST");
            let port = variable("KUBERNETES_SERVICE_PORT");
            let (Some(host), Some(port)) = (host, port) else { return Err("not in a cluster") };
            let file = |name| Some(account.join(name));
            let token = token_file.clone().or_else(|| file("token"));
            if !token.as_deref().is_some_and(Path::exists) {
                return Err("the pod has no service account");
            }
            Ok(Access { url: url(&host, &port), token, ca: ca.clone().or_else(|| file("ca.crt")) })
        }
    }
}

fn url(host: &str, port: &str) -> String {
    match host.parse() {
        Ok(IpAddr::V6(address)) => format!("https://[{address}]:{port}"),
        _ => format!("https://{host}:{port}"),
    }
}

/// This node's name: given, by the environment, else the host's, as a kubelet calls itself.
pub fn node(settings: &KubernetesSettings, host_name: &str, env: Environment<'_>) -> String {
    let given = settings.node.clone();
    let told = || NODE_VARIABLES.iter().find_map(|name| env(name)).filter(|name| !name.is_empty());
    let mut name = given.or_else(told).unwrap_or_else(|| host_name.to_ascii_lowercase());
    // It goes into a query.
    name.retain(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'));
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_finds_its_cluster_and_others_say_why_they_do_not() {
        let account = tempfile::tempdir().unwrap();
        let inside = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
            _ => None,
        };
        let outside = |_: &str| None;
        let auto = KubernetesSettings::default();
        let no_account = find_in(account.path(), &auto, &inside);
        assert_eq!(no_account, Err("the pod has no service account"));
        std::fs::write(account.path().join("token"), "t").unwrap();
        assert_eq!(find_in(account.path(), &auto, &outside), Err("not in a cluster"));
        let access = find_in(account.path(), &auto, &inside).unwrap();
        assert_eq!(access.url, "https://[fd00::1]:443");
        assert_eq!(access.ca, Some(account.path().join("ca.crt")));

        let off = KubernetesSettings { server: ApiServer::Off, ..KubernetesSettings::default() };
        assert_eq!(find_in(account.path(), &off, &inside), Err("turned off"));
        let server = ApiServer::Url("http://127.0.0.1:8001".into());
        let given = KubernetesSettings { server, ..KubernetesSettings::default() };
        let access = find_in(account.path(), &given, &inside).unwrap();
        assert_eq!((access.token, access.ca), (None, None), "a token goes nowhere unasked");
    }

    #[test]
    fn the_node_is_given_told_or_the_host() {
        let told = |name: &str| (name == "NODE_NAME").then(|| "told".to_owned());
        let mut settings = KubernetesSettings::default();
        assert_eq!(node(&settings, "Host-1", &|_| None), "host-1");
        assert_eq!(node(&settings, "Host-1", &told), "told");
        settings.node = Some("given".into());
        assert_eq!(node(&settings, "Host-1", &told), "given");
    }
}
