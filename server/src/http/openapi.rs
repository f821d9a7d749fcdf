//! The OpenAPI 3.1 document, made from the table of routes and the table of refusals.

use super::refusal::KINDS;
use super::routes::{Endpoint, ROUTES, Route};
use serde_json::map::Entry;
use serde_json::{Map, Value, json};

/// The document as JSON.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = route.path.replace("*}", "}");
        let mut item = Map::new();
        for method in route.methods.names() {
            item.insert(method.to_ascii_lowercase(), operation(route, method));
        }
        paths.insert(path, Value::Object(item));
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "FLK",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Durable, deduplicated, verifiable log of proof-of-computation summaries",
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas(),
            "securitySchemes": {
                "auditToken": { "type": "http", "scheme": "bearer", "description": "The token of the setting audit.token." },
                "adminToken": { "type": "http", "scheme": "bearer", "description": "The token of the setting admin.token." },
                "metricsBasic": { "type": "http", "scheme": "basic", "description": "When metrics.user is set." },
            },
        },
    })
}

fn operation(route: &Route, method: &str) -> Value {
    if method == "OPTIONS" {
        return preflight(route);
    }
    let mut responses = Map::new();
    for answer in route.answers {
        let schema = match answer.schema {
            "" if matches!(answer.media, "application/octet-stream" | "application/cose") => json!({}),
            "" if answer.media == "application/json" => json!({ "type": "object" }),
            "" => json!({ "type": "string" }),
            name => json!({ "$ref": format!("#/components/schemas/{name}") }),
        };
        let mut response = json!({
            "description": answer.text,
            "content": { answer.media: { "schema": schema } },
        });
        if let Some(headers) = headers(route.endpoint, answer.status) {
            response["headers"] = headers;
        }
        match responses.entry(answer.status.to_string()) {
            Entry::Vacant(entry) => drop(entry.insert(response)),
            // The same answer in another form.
            Entry::Occupied(mut entry) => {
                entry.get_mut()["content"][answer.media] = json!({ "schema": schema })
            }
        }
    }
    // Strict framing and the method check stand before every route.
    for (status, text) in [
        (400, "Ambiguous framing or a malformed request."),
        (404, "No such path."),
        (405, "Another method is needed; see Allow."),
    ] {
        responses.entry(status.to_string()).or_insert_with(|| problem(text));
    }
    let mut operation = json!({
        "operationId": operation_id(route.endpoint, method),
        "summary": route.summary,
        "responses": responses,
    });
    if method == "HEAD" {
        // The answer to GET without its body.
        for (_, response) in operation["responses"].as_object_mut().into_iter().flatten() {
            response.as_object_mut().map(|response| response.remove("content"));
        }
    }
    describe_parameters(&mut operation, route, |_| true);
    if let Some((media, schema)) = route.body {
        let schema = match schema {
            "" if media == "application/x-ndjson" => {
                json!({ "type": "string", "description": "One summary a line." })
            }
            "" if media.starts_with("text/") => json!({ "type": "string" }),
            "" => json!({ "type": "object" }),
            name => json!({ "$ref": format!("#/components/schemas/{name}") }),
        };
        operation["requestBody"] = json!({ "required": true, "content": { media: { "schema": schema } } });
    }
    if !route.security.is_empty() {
        // Metrics are open unless credentials are configured.
        operation["security"] = match route.security {
            "metricsBasic" => json!([{}, { "metricsBasic": [] }]),
            scheme => json!([{ scheme: [] }]),
        };
    }
    operation
}

/// What browsers ask before they send a request.
fn preflight(route: &Route) -> Value {
    let headers = |names: &[&str]| -> Value {
        names.iter().map(|name| (*name, json!({ "schema": { "type": "string" } }))).collect()
    };
    let mut operation = json!({
        "operationId": operation_id(route.endpoint, "OPTIONS"),
        "summary": "Which methods and headers are taken",
        "responses": {
            "204": {
                "description": "No body.",
                "headers": headers(&[
                    "Allow", "Access-Control-Allow-Methods", "Access-Control-Allow-Headers", "Access-Control-Allow-Origin",
                ]),
            },
            "400": problem("Ambiguous framing or a malformed request."),
            "404": problem("No such path."),
        },
    });
    describe_parameters(&mut operation, route, |place| place == "path");
    operation
}

/// Those of a route's parameters that stand in a place the operation takes.
fn describe_parameters(operation: &mut Value, route: &Route, taken: impl Fn(&str) -> bool) {
    let parameters: Vec<Value> = route
        .parameters
        .iter()
        .filter(|p| taken(p.place))
        .map(|p| {
            let mut schema = json!({ "type": "string" });
            if !p.pattern.is_empty() {
                schema["pattern"] = json!(p.pattern);
            }
            json!({ "name": p.name, "in": p.place, "required": p.place == "path", "description": p.text, "schema": schema })
        })
        .collect();
    if !parameters.is_empty() {
        operation["parameters"] = Value::Array(parameters);
    }
}

fn problem(text: &str) -> Value {
    json!({
        "description": text,
        "content": { "application/problem+json": { "schema": { "$ref": "#/components/schemas/Problem" } } },
    })
}

fn headers(endpoint: Endpoint, status: u16) -> Option<Value> {
    let text = |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    match (endpoint, status) {
        (Endpoint::Submit, 200 | 202) => Some(json!({
            "Idempotent-Replayed": text("true for a duplicate, conflict for the same id with different content."),
            "Preference-Applied": text("receipt, when the answer carries one."),
            "RateLimit": text("What is left, when the tenant has limits."),
            "RateLimit-Policy": text("The limits, when the tenant has any."),
        })),
        (_, 429) | (_, 503) => Some(json!({ "Retry-After": text("Seconds.") })),
        (_, 401) => Some(json!({ "WWW-Authenticate": text("Which credentials are taken.") })),
        _ => None,
    }
}

