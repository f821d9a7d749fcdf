//! What `flk` and `worm` share at their edge: output flags, printing, exit codes.

use std::io::Write;
use std::process::ExitCode;

use crate::report::{Exit, Fault, Format, Report, render, render_fault};
use crate::ui::{Ui, colour};

/// How to print, for every command.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Output {
    /// The same as -w json
    #[arg(long, global = true, help_heading = "Output")]
    pub json: bool,
    /// How to print the result: text, table or json
    #[arg(
        short = 'w',
        long = "write-out",
        value_name = "FORMAT",
        value_enum,
        default_value_t = Format::Text,
        hide_possible_values = true,
        global = true,
        help_heading = "Output"
    )]
    pub write_out: Format,
}

impl Output {
    /// The chosen format.
    #[must_use]
    pub fn format(&self) -> Format {
        if self.json { Format::Json } else { self.write_out }
    }

    /// How the command may speak while it runs: not at all when a machine reads its output.
    #[must_use]
    pub fn ui(&self) -> Ui {
        if self.format() == Format::Json { Ui::quiet() } else { Ui::from_env() }
    }
}

/// Prints what a command came to and gives the process's exit code. A reader that went away (a closed pipe) is not
/// an error.
#[must_use]
pub fn finish(result: Result<Report, Fault>, format: Format) -> ExitCode {
    match result {
        Ok(report) => {
            let _ = std::io::stdout().lock().write_all(render(&report, format, colour()).as_bytes());
            ExitCode::from(report.exit as u8)
        }
        Err(fault) => {
            let text = render_fault(&fault, format, colour() && format != Format::Json);
            let _ = if format == Format::Json {
                std::io::stdout().lock().write_all(text.as_bytes())
            } else {
                std::io::stderr().lock().write_all(text.as_bytes())
            };
            ExitCode::from(fault.exit as u8)
        }
    }
}

/// Parses arguments; a mistake ends the process with exit code 1 (2 means "tampered" here), help with 0.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "the edge that ends the process")]
pub fn parse<C: clap::Parser>() -> C {
    C::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { i32::from(Exit::Failed as u8) } else { 0 })
    })
}

/// Which server a command speaks to.
#[derive(Clone, Debug, clap::Args)]
pub struct Server {
    /// The server
    #[arg(
        long,
        env = "FLK_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8080",
        help_heading = "Server"
    )]
    pub url: String,
    /// File with the certificates (PEM) of the authorities that an address with https is held to [default: the system's]
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    pub ca: Option<std::path::PathBuf>,
    /// The tenant
    #[arg(
        long,
        env = "FLK_TENANT",
        hide_env_values = true,
        default_value = "default",
        help_heading = "Server"
    )]
    pub tenant: String,
    /// Seconds to wait for one answer
    #[arg(long, value_name = "SECONDS", default_value_t = 30, help_heading = "Server")]
    pub timeout: u64,
}
