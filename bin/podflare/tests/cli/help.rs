//! Help that teaches: every command says what it does, and examples can be pasted.

use crate::support::Cli;

#[test]
fn every_command_has_help_of_its_own() {
    let cli = Cli::alone();
    for (arguments, says) in [
        (&["--help"][..], "podflare run -c 'print(6 * 7)'"),
        (&["run", "--help"], "125 means that Podflare could not run it"),
        (&["shell", "--help"], "ctrl-p ctrl-q detaches"),
        (&["forward", "--help"], "podflare forward ID 8080:9090 5432"),
        (&["sandbox", "share", "--help"], "--expires 1d"),
        (&["sandbox", "--help"], "inspect"),
        (&["sandbox", "create", "--help"], "id=$(podflare sandbox create)"),
        (
            &["sandbox", "checkpoint", "--help"],
            "podflare sandbox rollback ID",
        ),
        (&["sandbox", "set", "--help"], "podflare sandbox extend ID 1h"),
        (
            &["sandbox", "egress", "--help"],
            "podflare sandbox egress ID --off",
        ),
        (
            &["secret", "--help"],
            "podflare secret set TOKEN --host api.example.com",
        ),
        (&["key", "--help"], "podflare key rotate KEY --grace 86400"),
        (&["tenant", "--help"], "--limit ram_mib=8192"),
        (&["usage", "--help"], "--mine"),
        (&["machine", "capture", "--help"], "--packet-bytes 96"),
        (&["audit", "--help"], "never what was run"),
        (
            &["sandbox", "exec", "--help"],
            "variables and imports are still there",
        ),
    ] {
        let finished = cli.run(arguments);
        assert_eq!(
            (finished.status, finished.stderr.as_str()),
            (0, ""),
            "{arguments:?}"
        );
        assert!(
            finished.stdout.contains(says),
            "{arguments:?}: {}",
            finished.stdout
        );
        assert!(
            finished.stdout.lines().all(|line| line.chars().count() <= 100),
            "{arguments:?}"
        );
        assert!(
            !finished.stdout.contains('\x1b'),
            "{arguments:?} is coloured although this is no terminal"
        );
    }
}

#[test]
fn arguments_that_make_no_sense_are_usage_errors() {
    let cli = Cli::alone();
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["sandbox"],
        &["run", "--ram-mib", "many", "-c", "1"],
    ] {
        let finished = cli.run(arguments);
        assert_eq!(
            (finished.status, finished.stdout.as_str()),
            (2, ""),
            "{arguments:?}"
        );
        assert!(
            finished.stderr.contains("Usage:") || finished.stderr.contains("--help"),
            "{finished:?}"
        );
    }
}

#[test]
fn the_version_says_how_it_was_built() {
    let finished = Cli::alone().run(&["version"]);
    assert!(
        finished
            .stdout
            .starts_with(concat!("podflare ", env!("CARGO_PKG_VERSION"))),
        "{finished:?}"
    );
    let version: serde_json::Value =
        serde_json::from_str(&Cli::alone().run(&["version", "--json"]).stdout).unwrap();
    assert!(version["profile"].is_string() && version["static_linked"].is_boolean());
}
