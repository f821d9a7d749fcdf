//! `flkd`: one node of the log server.

use server::config::{self, Config, LogFormat, SETTINGS, Secret};
use server::http::Front;
use server::node::Node;
use server::serve::Running;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit status of a start that was refused.
const REFUSED: u8 = 1;
/// Exit status of a node that could not go on.
const FAILED: u8 = 4;

fn main() -> ExitCode {
    let matches = command().get_matches();
    let dev = matches.subcommand_matches("dev").is_some();
    let flags: Vec<(String, String)> = SETTINGS
        .iter()
        .filter_map(|s| Some((s.name.to_owned(), matches.get_one::<String>(s.name)?.clone())))
        .collect();
    let file = matches.get_one::<PathBuf>("config").cloned();
    let loaded = preset(dev, &flags)
        .and_then(|preset| config::load(&preset, file.as_deref(), &flags).map_err(|error| error.to_string()));
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(why) => return refuse(&why),
    };
    if matches.get_flag("print-config") {
        print!("{}", loaded.print());
        return ExitCode::SUCCESS;
    }
    start_logs(&loaded.config);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if let Some(asked) = matches.subcommand_matches("alone") {
        let old = asked.get_one::<PathBuf>("from").expect("clap insists on it");
        return alone(old, &loaded.config, asked.get_flag("accept-loss"));
    }
    let runtime = match loaded.config.main_count() {
        1 => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        n => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(n)
            .thread_name("flk-main")
            .enable_all()
            .build(),
    };
    match runtime {
        Ok(runtime) => runtime.block_on(serve(loaded.config, dev)),
        Err(error) => refuse(&format!("the runtime does not start: {error}")),
    }
}

fn refuse(why: &str) -> ExitCode {
    eprintln!("flkd: {why}");
    ExitCode::from(REFUSED)
}

/// Begins a group of one with what a lost group has left.
fn alone(old: &Path, config: &Config, accepted: bool) -> ExitCode {
    if !accepted {
        return refuse(
            "records that the lost nodes acknowledged, and this one never got, will be lost; when those nodes cannot come \
             back, say --accept-loss",
        );
    }
    let made = match server::survivor::found_from(old, config) {
        Ok(made) => made,
        Err(error) => return refuse(&error.to_string()),
    };
    let server::survivor::Made { cluster, before, survived } = made;
    let open = survived.last.0 - survived.committed.0;
    println!(
        "{} holds {} records of {}, as cluster {cluster} with node {} alone\n\
         {open} of them, at the end, were not known here to be agreed; they are kept\n\
         LOST: whatever cluster {before} acknowledged after record {} and this node had not received; nothing here \
         can tell how much. Clients that are in doubt send again: the first of a name wins.\n\
         No node of the old cluster can join this one with its old directory; destroy those directories",
        config.data_dir.display(),
        survived.last,
        old.display(),
        config.node_id,
        survived.last,
    );
    ExitCode::SUCCESS
}

async fn serve(config: Config, dev: bool) -> ExitCode {
    let front = match Front::open(&config).await {
        Ok(front) => front,
        Err(error) => return refuse(&error.to_string()),
    };
    let node = match Node::open(config, &front.stage).await {
        Ok(node) => node,
        Err(error) => return refuse(&error.to_string()),
    };
    // Before anybody can see that it is ready: from then on it may be told to stop in order.
    let (Ok(mut term), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return refuse("signals cannot be waited for");
    };
    let running = match Running::start(node, front).await {
        Ok(running) => running,
        Err(error) => return refuse(&error.to_string()),
    };
    announce(&running, dev);
    let mut end = ExitCode::SUCCESS;
    let mut stop = std::pin::pin!(async {
        tokio::select! {
            _ = term.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    });
    let signal = tokio::select! {
        signal = &mut stop => signal,
        why = running.ledger_died() => match running.node().fold.diverged() {
            None => return die(&why),
            Some(_) => {
                // The others go on without it. A closed port would tell an operator less than what this node computed.
                running.halt().await;
                tracing::error!(why, "DIVERGENCE: this node has halted and answers only operators; flk divergence compares it with another");
                end = ExitCode::from(FAILED);
                (&mut stop).await
            }
        },
        why = running.log_failed() => {
            // S3: nothing is written until a restart has looked at the disk. What was answered is durable and can
            // be read; that is worth more to an operator at night than a closed port.
            tracing::error!(why, "the log has stopped: reads go on, submissions get 503, a restart recovers");
            end = ExitCode::from(FAILED);
            tokio::select! {
                signal = &mut stop => signal,
                why = running.ledger_died() => return die(&why),
            }
        }
    };
    tracing::info!("{signal}: draining");
    running.stop().await;
    end
}

/// What is in memory may not be trusted any more; the log is, and the next start reads it.
fn die(why: &str) -> ExitCode {
    tracing::error!(why, "the node cannot go on");
    eprintln!("flkd: the node cannot go on: {why}");
    ExitCode::from(FAILED)
}

/// Says what runs, where and on which disk.
fn announce(running: &Running, dev: bool) {
    let node: &Arc<Node> = running.node();
    let address = running.address;
    let newest = node.fold.signers.load().newest();
    let vkey = newest.lines().next().unwrap_or_default();
    let data = node.config.data_dir.display();
    let (origin, io) = (&node.fold.terms.origin, node.backend.to_string());
    let applied = node.fold.core().ledger.applied().0;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), %data, io, log = origin, key = vkey, %address, applied, "serving");
    if dev || node.config.log_format == LogFormat::Text {
        println!(
            "flkd {}  data {data}  io {io}  log {origin}  key {vkey}\n  API http://{address}   metrics /metrics   \
             API document /openapi.json   problems /problems      (Ctrl-C keeps data)",
            env!("CARGO_PKG_VERSION")
        );
        if dev {
            println!("  tenant demo (and default), HMAC secret in {data}/keys/demo.hmac");
        }
    }
}

