//! Flags of Kubernetes.

use crate::config::given::Flags;
use clap::Args;

/// Where pods' names come from.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kubernetes")]
pub struct Kubernetes {
    /// API server that names this node's pods: auto (that of the cluster in whose pod the agent
    /// runs), off, or a URL [default: auto]
    #[arg(long, value_name = "SERVER")]
    kubernetes: Vec<String>,
    /// This node's name [default: K8S_NODE_NAME or NODE_NAME of the environment, else the host's]
    #[arg(long, value_name = "NAME")]
    kubernetes_node: Vec<String>,
    /// Pods' labels that become attributes k8s.pod.label.KEY; repeatable [default: none]
    #[arg(long, value_name = "GLOB")]
    kubernetes_label: Vec<String>,
    /// Services take their names from the labels app.kubernetes.io/instance and name, before the
    /// pod's owner: true or false [default: true]
    #[arg(long, value_name = "BOOL")]
    kubernetes_name_labels: Vec<String>,
    /// File with a token, read again for each request [default: the pod's service account, for auto]
    #[arg(long, value_name = "FILE")]
    kubernetes_token_file: Vec<String>,
    /// PEM file of the authority that signed the API server's certificate [default: as above]
    #[arg(long, value_name = "FILE")]
    kubernetes_ca: Vec<String>,
}

impl Kubernetes {
    pub fn flags(self) -> Flags {
        vec![
            ("kubernetes", self.kubernetes),
            ("kubernetes-node", self.kubernetes_node),
            ("kubernetes-label", self.kubernetes_label),
            ("kubernetes-name-labels", self.kubernetes_name_labels),
            ("kubernetes-token-file", self.kubernetes_token_file),
            ("kubernetes-ca", self.kubernetes_ca),
        ]
    }
}
