//! A bucket that speaks the S3 protocol, with Object Lock: `object_store` says what to ask, this module how it goes out.
//!
//! Requests take the same way out as all others ([`Outbound`]: configured addresses only, no redirects, one deadline, a
//! bound on what is read). The headers of Object Lock are put in before the signature is made: a store refuses a request
//! with `x-amz-` headers that are not signed, so they cannot be default headers of a client. What the store says of a
//! lock is handed back with the answer, because it counts only when it is read back.

use crate::outbound::{Outbound, Url};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Uri};
use jiff::Timestamp;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredential, Checksum, S3ConditionalPut};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::{ObjectStore, RetryConfig};
use sha2::{Digest as _, Sha256};
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

const MODE: &str = "x-amz-object-lock-mode";
const UNTIL: &str = "x-amz-object-lock-retain-until-date";
const ALGORITHM: &str = "x-amz-sdk-checksum-algorithm";
/// The mode in which nobody can shorten the time, not even the account's owner.
const COMPLIANCE: &str = "COMPLIANCE";
/// Largest answer, bytes: what was put is read back whole.
const ANSWER_MAX: usize = 1 << 30;
/// How long one request may take.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How a bucket is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Address of the store; objects are below `address/bucket/`.
    pub url: Url,
    /// Name of the bucket.
    pub name: String,
    /// Region that requests are signed for.
    pub region: String,
}

impl Bucket {
    /// Whether its names can be part of an address.
    ///
    /// # Errors
    /// What they may be.
    pub fn check(&self) -> Result<(), String> {
        if self.name.is_empty() || !plain(&self.name, b".-") || !plain(&self.region, b"-") {
            return Err("bucket is of A-Z a-z 0-9 . - and region of A-Z a-z 0-9 -".into());
        }
        Ok(())
    }
}

/// Whether a text is of letters, digits and these, and not long.
#[must_use]
pub fn plain(text: &str, odd: &[u8]) -> bool {
    text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || odd.contains(&byte))
}

/// Whether objects may lie below this prefix; an empty one means the whole bucket.
///
/// # Errors
/// What it may be.
pub fn check_prefix(prefix: &str) -> Result<(), String> {
    let folder = |part: &str| !matches!(part, "" | "." | "..");
    if !prefix.is_empty() && (!plain(prefix, b"._-/") || !prefix.split('/').all(folder)) {
        return Err("prefix is of A-Z a-z 0-9 . _ - /, and neither begins nor ends with /".into());
    }
    Ok(())
}

/// An access key from a file of two lines: its id, and its secret.
///
/// # Errors
/// What is wrong with the file; never what stands in it.
pub fn read_key(path: &Path) -> Result<AwsCredential, String> {
    let at = |why: &str| format!("{}: {why}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| at(&error.to_string()))?;
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let [id, secret] = lines[..] else {
        return Err(at("two lines are wanted: the access key's id, and its secret"));
    };
    Ok(AwsCredential { key_id: id.into(), secret_key: secret.into(), token: None })
}

/// Goes with a request to put: until when the object must be kept.
#[derive(Clone, Copy, Debug)]
pub struct KeepUntil(pub Timestamp);

/// Comes with an answer: until when the store keeps the object under a lock that nobody can lift.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept(pub Timestamp);

/// A store for the objects of this bucket.
///
/// # Errors
/// What is wrong with the settings.
pub fn open(bucket: &Bucket, key: AwsCredential, out: Outbound) -> Result<Box<dyn ObjectStore>, String> {
    let sign = Some((Arc::new(key), bucket.region.clone()));
    let store = AmazonS3Builder::new()
        .with_endpoint(bucket.url.origin())
        .with_bucket_name(&bucket.name)
        .with_region(&bucket.region)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // Object Lock wants a sum with what is put.
        .with_checksum_algorithm(Checksum::SHA256)
        .with_skip_signature(true)
        // Trying again is the lane's work.
        .with_retry(RetryConfig { max_retries: 0, retry_timeout: PATIENCE, ..RetryConfig::default() })
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_http_connector(Connect(Sender { out, url: bucket.url.clone(), sign }))
        .build();
    store.map(|store| Box::new(store) as Box<dyn ObjectStore>).map_err(|error| error.to_string())
}

/// The way out for `object_store`.
#[derive(Debug)]
pub struct Connect(Sender);

impl Connect {
    /// One that signs nothing: `object_store` has put in what the store wants.
    #[must_use]
    pub fn unsigned(out: Outbound, url: Url) -> Connect {
        Connect(Sender { out, url, sign: None })
    }
}

impl HttpConnector for Connect {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.0.clone()))
    }
}

