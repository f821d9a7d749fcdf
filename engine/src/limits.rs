//! Every bound in the system, with its reason, and how the bounds relate.
//!
//! L1 bounded: no queue, loop or allocation without a limit from here (or from the server's settings).
//!
//! They are part of the format: all nodes of all regions and every auditor share them, and a stranger with
//! other limits is refused by [`fingerprint`]. What one process may tune lives in the server's settings.

/// Largest request body accepted, bytes. Clients in the field may send up to 1 MiB; real summaries stay
/// under 4 KiB.
pub const BODY_MAX: usize = 1 << 20;

/// Largest encoded event, bytes: a body of [`BODY_MAX`] and what stands around it (tag, tenant, time, salt,
/// lengths).
pub const EVENT_MAX: usize = BODY_MAX + 4096;

/// Most events in one record. A batch this large already amortises a sync below a microsecond an event.
pub const RECORD_EVENTS_MAX: usize = 4096;

/// Largest encoded record, bytes. Bounds what one append holds in memory, sends in one message and loses in
/// one torn write, while the largest event still fits three times.
pub const RECORD_BYTES_MAX: usize = 4 << 20;

/// Largest membership payload of a record, bytes: a few dozen nodes with their addresses.
pub const MEMBERSHIP_MAX: usize = 64 << 10;

/// Latest time an event may carry, milliseconds since the Unix epoch: the largest integer that every JSON
/// reader holds exactly, in the year 287,396.
pub const TIME_MAX_MS: u64 = (1 << 53) - 1;

/// Largest audit leaf, bytes: the C2SP entry bundle has a 16-bit length before each entry.
pub const LEAF_MAX: usize = 65_535;

/// Longest tenant id, bytes. It stands in paths, labels and leaves.
pub const TENANT_ID_MAX: usize = 64;

/// Longest key id, bytes.
pub const KEY_ID_MAX: usize = 64;

/// Longest display name of a tenant, bytes of UTF-8.
pub const DISPLAY_MAX: usize = 256;

/// Longest region name, bytes. It stands in the log's origin and in every leaf.
pub const REGION_MAX: usize = 64;

/// Most keys of one tenant at a time: a rotation needs two, and each check may try all of them.
pub const KEYS_PER_TENANT_MAX: usize = 8;

/// Longest sealed secret, bytes: 24 of nonce, 16 of tag, and an HMAC secret of up to 984.
pub const SEALED_KEY_MAX: usize = 1024;

/// Most tenants of one region. All of them are held in memory and written into every snapshot.
pub const TENANTS_MAX: usize = 65_536;

/// Most policy versions of one region. All are kept for ever, so that old records can be judged again.
pub const POLICIES_MAX: usize = 4096;

/// Longest encoded policy, bytes: a version of up to 64 bytes and eleven numbers.
pub const POLICY_BYTES_MAX: usize = 512;

/// Longest signed note in a `Checkpoint` event, bytes: the log's own signature and a few cosignatures of
/// post-quantum size (about 3.3 KB each in base64).
pub const NOTE_MAX: usize = 32 << 10;

/// Most signature results in one `Attested` event, one byte for each `Received` before it. A leader attests
/// far more often; the bound keeps the event within [`EVENT_MAX`].
pub const ATTESTED_MAX: usize = 1 << 20;

/// How many records an `Attested` may lie behind the one it speaks about. A leader proposes it right after
/// it read the digests; what lies between is only what was in flight.
pub const ATTESTED_LAG_MAX: usize = 4096;

/// Longest `shard_id` accepted in a summary, bytes. It is hashed into the id and never stored elsewhere.
pub const SHARD_ID_MAX: usize = 1024;

/// Longest other text field of a summary, bytes. The longest a client needs is a signature of 88; some of
/// them are quoted in a reason, which must stay short.
pub const TEXT_MAX: usize = 1024;

/// Most components of `v_star`. Clients send 3; embeddings of 768 have been seen.
pub const DIMENSIONS_MAX: usize = 16_384;

/// Deepest nesting of a body. Known fields need 2; the rest is for fields nobody here reads.
pub const JSON_DEPTH_MAX: usize = 128;

/// Most scales of a summary: the slope estimate is quadratic in them. Clients in the field send 4 to 10.
pub const SCALES_MAX: usize = 64;

/// Most entries of `N_j`, of which those beyond the scales are ignored.
pub const COUNTS_MAX: usize = 1024;

/// Alignment and size of the unit written to a log file, bytes: the largest sector in common use.
pub const BLOCK: usize = 4096;

/// Default size of a segment, bytes. Small enough to ship in one request, large enough that sealing is rare.
pub const SEGMENT_SIZE: usize = 64 << 20;

/// Smallest segment an operator may configure, bytes.
pub const SEGMENT_SIZE_MIN: usize = 1 << 20;

/// Smallest segment a test may use, bytes: a few blocks, so that rotation happens often.
pub const SEGMENT_SIZE_TEST_MIN: usize = 64 << 10;

/// Keys held in the in-memory part of the index before the older half goes to a sorted run: about 20 MiB,
/// and as many rows to read again at a start.
pub const RECENT_KEYS_MAX: u64 = 2 << 20;

/// How much longer than its time to live a key stays findable, milliseconds of log time. After a restart the log
/// is applied again from the last snapshot, with the log time of then; a snapshot must not be older than this,
/// or the index is built again.
pub const EXPIRY_MARGIN_MS: u64 = 24 * 3600 * 1000;

