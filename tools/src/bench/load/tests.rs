//! The load generator against servers that close connections and refuse requests.

use std::net::TcpListener;

use super::*;

/// Answers every request of every connection; every third connection is closed after ten answers.
fn server() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                let mut answers = 0;
                loop {
                    let mut chunk = [0; 1024];
                    match stream.read(&mut chunk) {
                        Ok(count) if count > 0 => seen.extend_from_slice(&chunk[..count]),
                        _ => return,
                    }
                    while let Some(at) = seen.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                        seen.drain(..at + 4);
                        answers += 1;
                        let (status, extra) = match answers % 4 {
                            0 => ("429 x", "Retry-After: 1\r\n"),
                            1 => ("200 OK", "Idempotent-Replayed: true\r\n"),
                            _ => ("202 x", ""),
                        };
                        let text = format!("HTTP/1.1 {status}\r\n{extra}Content-Length: 3\r\n\r\nok\n");
                        stream.write_all(text.as_bytes()).unwrap();
                        if number.is_multiple_of(3) && answers == 10 {
                            return;
                        }
                    }
                }
            });
        }
    });
    to
}

fn load(to: SocketAddr, rate: Option<f64>) -> Load {
    Load { to, connections: 7, threads: 2, time: Duration::from_secs(30), warm_up: Duration::ZERO, rate }
}

fn prepared(count: usize) -> Prepared {
    let request = b"POST /v1/pcs/submit HTTP/1.1\r\nHost: x\r\n\r\n".to_vec();
    Prepared { requests: Arc::new((0..count).map(|_| (request.clone(), 1)).collect()) }
}

#[test]
fn every_request_is_sent_once_and_every_answer_counted() {
    let outcome = run(&load(server(), None), &prepared(500), &mut |_| {}).unwrap();
    assert!(outcome.ran_out);
    // A connection that closes does so between requests; one that was being sent then counts as broken.
    assert_eq!(outcome.requests + outcome.broken, 500);
    assert_eq!(outcome.records + outcome.refused, outcome.requests);
    assert_eq!(outcome.statuses.iter().map(|(_, count)| count).sum::<u64>(), outcome.requests);
    assert_eq!(outcome.latency.len(), outcome.requests);
    assert_eq!(outcome.seconds.iter().map(|second| second.records).sum::<u64>(), outcome.records);
    let of = |status| outcome.statuses.iter().find(|(have, _)| *have == status).unwrap().1;
    assert_eq!((of(429), of(200)), (outcome.refused, outcome.replayed));
}

#[test]
fn a_rate_spreads_requests_and_sends_them_all() {
    let outcome = run(&load(server(), Some(2000.0)), &prepared(100), &mut |_| {}).unwrap();
    assert_eq!(outcome.requests + outcome.broken, 100);
}

#[test]
fn nobody_there_is_an_error() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    drop(listener);
    assert!(run(&load(to, None), &prepared(1), &mut |_| {}).is_err());
}