/// Signs and sends.
#[derive(Clone, Debug)]
struct Sender {
    out: Outbound,
    url: Url,
    /// The key, and the region that requests are signed for.
    sign: Option<(Arc<AwsCredential>, String)>,
}

impl HttpService for Sender {
    fn call<'life, 'call>(
        &'life self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'call>>
    where
        'life: 'call,
        Self: 'call,
    {
        Box::pin(self.send(request))
    }
}

impl Sender {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let Some((key, region)) = &self.sign else { return pass(&self.out, &self.url, request).await };
        let (mut head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        if let Some(KeepUntil(until)) = head.extensions.get() {
            head.headers.insert(MODE, HeaderValue::from_static(COMPLIANCE));
            // Some stores take a sum with a lock only if it is announced like this, too.
            head.headers.insert(ALGORITHM, HeaderValue::from_static("SHA256"));
            let until = HeaderValue::try_from(until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
            head.headers.insert(UNTIL, until.map_err(wrong)?);
        }
        let digest = Sha256::digest(&body);
        let mut request = HttpRequest::from_parts(head, body.into());
        AwsAuthorizer::new(key, "s3", region).try_authorize(&mut request, Some(&digest)).map_err(wrong)?;
        let mut answer = pass(&self.out, &self.url, request).await?;
        if let Some(kept) = kept(answer.headers()) {
            answer.extensions_mut().insert(kept);
        }
        Ok(answer)
    }
}

/// Sends a request to this address, whatever it names itself.
async fn pass(out: &Outbound, url: &Url, request: HttpRequest) -> Result<HttpResponse, HttpError> {
    let (mut head, body) = request.into_parts();
    let body = body.collect().await?.to_bytes();
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    head.uri = path.parse::<Uri>().map_err(wrong)?;
    let request = Request::from_parts(head, Full::new(body));
    let answer = out.send(url, request, ANSWER_MAX, PATIENCE).await;
    let answer = answer.map_err(|why| HttpError::new(HttpErrorKind::Request, std::io::Error::other(why)))?;
    let (head, body): (_, Bytes) = answer.into_parts();
    Ok(HttpResponse::from_parts(head, body.into()))
}

fn wrong(error: impl std::error::Error + Send + Sync + 'static) -> HttpError {
    HttpError::new(HttpErrorKind::Unknown, error)
}

fn kept(headers: &HeaderMap) -> Option<Kept> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    text(MODE).filter(|mode| *mode == COMPLIANCE)?;
    text(UNTIL)?.parse().ok().map(Kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_lock_that_nobody_can_lift_counts() {
        let headers = |mode: &'static str, until: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(MODE, HeaderValue::from_static(mode));
            headers.insert(UNTIL, HeaderValue::from_static(until));
            headers
        };
        let until = "2030-01-01T00:00:00Z";
        assert_eq!(kept(&headers("COMPLIANCE", until)), Some(Kept(until.parse().unwrap())));
        assert!(kept(&headers("COMPLIANCE", "2030-01-01T00:00:00.000Z")).is_some());
        assert_eq!(kept(&headers("GOVERNANCE", until)), None);
        assert_eq!(kept(&headers("COMPLIANCE", "soon")), None);
        assert_eq!(kept(&HeaderMap::new()), None);
    }
}
