//! Regions that ask each other, without a place between them: HTTP/2 with certificates on both ends (see [`crate::mtls`]).
//!
//! ```text
//! GET /bills/FROM, /chunks/FROM-DIGEST, /mirrors/REGION, /standing      the names of a place, and nothing else
//! 200 and the object; 404 there is none, or none yet; 421 this node does not lead: ask another; 503 and why
//! ```
//! Who may ask is a region that this one knows, by the name `region-NAME.flk` in its certificate. What comes is checked as
//! if it lay in a place: that it came over a connection that can be trusted proves nothing.

mod ask;
mod serve;
mod shelf;

pub use ask::There;
pub use serve::serve;
pub use shelf::Shelf;

use super::RegionError;
use crate::config::Config;
use crate::mtls::certificates::{Certificates, Files};
use crate::mtls::{Listening, MtlsError, tls};
use std::sync::{Arc, Mutex, PoisonError};

/// Where other regions ask, and with what certificates.
pub struct Door {
    /// What this region is known by.
    pub certificates: Arc<Certificates>,
    listening: Mutex<Option<Listening>>,
    /// Where it listens, if it does.
    pub address: Option<std::net::SocketAddr>,
}

impl Door {
    /// Reads the certificates and binds the address; `None` if the settings name none.
    ///
    /// # Errors
    /// [`RegionError`], naming the setting or the file.
    pub async fn open(config: &Config) -> Result<Option<Door>, RegionError> {
        let (Some(ca), Some(certificate), Some(key)) =
            (&config.regions_ca, &config.regions_cert, &config.regions_key)
        else {
            return Ok(None);
        };
        let name = tls::region(&config.region).map_err(RegionError::Certificate)?;
        let files = Files { ca: ca.clone(), certificate: certificate.clone(), key: key.clone(), name };
        let wrong = |error: MtlsError| RegionError::Certificate(error.to_string());
        let certificates = Arc::new(Certificates::open(files).map_err(wrong)?);
        let listening = match &config.regions_listen {
            Some(address) => Some(Listening::bind(address).await.map_err(wrong)?),
            None => None,
        };
        let address = listening.as_ref().map(|listening| listening.address);
        Ok(Some(Door { certificates, listening: Mutex::new(listening), address }))
    }

    /// The socket, once.
    fn take(&self) -> Option<Listening> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
