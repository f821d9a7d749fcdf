//! The three harms, and what is measured of each.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Common;
use super::crowd::{Crowd, submit, summary};
use super::link::Link;
use super::site::{SEGMENT_BYTES, Site, regions};
use super::timeline::{Side, Timeline, Watcher, ms};
use crate::http::Client;
use crate::region::restore;
use crate::report::{Exit, Fault, Report, State};
use crate::ui::{Ui, thousands};

/// What is promised: how long nobody may be answered, and how much of the newest data may be missing elsewhere.
const RECOVERY_TIME: Duration = Duration::from_secs(300);
const RECOVERY_POINT: Duration = Duration::from_secs(120);
/// How long two regions may take to agree again.
const AGREE: Duration = Duration::from_secs(300);
/// Summaries of each kind that go to both regions while they are apart.
const TWINS: u64 = 5;
/// Their numbers begin here.
const TWINS_FROM: u64 = 1 << 40;
const PAUSE: Duration = Duration::from_millis(20);
const EAST: usize = 0;
const WEST: usize = 1;

/// Two regions at work. Everything it started ends with it.
pub struct Drill {
    watcher: Watcher,
    crowd: Crowd,
    links: [Link; 2],
    sites: [Site; 2],
    clients: [Client; 2],
    home: PathBuf,
    time: Duration,
    ui: Ui,
}

impl Drill {
    /// Starts them, and lets clients send for a while.
    pub fn begin(home: &Path, program: &Path, common: &Common, ui: Ui) -> Result<Drill, Fault> {
        ui.say("two regions are started");
        let mut sites = [Site::new(home, program, "east")?, Site::new(home, program, "west")?];
        let [east, west] = &mut sites;
        east.meet(west)?;
        west.meet(east)?;
        let links = [Link::open(east.out(), east.arrived()), Link::open(west.out(), west.arrived())];
        east.start()?;
        west.start()?;
        let urls = [east.url.clone(), west.url.clone()];
        let client = |url: &String| Client::new(url, Duration::from_secs(10));
        let clients = [client(&urls[EAST])?, client(&urls[WEST])?];
        let began = Instant::now();
        let crowd = Crowd::start(urls.clone(), common.rate, began);
        let watcher = Watcher::start(urls, began, crowd.counter());
        let (home, time) = (home.to_owned(), common.time());
        let drill = Drill { watcher, crowd, links, sites, clients, home, time, ui };
        std::thread::sleep(time);
        Ok(drill)
    }

    /// Ends everything; gives what was seen.
    pub fn end(mut self) -> Timeline {
        self.crowd.end();
        self.watcher.end()
    }

    fn note(&self, what: &str) -> Duration {
        self.ui.say(what);
        self.watcher.note(what)
    }

