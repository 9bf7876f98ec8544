//! `podflare machine`: a look inside the software host, for operators.

use std::time::Duration;

use clap::Subcommand;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Form, Paint, Show};

const EXAMPLES: &str = "\
Examples:
  podflare machine exec -- dmesg
  podflare machine exec -- 'ps; free -m'
  podflare machine exec -- ls -l /dev/kvm";

/// Look inside the software host (for operators)
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Exec(ExecArgs),
}

/// Run a shell command inside the software host itself, not in a sandbox
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ExecArgs {
    /// End the command after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout_seconds: u64,

    /// The command and its arguments, as a shell line
    #[arg(
        value_name = "CMD",
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true
    )]
    words: Vec<String>,
}

/// What the command did.
#[derive(Serialize)]
struct Done<'a> {
    status: i32,
    output: std::borrow::Cow<'a, str>,
}

pub(crate) fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Exec(args) => exec(context, &args),
    }
}

fn exec(context: &Context, args: &ExecArgs) -> Result<Exit, Failure> {
    let run_dir = context.directories()?.run;
    let limit = Duration::from_secs(args.timeout_seconds);
    let answer = softhost::exec_in_machine(&run_dir, &args.words.join(" "), limit).map_err(|error| {
        Failure::because("machine", &error)
            .hint("only a software host is a machine of its own; `podflare status` says what runs")
    })?;
    match context.printer.form() {
        Form::Words => context.printer.out(&answer.output)?,
        Form::Json => context.printer.show(&Done {
            status: answer.status,
            output: String::from_utf8_lossy(&answer.output),
        })?,
    }
    Ok(Exit::of_run(answer.status.into()))
}

impl Show for Done<'_> {
    fn words(&self, _: Paint) -> String {
        self.output.clone().into_owned()
    }
}
