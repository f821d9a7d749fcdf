//! The HTTP surface: one table of routes, one function that answers.
//!
//! Every request passes the same gates in the same order: framing, path, method, tenant, limits, body. What is
//! behind the gates never sees an ambiguous request.

mod accept;
mod anchors;
mod audit;
mod batch;
mod body;
mod cluster;
mod compare;
mod connection;
mod cosign;
mod elsewhere;
mod framing;
mod listener;
mod logkeys;
pub mod openapi;
mod ops;
mod reconcile;
pub mod refusal;
mod regions;
pub(crate) mod reply;
pub mod routes;
mod starting;
mod submit;
mod workers;

pub use connection::{Conn, Deadlines};
pub(crate) use elsewhere::here as forwarded;
pub use listener::{Caps, Slots, Terms, run};
pub(crate) use starting::terms;
pub use starting::{Front, Stage};
pub use workers::Workers;

use crate::node::Node;
use bytes::Bytes;
use engine::checkpoint::VERIFY_PAGE;
use framing::Understood;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, Version};
use refusal::{Problem, Refusal};
use reply::{JSON, Reply, TEXT};
use routes::{Endpoint, Methods, ROUTES};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// The header that names the tenant.
pub const TENANT: HeaderName = HeaderName::from_static("x-tenant-id");
/// The header that marks an answer as a replay.
pub const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// Answers requests for one node.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

struct Inner {
    node: Arc<Node>,
    openapi: Bytes,
    cors: HeaderValue,
}

impl Api {
    /// The surface of a node.
    pub fn new(node: Arc<Node>) -> Api {
        let openapi = Bytes::from(openapi::document().to_string());
        let cors = HeaderValue::try_from(&node.config.cors_origin).unwrap_or(HeaderValue::from_static("*"));
        Api(Arc::new(Inner { node, openapi, cors }))
    }
}

impl connection::Answer for Api {
    async fn answer(
        self,
        conn: Arc<Conn>,
        _peer: SocketAddr,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let begun = Instant::now();
        let asked_by_browser = request.headers().contains_key(header::ORIGIN);
        let (reply, last) = match gate(&conn, &request) {
            Err(ambiguity) => {
                let problem = Problem::from(Refusal::BadFraming).detail(ambiguity.detail()).closing();
                (Reply::from(problem), true)
            }
            Ok(last) => {
                conn.body_begins();
                (dispatch(&self.0, &conn, request).await, last)
            }
        };
        let status = reply.status;
        let mut response = reply.response();
        if last {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if asked_by_browser {
            let headers = response.headers_mut();
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, self.0.cors.clone());
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            if self.0.cors != "*" {
                headers.insert(header::VARY, HeaderValue::from_static("Origin"));
            }
        }
        self.0.node.metrics.answered(status, begun.elapsed().as_secs_f64());
        conn.answered();
        response
    }
}

/// Headers a browser may show to its page.
const EXPOSED: &str = "Idempotent-Replayed, Preference-Applied, Retry-After, RateLimit, RateLimit-Policy";

/// Framing, before anything else is looked at. `true` when the connection ends after this request.
fn gate(conn: &Conn, request: &Request<Incoming>) -> Result<bool, framing::Ambiguity> {
    let headers = request.headers();
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    let coding = codings.next().map(HeaderValue::as_bytes);
    let length =
        headers.get(header::CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse().ok());
    let understood = Understood {
        coding,
        more_codings: codings.next().is_some(),
        length,
        hosts: headers.get_all(header::HOST).iter().count(),
        old: request.version() != Version::HTTP_11,
    };
    conn.heads().request(understood)
}

async fn dispatch(api: &Inner, conn: &Conn, request: Request<Incoming>) -> Reply {
    // The one request that everything depends on is found without splitting anything.
    if request.uri().path() == ROUTES[0].path && request.method() == Method::POST {
        return submit::answer(&api.node, conn, request).await.unwrap_or_else(Reply::from);
    }
    route(api, conn, request).await
}

