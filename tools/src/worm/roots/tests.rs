//! Roots over windows, claims that hold and claims that do not, lines that are none.

use engine::tree::leaf_hash;

use super::*;

fn written(folder: &std::path::Path, texts: &[Vec<u8>]) -> Vec<PathBuf> {
    let paths: Vec<PathBuf> = (0..texts.len()).map(|n| folder.join(n.to_string())).collect();
    paths.iter().zip(texts).for_each(|(path, text)| std::fs::write(path, text).unwrap());
    paths
}

fn run(files: &[PathBuf], claims: &[Claim], threads: usize) -> Result<Roots, Unreadable> {
    roots(files, claims, threads, &|_| {})
}

/// Lines of many lengths, empty ones and the longest allowed among them.
fn lines() -> Vec<Vec<u8>> {
    (0..3000_usize)
        .map(|n| match n {
            700 | 701 => vec![b'y'; LEAF_MAX],
            n => vec![b'a' + (n % 26) as u8; n * 7919 % 900],
        })
        .collect()
}

/// The same roots as one line after the other, wherever the windows cut and however many threads there are.
#[test]
fn every_root_is_the_one_of_a_plain_tree() {
    let folder = tempfile::tempdir().unwrap();
    let mut texts = vec![Vec::new(); 4];
    let (mut tree, mut claims) = (Tree::new(), vec![Claim { size: 0, root: engine::tree::EMPTY_ROOT }]);
    for (n, line) in lines().iter().enumerate() {
        let file = [0, 2, 2, 3][n / 750];
        texts[file].extend_from_slice(line);
        texts[file].push(b'\n');
        tree.append(leaf_hash(line));
        if n % 97 < 3 || n == 2999 {
            claims.push(Claim { size: tree.size(), root: tree.root() });
        }
    }
    assert!(texts[2].len() > 2 * WINDOW as usize);
    let files = written(folder.path(), &texts);
    for threads in [1, 2, 7] {
        let found = run(&files, &claims, threads).unwrap();
        assert_eq!((found.lines, found.between, found.torn), (3000, None, None));
        assert!(found.computed.iter().zip(&claims).all(|(found, claim)| *found == Some(claim.root)));
    }
    // One bit anywhere: the claim before it holds, none after it does, and the line lies between.
    let at = texts[2].len() / 2;
    texts[2][at] ^= 4;
    let files = written(folder.path(), &texts);
    let found = run(&files, &claims, 3).unwrap();
    let between = found.between.unwrap();
    assert!(between.end.path == files[2] && between.end.offset > at as u64, "{between:?}");
    assert!(between.begin.path == files[2] && between.begin.offset <= at as u64, "{between:?}");
    for (claim, computed) in claims.iter().zip(found.computed) {
        assert_eq!(computed == Some(claim.root), claim.size <= between.from, "{claim:?}");
    }
}

#[test]
fn claims_over_more_lines_than_there_are_stay_open() {
    let folder = tempfile::tempdir().unwrap();
    let claims = [Claim { size: 3, root: Digest::ZERO }];
    let found = run(&written(folder.path(), &[b"one\ntwo\n".to_vec()]), &claims, 2).unwrap();
    assert_eq!((found.lines, found.computed, found.between), (2, vec![None], None));
    assert_eq!(run(&[], &claims, 2).unwrap().lines, 0);
}

#[test]
fn what_is_no_line_is_named_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let failed = |texts: &[Vec<u8>]| match run(&written(folder.path(), texts), &[], 3) {
        Err(Unreadable::NoLine(seq, place, what)) => (seq, place.offset, what),
        other => panic!("{other:?}"),
    };
    let endless = vec![b'x'; 3 * WINDOW as usize];
    assert_eq!(failed(&[[b"one\n".to_vec(), endless.clone()].concat()]), (1, 4, "an endless line"));
    let long = [endless, b"\n".to_vec()].concat();
    assert_eq!(failed(&[[b"one\n".to_vec(), long].concat()]), (1, 4, "an endless line"));
    assert_eq!(failed(&[b"one\ntw".to_vec(), b"o\n".to_vec()]), (1, 4, "a line without an end"));
    let just = [vec![b'x'; LEAF_MAX + 1], b"\n".to_vec()].concat();
    assert_eq!(failed(&[just]), (0, 0, "an endless line"));
    // At the very end it is a write in progress, even where it begins in the window before the last.
    let found = run(&written(folder.path(), &[b"one\ntw".to_vec()]), &[], 2).unwrap();
    assert_eq!((found.lines, found.torn.unwrap().offset), (1, 4));
    let mut text = vec![b'a'; 40_000];
    text.push(b'\n');
    let text = [text.repeat(WINDOW as usize / 40_001), vec![b'b'; 60_000]].concat();
    assert!(text.len() > WINDOW as usize);
    let found = run(&written(folder.path(), &[text]), &[], 2).unwrap();
    assert_eq!((found.lines, found.torn.unwrap().offset), (6, 6 * 40_001));
}
