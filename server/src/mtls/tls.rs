//! Certificates: one authority, and one certificate for each who may speak.

use super::MtlsError;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
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
    /// When the first certificate of this node's chain ends, seconds since the epoch; `None` if it cannot be read.
    pub ends_s: Option<i64>,
    mine: Vec<CertificateDer<'static>>,
    authority: Arc<WebPkiServerVerifier>,
}

/// The name that stands in the certificate of a node.
pub fn node(node: u64) -> ServerName<'static> {
    let name = format!("node-{node}.flk");
    ServerName::try_from(name).expect("letters, digits, a hyphen and a dot are a host name")
}

/// The name that stands in the certificate of a region.
///
/// # Errors
/// When the region has a name that cannot stand in one.
pub fn region(region: &str) -> Result<ServerName<'static>, String> {
    let name = format!("region-{region}.flk");
    ServerName::try_from(name.clone()).map_err(|_| format!("{name} cannot stand in a certificate"))
}

/// Whether a certificate, which TLS has checked, was issued for that name.
pub fn is_for(certificate: &CertificateDer<'_>, name: &ServerName<'_>) -> bool {
    webpki::EndEntityCert::try_from(certificate)
        .is_ok_and(|parsed| parsed.verify_is_valid_for_subject_name(name).is_ok())
}

impl Tls {
    /// Reads the authority's certificate, ours, which must be for this name, and its key, all PEM.
    ///
    /// # Errors
    /// [`MtlsError`], naming the file.
    pub fn load(ca: &Path, certificate: &Path, key: &Path, name: &ServerName<'_>) -> Result<Tls, MtlsError> {
        let wrong = |path: &Path, why: &dyn std::fmt::Display| MtlsError::Certificate {
            path: path.to_owned(),
            why: why.to_string(),
        };
        let chain = |path: &Path| -> Result<Vec<CertificateDer<'static>>, MtlsError> {
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
        if !is_for(&mine[0], name) {
            return Err(wrong(certificate, &format!("it is not for {}", name.to_str())));
        }
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| wrong(key, &error))?;

        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let authority =
            |why: &dyn std::fmt::Display| MtlsError::Authority { path: ca.to_owned(), why: why.to_string() };
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
            .with_webpki_verifier(servers.clone())
            .with_client_auth_cert(mine.clone(), secret)?;
        client.alpn_protocols = vec![b"h2".to_vec()];
        let ends_s = mine.first().and_then(|certificate| ends(certificate));
        Ok(Tls { client: Arc::new(client), server: Arc::new(server), ends_s, mine, authority: servers })
    }

    /// Whether the others would accept this node's certificate at `now`: its authority, its name, its time.
    ///
    /// # Errors
    /// What they would say.
    pub fn check(&self, name: &ServerName<'_>, now: UnixTime) -> Result<(), MtlsError> {
        let (first, rest) = self.mine.split_first().expect("a chain was read with one certificate at least");
        self.authority.verify_server_cert(first, rest, name, &[], now)?;
        Ok(())
    }
}

/// One element of DER: its tag, what is in it, and what comes after it.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = bytes.split_first()?;
    let (length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(*length), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(*length & 0x7f))?;
            (digits.iter().fold(0, |sum: usize, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (inside, after) = rest.split_at_checked(length)?;
    Some((*tag, inside, after))
}

/// When a certificate ends, seconds since the epoch: RFC 5280, 4.1. The certificate, in it what is signed, in that after
/// version, serial number, algorithm and issuer the validity.
fn ends(certificate: &[u8]) -> Option<i64> {
    let (_, certificate, _) = element(certificate)?;
    let (_, mut signed, _) = element(certificate)?;
    if signed.first() == Some(&0xa0) {
        signed = element(signed)?.2;
    }
    for _ in 0..3 {
        signed = element(signed)?.2;
    }
    let (_, validity, _) = element(signed)?;
    let (tag, end, _) = element(element(validity)?.2)?;
    let text = std::str::from_utf8(end).ok()?.strip_suffix('Z')?;
    // UTCTime has two digits of the year, which begin with 20 below 50.
    let text = match (tag, text.get(..2)?) {
        (0x17, year) if year < "50" => format!("20{text}"),
        (0x17, _) => format!("19{text}"),
        (0x18, _) => text.to_owned(),
        _ => return None,
    };
    let time = jiff::civil::DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_read() {
        let validity = |tag: u8, end: &str| {
            let wrap = |tag: u8, bytes: &[u8]| [&[tag, bytes.len() as u8], bytes].concat();
            let times = [wrap(0x17, b"260101000000Z"), wrap(tag, end.as_bytes())].concat();
            let fields =
                [wrap(0xa0, &[2, 1, 2]), wrap(2, &[7]), wrap(0x30, &[]), wrap(0x30, &[]), wrap(0x30, &times)];
            wrap(0x30, &wrap(0x30, &fields.concat()))
        };
        assert_eq!(ends(&validity(0x17, "270101000000Z")), Some(1_798_761_600));
        assert_eq!(ends(&validity(0x18, "20700101000001Z")), Some(3_155_760_001));
        assert_eq!(ends(&validity(0x17, "700101000000Z")), Some(0));
        for (tag, end) in
            [(0x17, "2701010000Z"), (0x17, "x"), (0x16, "270101000000Z"), (0x18, "99999999999999Z")]
        {
            assert_eq!(ends(&validity(tag, end)), None, "{end}");
        }
        let whole = validity(0x17, "270101000000Z");
        for length in 0..whole.len() {
            assert_eq!(ends(&whole[..length]), None, "{length}");
        }
    }
}
