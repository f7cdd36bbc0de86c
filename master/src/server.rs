//! A whole master, put together: store, cache, pipeline, doors, scheduler, controllers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actors::Stage;
use futures::future::LocalBoxFuture;
use protocol::{Api, Caller, DualRange};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::aggregation::Aggregation;
use crate::aggregation::identity::FrontProxy;
use crate::api::documents::ServedDocuments;
use crate::api::pipeline::{Config as PipelineConfig, Pipeline};
use crate::audit::Auditor;
use crate::auth::oidc::Oidc;
use crate::auth::request_header::RequestHeaders;
use crate::auth::tokens::TokenKeys;
use crate::auth::{Authenticator, ClusterAuthorizer};
use crate::cache::{Cache, feed};
use crate::controllers::machinery::dispatch::Dispatch;
use crate::front::certificate::FileCertificate;
use crate::front::debug::Debug;
use crate::front::fairness::Fairness;
use crate::front::fairness::measured::FairnessMetrics;
use crate::front::health::{CHECKS, Part};
use crate::front::metrics::FrontMetrics;
use crate::front::shown::Certifiers;
use crate::front::{Check, ClusterGate, Front, FrontConfig, Look};
use crate::link::{ClusterFacts, LinkConfig, LinkServer, Nodes, TokenJoining};
use crate::metrics::cluster::Cluster;
use crate::metrics::process::Process;
use crate::options::ServingOptions;
use crate::pki::{Pair, Pki, roots};
use crate::store::embedded::EmbeddedStore;
use crate::store::encrypted::EncryptedStore;
use crate::store::etcd::EtcdStore;
use crate::store::measured::MeasuredStore;
use crate::store::shared::SharedStore;
use crate::store::{ROOT, Range, Store};
use crate::streams::kubelet::Kubelets;
use crate::streams::proxy::reach::Anyone;
use crate::streams::ways::Ways;
use crate::{bootstrap, controllers, scheduler, streams};

/// What a master is told.
#[derive(Clone, Debug)]
pub struct MasterConfig {
    /// Certificates, and the embedded store where there is no etcd.
    pub state_dir: PathBuf,
    /// External etcd; empty means the embedded store.
    pub etcd_endpoints: Vec<String>,
    /// Where the API is served.
    pub listen: SocketAddr,
    /// The address that clients and pods reach it at.
    pub advertise: IpAddr,
    /// Further names and addresses for the serving certificate.
    pub names: Vec<String>,
    /// Where nodes of other machines link in; `None` for nodes of this process only.
    pub link_listen: Option<SocketAddr>,
    /// The range of Service addresses.
    pub service_cidr: DualRange,
    /// The range of pod addresses.
    pub cluster_cidr: DualRange,
    /// Where Services of type LoadBalancer get their addresses; `None` where somebody else gives them theirs.
    pub load_balancer_pool: Option<controllers::load_balancers::Pool>,
    /// The node in this process, if there is one.
    pub in_process_node: Option<String>,
    /// Threads that serve HTTP.
    pub workers: usize,
    /// Audit, encryption, identities from outside, a certificate of one's own.
    pub serving: ServingOptions,
}

impl MasterConfig {
    /// Usual settings over a folder.
    pub fn new(state_dir: PathBuf) -> Self {
        let net = |octets: [u8; 4], bits| ipnet::Ipv4Net::new_assert(Ipv4Addr::from(octets), bits);
        MasterConfig {
            state_dir,
            etcd_endpoints: Vec::new(),
            listen: (Ipv4Addr::UNSPECIFIED, 6443).into(),
            advertise: Ipv4Addr::LOCALHOST.into(),
            names: Vec::new(),
            link_listen: None,
            service_cidr: net([10, 96, 0, 0], 16).into(),
            cluster_cidr: net([10, 244, 0, 0], 16).into(),
            load_balancer_pool: None,
            in_process_node: None,
            workers: 2,
            serving: ServingOptions::default(),
        }
    }

    /// The `kubernetes` Service's address: the first of the range.
    pub fn service_address(&self) -> Ipv4Addr {
        nth(self.service_cidr.v4, 1)
    }