    /// West is lost and comes back from its shipments.
    pub fn region_loss(&mut self) -> Result<Report, Fault> {
        self.links[WEST].cut(true);
        let lost_at = self.note("west is lost: its process, its disk, and the place it shipped to");
        self.sites[WEST].lose()?;
        let seen = self.last_look(WEST);
        std::thread::sleep(self.time);
        let answered = self.first_ack(WEST, EAST, lost_at)?;
        self.caught_up()?;
        let acked: Vec<(u64, Duration)> = self.crowd.acks(|acks| {
            let mine = acks.iter().filter(|(_, ack)| ack.region == WEST);
            mine.map(|(number, ack)| (*number, ack.at)).collect()
        });
        let mut missing = Vec::new();
        for (number, at) in &acked {
            if !self.has(EAST, *number)? {
                missing.push((*number, *at));
            }
        }
        let oldest = missing.iter().map(|(_, at)| lost_at.saturating_sub(*at)).max().unwrap_or_default();

        let begun = self.note("its log is made again from what had arrived of it");
        let (east, west) = (&self.sites[EAST], &self.sites[WEST]);
        let args = restore::Args {
            place: Some(west.arrived()),
            survivor: None,
            region: west.region.into(),
            keys: west.kept().join("region.vkey"),
            peer: vec![format!(
                "{} {} {}",
                east.region,
                east.out().display(),
                east.kept().join("region.vkey").display()
            )],
            known: Vec::new(),
            accept_loss: false,
            why: "a drill".into(),
            to: west.data(),
            node: 1,
            address: String::new(),
            segment_bytes: SEGMENT_BYTES,
        };
        let restored = restore::run(&args, Ui::quiet())?;
        if restored.exit != Exit::Ok {
            let why = restored.checks.iter().find(|check| check.state == State::Fail);
            let why = why.map_or_else(|| restored.verdict.clone(), |check| check.detail.clone());
            return Err(Fault::new("west is not restored", self.home.display(), why, "worm verify")
                .exit(restored.exit));
        }
        self.sites[WEST].equip()?;
        self.sites[WEST].start()?;
        self.links[WEST].cut(false);
        let back_at = self.note("west is back");
        let home_again = self.first_ack(WEST, WEST, back_at)?;
        std::thread::sleep(self.time);
        self.crowd.end();
        // Who never saw its summary arrive elsewhere sends it again, as an outbox does.
        let stopped = self.note("clients stop; what had not arrived is sent again");
        for (number, _) in &missing {
            self.send(WEST, &summary(*number, 0).1)?;
        }
        let agreed = self.agree()?;

        let mut report = Report::new("flk drill region-loss");
        let (sent, gone) = (acked.len() as u64, missing.len() as u64);
        let detail = format!(
            "{} ms until a client of west was answered by east; 5 minutes are promised",
            ms(answered - lost_at)
        );
        promise(&mut report, "recovery time", answered - lost_at <= RECOVERY_TIME, detail);
        let detail = format!(
            "{} of {} summaries that west had acknowledged were not in east, the oldest {} ms old; 2 minutes are promised",
            thousands(gone),
            thousands(sent),
            ms(oldest)
        );
        promise(&mut report, "recovery point", oldest <= RECOVERY_POINT, detail);
        let detail = format!(
            "{} of {} entries of west were cosigned by east",
            thousands(seen.proven),
            thousands(seen.entries)
        );
        report.check("proven", State::Ok, detail);
        let detail = format!(
            "{} records in {} ms, proven against its own log and east's word",
            restored.data["records"],
            ms(back_at - begun)
        );
        report.check("restored", State::Ok, detail);
        report.check(
            "failback",
            State::Ok,
            format!("its clients are answered by it again {} ms after it was back", ms(home_again - back_at)),
        );
        report.data = json!({
            "recovery_time_ms": ms(answered - lost_at), "recovery_point_ms": ms(oldest), "missing": gone, "acknowledged": sent,
            "proven": seen.proven, "entries": seen.entries, "restored": restored.data, "restore_ms": ms(back_at - begun),
            "failback_ms": ms(home_again - back_at), "converged_ms": ms(agreed - stopped),
        });
        let may_change: Vec<u64> = missing.iter().map(|(number, _)| *number).collect();
        self.alike(&mut report, agreed - stopped, &may_change)?;
        Ok(report)
    }

    /// Nothing passes between the regions for a while.
    pub fn split_brain(&mut self) -> Result<Report, Fault> {
        let cut_at = self.note("the regions do not reach each other");
        self.links.iter().for_each(|link| link.cut(true));
        for twin in 0..2 * TWINS {
            // The first half is the same in both, the rest is not.
            for region in [EAST, WEST] {
                let content = if twin < TWINS { 0 } else { region as u64 };
                self.send(region, &summary(TWINS_FROM + twin, content).1)?;
            }
        }
        std::thread::sleep(self.time);
        let apart = [self.last_look(EAST), self.last_look(WEST)];
        let exposed = self.worst(EAST, cut_at).max(self.worst(WEST, cut_at));
        self.crowd.end();
        let healed = self.note("they reach each other again");
        self.links.iter().for_each(|link| link.cut(false));
        let agreed = self.agree()?;
        let silence = self.silence(cut_at);
        let conflicts = [EAST, WEST]
            .map(|region| regions(&mut self.clients[region])["conflicts"][0]["count"].as_u64().unwrap_or(0));

        let mut report = Report::new("flk drill split-brain");
        promise(
            &mut report,
            "recovery time",
            silence <= RECOVERY_TIME,
            format!("no client waited longer than {} ms for an answer", ms(silence)),
        );
        let oldest = ms(exposed);
        let lacked = [
            apart[EAST].entries - apart[WEST].held.min(apart[EAST].entries),
            apart[WEST].entries - apart[EAST].held.min(apart[WEST].entries),
        ];
        let detail = format!(
            "at the end {} and {} entries were in one region alone, for up to {oldest} ms",
            thousands(lacked[0]),
            thousands(lacked[1])
        );
        report.check("exposed", State::Ok, detail);
        if conflicts == [TWINS; 2] {
            report.check(
                "conflicts",
                State::Ok,
                format!("both regions name {TWINS} summaries whose contents differ"),
            );
        } else {
            let detail =
                format!("{TWINS} contents differ, east names {}, west {}", conflicts[EAST], conflicts[WEST]);
            report.fail("conflicts", Exit::Tampered, detail);
        }
        report.data = json!({
            "recovery_time_ms": ms(silence), "exposed_ms": oldest, "exposed": lacked, "conflicts": conflicts,
            "converged_ms": ms(agreed - healed),
        });
        self.alike(&mut report, agreed - healed, &[])?;
        Ok(report)
    }

