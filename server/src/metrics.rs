//! Every metric name and label, once.
//!
//! Canonical names follow Prometheus' conventions. The original's names stand beside them, read from the same
//! counters: they lack `_total`, so they are exposed as `untyped`, which dashboards and `promtool check metrics`
//! both accept. The reasoning is in `docs/decisions/metrics-names.md`.
//!
//! L1: the tenant label is bounded. The first `metrics.tenants` tenants have a value of their own, later ones
//! share `other`.

mod page;

use crate::clock::{Clock, SystemClock};
use engine::summary::SignatureForm;
use page::{group_section, info, log_section, process_section};
use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry, TextEncoder,
};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Seconds: from a loopback answer to a stuck disk.
const SECONDS: &[f64] = &[
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0,
];
/// Events in one record.
const SIZES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0];

/// All counters of one process.
#[allow(missing_docs)]
pub struct Metrics {
    registry: Registry,
    pub ingest: IntCounter,
    pub accepted: IntCounter,
    pub escalated: IntCounter,
    pub dedup_replays: IntCounter,
    pub dedup_conflicts: IntCounter,
    pub signature_errors: IntCounter,
    pub invalid: IntCounter,
    pub log_errors: IntCounter,
    forms: Vec<IntCounter>,
    pub http_requests: IntCounterVec,
    pub http_codes: [IntCounter; 3],
    pub http_seconds: Histogram,
    pub http_connections: IntGauge,
    pub queue_bytes: IntGauge,
    pub batch_events: Histogram,
    pub commit_seconds: Histogram,
    pub verify_seconds: Histogram,
    pub verify_again: IntCounter,
    pub answers_reread: IntCounter,
    pub receipts: IntCounter,
    pub receipts_missing: IntCounter,
    pub tree_size: IntGauge,
    pub checkpoint_size: IntGauge,
    pub checkpoint_time: IntGauge,
    pub log_key_set: IntGauge,
    pub log_key_both_until: IntGauge,
    pub log_key_unusable: IntGauge,
    pub worm_entries: IntCounter,
    pub worm_bytes: IntCounter,
    pub worm_files: IntCounter,
    pub projection_errors: IntCounter,
    pub projections_paused: IntGauge,
    pub snapshot_lsn: IntGauge,
    pub scrub_bytes: IntCounter,
    pub scrub_passes: IntCounter,
    pub scrub_damage: IntGauge,
    pub attested_agreed: IntCounter,
    pub attested_lsn: IntGauge,
    pub divergence_lsn: IntGauge,
    pub disk_slow: IntGauge,
    pub disk_hand_overs: IntCounterVec,
    pub certificates_refused: IntGauge,
    pub certificate_ends: IntGauge,
    pub clock_ahead: IntGauge,
    pub peers_refused: IntCounterVec,
    pub forwarded: IntCounter,
    pub seed_bytes: IntCounter,
    pub seed_lsn: IntGauge,
    pub seed_refused: IntCounter,
    pub files_sent_bytes: IntCounter,
    tenant_ingest: IntCounterVec,
    tenant_dedup: IntCounterVec,
    tenant_accepted: IntCounterVec,
    tenant_escalated: IntCounterVec,
    tenant_signature: IntCounterVec,
    tenant_quota: IntCounterVec,
    tenants_named: AtomicUsize,
    tenants_max: usize,
    multi_tenant: bool,
    started: f64,
}

/// The counters of one tenant.
#[derive(Clone)]
#[allow(missing_docs)]
pub struct TenantMetrics {
    pub ingest: IntCounter,
    pub dedup: IntCounter,
    pub accepted: IntCounter,
    pub escalated: IntCounter,
    pub signature_errors: IntCounter,
    pub quota_exceeded: IntCounter,
}

/// What is read from elsewhere at the moment of a scrape.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Sampled {
    pub connections: usize,
    pub queue_bytes: usize,
    pub log: Option<raft::Metrics>,
    pub full: bool,
    pub members: Vec<raft::MemberStanding>,
}