    /// The DNS Service's address: the tenth of the range.
    pub fn dns_address(&self) -> Ipv4Addr {
        nth(self.service_cidr.v4, 10)
    }
}

fn nth(net: ipnet::Ipv4Net, n: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(net.network()).wrapping_add(n))
}

/// Why a master did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be opened or reached.
    #[error("store: {0}")]
    Store(#[from] crate::store::StoreError),
    /// Certificates or keys.
    #[error("certificates: {0}")]
    Pki(#[from] crate::pki::PkiError),
    /// The token key.
    #[error("service account key: {0}")]
    Token(#[from] crate::auth::tokens::TokenError),
    /// TLS.
    #[error("TLS: {0}")]
    Tls(String),
    /// An address cannot be listened on.
    #[error(
        "{address}: {source}; is another cluster running, or the port taken? choose another with --api-port"
    )]
    Listen {
        /// Which.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file that tells this master from others.
    #[error("{}: {source}; the state directory must be writable", file.display())]
    Identity {
        /// The file.
        file: PathBuf,
        /// Why it cannot be used.
        source: std::io::Error,
    },
    /// A file that a flag names.
    #[error("{0}")]
    File(String),
    /// Something within the program.
    #[error("{0}")]
    Internal(String),
}

/// A running master.
pub struct Master {
    /// The HTTP front.
    pub front: Front,
    /// Links of nodes.
    pub link: LinkServer,
    /// Certificates.
    pub pki: Arc<Pki>,
    /// The administrator's certificate.
    pub admin: Pair,
    /// The pipeline.
    pub pipeline: Pipeline,
    /// The watch cache.
    pub cache: Cache,
    /// The connected nodes.
    pub nodes: Nodes,
}

impl Master {
    /// Starts everything, telling `passed` of each stage. Needs a running actix `System`.
    ///
    /// No parameter is generic and the future is boxed, so that all that this sets going is compiled once, with
    /// this crate, and not again with every program that starts a master.
    pub fn start<'a>(
        stage: &'a Stage,
        config: MasterConfig,
        passed: &'a mut dyn FnMut(&str),
    ) -> LocalBoxFuture<'a, Result<Master, StartError>> {
        Box::pin(Master::put_together(stage, config, passed))
    }

    async fn put_together(
        stage: &Stage,
        config: MasterConfig,
        passed: &mut dyn FnMut(&str),
    ) -> Result<Master, StartError> {
        // Bound first: a port that is taken is the commonest mistake, and cheap to tell.
        let listener = TcpListener::bind(config.listen)
            .map_err(|source| StartError::Listen { address: config.listen.to_string(), source })?;
        let address = listener.local_addr().map_err(|e| StartError::Internal(e.to_string()))?;

        let keys = {
            let (dir, config) = (config.state_dir.join("pki"), config.clone());
            tokio::task::spawn_blocking(move || -> Result<_, StartError> {
                let pki = Pki::open(dir)?;
                // They are needed where nobody may wait for files.
                crate::pki::roots::system();
                let pki = match config.serving.cluster_signing_duration {
                    Some(time) => pki.with_signing_max(time),
                    None => pki,
                };
                let mut names = config.names.clone();
                names.push(config.advertise.to_string());
                names.push(config.service_address().to_string());
                let serving = pki.serving(&names)?;
                let admin = pki.admin()?;
                let kubelet_client = pki.client(
                    "apiserver-kubelet-client",
                    "kube-apiserver-kubelet-client",
                    &["system:masters"],
                )?;
                let front_proxy = FrontProxy::of(&pki.front_proxy_client()?).map_err(StartError::Tls)?;
                let tokens = TokenKeys::from_pem(&pki.service_account_key()?)?;
                let own =
                    match (config.serving.tls_cert_file.clone(), config.serving.tls_private_key_file.clone())
                    {
                        (Some(certificate), Some(key)) => {
                            Some(FileCertificate::open(certificate, key).map_err(StartError::Tls)?)
                        }
                        _ => None,
                    };
                let loaded = config.serving.load()?;
                Ok((
                    Arc::new(pki),
                    serving,
                    admin,
                    kubelet_client,
                    front_proxy,
                    Arc::new(tokens),
                    own,
                    loaded,
                ))
            })
        };
        let store: Arc<dyn Store> = if config.etcd_endpoints.is_empty() {
            Arc::new(EmbeddedStore::open(config.state_dir.join("store.redb")).await?)
        } else {
            let etcd = Arc::new(EtcdStore::connect(&config.etcd_endpoints).await?);
            SharedStore::start(stage, etcd, &identity(&config.state_dir).await?).await?
        };
        let (pki, serving, admin, kubelet_client, front_proxy, tokens, own, loaded) =
            keys.await.map_err(|e| StartError::Internal(e.to_string()))??;
        let store: Arc<dyn Store> = match loaded.encryption {
            Some(encryption) => Arc::new(EncryptedStore::new(store, encryption)),
            None => store,
        };
        let oidc = loaded.oidc.map(Oidc::start).transpose().map_err(StartError::File)?;
        let store: Arc<dyn Store> = Arc::new(MeasuredStore::new(store, stage));
        passed("store and certificates");

        let ours = RequestHeaders::own();
        let (front_proxy_ca, request_headers) = match &loaded.proxies {
            Some((ca, headers)) => (format!("{}{ca}", pki.front_proxy_ca()), ours.joined(headers)),
            None => (pki.front_proxy_ca().to_owned(), ours),
        };
        let settings = bootstrap::Settings {
            advertise_address: config.advertise,
            port: address.port(),
            service_address: config.service_address().into(),
            service_cidr: config.service_cidr,
            client_ca: pki.ca().to_owned(),
            front_proxy_ca,
            request_headers: request_headers.clone(),
        };
        bootstrap::reconcile(&*store, &settings).await?;
        let authentication = bootstrap::authentication(&settings);
        let cache = Cache::new();
        feed::load(&cache, &*store).await?;
        let bridge = crate::store::bridge::start(stage, store.clone(), &cache);
        passed("cluster's own objects");

        let authorizer = Arc::new(ClusterAuthorizer::new(cache.clone()));
        let authenticator = Authenticator::new(cache.clone(), tokens).with_oidc(oidc);
        let public_address = SocketAddr::new(config.advertise, address.port()).to_string();
        let token_keys = authenticator.keys().clone();
        let nodes = Nodes::default();
        let kubelet_tls = kubelet_tls(&kubelet_client, loaded.kubelet_ca.as_deref())?;
        let preferred = &config.serving.kubelet_preferred_address_types;
        let kubelets = Kubelets::new(cache.clone(), kubelet_tls.clone(), preferred);
        let ways = Arc::new(Ways::new(cache.clone(), nodes.clone(), kubelets));
        let aggregation = Aggregation::new(cache.clone(), ways.clone(), front_proxy).hiding(request_headers);
        let documents = ServedDocuments::new(cache.clone(), authenticator.keys(), &public_address)
            .with_aggregation(aggregation.clone());
        let started = Arc::new(AtomicBool::new(false));
        let checks = checks(&cache, &bridge, &started);
        let pipeline_config = PipelineConfig {
            service_cidr: config.service_cidr,
            aggregation: Some(aggregation.clone()),
            admission: loaded.admission,
        };
        let pipeline =
            Pipeline::new(pipeline_config, bridge, cache.clone(), authorizer.clone(), authenticator.clone());
        let door: Arc<dyn Fn(Arc<Caller>) -> Arc<dyn Api> + Send + Sync> = {
            let pipeline = pipeline.clone();
            Arc::new(move |caller| pipeline.as_caller(caller))
        };
        pipeline.register_metrics(stage);
        let metrics = FrontMetrics::register(stage);
        let fairness = Fairness::new(cache.clone(), FairnessMetrics::register(stage, cache.clone()));
        stage.with_metrics(|r| {
            r.register_collector(Box::new(Cluster::new(cache.clone())));
            r.register_collector(Box::new(Process));
        });
        let (proxies_ca, proxies) = loaded.proxies.unzip();
        let certifiers = Certifiers::new(pki.ca(), proxies_ca.as_deref()).map_err(StartError::Tls)?;
        let known_cas = format!("{}{}", pki.ca(), proxies_ca.unwrap_or_default());
        let front_tls = match own {
            Some(own) => tls_with(&known_cas, Arc::new(own))?,
            None => server_tls(&serving, &known_cas)?,
        };
        let front = Front::start(
            listener,
            config.workers,
            FrontConfig {
                tls: front_tls,
                certifiers,
                public_address,
                gate: Arc::new(ClusterGate::new(pipeline.clone(), metrics.clone(), proxies)),
                door: door.clone(),
                streams: streams::router(cache.clone(), ways, kubelet_tls),
                documents: Arc::new(documents),
                aggregation: aggregation.clone(),
                checks,
                audit: loaded.audit.map(|(policy, log)| Auditor::start(policy, log, metrics.clone())),
                fairness,
                metrics,
                debug: Debug {
                    stage: stage.clone(),
                    nodes: nodes.clone(),
                    in_process: config.in_process_node.clone(),
                },
            },
        )
        .map_err(|source| StartError::Listen { address: address.to_string(), source })?;
        let facts = ClusterFacts {
            dns: config.dns_address().to_string(),
            cluster_cidr: config.cluster_cidr,
            service_cidr: config.service_cidr,
        };
        let link = LinkConfig {
            listen: config.link_listen,
            tls: Arc::new(server_tls(&serving, pki.ca())?),
            joining: Arc::new(TokenJoining::new(pki.clone(), cache.clone(), authenticator, facts)),
            door: door.clone(),
            nodes: nodes.clone(),
        };
        let address = config.link_listen.map(|a| a.to_string()).unwrap_or_default();
        let link =
            LinkServer::start(stage, link).await.map_err(|source| StartError::Listen { address, source })?;
        passed("API server");

        let api_for = |caller: Caller| pipeline.as_caller(caller);
        let dispatch = Dispatch::start(stage, cache.clone());
        scheduler::start(stage, cache.clone(), dispatch.clone(), api_for, scheduler::Config::default());
        // Where no node of ours can be, pods' addresses are somebody else's affair.
        let nodes_here = config.in_process_node.is_some() || config.link_listen.is_some();
        let controllers_config = controllers::Config {
            cluster_cidr: nodes_here.then_some(config.cluster_cidr),
            load_balancer_pool: config.load_balancer_pool.clone(),
            root_ca_pem: pki.ca().to_owned(),
            token_keys: Some(token_keys),
            pki: Some(pki.clone()),
            authentication,
            aggregation: Some(aggregation),
            ..controllers::Config::default()
        };
        controllers::start(stage, &cache, dispatch, api_for, &controllers_config);
        started.store(true, Ordering::Release);
        passed("scheduler and controllers");
        Ok(Master { front, link, pki, admin, pipeline, cache, nodes })
    }
}

