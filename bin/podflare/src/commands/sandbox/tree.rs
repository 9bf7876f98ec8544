//! `podflare sandbox tree`.

use std::collections::HashSet;

use api::{CheckpointState, SandboxInfo};
use pod_types::SandboxId;
use serde::Serialize;

use crate::context::Context;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Paint, Show, since, state_name};

/// Show which sandbox was forked from which, and the checkpoints of each
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this one and what was forked from it
    #[arg(value_name = "ID")]
    id: Option<SandboxId>,
}

/// Sandboxes in the order of the tree, each with its depth in it.
#[derive(Serialize)]
struct Tree {
    sandboxes: Vec<Branch>,
}

#[derive(Serialize)]
struct Branch {
    depth: usize,
    #[serde(flatten)]
    info: SandboxInfo,
    /// What stands before it, drawn.
    #[serde(skip)]
    rail: String,
}

pub(crate) fn run(context: &Context, args: &Args) -> Result<Exit, Failure> {
    let client = context.client()?;
    let list = client.list()?;
    let tree = match args.id {
        None => Tree::of(list, None),
        // A sandbox that is not in the list is asked for, so that it is missed with the usual words.
        Some(id) if !list.iter().any(|info| info.id == id) => Tree::of(vec![client.get(id)?], Some(id)),
        Some(id) => Tree::of(list, Some(id)),
    };
    context.printer.show(&tree)?;
    if tree.sandboxes.is_empty() {
        context
            .printer
            .hint("there are no sandboxes; `podflare sandbox create` makes one");
    }
    Ok(Exit::Ok)
}

impl Tree {
    /// The trees under the roots, which are `root` or all whose parent is gone.
    fn of(list: Vec<SandboxInfo>, root: Option<SandboxId>) -> Self {
        let known: HashSet<SandboxId> = list.iter().map(|info| info.id).collect();
        let is_root = |info: &SandboxInfo| match root {
            Some(root) => info.id == root,
            None => info.parent.is_none_or(|parent| !known.contains(&parent)),
        };
        let (roots, rest): (Vec<_>, Vec<_>) = list.into_iter().partition(|info| is_root(info));
        let mut tree = Self {
            sandboxes: Vec::new(),
        };
        let mut rest: Vec<Option<SandboxInfo>> = rest.into_iter().map(Some).collect();
        for root in roots {
            tree.grow(root, 0, "", "", &mut rest);
        }
        tree
    }

    /// Puts one sandbox and all below it. `rest` loses those that are put, so that this ends whatever the host says.
    fn grow(
        &mut self,
        info: SandboxInfo,
        depth: usize,
        rail: &str,
        below: &str,
        rest: &mut [Option<SandboxInfo>],
    ) {
        let id = info.id;
        self.sandboxes.push(Branch {
            depth,
            info,
            rail: rail.to_owned(),
        });
        let is_child = |info: &Option<SandboxInfo>| info.as_ref().is_some_and(|info| info.parent == Some(id));
        let children: Vec<SandboxInfo> = rest
            .iter_mut()
            .filter(|info| is_child(info))
            .filter_map(Option::take)
            .collect();
        let last = children.len().saturating_sub(1);
        for (number, child) in children.into_iter().enumerate() {
            let (branch, trunk) = if number == last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            self.grow(
                child,
                depth + 1,
                &format!("{below}{branch}"),
                &format!("{below}{trunk}"),
                rest,
            );
        }
    }
}

impl Show for Tree {
    fn words(&self, _: Paint) -> String {
        let lines: Vec<String> = self
            .sandboxes
            .iter()
            .map(|Branch { info, rail, .. }| {
                let (state, age) = (state_name(info.state), since(info.created_at_ms));
                let line = format!("{rail}{}  {state}  {}  {age}", info.id, info.template);
                match checkpoints(info) {
                    Some(names) => format!("{line}  checkpoints: {names}"),
                    None => line,
                }
            })
            .collect();
        lines.join("\n")
    }
}

/// Names of the checkpoints, oldest first.
fn checkpoints(info: &SandboxInfo) -> Option<String> {
    let names = info.checkpoints.iter().map(|checkpoint| match checkpoint.state {
        CheckpointState::Ready => checkpoint.name.clone(),
        CheckpointState::Lost => format!("{} (lost)", checkpoint.name),
    });
    let names: Vec<String> = names.collect();
    (!names.is_empty()).then(|| names.join(", "))
}
