//! The table of routes. Dispatch, `Allow`, CORS preflights and the OpenAPI document are made from it.

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Endpoint {
    Submit,
    Batch,
    Summary,
    Lineage,
    Receipt,
    Checkpoint,
    Anchors,
    AnchorsChange,
    WitnessAdd,
    WitnessKey,
    Entries,
    Tile,
    Stamps,
    Stamp,
    VerifierKey,
    Statement,
    LogKeys,
    LogKeysChange,
    Cases,
    CasesChange,
    Case,
    Cluster,
    ClusterChange,
    ClusterDrain,
    ClusterCompare,
    ClusterCheckup,
    Routing,
    Health,
    Livez,
    Readyz,
    Metrics,
    OpenApi,
    Problems,
    Verify,
    Problem,
}

/// Which methods an endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// POST.
    Post,
    /// GET and HEAD.
    Get,
    /// Any method, as the original answered its health and metrics pages.
    Any,
}

/// A parameter in the path, the query or a header.
pub struct Parameter {
    /// Name as written.
    pub name: &'static str,
    /// `path`, `query` or `header`.
    pub place: &'static str,
    /// Regular expression of its values; empty means any.
    pub pattern: &'static str,
    /// What it means.
    pub text: &'static str,
}

/// One documented answer.
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Media type.
    pub media: &'static str,
    /// Name of a schema component, or nothing for opaque bytes and text.
    pub schema: &'static str,
    /// What it means.
    pub text: &'static str,
}

/// One row.
pub struct Route {
    /// What it leads to.
    pub endpoint: Endpoint,
    /// Methods.
    pub methods: Methods,
    /// Path with `{name}` for one segment and `{name*}` for the rest.
    pub path: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Media type and schema of the request body.
    pub body: Option<(&'static str, &'static str)>,
    /// Parameters.
    pub parameters: &'static [Parameter],
    /// Answers beside those every route can give.
    pub answers: &'static [Answer],
    /// Name of the security scheme, or nothing.
    pub security: &'static str,
}

const fn parameter(
    name: &'static str,
    place: &'static str,
    pattern: &'static str,
    text: &'static str,
) -> Parameter {
    Parameter { name, place, pattern, text }
}

const fn answer(status: u16, media: &'static str, schema: &'static str, text: &'static str) -> Answer {
    Answer { status, media, schema, text }
}

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";
const TEXT: &str = "text/plain; charset=utf-8";
const OCTETS: &str = "application/octet-stream";
const COSE: &str = "application/cose";
const HTML: &str = "text/html; charset=utf-8";

const TENANT: Parameter = parameter(
    "X-Tenant-Id",
    "header",
    "",
    "The tenant. Ignored by a single-tenant server; otherwise it must name an active tenant, and a missing one means 'default'.",
);
const PCS_ID: Parameter =
    parameter("id", "path", "^[0-9a-f]{64}$", "Lower-case hex SHA-256 of merkle_root|epoch|shard_id.");
const REGION: Parameter = parameter("region", "path", "^[A-Za-z0-9._-]{1,64}$", "The log's region.");

const RECEIPT: Parameter =
    parameter("receipt", "query", "", "1 asks for tlog_proof in the answer, as Prefer: receipt does.");

const BAD_ID: Answer =
    answer(400, PROBLEM, "Problem", "The id is not 64 lower-case hex digits, or the tenant is unknown.");
const ELSEWHERE: Answer = answer(
    421,
    PROBLEM,
    "Problem",
    "The first submission is held by another region alone, which the document names.",
);
const MISSING: Answer = answer(404, PROBLEM, "Problem", "This tenant has no such summary.");
const NO_FILE: Answer =
    answer(404, PROBLEM, "Problem", "There is no such region, or the log is not that long yet.");