/// Ready means that the watch is fresh, not merely that the port answers.
fn checks(cache: &Cache, store: &Arc<dyn Store>, started: &Arc<AtomicBool>) -> Vec<Check> {
    let look = |part: Part| -> Look {
        let (cache, store, started) = (cache.clone(), store.clone(), started.clone());
        Box::new(move || {
            let (cache, store, started) = (cache.clone(), store.clone(), started.clone());
            Box::pin(async move {
                match part {
                    Part::Process => Ok(()),
                    Part::Started if started.load(Ordering::Acquire) => Ok(()),
                    Part::Started => Err("not finished".to_owned()),
                    Part::Store => answers(&*store).await,
                    Part::Cache => {
                        let wanted = newest(&*store).await?.max(1);
                        let shown = tokio::time::timeout(CHECK_TIME, cache.wait_for(wanted)).await;
                        shown.map(drop).map_err(|_| "the watch cache lags behind the store".to_owned())
                    }
                }
            })
        })
    };
    CHECKS.iter().map(|(name, scope, part)| Check { name, scope: *scope, look: look(*part) }).collect()
}

/// What this master is to others that use its store: one process at a time has a state directory, and the hosts that it
/// may have been copied to have names of their own.
async fn identity(state_dir: &Path) -> Result<String, StartError> {
    let file = state_dir.join("master-id");
    let failed = |source| StartError::Identity { file: file.clone(), source };
    let mut drawn = tokio::fs::read_to_string(&file).await.unwrap_or_default();
    if drawn.is_empty() {
        drawn = uuid::Uuid::new_v4().to_string();
        tokio::fs::create_dir_all(state_dir).await.map_err(failed)?;
        tokio::fs::write(&file, &drawn).await.map_err(failed)?;
    }
    let host = tokio::fs::read_to_string("/proc/sys/kernel/hostname").await.unwrap_or_default();
    Ok(format!("{} {drawn}", host.trim()))
}

