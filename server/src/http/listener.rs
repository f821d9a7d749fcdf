//! The accept loop: how many connections, from whom, and how they end.

use super::connection::{Answer, Deadlines, serve};
use super::workers::Workers;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Sent, without reading anything, to a connection above a cap.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
    Retry-After: 1\r\nConnection: close\r\nContent-Length: 126\r\n\r\n\
    {\"type\":\"/problems/overloaded\",\"title\":\"The queue is full\",\"status\":503,\
    \"detail\":\"connections\",\"error\":\"Service unavailable\"}\n";

/// Limits of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Caps {
    /// Connections in all.
    pub all: usize,
    /// Connections of one address.
    pub per_ip: usize,
}

#[derive(Default)]
struct Open {
    all: usize,
    by_ip: HashMap<IpAddr, usize>,
}

/// Counts open connections; a slot counts until it is dropped.
#[derive(Clone, Default)]
pub struct Slots(Arc<Mutex<Open>>);

struct Slot {
    slots: Slots,
    ip: IpAddr,
}

impl Slots {
    fn take(&self, ip: IpAddr, caps: Caps) -> Option<Slot> {
        let mut open = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if open.all >= caps.all || open.by_ip.get(&ip).copied().unwrap_or(0) >= caps.per_ip {
            return None;
        }
        open.all += 1;
        *open.by_ip.entry(ip).or_insert(0) += 1;
        Some(Slot { slots: self.clone(), ip })
    }

    /// Connections open now.
    pub fn open(&self) -> usize {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).all
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut open = self.slots.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        open.all -= 1;
        if let Some(count) = open.by_ip.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                open.by_ip.remove(&self.ip);
            }
        }
    }
}

/// What a listener is given.
pub struct Terms {
    /// Who serves.
    pub workers: Workers,
    /// How many.
    pub caps: Caps,
    /// How long their requests may take.
    pub deadlines: Deadlines,
}

/// Accepts until `draining` turns true, then waits for the connections to finish, at most `patience`.
///
/// Returns the number of connections that were cut off.
pub async fn run<A: Answer>(
    listener: TcpListener,
    answer: A,
    Terms { workers, caps, deadlines }: Terms,
    slots: Slots,
    mut draining: watch::Receiver<bool>,
    patience: Duration,
) -> usize {
    let stop = draining.clone();
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = drained(&mut draining) => break,
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of descriptors or a connection that died in the queue: neither may end the loop.
                    tracing::warn!(%error, "accept failed");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
            },
        };
        let ip = canonical(peer);
        match slots.take(ip, caps) {
            None => refuse(stream),
            Some(slot) => {
                // Answers are small and whole; waiting for more to send only delays them.
                let _ = stream.set_nodelay(true);
                let (answer, stop) = (answer.clone(), stop.clone());
                // From here on another runtime watches the socket.
                match stream.into_std() {
                    Ok(stream) => workers.spawn(async move {
                        match TcpStream::from_std(stream) {
                            Ok(stream) => serve(stream, peer, answer, deadlines, stop).await,
                            Err(error) => tracing::warn!(%error, "a connection is not served"),
                        }
                        drop(slot);
                    }),
                    Err(error) => tracing::warn!(%error, "a connection is not served"),
                }
            }
        }
    }
    drop(listener);
    let end = tokio::time::Instant::now() + patience;
    while slots.open() > 0 && tokio::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    slots.open()
}

/// Resolves when the server drains, or when whoever could say so is gone.
pub(super) async fn drained(draining: &mut watch::Receiver<bool>) {
    let _ = draining.wait_for(|on| *on).await;
}

/// One client is one address, whether it comes over IPv4 or as IPv4 inside IPv6.
fn canonical(peer: SocketAddr) -> IpAddr {
    peer.ip().to_canonical()
}

fn refuse(mut stream: TcpStream) {
    tokio::spawn(async move {
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(FULL)).await;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fixed_answer_says_its_own_length() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
        let _: serde_json::Value = serde_json::from_str(body).unwrap();
    }

    #[test]
    fn slots_are_counted_by_all_and_by_address() {
        let slots = Slots::default();
        let caps = Caps { all: 3, per_ip: 2 };
        let (a, b) = (IpAddr::from([1, 1, 1, 1]), IpAddr::from([2, 2, 2, 2]));
        let one = slots.take(a, caps).unwrap();
        let _two = slots.take(a, caps).unwrap();
        assert!(slots.take(a, caps).is_none());
        let _three = slots.take(b, caps).unwrap();
        assert!(slots.take(b, caps).is_none());
        drop(one);
        assert!(slots.take(a, caps).is_some());
        assert_eq!(slots.open(), 2);
    }
}
