//! What an operator does about bills that are missing, as docs/REGIONS.md says: the bills behind them are taken away, at both ends, and the
//! region ships those ranges again.

use super::ferry::Way;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long a region may take to ship again what was taken away.
const AGAIN: Duration = Duration::from_secs(15);

/// The records of one bill; `None` when it is no bill.
fn range(bill: &Path) -> Option<(u64, u64)> {
    let text = std::fs::read_to_string(bill).ok()?;
    let number =
        |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?.parse().ok();
    Some((number("from")?, number("to")?))
}

/// Bills that no unbroken row of bills from the first record on leads to.
fn behind_a_gap(bills: &[PathBuf]) -> Vec<PathBuf> {
    let mut next = 1;
    for (nth, bill) in bills.iter().enumerate() {
        match range(bill) {
            Some((from, to)) if from == next => next = to + 1,
            _ => return bills[nth..].to_vec(),
        }
    }
    Vec::new()
}

/// Takes away what lies behind a gap until nothing does and `lost` is there again. How many bills were taken away, if it came to that.
pub fn mend(way: &Way, lost: &Path) -> Option<usize> {
    let (end, mut taken) = (Instant::now() + AGAIN, 0);
    loop {
        let behind = behind_a_gap(&way.bills());
        if behind.is_empty() && lost.exists() {
            return Some(taken);
        }
        // A range that was just being put may stand behind the gap again.
        for bill in &behind {
            taken += usize::from(std::fs::remove_file(bill).is_ok());
            let _ = std::fs::remove_file(way.at_far(bill));
        }
        if Instant::now() > end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn what_lies_behind_a_gap_is_found() {
    let dir = std::env::temp_dir().join(format!("operator-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let bill = |from: u64, to: u64| {
        let path = dir.join(format!("{from:020}"));
        std::fs::write(&path, format!("flk bill 1\nregion a\nfrom {from}\nto {to}\n")).unwrap();
        path
    };
    let bills = [bill(1, 3), bill(4, 9), bill(10, 10)];
    assert!(behind_a_gap(&bills).is_empty());
    assert_eq!(behind_a_gap(&[bills[0].clone(), bills[2].clone()]), [bills[2].clone()]);
    assert_eq!(behind_a_gap(&bills[1..]), bills[1..]);
    std::fs::remove_dir_all(dir).unwrap();
}
