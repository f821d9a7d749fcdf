//! From a window to a signed summary.

use engine::limits::{COUNTS_MAX, SCALES_MAX, SHARD_ID_MAX};
use engine::summary::boxes::Points;
use engine::summary::coherence::coherence;
use engine::summary::merkle;
use engine::summary::signals::{Regime, budget, d_hat, round9};
use engine::summary::verdict::SCHEMA;
use engine::summary::{PcsId, Policy, parse};
use serde_json::{Value, json};

use super::measure::{bytes, compressibility, unit_box};
use super::window::Window;
use crate::keys::Key;
use crate::report::Fault;

/// Everything besides the events that a summary follows from.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Name of the stream.
    pub shard: String,
    /// Scales at which boxes are counted, in this order.
    pub scales: Vec<i64>,
    /// Directions tried for the coherence.
    pub directions: u32,
    /// Bins of its histogram.
    pub bins: u32,
    /// Seed of the directions.
    pub seed: u32,
    /// Whether each column is scaled to 0..1 first.
    pub unit_box: bool,
    /// Bytes of a Merkle leaf.
    pub chunk: usize,
}

impl Recipe {
    /// Whether summaries of this kind can be judged at all.
    ///
    /// # Errors
    /// A [`Fault`] that names the flag.
    pub fn check(&self) -> Result<(), Fault> {
        let bad = |flag: &str, why: String, next: &str| {
            Err(Fault::new("cannot summarise like this", flag, why, next))
        };
        let mut distinct = self.scales.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if distinct.len() < 2 || self.scales.len() > SCALES_MAX.min(COUNTS_MAX) || distinct[0] < 1 {
            let why = format!("a slope needs 2 to {SCALES_MAX} scales, at least two different, none below 1");
            return bad("--scales", why, "--scales 2,4,8,16,32");
        }
        if self.shard.is_empty() || self.shard.len() > SHARD_ID_MAX {
            return bad("--shard", format!("a name has 1 to {SHARD_ID_MAX} bytes"), "--shard NAME");
        }
        if !(1..=100_000).contains(&self.directions) || !(1..=100_000).contains(&self.bins) {
            let why = "there are 1 to 100000 of each".to_owned();
            return bad("--directions, --bins", why, "--directions 100 --bins 20");
        }
        Ok(())
    }
}

/// What a window says, unsigned.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    recipe: Recipe,
    /// The window's number.
    pub epoch: u64,
    /// The derived id, hex.
    pub pcs_id: String,
    /// Root over the window's bytes, hex.
    pub merkle_root: String,
    /// Boxes per scale.
    pub counts: Vec<(i64, i64)>,
    /// Dimension.
    pub d_hat: f64,
    /// Coherence.
    pub coh_star: f64,
    /// The direction it was found in.
    pub v_star: Vec<f64>,
    /// Compressibility.
    pub r: f64,
    /// Regime.
    pub regime: &'static str,
    /// Budget.
    pub budget: f64,
}

/// The Merkle root of a window and the id that follows from it, both in hex.
#[must_use]
pub fn id(window: &Window, recipe: &Recipe) -> (String, String) {
    let root = merkle::root(&bytes(window), recipe.chunk);
    let id = PcsId::derive(&root, window.index.cast_signed(), &recipe.shard).to_string();
    (root, id)
}

impl Summary {
    /// Computes a window's signals with the constants of the first policy, those that clients in the field use.
    #[must_use]
    pub fn of(window: &Window, recipe: &Recipe) -> Summary {
        let (merkle_root, pcs_id) = id(window, recipe);
        let width = window.events.first().map_or(1, |event| event.values.len());
        let mut values: Vec<f64> =
            window.events.iter().flat_map(|event| event.values.iter().copied()).collect();
        if recipe.unit_box {
            unit_box(&mut values, width);
        }
        let points = Points::new(&values, width).expect("every event has a finite number in each column");
        let counts: Vec<(i64, i64)> =
            recipe.scales.iter().map(|&scale| (scale, points.boxes(scale))).collect();
        let found = coherence(points, recipe.directions as usize, recipe.bins as usize, recipe.seed);
        let policy = Policy::default_1_0_0();
        // The recipe has two different scales and no count is below one, so there is a slope.
        let slope =
            d_hat(&recipe.scales, |scale| counts.iter().find(|count| count.0 == scale).map(|count| count.1));
        let d_hat = slope.unwrap_or(0.0);
        let r = round9(compressibility(&bytes(window)));
        Summary {
            recipe: recipe.clone(),
            epoch: window.index,
            pcs_id,
            merkle_root,
            counts,
            d_hat,
            coh_star: found.coh_star,
            v_star: found.v_star,
            r,
            regime: Regime::of(d_hat, found.coh_star, &policy).name(),
            budget: budget(d_hat, found.coh_star, r, &policy),
        }
    }

    /// The summary as one line of JSON, signed, in the members' usual order. `outbox_seq` and the time of sending
    /// are not signed.
    ///
    /// # Errors
    /// None that a summary made here can cause.
    pub fn sign(&self, key: &Key, now: f64, outbox_seq: u64) -> Result<String, Fault> {
        let unsigned = self.line("", now, outbox_seq);
        let pcs = parse(unsigned.as_bytes()).map_err(|error| {
            Fault::new(
                "a summary made here cannot be read back",
                &self.pcs_id,
                error,
                "report this as a defect",
            )
        })?;
        let signature = key.sign(&pcs.signed_fields());
        Ok(self.line(&signature, now, outbox_seq))
    }

    fn line(&self, sig: &str, now: f64, outbox_seq: u64) -> String {
        let counts: Vec<String> =
            self.counts.iter().map(|(scale, count)| format!("\"{scale}\":{count}")).collect();
        let sent_at =
            jiff::Timestamp::from_millisecond((now * 1000.0) as i64).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
        // `Value` prints numbers with their shortest text and escapes strings.
        let text = |value: Value| value.to_string();
        let members = [
            ("pcs_id", text(json!(self.pcs_id))),
            ("schema", text(json!(SCHEMA))),
            ("version", text(json!("0.1"))),
            ("shard_id", text(json!(self.recipe.shard))),
            ("epoch", self.epoch.to_string()),
            ("attempt", "1".into()),
            ("sent_at", text(json!(sent_at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()))),
            ("seed", self.recipe.seed.to_string()),
            ("scales", text(json!(self.recipe.scales))),
            ("N_j", format!("{{{}}}", counts.join(","))),
            ("coh_star", text(json!(self.coh_star))),
            ("v_star", text(json!(self.v_star))),
            ("D_hat", text(json!(self.d_hat))),
            ("r", text(json!(self.r))),
            ("regime", text(json!(self.regime))),
            ("budget", text(json!(self.budget))),
            ("merkle_root", text(json!(self.merkle_root))),
            ("sig", text(json!(sig))),
            (
                "ft",
                format!(
                    "{{\"outbox_seq\":{outbox_seq},\"degraded\":false,\"fallbacks\":[],\"clock_skew_ms\":0}}"
                ),
            ),
        ];
        let members: Vec<String> =
            members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    }
}
