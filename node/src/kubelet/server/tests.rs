use std::time::Duration;

use actors::Stage;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use super::*;
use crate::certificate::NodeCertificate;
use crate::kubelet::KubeletConfig;
use crate::kubelet::tests::api::FakeApi;
use crate::runtime::simulated::SimulatedRuntime;

/// A certificate of `ca` (or of itself) and its key, in PEM.
fn certificate(organization: &str, ca: Option<&Issuer<'_, KeyPair>>) -> (String, KeyPair, CertificateParams) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "someone");
    params.distinguished_name.push(DnType::OrganizationName, organization);
    if ca.is_none() {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    let made = match ca {
        Some(ca) => params.signed_by(&key, ca).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    (made.pem(), key, params)
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn the_ports_answer_those_who_may_ask() {
    actix_rt::System::new().block_on(async {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let (ca_pem, ca_key, ca_params) = certificate("ca", None);
        let ca = Issuer::from_params(&ca_params, ca_key);
        let (server_pem, server_key, _) = certificate("node", Some(&ca));
        let settings = ServerConfig {
            port: free_port(),
            read_only_port: free_port(),
            health_port: free_port(),
            certificate: NodeCertificate::new(&server_pem, &server_key.serialize_pem(), None).unwrap(),
            client_ca_pem: ca_pem.clone(),
        };
        let mut config = KubeletConfig::new("n1", "127.0.0.1".parse().unwrap());
        config.server = Some(settings.clone());
        let runtime = Arc::new(SimulatedRuntime::default());
        let api = FakeApi::new();
        api.add(
            "pods",
            serde_json::json!({"metadata": {"name": "web", "namespace": "default", "uid": "u"},
                "spec": {"nodeName": "n1", "containers": [{"name": "c", "image": "x"}]}}),
        );
        let network = Arc::new(crate::network::made_up::MadeUpNetwork::default());
        let kubelet = crate::kubelet::start(
            &Stage::local(),
            config,
            api.client(),
            runtime,
            network,
            Default::default(),
        )
        .await
        .unwrap();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let plain = reqwest::Client::builder().no_proxy().build().unwrap();
        let get = async |port: u16, path: &str| {
            let answer = plain.get(format!("http://127.0.0.1:{port}{path}")).send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        };
        assert_eq!(get(settings.health_port, "/healthz").await, (200, "ok".to_owned()));
        let port = settings.read_only_port;
        assert!(get(port, "/pods").await.1.contains("\"web\""));
        // Who does not ask for the newer format gets the older one.
        let (code, metrics) = get(port, "/metrics").await;
        assert!(code == 200 && metrics.contains("# TYPE ") && !metrics.contains("# EOF"), "{metrics}");
        assert!(
            get(port, "/metrics/cadvisor")
                .await
                .1
                .contains("container_cpu_usage_seconds_total{container=\"c\"")
        );
        assert!(
            get(port, "/metrics/resource")
                .await
                .1
                .contains("pod_memory_working_set_bytes{namespace=\"default\"")
        );
        assert!(get(port, "/stats/summary").await.1.contains("\"podRef\""));
        assert_eq!(get(port, "/runningpods").await.0, 404, "not on the read-only port");
        for (organization, allowed) in [("system:masters", true), ("system:nodes", false)] {
            let (pem, key, _) = certificate(organization, Some(&ca));
            let identity = format!("{pem}{}", key.serialize_pem());
            let client = reqwest::Client::builder()
                .no_proxy()
                .danger_accept_invalid_certs(true)
                .identity(reqwest::Identity::from_pem(identity.as_bytes()).unwrap())
                .build()
                .unwrap();
            let answer = client.get(format!("https://127.0.0.1:{}/runningpods", settings.port)).send().await;
            assert_eq!(answer.is_ok_and(|a| a.status().is_success()), allowed, "{organization}");
        }
        kubelet.stop();
    });
}
