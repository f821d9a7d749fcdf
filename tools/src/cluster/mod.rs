//! `flk cluster`: the group of nodes that keeps a log, seen and changed.
//!
//! Any node can be asked: it checks the administrator's token and passes what is asked on to the leader.

mod certs;
mod checkup;
mod show;

pub(crate) use checkup::run as checkup;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::http::{Answer, Client};
use crate::report::{Exit, Fault, Report};
use crate::ui::Ui;

/// Sees and changes the group of nodes that keeps a log
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum Command {
    /// Who leads, who is behind or away; exit code 6 when the group is not whole
    Status(Server),
    /// The nodes of the group
    Members(Server),
    /// Take a new node in, as a learner, or correct the address of one that is in
    Add {
        #[command(flatten)]
        server: Server,
        /// Its node.id
        node: u64,
        /// Its cluster.advertise, host:port
        address: String,
        /// Give it a vote as soon as it has caught up
        #[arg(long)]
        voter: bool,
    },
    /// Give a learner that has caught up a vote
    Promote {
        #[command(flatten)]
        server: Server,
        /// Its node.id
        node: u64,
    },
    /// Take a node out for good; its name is never used again
    Remove {
        #[command(flatten)]
        server: Server,
        /// Its node.id
        node: u64,
    },
    /// Let another node lead
    Transfer {
        #[command(flatten)]
        server: Server,
        /// Its node.id; the one that has most of the log if not given
        node: Option<u64>,
    },
    /// The node that is asked hands over the lead and does not take it again until it is restarted
    Drain(Server),
    Certs(certs::Args),
}

/// Which node is asked, and with what right.
#[derive(Clone, Debug, clap::Args)]
pub struct Server {
    /// Any node of the group
    #[arg(long, env = "FLK_URL", default_value = "http://127.0.0.1:8080")]
    pub url: String,
    /// File with the certificates (PEM) of the authorities that an address with https is held to [default: the system's]
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// File of the administrator's token; else the environment variable FLK_ADMIN_TOKEN
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Seconds to wait for one answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub timeout: u64,
}

/// How long a node may take to fetch its files, and then to catch up, before `add` gives up waiting.
const CATCH_UP: Duration = Duration::from_secs(600);

/// Does it.
///
/// # Errors
/// The node cannot be reached or refuses; files cannot be written.
pub fn run(args: &Args, ui: Ui) -> Result<Report, Fault> {
    match &args.command {
        Command::Certs(args) => certs::run(args),
        Command::Status(server) => {
            let document = Admin::new(server)?.get()?;
            Ok(show::status(&document))
        }
        Command::Members(server) => {
            let document = Admin::new(server)?.get()?;
            Ok(show::members("flk cluster members", &document["group"]))
        }
        Command::Add { server, node, address, voter } => add(server, *node, address, *voter, ui),
        Command::Promote { server, node } => {
            let group = Admin::new(server)?.change(&json!({"do": "promote", "node": node}))?;
            Ok(said("flk cluster promote", &group, format!("node {node} has a vote")))
        }
        Command::Remove { server, node } => {
            let group = Admin::new(server)?.change(&json!({"do": "remove", "node": node}))?;
            let verdict = format!("node {node} is out; stop it, and never use its name again");
            Ok(said("flk cluster remove", &group, verdict))
        }
        Command::Transfer { server, node } => {
            let mut admin = Admin::new(server)?;
            admin.change(&json!({"do": "transfer", "to": node}))?;
            let group = admin.leader()?;
            let verdict = format!("node {} leads", group["leader"]);
            Ok(said("flk cluster transfer", &group, verdict))
        }
        Command::Drain(server) => {
            let mut admin = Admin::new(server)?;
            let asked = admin.post("/v1/cluster/drain", b"{}")?;
            let mut report = Report::new("flk cluster drain");
            report.verdict =
                format!("node {} does not lead and will not until it is restarted", asked["node"]);
            report.data = asked;
            Ok(report)
        }
    }
}

fn said(command: &'static str, group: &Value, verdict: String) -> Report {
    let mut report = show::members(command, group);
    report.verdict = verdict;
    report
}

