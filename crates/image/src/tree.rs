//! A root file system's files: a system, and on top of it what a template adds.
//!
//! One process unpacks, adds, and makes the file system: without being root, the files' owners exist only in a user
//! namespace with our subordinate ids, and that ends with the process.

use std::path::Path;

use nix::unistd::geteuid;

use crate::command::Tool;

/// Where the template's wheels lie inside the tree while they are installed.
pub(crate) const WHEELS: &str = "/.podflare-wheels";
/// Where the template's script lies inside the tree while it runs.
pub(crate) const SETUP_SCRIPT: &str = "/.podflare-setup";

/// Device nodes are left out: who is root in a user namespace only cannot make any, and guests mount devtmpfs. The
/// script that sets up gets an empty file as `/dev/null`, and nothing of this machine's environment.
const UNPACK_AND_RUN: &str = r#"set -eu
tree=$1 system=$2 overlay=$3 wheels=$4; shift 4
umask 022
trap 'rm -rf "$tree"' EXIT
mkdir "$tree"
unpack() { tar --extract --file "$1" --directory "$tree" --numeric-owner --same-owner --preserve-permissions "$2"; }
unpack "$system" --exclude='./dev/*'
unpack "$overlay" --keep-directory-symlink
[ -z "$wheels" ] || cp -R "$wheels" "$tree/.podflare-wheels"
if [ -e "$tree/.podflare-setup" ]; then
    : > "$tree/dev/null"
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
        chroot "$tree" /bin/sh /.podflare-setup
    rm -rf "$tree/dev/null" "$tree/.podflare-setup" "$tree/.podflare-wheels"
fi
"$@""#;

/// What a tree is made of.
#[derive(Debug)]
pub(crate) struct Tree<'a> {
    /// Archive of a system.
    pub(crate) system: &'a Path,
    /// Archive of files to add; [`SETUP_SCRIPT`] among them is run inside the tree and removed.
    pub(crate) overlay: &'a Path,
    /// Directory to be found as [`WHEELS`] by that script.
    pub(crate) wheels: Option<&'a Path>,
}

impl Tree<'_> {
    /// Unpacks all to `place`, runs the command whose words follow, and removes the tree again.
    pub(crate) fn tool<'t>(&self, place: &Path, log: &'t Path) -> Tool<'t> {
        let tool = if geteuid().is_root() {
            Tool::new("sh", log)
        } else {
            Tool::new("unshare", log).args(["--map-root-user", "--map-auto", "--", "sh"])
        };
        tool.args(["-c", UNPACK_AND_RUN, "sh"])
            .args([place, self.system, self.overlay])
            .arg(self.wheels.unwrap_or(Path::new("")))
    }
}
