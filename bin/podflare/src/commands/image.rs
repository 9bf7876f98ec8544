//! `podflare image`: the templates sandboxes can be made from, and building their root file systems ahead of need.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use clap::Subcommand;
use image::{BuildOptions, MirrorSetting, Rootfs, Template};
use serde::Serialize;

use crate::artifacts::{build_rootfs, open_store, templates};
use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::launch::Launch;
use crate::output::{Paint, Show, Steps, mebibytes, table};

const EXAMPLES: &str = "\
Examples:
  podflare image ls
  podflare image build python-datasci            fetch and build, or say at once where it is
  podflare image build python-datasci --refresh  the same with today's security updates

Building changes no host. `podflare up --template NAME` has what is missing built, too, and then offers it.";

/// See and build the templates sandboxes are made from
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Ls(LsArgs),
    Build(BuildArgs),
}

/// List the templates
#[derive(Debug, clap::Args)]
pub(crate) struct LsArgs {}

/// Build the root file systems of templates
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BuildArgs {
    /// Templates to build; `default` is built with them
    #[arg(value_name = "NAME", required = true)]
    names: Vec<String>,

    /// PEM file, or directory of them, that sandboxes shall trust (can be repeated)
    #[arg(long, value_name = "PATH")]
    ca_certificates: Vec<PathBuf>,

    /// Build anew, with today's security updates
    #[arg(long)]
    refresh: bool,
}

#[derive(Serialize)]
struct Listing {
    templates: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    description: String,
    /// Whether the host on this machine was started with it.
    offered: bool,
}

#[derive(Serialize)]
struct Built {
    images: Vec<BuiltImage>,
}

#[derive(Serialize)]
struct BuiltImage {
    template: String,
    path: PathBuf,
    /// What it takes on disk; a sandbox sees more.
    size_mib: u64,
}

pub(crate) fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Ls(LsArgs {}) => list(context),
        Command::Build(args) => build(context, &args),
    }
}

fn list(context: &Context) -> Result<Exit, Failure> {
    let all = Template::all_built_in().map_err(|error| Failure::because("template", &error))?;
    let launch = Launch::read(&context.directories()?);
    let offered = |template: &Template| match &launch {
        Some(launch) => launch.options.offers(&template.name),
        None => false,
    };
    let templates = all
        .into_iter()
        .map(|template| Row {
            offered: offered(&template),
            name: template.name,
            description: template.description,
        })
        .collect();
    context.printer.show(&Listing { templates })?;
    Ok(Exit::Ok)
}

fn build(context: &Context, args: &BuildArgs) -> Result<Exit, Failure> {
    let names: Vec<_> = args.names.iter().map(String::as_str).collect();
    let wanted = templates(&names)?;
    let steps = Steps::new(context.printer);
    let options = BuildOptions {
        mirror: MirrorSetting::from_env(),
        refresh: args.refresh,
        progress: &steps,
    };
    let store = open_store(&context.directories()?)?;
    let built = build_rootfs(&store, &args.names, &args.ca_certificates, &options)?;
    steps.abandon();
    let images = built
        .iter()
        .filter(|rootfs| wanted.iter().any(|template| template.name == rootfs.template()))
        .map(BuiltImage::of)
        .collect();
    context.printer.show(&Built { images })?;
    Ok(Exit::Ok)
}

impl BuiltImage {
    fn of(rootfs: &Rootfs) -> Self {
        let path = rootfs.image();
        // In units of 512 bytes, whatever the file system's own are.
        let blocks = fs::metadata(&path).map_or(0, |metadata| metadata.blocks());
        Self {
            template: rootfs.template().to_owned(),
            size_mib: blocks / 2048,
            path,
        }
    }
}

impl Show for Listing {
    fn words(&self, _: Paint) -> String {
        let row = |row: &Row| {
            let offered = if row.offered { "offered" } else { "" };
            [row.name.clone(), offered.to_owned(), row.description.clone()]
        };
        table(&self.templates.iter().map(row).collect::<Vec<_>>())
    }
}

impl Show for Built {
    fn words(&self, _: Paint) -> String {
        let row = |image: &BuiltImage| {
            [
                image.template.clone(),
                mebibytes(image.size_mib),
                image.path.display().to_string(),
            ]
        };
        table(&self.images.iter().map(row).collect::<Vec<_>>())
    }
}