/// Whether the store answers a question that takes all of it.
async fn answers(store: &dyn Store) -> Result<(), String> {
    match tokio::time::timeout(CHECK_TIME, store.range(Range::key(ROOT))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the store does not answer".to_owned()),
    }
}

async fn newest(store: &dyn Store) -> Result<u64, String> {
    match tokio::time::timeout(CHECK_TIME, store.current_revision()).await {
        Ok(Ok(revision)) => Ok(revision),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the store does not answer".to_owned()),
    }
}

/// How long a health check waits for what it looks at.
const CHECK_TIME: std::time::Duration = std::time::Duration::from_secs(2);

/// TLS towards kubelets, who see who we are. Who they are a CA has to say that knows them all; upstream's sign their
/// certificates themselves unless they are told otherwise.
fn kubelet_tls(client: &Pair, ca: Option<&str>) -> Result<Arc<rustls::ClientConfig>, StartError> {
    let bad = |e: &dyn std::fmt::Display| StartError::Tls(e.to_string());
    let config = rustls::ClientConfig::builder();
    let config = match ca {
        Some(ca) => config.with_root_certificates(roots::of_pem(ca.as_bytes()).map_err(StartError::Tls)?),
        None => {
            let anyone = Anyone::verifier(config.crypto_provider().clone());
            config.dangerous().with_custom_certificate_verifier(anyone)
        }
    };
    let chain = CertificateDer::pem_slice_iter(client.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| bad(&e))?;
    let key = PrivateKeyDer::from_pem_slice(client.key.as_bytes()).map_err(|e| bad(&e))?;
    Ok(Arc::new(config.with_client_auth_cert(chain, key).map_err(|e| bad(&e))?))
}

