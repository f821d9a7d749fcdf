//! Certificates: one authority for the group, one certificate for each node.

use super::PeerError;
use rustls::client::WebPkiServerVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::path::Path;
use std::sync::Arc;

/// Both sides of the connections of one node.
#[derive(Clone, Debug)]
pub struct Tls {
    /// To connect with.
    pub client: Arc<ClientConfig>,
    /// To accept with.
    pub server: Arc<ServerConfig>,
}

/// The name that stands in the certificate of a node.
pub fn name(node: u64) -> String {
    format!("node-{node}.flk")
}

/// The same as TLS wants it.
pub fn server_name(node: u64) -> ServerName<'static> {
    ServerName::try_from(name(node)).expect("letters, digits, a hyphen and a dot are a host name")
}

/// Whether a certificate, which TLS has checked, was issued for that node.
pub fn is_for(certificate: &CertificateDer<'_>, node: u64) -> bool {
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|parsed| parsed.verify_is_valid_for_subject_name(&server_name(node)).is_ok())
}

impl Tls {
    /// Reads the authority's certificate, this node's, and its key, all PEM.
    ///
    /// # Errors
    /// [`PeerError`], naming the file.
    pub fn load(ca: &Path, certificate: &Path, key: &Path, node: u64) -> Result<Tls, PeerError> {
        let wrong = |path: &Path, why: &dyn std::fmt::Display| PeerError::Certificate {
            path: path.to_owned(),
            why: why.to_string(),
        };
        let chain = |path: &Path| -> Result<Vec<CertificateDer<'static>>, PeerError> {
            let list: Result<Vec<_>, _> =
                CertificateDer::pem_file_iter(path).map_err(|error| wrong(path, &error))?.collect();
            let list = list.map_err(|error| wrong(path, &error))?;
            if list.is_empty() { Err(wrong(path, &"no certificate in it")) } else { Ok(list) }
        };
        let mut roots = RootCertStore::empty();
        for root in chain(ca)? {
            roots.add(root)?;
        }
        let roots = Arc::new(roots);
        let mine = chain(certificate)?;
        if !is_for(&mine[0], node) {
            return Err(wrong(certificate, &format!("it is not for {}", name(node))));
        }
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority =
            |why: &dyn std::fmt::Display| PeerError::Authority { path: ca.to_owned(), why: why.to_string() };
        let peers = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider.clone())
            .build()
            .map_err(|error| authority(&error))?;
        let mut server = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(peers)
            .with_single_cert(mine.clone(), secret.clone_key())?;
        server.alpn_protocols = vec![b"h2".to_vec()];
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider.clone())
            .build()
            .map_err(|error| authority(&error))?;
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_webpki_verifier(servers)
            .with_client_auth_cert(mine, secret)?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Tls { client: Arc::new(client), server: Arc::new(server) })
    }
}