const TIMEOUT: Answer = answer(408, PROBLEM, "Problem", "The body did not arrive in time.");
const LARGE: Answer = answer(413, PROBLEM, "Problem", "The body is above the limit; it is never truncated.");
const LIMITED: Answer =
    answer(429, PROBLEM, "Problem", "The tenant's rate or quota is used up; see Retry-After.");
const UNAVAILABLE: Answer =
    answer(503, PROBLEM, "Problem", "The log cannot take the record now; see Retry-After.");
const INTERNAL: Answer = answer(500, PROBLEM, "Problem", "The server could not finish the request.");

/// Every route.
#[rustfmt::skip]
pub static ROUTES: &[Route] = &[
    Route { endpoint: Endpoint::Submit, methods: Methods::Post, path: "/v1/pcs/submit", summary: "Submit one summary; answered when its record is durable",
        body: Some((JSON, "Summary")), parameters: &[TENANT, parameter("Prefer", "header", "", "handling=strict answers 422 when the id exists with different content; receipt asks for tlog_proof in the answer."), RECEIPT], security: "",
        answers: &[
            answer(200, JSON, "Answer", "Accepted. A duplicate gets the first answer and the header Idempotent-Replayed."),
            answer(202, JSON, "Answer", "Recorded, with a verdict that asks for attention: accepted false or escalated true."),
            answer(400, PROBLEM, "Problem", "Not a summary, unreadable, ambiguous framing, or an unknown tenant."),
            answer(401, PROBLEM, "Problem", "The signature is missing or wrong. The submission is recorded as refused."),
            TIMEOUT, LARGE, ELSEWHERE,
            answer(422, PROBLEM, "Problem", "Only with Prefer: handling=strict: the id exists with different content."),
            LIMITED, INTERNAL, UNAVAILABLE,
        ] },
    Route { endpoint: Endpoint::Batch, methods: Methods::Post, path: "/v1/pcs/batch", summary: "Submit many summaries, one a line; one verdict line each in the same order",
        body: Some(("application/x-ndjson", "")), parameters: &[TENANT, parameter("Prefer", "header", "", "handling=strict and receipt apply to every line."), RECEIPT], security: "",
        answers: &[
            answer(200, "application/x-ndjson", "BatchLine", "One line for each record: {\"status\":..,\"answer\"|\"problem\":..}. Lines succeed or fail one by one."),
            answer(400, PROBLEM, "Problem", "No record, too many records, unreadable, ambiguous framing, or an unknown tenant. Nothing was recorded."),
            TIMEOUT, LARGE, LIMITED, INTERNAL, UNAVAILABLE,
        ] },
    Route { endpoint: Endpoint::Summary, methods: Methods::Get, path: "/v1/pcs/{id}", summary: "The first answer for an id",
        body: None, parameters: &[PCS_ID, TENANT], security: "",
        answers: &[answer(200, JSON, "Answer", "The bytes that the first submission was answered with."), BAD_ID, MISSING, ELSEWHERE, INTERNAL, UNAVAILABLE] },
    Route { endpoint: Endpoint::Lineage, methods: Methods::Get, path: "/v1/lineage/{id}", summary: "Where a summary's outcome comes from: record, policy, parameters, leaf",
        body: None, parameters: &[PCS_ID, TENANT], security: "",
        answers: &[answer(200, JSON, "Lineage", "The record, the policy version and hashes, the outcome and the leaf."), BAD_ID, MISSING, INTERNAL, UNAVAILABLE] },
    Route { endpoint: Endpoint::Receipt, methods: Methods::Get, path: "/v1/receipts/{id}", summary: "Proof that the summary stands in the log: a C2SP tlog-proof or, by Accept, an RFC 9942 COSE receipt",
        body: None, parameters: &[PCS_ID, TENANT], security: "",
        answers: &[answer(200, TEXT, "", "Leaf index, inclusion proof and signed root; checked without trusting this server."), answer(200, COSE, "", ""), BAD_ID, MISSING,
            answer(406, PROBLEM, "Problem", "The header Accept takes neither form."), INTERNAL,
            answer(503, PROBLEM, "Problem", "No checkpoint covers the record yet; see Retry-After.")] },
    Route { endpoint: Endpoint::Checkpoint, methods: Methods::Get, path: "/tlog/{region}/checkpoint", summary: "The newest signed checkpoint (C2SP tlog-checkpoint)",
        body: None, parameters: &[REGION, parameter("witnessed", "query", "", "The one that has most cosignatures of the configured witnesses, instead of the newest.")], security: "",
        answers: &[answer(200, TEXT, "", "The signed note, with the lines of the witnesses that cosigned it."), NO_FILE] },
    Route { endpoint: Endpoint::Anchors, methods: Methods::Get, path: "/v1/anchors", summary: "Witnesses and other targets: how far each is, and what was given up",
        body: None, parameters: &[], security: "adminToken",
        answers: &[answer(200, JSON, "", "A row for each target, as the leader sees it."), answer(401, PROBLEM, "Problem", "The administrator's bearer token is needed."), UNAVAILABLE] },
    Route { endpoint: Endpoint::AnchorsChange, methods: Methods::Post, path: "/v1/anchors/change", summary: "Dead letters: retry, drop",
        body: Some((JSON, "")), parameters: &[], security: "adminToken",
        answers: &[answer(200, JSON, "", "How many there were, and the targets afterwards."), answer(400, PROBLEM, "Problem", "Not a change."), answer(401, PROBLEM, "Problem", "The administrator's bearer token is needed."),
            TIMEOUT, LARGE, UNAVAILABLE] },
    Route { endpoint: Endpoint::WitnessAdd, methods: Methods::Post, path: "/witness/add-checkpoint", summary: "As a witness of other logs: cosign a checkpoint that continues the last one (C2SP tlog-witness)",
        body: Some((TEXT, "")), parameters: &[], security: "",
        answers: &[answer(200, TEXT, "", "The cosignature's line."), answer(400, PROBLEM, "Problem", "Not a request of that protocol."), answer(403, PROBLEM, "Problem", "None of the signatures is of the log."),
            answer(404, PROBLEM, "Problem", "This node is no witness, or not of that log."), TIMEOUT, answer(409, "text/x.tlog.size", "", "The size that stands for that log."), LARGE,
            answer(422, PROBLEM, "Problem", "The checkpoint does not continue what was cosigned before."), UNAVAILABLE] },
    Route { endpoint: Endpoint::WitnessKey, methods: Methods::Get, path: "/witness/vkey", summary: "The key that this node cosigns other logs with (C2SP verifier key, cosignature/v1)",
        body: None, parameters: &[], security: "", answers: &[answer(200, TEXT, "", "name+keyid+key."), answer(404, PROBLEM, "Problem", "This node is no witness.")] },
    Route { endpoint: Endpoint::Entries, methods: Methods::Get, path: "/tlog/{region}/tile/entries/{tile*}", summary: "Entry bundle: the leaves of one tile (C2SP tlog-tiles)",
        body: None, parameters: &[REGION, parameter("tile", "path", "", "N or N.p/W, with N in groups of three digits: x001/x234/067.")], security: "auditToken",
        answers: &[answer(200, OCTETS, "", "Leaves, each with its length as a big-endian u16."), answer(401, PROBLEM, "Problem", "A bearer token is needed."), NO_FILE, INTERNAL] },
    Route { endpoint: Endpoint::Tile, methods: Methods::Get, path: "/tlog/{region}/tile/{tile*}", summary: "Hash tile (C2SP tlog-tiles)",
        body: None, parameters: &[REGION, parameter("tile", "path", "", "L/N or L/N.p/W, with N in groups of three digits: x001/x234/067.")], security: "",
        answers: &[answer(200, OCTETS, "", "Up to 256 SHA-256 hashes."), NO_FILE, INTERNAL] },
    Route { endpoint: Endpoint::Stamps, methods: Methods::Get, path: "/tlog/{region}/anchors", summary: "Names of the checkpoints that others attested, and of what they said of them",
        body: None, parameters: &[REGION], security: "", answers: &[answer(200, TEXT, "", "A name a line: SIZE.checkpoint, SIZE.NAME.tsr (RFC 3161), SIZE.NAME.ots."), NO_FILE, INTERNAL] },
    Route { endpoint: Endpoint::Stamp, methods: Methods::Get, path: "/tlog/{region}/anchors/{name}", summary: "One of them, byte for byte",
        body: None, parameters: &[REGION, parameter("name", "path", "", "A name of the list.")], security: "", answers: &[answer(200, OCTETS, "", "The file."), NO_FILE, INTERNAL] },
    Route { endpoint: Endpoint::VerifierKey, methods: Methods::Get, path: "/tlog/{region}/vkey", summary: "The log's public keys (C2SP verifier keys)",
        body: None, parameters: &[REGION], security: "", answers: &[answer(200, TEXT, "", "name+keyid+key, a line each: Ed25519, then ML-DSA-44; while an old and a new key sign, those of the old one first."), NO_FILE] },
    Route { endpoint: Endpoint::Statement, methods: Methods::Get, path: "/tlog/{region}/keys/{name}", summary: "Why a set of the log's keys is believed: its entry under a checkpoint that the set before has signed, too (C2SP tlog-proof)",
        body: None, parameters: &[REGION, parameter("name", "path", "", "N.tlog-proof; the set a log begins with is number 1 and has none.")], security: "", answers: &[answer(200, TEXT, "", "The receipt, with the entry in extra."), NO_FILE, INTERNAL] },
    Route { endpoint: Endpoint::LogKeys, methods: Methods::Get, path: "/v1/log-keys", summary: "The log's own keys: which sign, since when, and until when",
        body: None, parameters: &[], security: "adminToken",
        answers: &[answer(200, JSON, "", "A row for each set, as the leader sees it."), answer(401, PROBLEM, "Problem", "The administrator's bearer token is needed."), UNAVAILABLE] },
    Route { endpoint: Endpoint::LogKeysChange, methods: Methods::Post, path: "/v1/log-keys/change", summary: "The log goes over to a new key, which the server draws; for a while both sign",
        body: Some((JSON, "")), parameters: &[], security: "adminToken",
        answers: &[answer(200, JSON, "", "The sets afterwards."), answer(400, PROBLEM, "Problem", "Not a change."), answer(401, PROBLEM, "Problem", "The administrator's bearer token is needed."), TIMEOUT, answer(409, PROBLEM, "Problem", "The last change is not whole yet."), LARGE, INTERNAL, UNAVAILABLE] },
    Route { endpoint: Endpoint::Cases, methods: Methods::Get, path: "/v1/reconcile", summary: "Where regions differ: what is proposed, how safe that is, and what was decided",
        body: None, parameters: &[], security: "adminToken",
        answers: &[answer(200, JSON, "", "A row for each case, of this region's log and of the others' as far as they are here."), answer(401, PROBLEM, "Problem", "The administrator's bearer token is needed."), UNAVAILABLE] },
    Route { endpoint: Endpoint::CasesChange, methods: Methods::Post, path: "/v1/reconcile/change", summary: "Approve or refuse what is proposed, with a reason",
        body: Some((JSON, "")), parameters: &[], security: "adminToken",
        answers: &[answer(200, JSON, "", "The case afterwards."), answer(400, PROBLEM, "Problem", "Not a decision, or one without a reason."), answer(401, PROBLEM, "Problem", "The administrator's bearer token is needed."), answer(404, PROBLEM, "Problem", "There is no such case."), TIMEOUT, answer(409, PROBLEM, "Problem", "It is decided already, or stands in another region's log."), LARGE, UNAVAILABLE] },
    Route { endpoint: Endpoint::Case, methods: Methods::Get, path: "/v1/reconcile/{case}", summary: "One case; of a conflict with what both sides hold",
        body: None, parameters: &[parameter("case", "path", "^[0-9a-f]{16}$", "The case's name.")], security: "adminToken",
        answers: &[answer(200, JSON, "", "The case."), answer(400, PROBLEM, "Problem", "Not the name of a case."), answer(401, PROBLEM, "Problem", "The administrator's bearer token is needed."), answer(404, PROBLEM, "Problem", "There is no such case."), UNAVAILABLE] },
    Route { endpoint: Endpoint::Cluster, methods: Methods::Get, path: "/v1/cluster", summary: "The group: who leads, who is in it, how far each node is",
        body: None, parameters: &[], security: "adminToken",
        answers: &[answer(200, JSON, "", "The node that was asked, and the group as its leader sees it."), answer(401, PROBLEM, "Problem", "The administrator's bearer token is needed."), UNAVAILABLE] },
    Route { endpoint: Endpoint::ClusterChange, methods: Methods::Post, path: "/v1/cluster/change", summary: "Change the group: add, promote, remove, transfer",
        body: Some((JSON, "")), parameters: &[], security: "adminToken",
        answers: &[answer(200, JSON, "", "The group after the change."), answer(400, PROBLEM, "Problem", "Not a change, or the new node cannot be reached."), answer(401, PROBLEM, "Problem", "The administrator's bearer token is needed."), answer(404, PROBLEM, "Problem", "No such node."), TIMEOUT, answer(409, PROBLEM, "Problem", "Not possible as things stand."), LARGE, INTERNAL, UNAVAILABLE] },
    Route { endpoint: Endpoint::ClusterDrain, methods: Methods::Post, path: "/v1/cluster/drain", summary: "This node hands over the lead and does not take it again until it is restarted",
        body: None, parameters: &[], security: "adminToken",
        answers: &[answer(200, JSON, "", "The node afterwards."), answer(401, PROBLEM, "Problem", "The administrator's bearer token is needed."), answer(404, PROBLEM, "Problem", "There is nobody to hand over to."), answer(409, PROBLEM, "Problem", "Nobody took over."), UNAVAILABLE] },
    Route { endpoint: Endpoint::ClusterCompare, methods: Methods::Get, path: "/v1/cluster/compare", summary: "What this node can be compared by: its state, digests over ranges of its log and of its leaves, one record or leaf",
        body: None, parameters: &[parameter("of", "query", "^(records|leaves|shipped|rows)$", "What is compared, with from and to: this log's records or leaves; records of log as they are shipped; first rows of all regions, by the first four bytes of their keys, as far as cut says."), parameter("log", "query", "^[A-Za-z0-9._-]{1,64}$", "The region whose log it is, with of=shipped."), parameter("cut", "query", "", "REGION:RECORD, comma separated, with of=rows: rows from before that record of each region count."), parameter("from", "query", "^[0-9]{1,19}$", "The first place: records begin at 1, the others at 0."),
            parameter("to", "query", "^[0-9]{1,19}$", "One more than the last place. A range of one is shown, without bodies."), parameter("parts", "query", "^[0-9]{1,3}$", "Digests in the answer, 1 to 256.")], security: "adminToken",
        answers: &[answer(200, JSON, "", "The node's state and the digests."), answer(400, PROBLEM, "Problem", "Parameters that make no range."), answer(401, PROBLEM, "Problem", "The administrator's bearer token is needed."), answer(404, PROBLEM, "Problem", "The node does not reach that far."), answer(409, PROBLEM, "Problem", "Another comparison is under way."), INTERNAL] },
    Route { endpoint: Endpoint::ClusterCheckup, methods: Methods::Get, path: "/v1/cluster/checkup", summary: "Every node of the group as it sees itself: log, disk, clock, certificate, checks",
        body: None, parameters: &[], security: "adminToken",
        answers: &[answer(200, JSON, "", "One document for each node, or why it was not reached."), answer(401, PROBLEM, "Problem", "The administrator's bearer token is needed.")] },
    Route { endpoint: Endpoint::Routing, methods: Methods::Get, path: "/v1/routing", summary: "How much of the world's traffic this region should get, for a global load balancer",
        body: None, parameters: &[], security: "", answers: &[answer(200, JSON, "", "weight is 0 when the region takes nothing, 100 when all is well, 10 when it takes submissions and does not know what other regions took; why says it.")] },
    Route { endpoint: Endpoint::Health, methods: Methods::Any, path: "/health", summary: "Is the process there",
        body: None, parameters: &[], security: "", answers: &[answer(200, TEXT, "", "Exactly OK.")] },
    Route { endpoint: Endpoint::Livez, methods: Methods::Get, path: "/livez", summary: "Is the process alive",
        body: None, parameters: &[], security: "", answers: &[answer(200, TEXT, "", "ok")] },
    Route { endpoint: Endpoint::Readyz, methods: Methods::Get, path: "/readyz", summary: "Can the node take submissions",
        body: None, parameters: &[parameter("verbose", "query", "", "Lists every check.")], security: "",
        answers: &[answer(200, TEXT, "", "ok, or one line for each check with ?verbose."), answer(503, TEXT, "", "The checks that fail.")] },
    Route { endpoint: Endpoint::Metrics, methods: Methods::Any, path: "/metrics", summary: "Prometheus metrics, text format 0.0.4",
        body: None, parameters: &[parameter("names", "query", "", "canonical: without the original's names, which linters dislike.")], security: "metricsBasic",
        answers: &[answer(200, "text/plain; version=0.0.4; charset=utf-8", "", "All series."), answer(401, PROBLEM, "Problem", "Basic auth is configured.")] },
    Route { endpoint: Endpoint::OpenApi, methods: Methods::Get, path: "/openapi.json", summary: "This document",
        body: None, parameters: &[], security: "", answers: &[answer(200, JSON, "", "OpenAPI 3.1.")] },
    Route { endpoint: Endpoint::Verify, methods: Methods::Get, path: "/verify", summary: "A page that checks receipts in the browser, without asking this server",
        body: None, parameters: &[], security: "", answers: &[answer(200, HTML, "", "One file that loads nothing; keep a copy.")] },
    Route { endpoint: Endpoint::Problems, methods: Methods::Get, path: "/problems", summary: "All kinds of problems",
        body: None, parameters: &[], security: "", answers: &[answer(200, HTML, "", "A list.")] },
    Route { endpoint: Endpoint::Problem, methods: Methods::Get, path: "/problems/{slug}", summary: "One kind of problem",
        body: None, parameters: &[parameter("slug", "path", "^[a-z-]+$", "Last part of a problem's type.")], security: "",
        answers: &[answer(200, HTML, "", "Its page."), answer(404, PROBLEM, "Problem", "No such kind.")] },
];

