//! Runs one engine of others and prints one line of JSON, for the rows P2 and P11 of `bench`.
//!
//! `peers append raft-engine|fjall|sqlite DIR CLIENTS SECONDS` measures durable appends through the group
//! commit of `front`; `raft-engine-threads` instead is raft-engine with its own. `peers fill raft-engine DIR RECORDS BATCH` writes a log in batches of BATCH, `peers recover raft-engine DIR`
//! opens it again and reads every entry, and tells how long each took.

mod engines;
mod front;
mod threads;

use engines::{Engine, Fjall, RaftEngine, Sqlite};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["append", engine, dir, clients, seconds] => {
            let (Ok(clients), Ok(seconds)) = (clients.parse(), seconds.parse()) else { return usage() };
            let dir = Path::new(dir);
            let run = match engine {
                "raft-engine" => front::run(RaftEngine::open(dir), clients, seconds),
                "raft-engine-threads" => threads::run(dir, clients, seconds),
                "fjall" => front::run(Fjall::open(dir), clients, seconds),
                "sqlite" => front::run(Sqlite::open(dir), clients, seconds),
                _ => return usage(),
            };
            let us = |q| run.latency.value_at_quantile(q) as f64 / 1e3;
            println!(
                "{{\"rate\":{:.1},\"p50_us\":{:.1},\"p99_us\":{:.1},\"p999_us\":{:.1}}}",
                run.acks as f64 / run.seconds,
                us(0.5),
                us(0.99),
                us(0.999)
            );
        }
        ["fill", "raft-engine", dir, records, batch] => {
            let (Ok(records), Ok(batch)) = (records.parse::<usize>(), batch.parse::<usize>()) else {
                return usage();
            };
            let mut engine = RaftEngine::open(Path::new(dir));
            let batch: Vec<_> = (1..=batch.max(1) as u64).map(front::random_record).collect();
            let mut left = records;
            while left > 0 {
                let n = left.min(batch.len());
                engine.append(&batch[..n]);
                left -= n;
            }
            println!("{{\"records\":{records}}}");
        }
        ["recover", "raft-engine", dir] => {
            let start = Instant::now();
            let engine = RaftEngine::open(Path::new(dir));
            let opened = start.elapsed().as_secs_f64();
            let bytes = engine.read_all();
            let seconds = start.elapsed().as_secs_f64();
            let records = engine.len();
            println!(
                "{{\"records\":{records},\"bytes\":{bytes},\"open_seconds\":{opened:.6},\"seconds\":{seconds:.6},\
                 \"rate\":{:.1}}}",
                records as f64 / seconds
            );
        }
        _ => return usage(),
    }
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    eprintln!(
        "peers append raft-engine|raft-engine-threads|fjall|sqlite DIR CLIENTS SECONDS\n\
         peers fill raft-engine DIR RECORDS BATCH\n\
         peers recover raft-engine DIR"
    );
    ExitCode::from(2)
}