    /// What west ships takes its time.
    pub fn lag(&mut self, lag: Duration) -> Result<Report, Fault> {
        let slow_at = self.note(&format!("what west ships takes {} ms", ms(lag)));
        self.links[WEST].delay(lag);
        std::thread::sleep(self.time + lag);
        let worst = self.worst(WEST, slow_at);
        self.crowd.end();
        let healed = self.note("it arrives at once again");
        self.links[WEST].delay(Duration::ZERO);
        let agreed = self.agree()?;
        let silence = self.silence(slow_at);
        let mut report = Report::new("flk drill lag");
        promise(
            &mut report,
            "recovery time",
            silence <= RECOVERY_TIME,
            format!("no client waited longer than {} ms for an answer", ms(silence)),
        );
        let detail = format!(
            "entries of west were not proven elsewhere for up to {} ms; 2 minutes are promised",
            ms(worst)
        );
        promise(&mut report, "recovery point", worst <= RECOVERY_POINT, detail);
        report.data = json!({
            "lag_ms": ms(lag), "recovery_time_ms": ms(silence), "recovery_point_ms": ms(worst), "converged_ms": ms(agreed - healed),
        });
        self.alike(&mut report, agreed - healed, &[])?;
        Ok(report)
    }

    fn last_look(&self, region: usize) -> Side {
        self.watcher.look(|timeline| {
            let up = timeline.looks.iter().rev().map(|look| look.sides[region]).find(|side| side.up);
            up.unwrap_or_default()
        })
    }

    /// How old the oldest entry of a region grew, after this, before the other one was proven to hold it.
    fn worst(&self, region: usize, after: Duration) -> Duration {
        let lags = self.watcher.look(|timeline| timeline.lags(region));
        lags.iter().filter(|(at, _)| *at >= after).map(|(_, lag)| *lag).max().unwrap_or_default()
    }