/// Most other regions whose logs one region takes in: a row gives six bits to where it came from.
pub const ORIGINS_MAX: u8 = 62;

/// Most conflicts between regions that are kept by name; all of them are counted.
pub const CLASHES_MAX: usize = 256;

/// Most cases of reconciliation that are remembered; so many may wait. More than there can be reasons for at a time: a closed case
/// that is forgotten while its reason is still there would be opened again.
pub const CASES_MAX: usize = 512;

/// Most places where ranges of another region's log begin that are kept to find its records again. When there are more,
/// every second one is forgotten, and finding a record reads twice as far.
pub const IMPORT_PLACES_MAX: usize = 65_536;

/// Most rows the index can number: a slot gives 40 bits to the row. A trillion rows would fill 114 TB.
pub const ROWS_MAX: u64 = 1 << 40;

const _: () = {
    assert!(EVENT_MAX > BODY_MAX + 1 + 8 + 16 + 1 + TENANT_ID_MAX + 4, "a whole submission fits one event");
    assert!(EVENT_MAX > ATTESTED_MAX + 1 + 8 + 32 + 32 + 4, "the largest Attested fits one event");
    assert!(EVENT_MAX > NOTE_MAX + 5, "the largest note fits one event");
    assert!(RECORD_BYTES_MAX >= 3 * EVENT_MAX, "a record holds several of the largest events");
    assert!(RECORD_EVENTS_MAX <= u16::MAX as usize, "the count of events is a u16");
    assert!(RECORD_BYTES_MAX > MEMBERSHIP_MAX + 16);
    assert!(LEAF_MAX <= u16::MAX as usize, "entry bundles count in u16");
    assert!(TENANT_ID_MAX <= u8::MAX as usize && KEY_ID_MAX <= u8::MAX as usize);
    assert!(SEALED_KEY_MAX <= u16::MAX as usize);
    assert!(POLICY_BYTES_MAX <= u16::MAX as usize);
    assert!(POLICIES_MAX <= u16::MAX as usize, "a row names its policy by a u16");
    assert!(SCALES_MAX <= COUNTS_MAX);
    assert!(BLOCK.is_power_of_two() && SEGMENT_SIZE.is_multiple_of(BLOCK));
    assert!(SEGMENT_SIZE >= 8 * RECORD_BYTES_MAX, "sealing is rarer than appending");
    assert!(SEGMENT_SIZE_TEST_MIN <= SEGMENT_SIZE_MIN && SEGMENT_SIZE_MIN <= SEGMENT_SIZE);
    assert!(RECENT_KEYS_MAX < ROWS_MAX);
    assert!(CASES_MAX > CLASHES_MAX + 3 * ORIGINS_MAX as usize, "a case for every conflict and every region");
};

/// Names and values, in the order the fingerprint hashes them. Add at the end; never rename.
const CANONICAL: [(&str, u64); 22] = [
    ("body_max", BODY_MAX as u64),
    ("event_max", EVENT_MAX as u64),
    ("record_events_max", RECORD_EVENTS_MAX as u64),
    ("record_bytes_max", RECORD_BYTES_MAX as u64),
    ("membership_max", MEMBERSHIP_MAX as u64),
    ("leaf_max", LEAF_MAX as u64),
    ("tenant_id_max", TENANT_ID_MAX as u64),
    ("key_id_max", KEY_ID_MAX as u64),
    ("display_max", DISPLAY_MAX as u64),
    ("region_max", REGION_MAX as u64),
    ("keys_per_tenant_max", KEYS_PER_TENANT_MAX as u64),
    ("tenants_max", TENANTS_MAX as u64),
    ("policies_max", POLICIES_MAX as u64),
    ("attested_max", ATTESTED_MAX as u64),
    ("attested_lag_max", ATTESTED_LAG_MAX as u64),
    ("shard_id_max", SHARD_ID_MAX as u64),
    ("scales_max", SCALES_MAX as u64),
    ("counts_max", COUNTS_MAX as u64),
    ("text_max", TEXT_MAX as u64),
    ("dimensions_max", DIMENSIONS_MAX as u64),
    ("json_depth_max", JSON_DEPTH_MAX as u64),
    ("time_max_ms", TIME_MAX_MS),
];

/// One number for all bounds that change what a log means: the first 8 bytes, little-endian, of BLAKE3 over
/// `name=value` lines. It stands in every segment header and in the greeting between nodes; sizes that only
/// change how a node stores things (blocks, segments, the index) are left out.
#[must_use]
pub fn fingerprint() -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"flk limits 1\n");
    for (name, value) in CANONICAL {
        hasher.update(name.as_bytes());
        hasher.update(b"=");
        hasher.update(&value.to_le_bytes());
        hasher.update(b"\n");
    }
    let digest = hasher.finalize();
    let first = digest.as_bytes().first_chunk::<8>().expect("a digest has 32 bytes");
    u64::from_le_bytes(*first)
}

#[cfg(test)]
mod tests {
    /// A changed bound makes old logs mean something else: whoever changes this number also says, in
    /// docs/FORMAT.md, what happens to logs written before.
    #[test]
    fn the_fingerprint_is_pinned() {
        assert_eq!(super::fingerprint(), 9_899_652_227_953_456_174);
    }
}