/// A path that matched, with its parameters in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Matched<'a> {
    /// Row in [`ROUTES`].
    pub row: usize,
    /// Values of the parameters, in the order of the path.
    pub values: Vec<&'a str>,
}

/// Finds the row of a path. Rows are tried in order, so the more particular stands first.
pub fn find(path: &str) -> Option<Matched<'_>> {
    ROUTES.iter().enumerate().find_map(|(row, route)| {
        let values = capture(route.path, path)?;
        Some(Matched { row, values })
    })
}

fn capture<'a>(pattern: &str, path: &'a str) -> Option<Vec<&'a str>> {
    let mut values = Vec::new();
    let mut rest = path.strip_prefix('/')?;
    let mut parts = pattern.strip_prefix('/')?.split('/').peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        if part.ends_with("*}") {
            return (!rest.is_empty()).then(|| {
                values.push(rest);
                values
            });
        }
        let (segment, after) = match rest.split_once('/') {
            Some((segment, after)) => (segment, Some(after)),
            None => (rest, None),
        };
        if part.starts_with('{') {
            if segment.is_empty() {
                return None;
            }
            values.push(segment);
        } else if part != segment {
            return None;
        }
        match (after, last) {
            (None, true) => return Some(values),
            (Some(after), false) => rest = after,
            _ => return None,
        }
    }
    None
}

