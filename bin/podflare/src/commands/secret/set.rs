//! `podflare secret set`.

use std::io::{self, Read as _};

use api::{SecretInfo, SecretRequest};
use egress::NameRule;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show};

/// More than any value may have.
const VALUE_BYTES_MAX: u64 = 64 * 1024;

/// Keep a secret, whose value comes from standard input, and print its placeholder
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,

    /// A host it is for: api.example.com, *.example.org, with a port or for all of them
    #[arg(long = "host", value_name = "HOST", required = true, value_parser = host)]
    hosts: Vec<NameRule>,

    /// What stands for it in sandboxes [default: what it was before, or one that is made up]
    #[arg(long, value_name = "TEXT")]
    placeholder: Option<String>,
}

pub(crate) fn run(context: &Context, args: Args) -> Result<Exit, Failure> {
    let mut value = String::new();
    io::stdin()
        .lock()
        .take(VALUE_BYTES_MAX)
        .read_to_string(&mut value)
        .map_err(|error| Failure::while_doing("stdin", "cannot read the value", &error))?;
    let request = SecretRequest {
        // The end of a file's last line is not part of what is in it.
        value: value.trim_end_matches(['\n', '\r']).to_owned(),
        hosts: args.hosts,
        placeholder: args.placeholder,
    };
    let set = context.client()?.put_secret(&args.name, &request)?;
    context.printer.show(&set)?;
    Ok(Exit::Ok)
}

fn host(text: &str) -> Result<NameRule, String> {
    text.parse::<NameRule>().map_err(|error| error.to_string())
}

/// For people and shells alike: the placeholder alone.
impl Show for SecretInfo {
    fn words(&self, _: Paint) -> String {
        self.placeholder.clone()
    }
}