impl Metrics {
    /// Registers everything. `tenants_max` bounds the tenant label.
    pub fn new(tenants_max: usize, multi_tenant: bool) -> Metrics {
        let registry = Registry::new();
        let counter = |name: &str, help: &str| -> IntCounter {
            let metric = IntCounter::new(name, help).expect("the name is a valid metric name");
            add(&registry, metric)
        };
        let gauge = |name: &str, help: &str| -> IntGauge {
            let metric = IntGauge::new(name, help).expect("the name is a valid metric name");
            add(&registry, metric)
        };
        let vector = |name: &str, help: &str, label: &str| -> IntCounterVec {
            let metric = IntCounterVec::new(Opts::new(name, help), &[label]).expect("the name is valid");
            add(&registry, metric)
        };
        let histogram = |name: &str, help: &str, buckets: &[f64]| -> Histogram {
            let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
            add(&registry, Histogram::with_opts(options).expect("the name and buckets are valid"))
        };
        let by_form =
            vector("flk_signature_form_total", "Good signatures, by the form that matched.", "form");
        let forms = SignatureForm::ALL.iter().map(|form| by_form.with_label_values(&[form.name()])).collect();
        let http_requests = vector("http_requests_total", "HTTP requests answered, by status code.", "code");
        let http_codes =
            [200, 202, 503].map(|code: u16| http_requests.with_label_values(&[&code.to_string()]));
        let metrics = Metrics {
            ingest: counter("flk_ingest_total", "Submissions admitted: known tenant, within its limits."),
            accepted: counter("flk_accepted_total", "First submissions answered 200."),
            escalated: counter("flk_escalated_total", "First submissions answered 202."),
            dedup_replays: counter("flk_dedup_replays_total", "Duplicates with the same content."),
            dedup_conflicts: counter(
                "flk_dedup_conflicts_total",
                "Submissions of a known id with other content.",
            ),
            signature_errors: counter(
                "flk_signature_errors_total",
                "Submissions refused for their signature.",
            ),
            invalid: counter("flk_invalid_total", "Submissions refused because they are not a summary."),
            log_errors: counter("flk_log_errors_total", "Submissions the log could not take."),
            forms,
            http_requests,
            http_codes,
            http_seconds: histogram(
                "http_request_duration_seconds",
                "From the end of a request's head to its answer.",
                SECONDS,
            ),
            http_connections: gauge("flk_http_connections", "Open connections."),
            queue_bytes: gauge("flk_queue_bytes", "Bytes of submissions waiting for the log."),
            batch_events: histogram("flk_batch_events", "Events in one record of the log.", SIZES),
            commit_seconds: histogram(
                "flk_commit_seconds",
                "From proposing a record to having applied it.",
                SECONDS,
            ),
            verify_seconds: histogram(
                "flk_verify_seconds",
                "Judging one submission alone, mean of each chunk.",
                SECONDS,
            ),
            verify_again: counter(
                "flk_verify_again_total",
                "Submissions judged again because keys changed meanwhile.",
            ),
            answers_reread: counter(
                "flk_answers_reread_total",
                "First answers made again from the log for a duplicate.",
            ),
            receipts: counter("flk_receipts_total", "Receipts that went out within answers to submissions."),
            receipts_missing: counter(
                "flk_receipts_missing_total",
                "Answers to submissions that had to go out without the receipt they were asked for.",
            ),
            tree_size: gauge("flk_tree_leaves", "Leaves in the audit tree."),
            checkpoint_size: gauge("flk_checkpoint_leaves", "Leaves under the newest checkpoint."),
            checkpoint_time: gauge(
                "flk_checkpoint_timestamp_seconds",
                "When the newest checkpoint was signed.",
            ),
            log_key_set: gauge(
                "flk_log_key_set",
                "Number of the set of keys that signs checkpoints; a log begins with 1.",
            ),
            log_key_both_until: gauge(
                "flk_log_key_both_until_timestamp_seconds",
                "Until which log time the set before signs, too; 0 if it does not.",
            ),
            log_key_unusable: gauge(
                "flk_log_key_unusable",
                "1 while this node cannot open the seed of the set that signs.",
            ),
            worm_entries: counter("flk_worm_entries_total", "Leaves written to WORM files."),
            worm_bytes: counter("flk_worm_bytes_total", "Bytes written to WORM files."),
            worm_files: counter("flk_worm_files_total", "WORM files closed with their root."),
            projection_errors: counter(
                "flk_projection_errors_total",
                "Failed writes of files that can be rebuilt from the log.",
            ),
            projections_paused: gauge(
                "flk_projections_paused",
                "1 while files that can be rebuilt wait for room on the disk.",
            ),
            snapshot_lsn: gauge("flk_snapshot_lsn", "Position of the newest ledger snapshot."),
            scrub_bytes: counter(
                "flk_scrub_bytes_total",
                "Bytes of sealed segments read again by the scrubber.",
            ),
            scrub_passes: counter(
                "flk_scrub_passes_total",
                "Passes of the scrubber over all sealed segments.",
            ),
            scrub_damage: gauge("flk_scrub_damage", "Sealed segments that are damaged or missing."),
            attested_agreed: counter(
                "flk_attested_agreed_total",
                "Digests in the log that this node computed, too.",
            ),
            attested_lsn: gauge("flk_attested_lsn", "Newest record after which this node agreed."),
            divergence_lsn: gauge(
                "flk_divergence_lsn",
                "Record after which this node computed something else than the log attests; 0 while it agrees.",
            ),
            disk_slow: gauge(
                "flk_disk_slow",
                "1 while syncs of the log stay slow: such a node leads only if nobody else can.",
            ),
            disk_hand_overs: vector(
                "flk_disk_hand_overs_total",
                "Times this node handed over the lead because of its disk, which was slow, full or damaged.",
                "reason",
            ),
            certificates_refused: gauge(
                "flk_certificates_refused",
                "1 while newer certificate files cannot be used and the old ones stay in force.",
            ),
            clock_ahead: gauge(
                "flk_clock_ahead_seconds",
                "By how much this node's clock is ahead of its group's, where it is not believed for that; else 0.",
            ),
            certificate_ends: gauge(
                "flk_certificate_end_timestamp_seconds",
                "When this node's certificate ends; 0 without one.",
            ),
            peers_refused: vector(
                "flk_peers_refused_total",
                "Connections to the peers' port that were refused, by what was wrong.",
                "reason",
            ),
            forwarded: counter("flk_forwarded_total", "Requests passed on to the leader, each try counted."),
            seed_bytes: counter(
                "flk_seed_bytes_total",
                "Bytes of a member's segments that this process fetched.",
            ),
            seed_lsn: gauge("flk_seed_lsn", "Last position that came as files when this process joined."),
            seed_refused: counter("flk_seed_refused_total", "Members whose files did not hold."),
            files_sent_bytes: counter("flk_files_sent_bytes_total", "Bytes of segments sent to other nodes."),
            tenant_ingest: vector("flk_tenant_ingest_total", "Submissions admitted, by tenant.", "tenant"),
            tenant_dedup: vector("flk_tenant_dedup_total", "Duplicates and conflicts, by tenant.", "tenant"),
            tenant_accepted: vector(
                "flk_tenant_accepted_total",
                "First submissions answered 200, by tenant.",
                "tenant",
            ),
            tenant_escalated: vector(
                "flk_tenant_escalated_total",
                "First submissions answered 202, by tenant.",
                "tenant",
            ),
            tenant_signature: vector(
                "flk_tenant_signature_errors_total",
                "Refused for their signature, by tenant.",
                "tenant",
            ),
            tenant_quota: vector(
                "flk_tenant_quota_exceeded_total",
                "Refused for rate or quota, by tenant.",
                "tenant",
            ),
            tenants_named: AtomicUsize::new(0),
            tenants_max,
            multi_tenant,
            started: SystemClock::new().wall_ms() as f64 / 1000.0,
            registry: registry.clone(),
        };
        drop(registry);
        metrics
    }