fn add(server: &Server, node: u64, address: &str, voter: bool, ui: Ui) -> Result<Report, Fault> {
    let mut admin = Admin::new(server)?;
    let wanted = json!({"do": "add", "node": node, "address": address});
    let mut group = insist(&mut admin, &wanted, &format!("node {node} is waited for"), ui)?;
    if !voter {
        let verdict = format!("node {node} is in, without a vote; next: flk cluster promote {node}");
        return Ok(said("flk cluster add", &group, verdict));
    }
    let wanted = json!({"do": "promote", "node": node});
    group = insist(&mut admin, &wanted, &format!("node {node} catches up"), ui)?;
    Ok(said("flk cluster add", &group, format!("node {node} is in and has a vote")))
}

/// Asks for a change until it is made or refused for good.
fn insist(admin: &mut Admin, wanted: &Value, doing: &str, ui: Ui) -> Result<Value, Fault> {
    let end = Instant::now() + CATCH_UP;
    loop {
        let answer = admin.send("POST", "/v1/cluster/change", wanted.to_string().as_bytes())?;
        if answer.status == 200 {
            return Ok(answer.json());
        }
        // 409: the node still fetches files or lacks too much, or another change is under way.
        if answer.status != 409 || Instant::now() >= end {
            return Err(refused(&admin.url, &answer));
        }
        ui.say(&format!("{doing}: {}", answer.json()["detail"].as_str().unwrap_or_default()));
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// The administrator's way to one node.
pub(crate) struct Admin {
    url: String,
    client: Client,
    authorization: String,
}

impl Admin {
    pub(crate) fn new(server: &Server) -> Result<Admin, Fault> {
        let token = match &server.token_file {
            Some(path) => std::fs::read_to_string(path).map_err(|error| Fault::read(path, error))?,
            None => std::env::var("FLK_ADMIN_TOKEN").map_err(|_| {
                let next =
                    "give --token-file FILE, or set FLK_ADMIN_TOKEN to what the node has as admin.token";
                Fault::new("cannot ask about the group", &server.url, "no administrator's token", next)
            })?,
        };
        let client =
            Client::trusting(&server.url, Duration::from_secs(server.timeout), server.ca.as_deref())?;
        let authorization = format!("Bearer {}", token.trim_end());
        Ok(Admin { url: server.url.clone(), client, authorization })
    }

    pub(crate) fn send(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Answer, Fault> {
        let headers = [("authorization", self.authorization.as_str()), ("content-type", "application/json")];
        self.client.request(method, path, &headers, body).map_err(|error| {
            Fault::new(
                "no answer from the node",
                &self.url,
                error,
                "is it running? ask another one with --url",
            )
        })
    }

    /// What a refusal is to whoever asked.
    pub(crate) fn refused(&self, answer: &Answer) -> Fault {
        refused(&self.url, answer)
    }

    fn get(&mut self) -> Result<Value, Fault> {
        let answer = self.send("GET", "/v1/cluster", &[])?;
        if answer.status == 200 { Ok(answer.json()) } else { Err(refused(&self.url, &answer)) }
    }

    fn post(&mut self, path: &str, body: &[u8]) -> Result<Value, Fault> {
        let answer = self.send("POST", path, body)?;
        if answer.status == 200 { Ok(answer.json()) } else { Err(refused(&self.url, &answer)) }
    }

    pub fn change(&mut self, change: &Value) -> Result<Value, Fault> {
        self.post("/v1/cluster/change", change.to_string().as_bytes())
    }

    /// The group once somebody leads it again.
    fn leader(&mut self) -> Result<Value, Fault> {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let group = self.get()?["group"].take();
            if group["leader"].is_u64() || Instant::now() >= end {
                return Ok(group);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

fn refused(url: &str, answer: &Answer) -> Fault {
    let problem = answer.json();
    let detail =
        problem["detail"].as_str().or(problem["title"].as_str()).unwrap_or("no reason given").to_owned();
    let next = match answer.status {
        401 => "give the token that the node has as admin.token",
        404 => "flk cluster members",
        409 => "flk cluster status, then try again",
        503 => "flk cluster status at another node",
        _ => "flk cluster --help",
    };
    Fault::new("the node refused", url, format!("{} {detail}", answer.status), next).exit(Exit::Failed)
}