fn start_logs(config: &Config) {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log_filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log_format {
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).init(),
        LogFormat::Text => builder.init(),
    }
}

/// The command line: one flag for each setting, made from the table.
fn command() -> clap::Command {
    use clap::{Arg, ArgAction, Command, value_parser};
    let mut command = Command::new("flkd")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Durable, deduplicated, verifiable log of proof-of-computation summaries")
        .subcommand(
            Command::new("dev")
                .about("One node in ./flk-dev with self-made keys and tenants 'default' and 'demo'"),
        )
        .subcommand(
            Command::new("alone")
                .about("Offline, when most disks of a group are gone for good: makes data.dir from the directory of a node that is left, as a new group of one")
                .arg(
                    Arg::new("from")
                        .long("from")
                        .value_name("DIR")
                        .required(true)
                        .value_parser(value_parser!(PathBuf))
                        .help("Data directory of the node that is left; it is not changed"),
                )
                .arg(
                    Arg::new("accept-loss")
                        .long("accept-loss")
                        .action(ArgAction::SetTrue)
                        .help("Records that only the lost nodes had are lost"),
                ),
        )
        .arg(
            Arg::new("config")
                .long("config")
                .value_name("FILE")
                .value_parser(value_parser!(PathBuf))
                .help("TOML file"),
        )
        .arg(
            Arg::new("print-config")
                .long("print-config")
                .action(ArgAction::SetTrue)
                .help("Print every setting with its origin, secrets masked, and exit"),
        );
    for setting in SETTINGS {
        let default = if setting.default.is_empty() { "not set" } else { setting.default };
        let help =
            format!("{} [{}; default {default}; env {}]", setting.why, setting.unit, setting.env.join(", "));
        command = command
            .arg(Arg::new(setting.name).long(setting.name).value_name("VALUE").help(help).global(true));
    }
    command
}

/// What `flkd dev` presets below every other layer.
fn preset(dev: bool, flags: &[(String, String)]) -> Result<Vec<(&'static str, String)>, String> {
    if !dev {
        return Ok(Vec::new());
    }
    let flag = flags.iter().find(|(name, _)| name == "data.dir").map(|(_, value)| value.clone());
    let dir = flag.or_else(|| std::env::var("FLK_DATA_DIR").ok()).unwrap_or_else(|| "./flk-dev".into());
    let secret = demo_secret(&Path::new(&dir).join("keys").join("demo.hmac"))?;
    let secret = secret.text().ok_or("the demo secret is not text")?;
    Ok(vec![
        ("data.dir", dir),
        ("http.host", "127.0.0.1".into()),
        ("tenants.multi", "true".into()),
        ("tenants.list", format!("default:hmac:{secret},demo:hmac:{secret}")),
        ("quota.rate_per_s", "0".into()),
        ("log.format", "text".into()),
        ("log.filter", "warn".into()),
    ])
}

/// The secret of the tenants of `flkd dev`, made on the first start.
fn demo_secret(path: &Path) -> Result<Secret, String> {
    let at = |error: std::io::Error| format!("{}: {error}", path.display());
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Secret::new(text.trim_end().as_bytes().to_vec())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(|error| error.to_string())?;
            let text = engine::codec::hex(&bytes);
            server::keys::create(path, format!("{text}\n").as_bytes(), 0o600).map_err(at)?;
            Ok(Secret::new(text.into_bytes()))
        }
        Err(error) => Err(at(error)),
    }
}
