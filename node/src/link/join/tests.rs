use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const TOKEN: &str = "abcdef.0123456789abcdef";

/// Something on a TLS port that says these bytes to whoever connects.
async fn says(bytes: Vec<u8>) -> String {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["localhost".to_owned()]).unwrap().self_signed(&key).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    tokio::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let Ok(mut io) = acceptor.accept(tcp).await else { continue };
            let _ = io.write_all(&bytes).await;
            let _ = io.flush().await;
            // Read until the other end has had enough.
            let _ = io.read_to_end(&mut Vec::new()).await;
        }
    });
    address
}

async fn refusal(address: &str, token: &str) -> String {
    // The program installs it in main; here, whichever test is first.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let joined = join(address, token, "n", vec!["n".to_owned()], folder.path()).await;
    assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "a refused join leaves nothing");
    joined.expect_err("joined").to_string()
}

fn hello(min: u16, max: u16) -> Vec<u8> {
    actors::link::Hello { version_min: min, version_max: max }.to_bytes().to_vec()
}

#[tokio::test]
async fn a_master_of_another_protocol_version_says_who_is_to_be_upgraded() {
    let newest = actors::link::VERSION_MAX;
    let newer = says(hello(newest + 1, newest + 2)).await;
    let said = refusal(&newer, TOKEN).await;
    assert!(said.contains("upgrade this program"), "{said}");
    let older = says(hello(0, 0)).await;
    let said = refusal(&older, TOKEN).await;
    assert!(said.contains("upgrade the peer"), "{said}");
}

#[tokio::test]
async fn another_kind_of_server_is_told_from_a_master() {
    let other = says(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()).await;
    let said = refusal(&other, TOKEN).await;
    assert!(said.contains("check the address and port"), "{said}");
}

#[tokio::test]
async fn a_master_that_is_not_there_is_named() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let said = refusal(&port.to_string(), TOKEN).await;
    assert!(said.contains(&port.to_string()) && said.contains("is the master running"), "{said}");
}

#[tokio::test]
async fn a_token_of_another_form_is_not_even_shown() {
    for token in ["", "abcdef", "abcdef.short", "abc.0123456789abcdef"] {
        let said = refusal("127.0.0.1:1", token).await;
        assert!(said.contains("troupe token create"), "{said}");
    }
}

#[test]
fn clocks_far_apart_are_refused_and_the_difference_is_told() {
    let master = UNIX_EPOCH + Duration::from_secs(1_000_000);
    let minutes = |m: u64| Duration::from_secs(60 * m);
    for fine in [master, master + minutes(5), master - minutes(5)] {
        assert!(compare_clocks(master, fine).is_ok());
    }
    let said = |here| compare_clocks(master, here).expect_err("refused").to_string();
    assert!(said(master + minutes(61)).contains("61 minutes ahead of the master's"));
    assert!(said(master - minutes(60)).contains("60 minutes behind the master's"));
}

#[test]
fn a_new_certificate_tells_when_it_was_signed() {
    let mut params = CertificateParams::new(vec![]).unwrap();
    let now = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    params.not_before = (now - CERTIFICATE_BACKDATED).into();
    params.not_after = (now + Duration::from_secs(3600)).into();
    let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
    assert_eq!(signed_at(&certificate.pem()).unwrap(), now);
    assert!(signed_at("no certificate").is_err());
}