    /// When a client of `home` was first answered by `region` after this.
    fn first_ack(&self, home: usize, region: usize, after: Duration) -> Result<Duration, Fault> {
        let end = Instant::now() + RECOVERY_TIME;
        loop {
            let first = self.crowd.acks(|acks| {
                let theirs =
                    acks.values().filter(|ack| ack.home == home && ack.region == region && ack.at > after);
                theirs.map(|ack| ack.at).min()
            });
            if let Some(at) = first {
                return Ok(at);
            }
            if Instant::now() >= end {
                let why = format!(
                    "no client of {} was answered by {}",
                    self.sites[home].region, self.sites[region].region
                );
                return Err(Fault::new("no recovery", self.home.display(), why, "flk drill --help"));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// The longest time between two answers to one region's clients after this.
    fn silence(&self, after: Duration) -> Duration {
        let longest = |home: usize| {
            self.crowd.acks(|acks| {
                let mut times: Vec<Duration> = acks
                    .values()
                    .filter(|ack| ack.home == home && ack.at >= after)
                    .map(|ack| ack.at)
                    .collect();
                times.sort_unstable();
                times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default()
            })
        };
        longest(EAST).max(longest(WEST))
    }

    /// Waits until east has taken in everything that arrived of west.
    fn caught_up(&mut self) -> Result<(), Fault> {
        let end = Instant::now() + AGREE;
        let (mut held, mut since) = (Value::Null, Instant::now());
        while since.elapsed() < Duration::from_secs(1) {
            if Instant::now() >= end {
                return Err(Fault::new(
                    "east does not come to rest",
                    self.home.display(),
                    "",
                    "flk cluster status",
                ));
            }
            let now = regions(&mut self.clients[EAST])["peers"][0]["records"].clone();
            if now != held {
                (held, since) = (now, Instant::now());
            }
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }

    fn has(&mut self, region: usize, number: u64) -> Result<bool, Fault> {
        let path = format!("/v1/pcs/{}", summary(number, 0).0);
        let answer = self.clients[region].get(&path);
        let answer =
            answer.map_err(|error| Fault::new("no answer", self.sites[region].region, error, "try again"))?;
        Ok(answer.status == 200)
    }

    fn send(&mut self, region: usize, body: &[u8]) -> Result<Vec<u8>, Fault> {
        let fault = |why: String| Fault::new("not taken", self.sites[region].region, why, "try again");
        match submit(&mut self.clients[region], body) {
            Ok((200 | 202, answer)) => Ok(answer),
            Ok((status, _)) => Err(fault(format!("it answers {status}"))),
            Err(error) => Err(fault(error.to_string())),
        }
    }

    /// Waits until each region holds all of the other one, has proved it, and has the same digest over both; gives when.
    fn agree(&mut self) -> Result<Duration, Fault> {
        let end = Instant::now() + AGREE;
        loop {
            let said = [EAST, WEST].map(|region| regions(&mut self.clients[region]));
            let holds = |region: &Value, other: &Value| {
                let peer = &region["peers"][0];
                peer["leaves"] == other["newest"]
                    && peer["proven"] == region["newest"]
                    && peer["quarantine"].is_null()
            };
            let [east, west] = &said;
            if east["merged"].is_string()
                && east["merged"] == west["merged"]
                && holds(east, west)
                && holds(west, east)
            {
                return Ok(self.note("both regions agree"));
            }
            if Instant::now() >= end {
                let why = format!("after {AGREE:?}: east {}, west {}", east["peers"][0], west["peers"][0]);
                return Err(Fault::new("they do not agree", self.home.display(), why, "flk divergence")
                    .exit(Exit::Tampered));
            }
            std::thread::sleep(PAUSE);
        }
    }

    /// Every acknowledged summary is sent again to both: they give one answer, and it is the first one.
    fn alike(&mut self, report: &mut Report, took: Duration, may_change: &[u64]) -> Result<(), Fault> {
        report.check("converged", State::Ok, format!("the same digest over both logs after {} ms", ms(took)));
        let mut acks: Vec<(u64, Option<Vec<u8>>)> = self
            .crowd
            .acks(|acks| acks.iter().map(|(number, ack)| (*number, Some(ack.body.clone()))).collect());
        acks.extend((0..2 * TWINS).map(|twin| (TWINS_FROM + twin, None)));
        let (mut changed, mut differ) = (0_u64, 0_u64);
        for (number, first) in &acks {
            if first.is_none() && !self.has(EAST, *number)? {
                continue;
            }
            let body = summary(*number, 0).1;
            let [east, west] = [self.send(EAST, &body)?, self.send(WEST, &body)?];
            differ += u64::from(east != west);
            let other = first.as_ref().is_some_and(|first| *first != east);
            changed += u64::from(other && !may_change.contains(number));
        }
        let count = thousands(acks.len() as u64);
        if differ > 0 {
            let detail = format!("{} of {count} summaries are answered in two ways", thousands(differ));
            report.fail("answers", Exit::Tampered, detail);
        } else {
            report.check(
                "answers",
                State::Ok,
                format!("{count} summaries, and none is lost or answered in two ways"),
            );
        }
        if changed > 0 {
            // Somebody sent it to both, and the other region had it first without being able to say so.
            let detail = format!(
                "{} are answered otherwise than at first: the other region had them earlier",
                thousands(changed)
            );
            report.check("changed", State::Warn, detail);
        }
        report.data["answers"] = json!({"count": acks.len(), "differ": differ, "changed": changed});
        report.verdict = match report.exit {
            Exit::Ok => "both regions came back within what is promised, and agree".into(),
            Exit::Tampered => "the regions do not agree".into(),
            _ => "the regions agree, and took longer than is promised".into(),
        };
        Ok(())
    }
}

fn promise(report: &mut Report, name: &str, kept: bool, detail: String) {
    if kept {
        report.check(name, State::Ok, detail);
    } else {
        report.fail(name, Exit::Failed, detail);
    }
}