/// TLS with the cluster's own certificate.
fn server_tls(serving: &Pair, ca: &str) -> Result<rustls::ServerConfig, StartError> {
    let bad = |e: &dyn std::fmt::Display| StartError::Tls(e.to_string());
    let chain = CertificateDer::pem_slice_iter(serving.certificate.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| bad(&e))?;
    let key = PrivateKeyDer::from_pem_slice(serving.key.as_bytes()).map_err(|e| bad(&e))?;
    tls_for(ca)?.with_single_cert(chain, key).map_err(|e| bad(&e))
}

/// TLS with a certificate from elsewhere.
fn tls_with(ca: &str, certificate: Arc<FileCertificate>) -> Result<rustls::ServerConfig, StartError> {
    Ok(tls_for(ca)?.with_cert_resolver(certificate))
}

/// TLS that asks for, but does not insist on, a client certificate of one of these CAs.
fn tls_for(
    ca: &str,
) -> Result<rustls::ConfigBuilder<rustls::ServerConfig, rustls::server::WantsServerCert>, StartError> {
    let bad = |e: &dyn std::fmt::Display| StartError::Tls(e.to_string());
    let roots = roots::of_pem(ca.as_bytes()).map_err(StartError::Tls)?;
    let clients = rustls::server::WebPkiClientVerifier::builder(Arc::new(roots))
        .allow_unauthenticated()
        .build()
        .map_err(|e| bad(&e))?;
    Ok(rustls::ServerConfig::builder().with_client_cert_verifier(clients))
}