impl Methods {
    /// Whether a method is answered.
    pub fn allow(self, method: &hyper::Method) -> bool {
        match self {
            Methods::Post => method == hyper::Method::POST,
            Methods::Get => method == hyper::Method::GET || method == hyper::Method::HEAD,
            // Any that a client in the field may have used; not TRACE, CONNECT or what nobody has heard of.
            Methods::Any => self.names().any(|name| name == method.as_str()),
        }
    }

    /// The methods that are answered, OPTIONS last.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        self.list().split(", ")
    }

    /// Value of the header Allow.
    pub fn list(self) -> &'static str {
        match self {
            Methods::Post => "POST, OPTIONS",
            Methods::Get => "GET, HEAD, OPTIONS",
            Methods::Any => "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_where_the_table_says() {
        type Row = (&'static str, Option<(Endpoint, &'static [&'static str])>);
        let table: &[Row] = &[
            ("/v1/pcs/submit", Some((Endpoint::Submit, &[]))),
            ("/v1/pcs/submit/", None),
            ("/v1/pcs/batch", Some((Endpoint::Batch, &[]))),
            ("/v1/pcs/abc", Some((Endpoint::Summary, &["abc"]))),
            ("/v1/pcs/", None),
            ("/v1/pcs", None),
            ("/v1/receipts/a/b", None),
            ("/tlog/eu/checkpoint", Some((Endpoint::Checkpoint, &["eu"]))),
            ("/tlog/eu/vkey", Some((Endpoint::VerifierKey, &["eu"]))),
            ("/tlog/eu/keys/2.tlog-proof", Some((Endpoint::Statement, &["eu", "2.tlog-proof"]))),
            ("/tlog/eu/anchors", Some((Endpoint::Stamps, &["eu"]))),
            ("/tlog/eu/anchors/7.checkpoint", Some((Endpoint::Stamp, &["eu", "7.checkpoint"]))),
            ("/tlog/eu/tile/0/000", Some((Endpoint::Tile, &["eu", "0/000"]))),
            ("/tlog/eu/tile/0/x001/234.p/17", Some((Endpoint::Tile, &["eu", "0/x001/234.p/17"]))),
            ("/tlog/eu/tile/entries/000", Some((Endpoint::Entries, &["eu", "000"]))),
            ("/tlog/eu/tile/", None),
            ("/health", Some((Endpoint::Health, &[]))),
            ("/health/", None),
            ("/problems", Some((Endpoint::Problems, &[]))),
            ("/verify", Some((Endpoint::Verify, &[]))),
            ("/problems/not-found", Some((Endpoint::Problem, &["not-found"]))),
            ("/", None),
            ("", None),
            ("*", None),
        ];
        for (path, want) in table {
            let got = find(path);
            match want {
                None => assert_eq!(got, None, "{path}"),
                Some((endpoint, values)) => {
                    let got = got.unwrap_or_else(|| panic!("{path}"));
                    assert_eq!((ROUTES[got.row].endpoint, &got.values[..]), (*endpoint, *values), "{path}");
                }
            }
        }
    }

    #[test]
    fn the_first_row_is_submit() {
        // Dispatch compares with it before it looks at the table.
        assert_eq!((ROUTES[0].endpoint, ROUTES[0].methods), (Endpoint::Submit, Methods::Post));
    }

    #[test]
    fn every_path_parameter_is_described() {
        for route in ROUTES {
            for part in route.path.split('/').filter(|part| part.starts_with('{')) {
                let name = part.trim_matches(|c| "{}*".contains(c));
                assert!(
                    route.parameters.iter().any(|p| p.name == name && p.place == "path"),
                    "{}",
                    route.path
                );
            }
        }
    }
}