/// The endpoint's name; the plain one belongs to the method that clients are meant to use.
fn operation_id(endpoint: Endpoint, method: &str) -> String {
    let name = format!("{endpoint:?}");
    let name = name[..1].to_ascii_lowercase() + &name[1..];
    let main = if matches!(endpoint, Endpoint::Submit | Endpoint::Batch) { "POST" } else { "GET" };
    if method == main {
        name
    } else {
        format!("{name}{}", method[..1].to_owned() + &method[1..].to_ascii_lowercase())
    }
}

fn schemas() -> Value {
    let number = || json!({ "type": "number" });
    let text = || json!({ "type": "string" });
    let integer = || json!({ "type": "integer" });
    json!({
        "Summary": {
            "type": "object",
            "description": "Keys are compared without regard to case; unknown keys are ignored; a key that stands twice is refused. The signature covers pcs_id, merkle_root, epoch, shard_id, D_hat, coh_star, r and budget.",
            "required": ["pcs_id", "schema", "version", "shard_id", "epoch", "scales", "N_j", "coh_star", "D_hat", "r", "regime", "budget", "merkle_root", "sig"],
            "properties": {
                "pcs_id": { "type": "string", "pattern": "^[0-9a-f]{64}$" },
                "schema": { "const": "fractal-lba-kakeya" },
                "version": text(),
                "shard_id": text(),
                "epoch": { "type": "integer", "minimum": 0 },
                "attempt": integer(),
                "sent_at": { "type": "string", "format": "date-time" },
                "seed": integer(),
                "scales": { "type": "array", "items": integer(), "minItems": 1, "maxItems": engine::limits::SCALES_MAX },
                "N_j": { "type": "object", "additionalProperties": integer() },
                "coh_star": number(), "v_star": { "type": "array", "items": number() },
                "D_hat": number(), "r": number(),
                "regime": { "enum": ["sticky", "mixed", "non_sticky"] },
                "budget": number(),
                "merkle_root": text(),
                "sig": { "type": "string", "description": "Standard base64." },
                "ft": { "type": "object" },
            },
        },
        "Answer": {
            "type": "object",
            "required": ["accepted", "escalated"],
            "properties": {
                "accepted": { "type": "boolean" }, "escalated": { "type": "boolean" },
                "recomputed_D_hat": number(), "recomputed_budget": number(), "reason": text(),
                "pcs_id": text(), "D_hat": number(), "regime": text(), "budget": number(),
                "seq": { "type": "integer", "description": "Index of the leaf in the audit log." },
                "lsn": { "type": "integer", "description": "Position of the record in the log." },
                "policy_version": text(), "receipt": { "type": "string", "format": "uri-reference" },
                "tlog_proof": { "type": "string", "description": "When asked for: the receipt, a C2SP tlog-proof." },
                "tlog_proof_missing": { "type": "string", "description": "When asked for and not to be had now: why. The address in receipt has it later." },
            },
        },
        "BatchLine": {
            "type": "object",
            "required": ["status"],
            "properties": {
                "status": integer(),
                "replayed": { "enum": ["true", "conflict"] },
                "answer": { "$ref": "#/components/schemas/Answer" },
                "problem": { "$ref": "#/components/schemas/Problem" },
            },
        },
        "Lineage": {
            "type": "object",
            "required": ["pcs_id", "tenant", "lsn", "seq"],
            "properties": {
                "pcs_id": text(), "tenant": text(), "lsn": integer(), "nth": integer(), "seq": integer(),
                "received_at_ms": integer(), "policy_version": text(), "policy_hash": text(), "params_hash": text(),
                "leaf": { "type": "object" }, "answer": { "$ref": "#/components/schemas/Answer" },
                "receipt": { "type": "string", "format": "uri-reference" },
            },
        },
        "Problem": {
            "type": "object",
            "description": "RFC 9457, with the original's text in error.",
            "required": ["type", "title", "status", "error"],
            "properties": {
                "type": { "type": "string", "format": "uri-reference", "examples": KINDS.iter().map(|kind| format!("/problems/{}", kind.slug)).collect::<Vec<_>>() },
                "title": text(), "status": integer(), "detail": text(), "error": text(),
                "fields": { "type": "array", "items": text() },
                "violated-policies": { "type": "array", "items": text() },
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_and_every_schema_it_names_is_there() {
        let document = document();
        for route in ROUTES {
            let item = &document["paths"][route.path.replace("*}", "}")];
            let methods: Vec<&str> = route.methods.names().collect();
            assert_eq!(
                item.as_object().unwrap().len(),
                methods.len(),
                "{}: exactly what Allow says",
                route.path
            );
            for method in methods {
                assert!(item.get(method.to_ascii_lowercase()).is_some(), "{method} {}", route.path);
            }
            let operation = item.get("get").or(item.get("post")).unwrap();
            assert!(operation["responses"].as_object().unwrap().len() >= 3, "{}", route.path);
        }
        let text = document.to_string();
        for (at, _) in text.match_indices("#/components/schemas/") {
            let name: String = text[at + 21..].chars().take_while(|c| c.is_ascii_alphanumeric()).collect();
            assert!(document["components"]["schemas"].get(&name).is_some(), "{name}");
        }
    }
}
