//! How a node is told to serve Ingresses.

use protocol::ingress::Ports;

/// The flags.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct IngressArgs {
    /// Serves Ingresses of the class `troupe` on this node.
    #[arg(long)]
    pub ingress: bool,
    /// The port that Ingresses are served on without TLS; 0 for none.
    #[arg(long, default_value_t = 80, value_name = "PORT")]
    pub ingress_http_port: u16,
    /// The port that Ingresses are served on with TLS; 0 for none.
    #[arg(long, default_value_t = 443, value_name = "PORT")]
    pub ingress_https_port: u16,
}

impl IngressArgs {
    /// The ports; `None` where no Ingresses are served.
    pub fn ports(&self) -> Option<Ports> {
        self.ingress.then_some(Ports { http: self.ingress_http_port, https: self.ingress_https_port })
    }
}
