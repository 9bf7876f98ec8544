//! The configuration file: finding it, finding mistakes in it, and what holds because of it.

use std::fs;

use serde_json::Value;

use crate::support::Cli;

/// Writes a file where a user's own is looked for.
fn configured(text: &str) -> Cli {
    let cli = Cli::alone();
    let folder = cli.home().join(".config/podflare");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("podflare.toml"), text).unwrap();
    cli
}

fn setting(cli: &Cli, key: &str) -> Value {
    let shown = cli.run(&["config", "show", "--json"]);
    assert_eq!(shown.status, 0, "{shown:?}");
    let shown: Value = serde_json::from_str(&shown.stdout).unwrap();
    let settings = shown["settings"].as_array().unwrap().clone();
    settings
        .into_iter()
        .find(|setting| setting["key"] == key)
        .unwrap()
}

#[test]
fn without_a_file_everything_has_its_default() {
    let cli = Cli::alone();
    let checked = cli.run(&["config", "check"]);
    assert_eq!(checked.status, 0, "{checked:?}");
    assert!(
        checked.stdout.starts_with("there is no configuration file"),
        "{checked:?}"
    );
    let ram = setting(&cli, "ram_mib");
    assert_eq!(
        (&ram["value"], &ram["source"]),
        (&"1024".into(), &"default".into())
    );
}

#[test]
fn a_value_comes_from_the_environment_then_the_file_then_the_default_and_secrets_are_not_shown() {
    let cli = configured("[hostd]\nregion = \"eu\"\nram_mib = 512\napi_keys = \"pf_live_secret\"\n");
    let ram = setting(&cli, "ram_mib");
    assert_eq!((&ram["value"], &ram["place"]), (&"512".into(), &"line 3".into()));
    let mut command = cli.command(&["config", "show", "--changed"]);
    let shown = command.env("PODFLARE_REGION", "lab").output().unwrap();
    let words = String::from_utf8(shown.stdout).unwrap();
    assert!(
        words.contains("region = lab  # environment: PODFLARE_REGION"),
        "{words}"
    );
    assert!(words.contains("ram_mib = 512  # file: line 3"), "{words}");
    assert!(
        words.contains("api_keys = (secret)") && !words.contains("pf_live_secret"),
        "{words}"
    );
    assert!(!words.contains("vcpus"), "{words}");
}

#[test]
fn mistakes_are_told_with_file_line_key_and_the_nearest_name_and_nothing_starts() {
    let cli = configured("[up]\nprot = 1\n\n[hostd]\nvcpus = \"two\"\n");
    let checked = cli.run(&["config", "check"]);
    assert_eq!(checked.status, 1, "{checked:?}");
    let lines: Vec<&str> = checked.stdout.lines().collect();
    assert!(
        lines[0].ends_with("podflare.toml:2: up.prot: there is no such setting; did you mean port?"),
        "{lines:?}"
    );
    assert!(
        lines[1].ends_with("podflare.toml:5: hostd.vcpus: expected a whole number, got the text \"two\""),
        "{lines:?}"
    );
    let up = cli.run(&["up"]);
    assert_eq!((up.status, up.stdout.as_str()), (1, ""));
    assert!(up.stderr.contains("did you mean port?"), "{up:?}");
    // Other commands do not need the file.
    assert_eq!(cli.run(&["version"]).status, 0);
}

#[test]
fn the_file_is_the_one_that_is_named_and_one_that_is_named_must_be_there() {
    let cli = configured("[hostd]\nregion = \"eu\"\n");
    let other = cli.home().join("other.toml");
    fs::write(&other, "[hostd]\nregion = \"lab\"\n").unwrap();
    let shown = |variable: &str, arguments: &[&str]| {
        let mut command = cli.command(&[&["config", "show", "--changed"], arguments].concat());
        if !variable.is_empty() {
            command.env("PODFLARE_CONFIG", variable.trim_start_matches('='));
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(shown("", &[]).contains("region = eu"));
    assert!(shown(other.to_str().unwrap(), &[]).contains("region = lab"));
    assert!(shown("", &["--config", other.to_str().unwrap()]).contains("region = lab"));
    assert!(shown("=", &[]).contains("there is no configuration file"));
    let missing = cli.run(&["config", "show", "--config", "missing.toml"]);
    assert_eq!(missing.status, 1);
    assert!(
        missing.stderr.contains("missing.toml, which --config names"),
        "{missing:?}"
    );
}

#[test]
fn init_writes_a_file_that_is_sound_and_never_over_another() {
    let cli = Cli::alone();
    let written = cli.run(&["config", "init"]);
    assert_eq!(written.status, 0, "{written:?}");
    let checked = cli.run(&["config", "check"]);
    assert!(
        checked.stdout.ends_with("podflare.toml is sound\n"),
        "{checked:?}"
    );
    let again = cli.run(&["config", "init"]);
    assert_eq!(again.status, 1);
    assert!(again.stderr.contains("--force"), "{again:?}");
    let text = cli.run(&["config", "init", "-"]).stdout;
    assert_eq!(text, include_str!("../../../../docs/podflare.toml"));
}

#[test]
fn an_address_beyond_this_machine_is_refused_by_up_with_a_way_out() {
    let cli = Cli::alone();
    let mut command = cli.command(&["up"]);
    let up = command
        .env("PODFLARE_HOSTD_ADDR", "0.0.0.0:7070")
        .output()
        .unwrap();
    assert_eq!(up.status.code(), Some(1));
    let text = String::from_utf8(up.stderr).unwrap();
    assert!(
        text.contains("0.0.0.0:7070") && text.contains("reverse proxy"),
        "{text}"
    );
}
