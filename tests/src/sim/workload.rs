//! What clients send: few names, several rivals for each, and every way to be wrong.
//!
//! A [`Submission`] is small and says everything; its body is made from it. The checkers know from it
//! alone what the answer must be, without asking the engine.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use base64::Engine as _;
use engine::event::{Event, KeyKind, KeySpec, PolicySet, Tenant};
use engine::ids::{KeyId, TenantId};
use engine::summary::canonical::{Numbers, SignedFields};
use engine::summary::sign::sign_hmac;
use engine::summary::{PcsId, Policy, Secrets, SignatureForm};
use zeroize::Zeroizing;

use crate::rt::Rng;

/// Tenants with a key.
pub const TENANTS: u8 = 3;
/// Names that rivals fight for, per tenant. All tenants use the same ones (I7).
pub const NAMES: u16 = 40;
/// Different contents under one name.
const VARIANTS: u64 = 3;
/// Values of the field that nothing may depend on.
const ATTEMPTS: u64 = 4;
/// How long a name is taken, in milliseconds of log time: short, so that it happens.
pub const TTL_MS: u64 = 8_000;

/// What is wrong with a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Flaw {
    /// Nothing.
    None,
    /// Not JSON.
    Malformed,
    /// The signature of other bytes.
    BadSignature,
    /// Signed with another tenant's key.
    ForeignKey,
    /// Well signed, and its id is not the derived one.
    Structure,
    /// From a tenant nobody knows.
    Stranger,
}

/// One submission, before it has a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Submission {
    /// Who sends it.
    pub tenant: u8,
    /// The name it wants.
    pub name: u16,
    /// Which content.
    pub variant: u8,
    /// What nothing may depend on.
    pub attempt: u8,
    /// What is wrong with it.
    pub flaw: Flaw,
}

impl Submission {
    /// Draw one.
    pub fn draw(rng: &mut Rng) -> Submission {
        let flaw = match rng.below(20) {
            0 => Flaw::Malformed,
            1 => Flaw::BadSignature,
            2 => Flaw::ForeignKey,
            3 => Flaw::Structure,
            4 => Flaw::Stranger,
            _ => Flaw::None,
        };
        Submission {
            tenant: rng.below(u64::from(TENANTS)) as u8,
            name: rng.below(u64::from(NAMES)) as u16,
            variant: rng.below(VARIANTS) as u8,
            attempt: rng.below(ATTEMPTS) as u8,
            flaw,
        }
    }

    /// Who it says it is from.
    pub fn tenant_id(&self) -> TenantId {
        if self.flaw == Flaw::Stranger { name_of("stranger") } else { tenant_id(self.tenant) }
    }

    /// The bytes that are sent.
    pub fn body(&self) -> Vec<u8> {
        if self.flaw == Flaw::Malformed {
            return format!("{{\"pcs_id\": {}, {}", self.name, self.attempt).into_bytes();
        }
        let root = format!("{:064x}", u64::from(self.name) + 1);
        let id = PcsId::derive(&root, i64::from(self.name), "shard").to_string();
        let id = if self.flaw == Flaw::Structure { id.replace(|_: char| true, "0") } else { id };
        let d_hat = 0.87 + 0.01 * f64::from(self.variant);
        let numbers = Numbers { d_hat, coh_star: 0.73, r: 0.87, budget: 0.285, whole: [false; 4] };
        let fields = SignedFields {
            pcs_id: &id,
            merkle_root: &root,
            epoch: i64::from(self.name),
            shard_id: "shard",
            numbers,
        };
        let signer = if self.flaw == Flaw::ForeignKey { (self.tenant + 1) % TENANTS } else { self.tenant };
        let mut sig =
            sign_hmac(SignatureForm::Canonical, &fields, &secret(signer)).expect("our form signs everything");
        if self.flaw == Flaw::BadSignature {
            sig = base64::engine::general_purpose::STANDARD.encode([7; 32]);
        }
        // Spaces where none are needed: whoever writes this again changes it (I5).
        format!(
            r#"{{ "pcs_id":"{id}", "schema":"fractal-lba-kakeya", "version":"0.1", "shard_id":"shard", "epoch":{epoch},
"attempt":{attempt}, "scales":[2,4,8,16,32], "N_j":{{"2":3,"4":5,"8":9,"16":17,"32":31}}, "coh_star":0.73, "D_hat":{d_hat},
"r":0.87, "regime":"sticky", "budget":0.285, "merkle_root":"{root}", "sig":"{sig}" }}"#,
            epoch = self.name,
            attempt = self.attempt,
        )
        .into_bytes()
    }
}

/// The name of tenant `n`.
pub fn tenant_id(n: u8) -> TenantId {
    name_of(&format!("tenant-{n}"))
}

fn name_of(text: &str) -> TenantId {
    TenantId::new(text).expect("a short plain name")
}

fn secret(tenant: u8) -> [u8; 32] {
    [b'a' + tenant; 32]
}

/// The events that a group needs before it accepts anything, stamped with `at_ms`.
pub fn settings(at_ms: u64) -> Vec<Event> {
    let mut events = vec![];
    for n in 0..TENANTS {
        let id = tenant_id(n);
        events.push(Event::TenantSet(Tenant {
            at_ms,
            id,
            display: format!("Tenant {n}"),
            active: true,
            rate_per_s: 1000,
            burst: 1000,
            daily_quota: 0,
            region: "default".into(),
        }));
        events.push(Event::KeySet(KeySpec {
            at_ms,
            tenant: id,
            key_id: KeyId::new("key").expect("a short plain name"),
            kind: KeyKind::HmacSealed(secret(n).to_vec()),
            not_before_ms: 0,
            not_after_ms: u64::MAX,
        }));
    }
    let policy = Policy { version: "sim".into(), dedup_ttl_ms: TTL_MS, ..Policy::default_1_0_0() };
    events.push(Event::PolicySet(PolicySet { at_ms, policy }));
    events
}

/// Seals nothing: what a simulated log holds is no secret.
pub struct OpenSecrets;

impl Secrets for OpenSecrets {
    fn hmac(&self, spec: &KeySpec) -> Option<Zeroizing<Vec<u8>>> {
        match &spec.kind {
            KeyKind::HmacSealed(sealed) => Some(Zeroizing::new(sealed.clone())),
            KeyKind::Ed25519(_) | KeyKind::Unsigned => None,
        }
    }
}

/// Which submission has this body from this tenant, if any client can send it.
pub fn known(tenant: TenantId, body: &[u8]) -> Option<&'static Submission> {
    static ALL: OnceLock<BTreeMap<(TenantId, Vec<u8>), Submission>> = OnceLock::new();
    let all = ALL.get_or_init(|| {
        let flaws = [
            Flaw::None,
            Flaw::Malformed,
            Flaw::BadSignature,
            Flaw::ForeignKey,
            Flaw::Structure,
            Flaw::Stranger,
        ];
        let mut all = BTreeMap::new();
        for flaw in flaws {
            for (tenant, name) in (0..TENANTS).flat_map(|tenant| (0..NAMES).map(move |name| (tenant, name))) {
                for (variant, attempt) in
                    (0..VARIANTS).flat_map(|variant| (0..ATTEMPTS).map(move |attempt| (variant, attempt)))
                {
                    let sent =
                        Submission { tenant, name, variant: variant as u8, attempt: attempt as u8, flaw };
                    all.insert((sent.tenant_id(), sent.body()), sent);
                }
            }
        }
        all
    });
    all.get(&(tenant, body.to_vec()))
}