    /// The counters of one tenant, under its own label or under `other`.
    pub fn tenant(&self, id: &str) -> TenantMetrics {
        let named = self.tenants_named.fetch_add(1, Ordering::Relaxed) < self.tenants_max;
        let label: &[&str] = if named { &[id] } else { &["other"] };
        TenantMetrics {
            ingest: self.tenant_ingest.with_label_values(label),
            dedup: self.tenant_dedup.with_label_values(label),
            accepted: self.tenant_accepted.with_label_values(label),
            escalated: self.tenant_escalated.with_label_values(label),
            signature_errors: self.tenant_signature.with_label_values(label),
            quota_exceeded: self.tenant_quota.with_label_values(label),
        }
    }

    /// The counter of one signature form.
    pub fn form(&self, form: SignatureForm) -> &IntCounter {
        let at = SignatureForm::ALL.iter().position(|one| *one == form).unwrap_or(0);
        &self.forms[at]
    }

    /// One HTTP answer.
    pub fn answered(&self, status: u16, seconds: f64) {
        match status {
            200 => self.http_codes[0].inc(),
            202 => self.http_codes[1].inc(),
            503 => self.http_codes[2].inc(),
            code => self.http_requests.with_label_values(&[&code.to_string()]).inc(),
        }
        self.http_seconds.observe(seconds);
    }

