//! Checkers: pure functions of what a run wrote down. Each says true, false or unknown; unknown never counts as
//! passed. Every one of them has tests with a planted violation that it must refuse.

pub mod audit;
pub mod coverage;
pub mod durable;
pub mod logs;
pub mod merkle;
pub mod once;
pub mod projections;
pub mod recovery;
pub mod setonce;
pub mod tenants;

/// What a checker says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Valid {
    /// It held.
    True,
    /// It did not.
    False,
    /// There was too little to say.
    Unknown,
}

impl std::fmt::Display for Valid {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Valid::True => "true",
            Valid::False => "false",
            Valid::Unknown => "unknown",
        })
    }
}

/// Complaints that are kept; the count goes on.
const COMPLAINTS_MAX: usize = 8;

/// One checker's result.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// `C1` and so on.
    pub id: &'static str,
    /// What is checked.
    pub name: &'static str,
    /// What it says.
    pub valid: Valid,
    /// What it looked at.
    pub note: String,
    /// What was wrong or missing; the first few.
    pub complaints: Vec<String>,
    /// How much was wrong.
    pub wrong: usize,
}

impl Verdict {
    /// True until something is said against it.
    pub fn new(id: &'static str, name: &'static str) -> Verdict {
        Verdict { id, name, valid: Valid::True, note: String::new(), complaints: Vec::new(), wrong: 0 }
    }

    /// It did not hold.
    pub fn wrong(&mut self, why: impl Into<String>) {
        self.valid = Valid::False;
        self.wrong += 1;
        self.complain(why.into());
    }

    /// It cannot be said; what is known to be false stays false.
    pub fn unknown(&mut self, why: impl Into<String>) {
        if self.valid == Valid::True {
            self.valid = Valid::Unknown;
        }
        self.complain(why.into());
    }

    fn complain(&mut self, why: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(why);
        }
    }
}

/// The whole run: false if anything is, else unknown if anything is.
pub fn overall(verdicts: &[Verdict]) -> Valid {
    let any = |valid| verdicts.iter().any(|verdict| verdict.valid == valid);
    match (any(Valid::False), any(Valid::Unknown) || verdicts.is_empty()) {
        (true, _) => Valid::False,
        (false, true) => Valid::Unknown,
        (false, false) => Valid::True,
    }
}

#[test]
fn unknown_is_not_passed() {
    let verdict = |valid| Verdict { valid, ..Verdict::new("C0", "") };
    let (yes, no, unknown) = (verdict(Valid::True), verdict(Valid::False), verdict(Valid::Unknown));
    assert_eq!(overall(&[]), Valid::Unknown);
    assert_eq!(overall(&[yes.clone(), yes.clone()]), Valid::True);
    assert_eq!(overall(&[yes.clone(), unknown.clone()]), Valid::Unknown);
    assert_eq!(overall(&[unknown, no, yes.clone()]), Valid::False);
    let mut both = yes;
    both.wrong("lost");
    both.unknown("and not read");
    assert_eq!((both.valid, both.wrong), (Valid::False, 1));
}
