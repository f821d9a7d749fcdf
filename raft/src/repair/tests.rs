//! Whom a node asks for its term when a vote may be lost.

use super::*;
use crate::transport::Alone;
use crate::types::Member;

fn members(voters: &[u64]) -> Membership {
    let nodes = voters.iter().map(|node| (*node, Member::default())).collect::<BTreeMap<_, _>>();
    Membership::new(vec![voters.iter().copied().collect()], nodes).expect("voters are members")
}

fn asked(own: (u64, &[u64]), settled: u64, said: &[(u64, &[u64])]) -> Vec<u64> {
    let mender = Mender::new(1, Arc::new(Alone), Vec::new());
    mender.note(Lsn(own.0), &members(own.1));
    let said: Vec<_> = said.iter().map(|(at, voters)| (Lsn(*at), members(voters))).collect();
    mender.may_have_asked(Lsn(settled), &said).into_iter().collect()
}

#[test]
fn f3_one_that_an_agreed_membership_has_taken_out_is_not_waited_for() {
    assert_eq!(asked((5, &[1, 2, 3, 4]), 9, &[(9, &[1, 2, 3])]), [1, 2, 3]);
    // Taken in after it, and not agreed: it may be a candidate by now.
    assert_eq!(asked((5, &[1, 2, 3, 4]), 9, &[(9, &[1, 2, 3]), (11, &[1, 2, 3, 6])]), [1, 2, 3, 6]);
}

#[test]
fn f3_until_a_membership_is_agreed_all_that_are_known_may_have_asked() {
    assert_eq!(asked((5, &[1, 2, 3, 4]), 0, &[(9, &[1, 2, 3])]), [1, 2, 3, 4]);
    // What this node holds is newer than what the others have agreed.
    assert_eq!(asked((9, &[1, 2, 3, 4]), 5, &[(5, &[1, 2, 3])]), [1, 2, 3, 4]);
}