async fn route(api: &Inner, conn: &Conn, request: Request<Incoming>) -> Reply {
    let path = request.uri().path().to_owned();
    let Some(matched) = routes::find(&path) else {
        return Problem::from(Refusal::NotFound).into();
    };
    let route = &ROUTES[matched.row];
    if request.method() == Method::OPTIONS {
        return preflight(api, route.methods);
    }
    if !route.methods.allow(request.method()) {
        let mut problem = Problem::from(Refusal::MethodNotAllowed);
        problem.allow = Some(route.methods.list().to_owned());
        return problem.into();
    }
    let node = &api.node;
    let result = match route.endpoint {
        Endpoint::Submit => submit::answer(node, conn, request).await,
        Endpoint::Batch => batch::answer(node, conn, request).await,
        Endpoint::Summary => audit::summary(node, request.headers(), matched.values[0]).await,
        Endpoint::Lineage => audit::lineage(node, request.headers(), matched.values[0]).await,
        Endpoint::Receipt => audit::receipt(node, request.headers(), matched.values[0]).await,
        Endpoint::Checkpoint => audit::checkpoint(node, matched.values[0], request.uri().query()),
        Endpoint::Anchors => anchors::show(node, request.headers()).await,
        Endpoint::WitnessAdd => cosign::add(node, conn, request).await,
        Endpoint::WitnessKey => cosign::key(node),
        Endpoint::AnchorsChange => anchors::change(node, conn, request).await,
        Endpoint::Stamps => audit::stamps(node, matched.values[0]).await,
        Endpoint::Stamp => audit::stamp(node, matched.values[0], matched.values[1]).await,
        Endpoint::Statement => audit::statement(node, matched.values[0], matched.values[1]).await,
        Endpoint::LogKeys => logkeys::show(node, request.headers()).await,
        Endpoint::LogKeysChange => logkeys::change(node, conn, request).await,
        Endpoint::Cases => reconcile::list(node, request.headers()).await,
        Endpoint::Case => reconcile::show(node, request.headers(), matched.values[0]).await,
        Endpoint::CasesChange => reconcile::change(node, conn, request).await,
        Endpoint::VerifierKey => audit::verifier_key(node, matched.values[0]),
        Endpoint::Tile => audit::tile(node, matched.values[0], matched.values[1]).await,
        Endpoint::Entries => {
            audit::entries(node, request.headers(), matched.values[0], matched.values[1]).await
        }
        Endpoint::Cluster => cluster::show(node, request.headers()).await,
        Endpoint::ClusterChange => cluster::change(node, conn, request).await,
        Endpoint::ClusterDrain => cluster::drain(node, request.headers()).await,
        Endpoint::ClusterCompare => compare::answer(node, request.headers(), request.uri().query()).await,
        Endpoint::ClusterCheckup => cluster::checkup(node, request.headers()).await,
        Endpoint::Routing => Ok(Reply::new(200, JSON, format!("{}\n", crate::ship::routing(node)))),
        Endpoint::Health => Ok(Reply::new(200, TEXT, "OK")),
        Endpoint::Livez => Ok(Reply::new(200, TEXT, "ok\n")),
        Endpoint::Readyz => Ok(ops::ready(node, request.uri().query())),
        Endpoint::Metrics => ops::metrics(node, request.headers(), request.uri().query()),
        Endpoint::OpenApi => Ok(Reply::new(200, JSON, api.openapi.clone())),
        Endpoint::Verify => Ok(Reply::new(200, HTML, VERIFY_PAGE)),
        Endpoint::Problems => Ok(Reply::new(200, HTML, refusal::page(None).unwrap_or_default())),
        Endpoint::Problem => match refusal::page(Some(matched.values[0])) {
            Some(page) => Ok(Reply::new(200, HTML, page)),
            None => Err(Problem::from(Refusal::NotFound)),
        },
    };
    result.unwrap_or_else(Reply::from)
}

const HTML: &str = "text/html; charset=utf-8";

/// What browsers ask before they send a submission.
fn preflight(api: &Inner, methods: Methods) -> Reply {
    let mut reply = Reply::new(204, "", Bytes::new())
        .with(header::ALLOW, methods.list())
        .with(header::ACCESS_CONTROL_ALLOW_METHODS, methods.list())
        .with(
            header::ACCESS_CONTROL_ALLOW_HEADERS,
            "Content-Type, X-Tenant-Id, X-PCS-Schema-Version, Prefer, Authorization, traceparent",
        )
        .with(header::ACCESS_CONTROL_MAX_AGE, "86400");
    reply.headers.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, api.cors.clone()));
    reply
}