    /// The page of a scrape, text format 0.0.4. `originals` adds the original's names.
    pub fn page(&self, sampled: &Sampled, originals: bool) -> String {
        self.http_connections.set(i64::try_from(sampled.connections).unwrap_or(i64::MAX));
        self.queue_bytes.set(i64::try_from(sampled.queue_bytes).unwrap_or(i64::MAX));
        let mut bytes = Vec::with_capacity(16 << 10);
        // Encoding into memory cannot fail for metrics that were registered.
        let _ = TextEncoder::new().encode(&self.registry.gather(), &mut bytes);
        let mut out = String::from_utf8(bytes).unwrap_or_default();
        info(&mut out, "flk_build_info", "The build.", "version", env!("CARGO_PKG_VERSION"));
        if let Some(log) = &sampled.log {
            log_section(&mut out, log, sampled.full);
            group_section(&mut out, log, &sampled.members);
        }
        process_section(&mut out, self.started);
        if originals {
            self.original_section(&mut out);
        }
        out
    }

    fn original_section(&self, out: &mut String) {
        let rows: [(&str, &str, u64); 6] = [
            (
                "flk_dedup_hits",
                "Duplicates answered with the first answer.",
                self.dedup_replays.get() + self.dedup_conflicts.get(),
            ),
            ("flk_accepted", "Submissions answered 200, without duplicates.", self.accepted.get()),
            ("flk_escalated", "Submissions answered 202, without duplicates.", self.escalated.get()),
            ("flk_signature_errors", "Submissions refused for their signature.", self.signature_errors.get()),
            ("flk_wal_errors", "Submissions the log could not take.", self.log_errors.get()),
            ("flk_worm_writes", "Leaves written to WORM files.", self.worm_entries.get()),
        ];
        for (name, help, value) in rows {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} untyped\n{name} {value}");
        }
        if !self.multi_tenant {
            return;
        }
        let vectors: [(&str, &str, &IntCounterVec); 6] = [
            ("flk_ingest_total_by_tenant", "Submissions admitted, by tenant.", &self.tenant_ingest),
            ("flk_dedup_hits_by_tenant", "Duplicates, by tenant.", &self.tenant_dedup),
            ("flk_accepted_by_tenant", "Submissions answered 200, by tenant.", &self.tenant_accepted),
            ("flk_escalated_by_tenant", "Submissions answered 202, by tenant.", &self.tenant_escalated),
            (
                "flk_signature_errors_by_tenant",
                "Refused for their signature, by tenant.",
                &self.tenant_signature,
            ),
            ("flk_quota_exceeded_by_tenant", "Refused for rate or quota, by tenant.", &self.tenant_quota),
        ];
        for (name, help, vector) in vectors {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} untyped");
            for family in vector.collect() {
                for metric in family.get_metric() {
                    let tenant = metric.get_label().first().map(|label| label.value()).unwrap_or_default();
                    let value = metric.get_counter().get_value();
                    let _ = writeln!(out, "{name}{{tenant_id=\"{tenant}\"}} {value}");
                }
            }
        }
    }
}

fn add<T: Collector + Clone + 'static>(registry: &Registry, metric: T) -> T {
    registry.register(Box::new(metric.clone())).expect("each name is registered once");
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_names_are_all_there_and_count() {
        let metrics = Metrics::new(1, true);
        metrics.ingest.inc();
        metrics.dedup_replays.inc();
        metrics.dedup_conflicts.inc();
        metrics.tenant("a").accepted.inc();
        metrics.tenant("b").accepted.inc();
        metrics.tenant("c").accepted.inc();
        let page = metrics.page(&Sampled::default(), true);
        for line in [
            "flk_ingest_total 1",
            "flk_dedup_hits 2",
            "flk_accepted 0",
            "flk_escalated 0",
            "flk_signature_errors 0",
            "flk_wal_errors 0",
            "flk_accepted_by_tenant{tenant_id=\"a\"} 1",
            "flk_accepted_by_tenant{tenant_id=\"other\"} 2",
        ] {
            assert!(page.lines().any(|l| l == line), "{line} is missing in\n{page}");
        }
        for name in ["ingest_total", "dedup_hits", "escalated", "signature_errors", "quota_exceeded"] {
            assert!(page.contains(&format!("flk_{name}_by_tenant")), "{name}");
        }
        assert!(!metrics.page(&Sampled::default(), false).contains("untyped"));
    }
}
