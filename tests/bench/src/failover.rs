//! What clients see when the leader of three nodes is killed: how long none of their submissions is acknowledged, and
//! whether anything that was acknowledged is gone.

use crate::bodies::Bodies;
use crate::flkd::Tenant;
use crate::trio::Trio;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const CLIENTS: u64 = 4;
/// Between two submissions of one client: a load that leaves the processors to the group.
const PACE: Duration = Duration::from_millis(2);
/// Before and after the leader is killed.
const CALM: Duration = Duration::from_millis(500);
/// A client asks another node after this long.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of all trials.
pub struct Found {
    /// The longest time between two acknowledgements that any client saw, for each trial, s.
    pub gaps: Vec<f64>,
    /// Submissions acknowledged; each was found again afterwards.
    pub acked: u64,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    /// The longest gap of each client since the trial began, and its last acknowledgement.
    gaps: Mutex<Vec<(Duration, Option<Instant>)>>,
    ids: Mutex<Vec<String>>,
}

/// Kills the leader `count` times under load, and has it come back each time.
///
/// # Errors
/// If the group does not recover, or something that was acknowledged cannot be found afterwards.
pub fn trials(trio: &mut Trio<'_>, count: usize) -> io::Result<Found> {
    let shared = Shared::default();
    *shared.gaps.lock().expect("nobody panics") = vec![(Duration::ZERO, None); CLIENTS as usize];
    let nodes = trio.clients();
    let gaps = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (shared, nodes) = (&shared, &nodes);
            scope.spawn(move || submit(client, nodes, shared));
        }
        let done = (0..count).map(|_| trial(trio, &shared)).collect::<io::Result<Vec<f64>>>();
        shared.stop.store(true, Ordering::Relaxed);
        done
    })?;
    let ids = shared.ids.into_inner().expect("nobody panics");
    trio.find_leader()?;
    insist_present(crate::ingest::Target::addr(trio), &ids)?;
    Ok(Found { gaps, acked: ids.len() as u64 })
}

fn trial(trio: &mut Trio<'_>, shared: &Shared) -> io::Result<f64> {
    std::thread::sleep(CALM);
    let leader = trio.find_leader()?;
    for (gap, _) in shared.gaps.lock().expect("nobody panics").iter_mut() {
        *gap = Duration::ZERO;
    }
    let kill = Instant::now();
    trio.kill(leader)?;
    // Every client has been acknowledged something that it asked for after the kill.
    loop {
        let gaps = shared.gaps.lock().expect("nobody panics").clone();
        if gaps.iter().all(|(_, last)| last.is_some_and(|last| last > kill + CALM / 2)) {
            break;
        }
        if kill.elapsed() > PATIENCE * 3 {
            return Err(io::Error::other("the group does not acknowledge again after its leader was killed"));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    std::thread::sleep(CALM);
    let gaps = shared.gaps.lock().expect("nobody panics").clone();
    let worst = gaps.iter().map(|(gap, _)| gap.as_secs_f64()).fold(0.0, f64::max);
    trio.revive(leader)?;
    Ok(worst)
}

/// One client: the same submission again and again, at one node after the other, until it is acknowledged.
fn submit(client: u64, nodes: &[SocketAddr], shared: &Shared) {
    let mut bodies = Bodies::new(Tenant::Hmac.signer(), format!("failover-{}-{client}", std::process::id()));
    let mut at = client as usize;
    let mut socket: Option<TcpStream> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let body = bodies.body();
        loop {
            if shared.stop.load(Ordering::Relaxed) {
                return;
            }
            match post(&mut socket, nodes[at % nodes.len()], &body.json) {
                Ok(200) => break,
                Ok(_) | Err(_) => {
                    socket = None;
                    at += 1;
                    std::thread::sleep(PACE);
                }
            }
        }
        let now = Instant::now();
        let (gap, last) = &mut shared.gaps.lock().expect("nobody panics")[client as usize];
        *gap = (*gap).max(last.map_or(Duration::ZERO, |last| now - last));
        *last = Some(now);
        shared.ids.lock().expect("nobody panics").push(body.id);
        std::thread::sleep(PACE);
    }
}

fn post(socket: &mut Option<TcpStream>, addr: SocketAddr, body: &[u8]) -> io::Result<u16> {
    let head = format!(
        "POST /v1/pcs/submit HTTP/1.1\r\nhost: localhost\r\n{}content-length: {}\r\n\r\n",
        Tenant::Hmac.headers(),
        body.len()
    );
    ask(socket, addr, &[head.as_bytes(), body].concat())
}

/// One request and its answer's status, on the connection that is there or a new one.
fn ask(socket: &mut Option<TcpStream>, addr: SocketAddr, request: &[u8]) -> io::Result<u16> {
    let socket = match socket {
        Some(socket) => socket,
        None => {
            let new = TcpStream::connect_timeout(&addr, Duration::from_millis(200))?;
            new.set_nodelay(true)?;
            new.set_read_timeout(Some(PATIENCE))?;
            socket.insert(new)
        }
    };
    socket.write_all(request)?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let count = socket.read(&mut piece)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&piece[..count]);
        let text = String::from_utf8_lossy(&answer);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
        if body.len() >= length.unwrap_or(0) {
            return head
                .get(9..12)
                .and_then(|status| status.parse().ok())
                .ok_or_else(|| io::ErrorKind::InvalidData.into());
        }
    }
}

/// Everything that was acknowledged can be read.
fn insist_present(addr: SocketAddr, ids: &[String]) -> io::Result<()> {
    let mut socket = None;
    for id in ids {
        let request =
            format!("GET /v1/pcs/{id} HTTP/1.1\r\nhost: localhost\r\n{}\r\n", Tenant::Hmac.headers());
        let status = ask(&mut socket, addr, request.as_bytes())?;
        if status != 200 {
            return Err(io::Error::other(format!("{id} was acknowledged and is not there: {status}")));
        }
    }
    Ok(())
}
