//! `worm demo tamper`: copies a log, changes one bit of the copy, and shows that `worm verify` finds it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use engine::tree::tiles::{Kind, Tile};
use serde_json::json;

use super::evidence::Evidence;
use super::verify;
use crate::audit::home::{Home, HomeArgs};
use crate::audit::scratch::Scratch;
use crate::pack::Pack;
use crate::report::{Exit, Fault, Report, State};
use crate::ui::Ui;

/// Copies a log or an evidence pack, flips one bit of the copy, and shows that it is found
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    /// The data directory, or an evidence pack.
    pub home: HomeArgs,
    /// Keep the changed copy here instead of throwing it away
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
    /// Segment to change [default: the first]
    #[arg(long)]
    pub segment: Option<u64>,
    /// Offset of the byte to change [default: in the middle of what is written]
    #[arg(long)]
    pub offset: Option<u64>,
}

/// Copies what an audit reads, and no secret.
///
/// # Errors
/// The file system refuses.
pub fn copy(home: &Home, to: &Path) -> io::Result<()> {
    let parts = [("log", home.log()), ("worm", home.worm()), ("tlog", home.dir().join("tlog"))];
    for (name, from) in parts.iter().filter(|(_, from)| from.is_dir()) {
        copy_folder(from, &to.join(name))?;
    }
    if home.vkey().is_file() {
        std::fs::create_dir_all(to.join("keys"))?;
        std::fs::copy(home.vkey(), to.join("keys/log.vkey"))?;
    }
    Ok(())
}

/// Copies a folder with everything in it.
///
/// # Errors
/// The file system refuses.
pub fn copy_folder(from: &Path, to: &Path) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            copy_folder(&path, &target)?;
        } else if entry.file_type()?.is_file() {
            std::fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

/// A byte of a record in the middle of what is written in a file, not one of the zeros between.
fn middle(path: &Path) -> io::Result<u64> {
    let bytes = std::fs::read(path)?;
    let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
    Ok(bytes[..end.div_ceil(2)].iter().rposition(|byte| *byte != 0).unwrap_or(0) as u64)
}

/// The bundle in the middle of a pack.
fn bundle(dir: &Path) -> Result<String, Fault> {
    let args = HomeArgs::of(dir);
    let plan = Evidence::open(&args, None, None)?.plan;
    let middle = plan.bundles.start + (plan.bundles.end - plan.bundles.start) / 2;
    let tile = Tile::at(Kind::Entries, middle, plan.size);
    tile.map(|tile| tile.path()).ok_or_else(|| {
        Fault::new("nothing to change", dir.display(), "the pack has no entries", "take one that has")
    })
}

/// Shows that one changed bit is found.
///
/// # Errors
/// The directory cannot be copied, or was not sound to begin with.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    let pack = Pack::is_one(&args.home.dir);
    let home = if pack { None } else { Some(Home::open(&args.home)?) };
    let scratch;
    let target = match &args.keep {
        Some(path) if path.exists() => {
            return Err(Fault::new(
                "will not write into a used folder",
                path.display(),
                "it exists",
                "choose another --keep",
            ));
        }
        Some(path) => path.clone(),
        None => {
            scratch = Scratch::new(None)?;
            scratch.0.join("copy")
        }
    };
    let copied =
        home.as_ref().map_or_else(|| copy_folder(&args.home.dir, &target), |home| copy(home, &target));
    copied.map_err(|error| Fault::write(&target, error))?;
    let before = verify::run(&verify::Args::of(&target), ui)?;
    if before.exit != Exit::Ok {
        let why = before
            .checks
            .iter()
            .find(|check| check.state == State::Fail)
            .map_or_else(String::new, |check| check.detail.clone());
        return Err(Fault::new(
            "the log is not sound before anything was changed",
            args.home.dir.display(),
            why,
            format!("worm verify {}", args.home.dir.display()),
        )
        .exit(before.exit));
    }
    let (name, path) = if pack {
        let name = bundle(&target)?;
        (name.clone(), target.join(name))
    } else {
        let name = segments::segment_name(args.segment.unwrap_or(1));
        (name.clone(), target.join("log").join(name))
    };
    let offset = match args.offset {
        Some(offset) => offset,
        None => middle(&path).map_err(|error| Fault::read(&path, error))?,
    };
    let flip = || -> io::Result<(u8, u8)> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset)?;
        let was = byte[0];
        file.write_all_at(&[was ^ 1], offset)?;
        Ok((was, was ^ 1))
    };
    let (was, is) = flip().map_err(|error| Fault::write(&path, error))?;
    let after = verify::run(&verify::Args::of(&target), ui)?;
    let mut report = Report::new("worm demo tamper");
    report.check("before", State::Ok, "a copy of the log verifies");
    report.check("change", State::Ok, format!("{name}, offset {offset:#x}: {was:#04x} -> {is:#04x}"));
    let finding = after.checks.iter().find(|check| check.state == State::Fail);
    report.data = json!({"segment": name, "offset": offset, "was": was, "is": is, "verify": after.data, "verify_exit": after.exit as u8,
        "kept": args.keep});
    match finding {
        Some(check) if after.exit == Exit::Tampered || after.exit == Exit::Missing => {
            report.check(
                "verify",
                State::Ok,
                format!("exit {}: {}: {}", after.exit as u8, check.name, check.detail),
            );
            report.verdict = "one changed bit was found; the original was not touched".into();
        }
        _ => {
            report.check("verify", State::Fail, "the change went unnoticed");
            report.exit = Exit::Failed;
            report.verdict = "the change went unnoticed: report this as a defect".into();
        }
    }
    if let Some(path) = &args.keep {
        report.lines.push(format!("changed copy  {}", path.display()));
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::World;

    #[test]
    fn the_demo_finds_its_own_change_and_leaves_the_original_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (dir, keep) = (folder.path().join("data"), folder.path().join("copy"));
        World::busy(50).write(&dir);
        crate::keys::write_secret(&dir.join("keys/kek"), "secret").unwrap();
        let args = Args { home: HomeArgs::of(&dir), keep: Some(keep.clone()), segment: None, offset: None };
        let report = run(&args, Ui::quiet()).unwrap();
        assert_eq!(
            (report.exit, report.data["verify_exit"].as_u64()),
            (Exit::Ok, Some(2)),
            "{:?}",
            report.checks
        );
        assert_eq!(verify::run(&verify::Args::of(&dir), Ui::quiet()).unwrap().exit, Exit::Ok);
        assert_eq!(verify::run(&verify::Args::of(&keep), Ui::quiet()).unwrap().exit, Exit::Tampered);
        assert!(!keep.join("keys/kek").exists(), "no secret is copied");
        let pack = folder.path().join("pack");
        let fetch = crate::worm::fetch::Args::of(dir.to_str().unwrap(), &pack);
        crate::worm::fetch::run(&fetch, Ui::quiet()).unwrap();
        let kept = folder.path().join("kept");
        let demo = Args { home: HomeArgs::of(&pack), keep: Some(kept.clone()), ..args.clone() };
        let report = run(&demo, Ui::quiet()).unwrap();
        assert!(report.data["segment"].as_str().unwrap().starts_with("tile/entries/"), "{}", report.data);
        assert_eq!(verify::run(&verify::Args::of(&kept), Ui::quiet()).unwrap().exit, Exit::Tampered);
        let again = Args { home: HomeArgs::of(&keep), keep: None, ..args };
        assert_eq!(run(&again, Ui::quiet()).unwrap_err().exit, Exit::Tampered);
    }
}
