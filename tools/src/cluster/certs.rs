//! `flk cluster certs`: certificates for the nodes of a group, or for regions that ask each other, from an authority of its own.
//!
//! The authority's key signs whoever may be a node, or a region. Give each of the two an authority of its own: a directory is one. It belongs on no node; keep it where secrets are kept.

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use serde_json::json;

use crate::keys::{write_public, write_secret};
use crate::report::{Fault, Report};

/// Make certificates for nodes or regions, and an authority if there is none yet
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where ca.pem, ca.key, and NAME.pem and NAME.key of each are, or are to be
    pub dir: PathBuf,
    /// The nodes that get one, by node.id
    #[arg(long, value_name = "N,N", value_delimiter = ',', required_unless_present = "regions")]
    pub nodes: Vec<u64>,
    /// The regions that get one, by region.id
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',')]
    pub regions: Vec<String>,
    /// Years until such a certificate ends; the authority's ends after ten
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=10))]
    pub years: u8,
}

/// Makes what is missing; what is there is not touched.
///
/// # Errors
/// One of the certificates is there already, or a file cannot be read or written.
pub fn run(args: &Args) -> Result<Report, Fault> {
    std::fs::create_dir_all(&args.dir).map_err(|error| Fault::write(&args.dir, error))?;
    let mut report = Report::new("flk cluster certs");
    let (ca_key, ca) = (args.dir.join("ca.key"), args.dir.join("ca.pem"));
    let failed = |error: rcgen::Error| {
        Fault::new("cannot make a certificate", args.dir.display(), error, "is ca.key the key of ca.pem?")
    };
    let params = authority().map_err(failed)?;
    let key = if ca_key.exists() {
        let pem = std::fs::read_to_string(&ca_key).map_err(|error| Fault::read(&ca_key, error))?;
        KeyPair::from_pem(&pem).map_err(failed)?
    } else {
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        write_secret(&ca_key, &key.serialize_pem())?;
        write_public(&ca, &certificate.pem())?;
        report.lines.push(format!("authority   {}  (keep {} off the nodes)", ca.display(), ca_key.display()));
        key
    };
    let issuer = Issuer::new(params, key);
    for region in &args.regions {
        // What region.id takes, less what a certificate does not.
        let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if region.is_empty() || region.len() > 56 || !region.chars().all(fits) {
            let next = "give the name that its nodes have as region.id";
            return Err(Fault::new("no name of a region", region, "1 to 56 of A-Z a-z 0-9 . _ -", next));
        }
    }
    let nodes = args.nodes.iter().map(|node| (format!("node {node}"), format!("node-{node}")));
    let regions = args.regions.iter().map(|region| (format!("region {region}"), format!("region-{region}")));
    for (whose, name) in nodes.chain(regions) {
        let (certificate, key) = certificate(&name, args.years, &issuer).map_err(failed)?;
        let path = |ending: &str| args.dir.join(format!("{name}.{ending}"));
        write_secret(&path("key"), &key)?;
        write_public(&path("pem"), &certificate)?;
        report.lines.push(format!("{whose:<11} {}", path("pem").display()));
    }
    report.data = json!({ "dir": args.dir, "nodes": args.nodes, "regions": args.regions });
    let settings = if args.nodes.is_empty() { "regions" } else { "cluster" };
    report.verdict = format!(
        "give each ca.pem and its own two files: {settings}.ca_file, {settings}.cert_file, {settings}.key_file"
    );
    Ok(report)
}

/// Ten years from the day it is made on; the same name always, so that it can be made again from its key.
fn authority() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, "FLK cluster authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    last(&mut params, 10);
    Ok(params)
}

/// The certificate for `name`.flk, and its key.
fn certificate(
    name: &str,
    years: u8,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(String, String), rcgen::Error> {
    let name = format!("{name}.flk");
    let mut params = CertificateParams::new(vec![name.clone()])?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    last(&mut params, years);
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, issuer)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

/// Good from yesterday, for clocks that are late, for so many years.
fn last(params: &mut CertificateParams, years: u8) {
    let day = jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::UTC).date().yesterday();
    let day = day.unwrap_or(jiff::civil::date(2026, 1, 1));
    let (month, of_month) = (day.month().unsigned_abs(), day.day().unsigned_abs().min(28));
    let at = |years: u8| date_time_ymd(i32::from(day.year()) + i32::from(years), month, of_month);
    (params.not_before, params.not_after) = (at(0), at(years));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::too_open;

    #[test]
    fn nodes_can_be_added_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let args = |nodes: &[u64]| Args {
            dir: folder.path().to_owned(),
            nodes: nodes.to_vec(),
            regions: Vec::new(),
            years: 1,
        };
        run(&args(&[1, 2])).unwrap();
        let ca = std::fs::read(folder.path().join("ca.pem")).unwrap();
        run(&args(&[3])).unwrap();
        assert_eq!(std::fs::read(folder.path().join("ca.pem")).unwrap(), ca);
        for node in 1..=3 {
            for ending in ["pem", "key"] {
                assert!(folder.path().join(format!("node-{node}.{ending}")).exists());
            }
        }
        assert!(!too_open(&folder.path().join("node-3.key")) && !too_open(&folder.path().join("ca.key")));
        assert!(run(&args(&[2])).is_err(), "a certificate in use is not replaced");
        let regions = |name: &str| Args { regions: vec![name.to_owned()], ..args(&[]) };
        run(&regions("eu")).unwrap();
        assert!(folder.path().join("region-eu.pem").exists());
        assert!(run(&regions("../eu")).is_err());
    }
}
