//! TLS for addresses with https: TLS 1.3, and a server whose certificate an authority vouches for that is trusted here.
//!
//! Trusted are the authorities in the file that was named, else those that the system trusts: `SSL_CERT_FILE`, or where
//! distributions keep their collection.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::NoAnswer;
use crate::report::Fault;

/// Where systems keep the authorities they trust, in one file.
const SYSTEM: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

const NEXT: &str = "give --ca FILE with the certificate of the authority (PEM), from the operator";

/// Makes a connection one over TLS.
#[derive(Clone)]
pub(super) struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Tls {
    /// For a server of this host, held to the authorities in `ca`, else to the system's.
    ///
    /// # Errors
    /// The file cannot be read or holds no authority; the system has none; the host is no name.
    pub(super) fn new(url: &str, host: &str, ca: Option<&Path>) -> Result<Tls, Fault> {
        let named = ca.map(Path::to_owned);
        let from_env = || std::env::var_os("SSL_CERT_FILE").map(PathBuf::from);
        let system = || SYSTEM.iter().map(PathBuf::from).find(|path| path.is_file());
        let Some(path) = named.or_else(from_env).or_else(system) else {
            return Err(Fault::new("no authority to hold the server to", url, "this system has none", NEXT));
        };
        let mut roots = RootCertStore::empty();
        let list = CertificateDer::pem_file_iter(&path).map_err(|error| Fault::read(&path, error))?;
        // Collections of many authorities hold some that no library reads; the others count.
        roots.add_parsable_certificates(list.filter_map(Result::ok));
        if roots.is_empty() {
            return Err(Fault::read(&path, "no certificate of an authority in it"));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare)
            .map_err(|_| Fault::new("cannot use the server's address", url, "the host is no name", NEXT))?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Tls { config: Arc::new(config), name })
    }

    pub(super) async fn connect(&self, stream: TcpStream) -> Result<TlsStream<TcpStream>, NoAnswer> {
        let connector = TlsConnector::from(self.config.clone());
        connector.connect(self.name.clone(), stream).await.map_err(|error| {
            let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
            match tls {
                Some(rustls::Error::InvalidCertificate(why)) => {
                    NoAnswer::Certificate(self.name.to_str().into_owned(), format!("{why}"))
                }
                Some(_) => NoAnswer::Broken(format!("no TLS 1.3 with it: {error}")),
                None => NoAnswer::Connect(error),
            }
        })
    }
}
