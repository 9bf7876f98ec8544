//! The commented configuration file with every setting.

use crate::section::{Kind, Section, Setting};

/// Values to show where there is no default that is the same everywhere.
const EXAMPLES: [(&str, &str); 27] = [
    ("port", "7070"),
    ("memory_mib", "6144"),
    ("ca_certificates", "/etc/ssl/company.pem"),
    ("templates", "python-datasci"),
    ("exposed_as", "203.0.113.7:443"),
    ("images", "/var/lib/podflare/images"),
    ("guest_initrd", "/var/lib/podflare/guest-initrd.cpio"),
    ("vmm", "/usr/local/libexec/podflare/podflare-vmm"),
    ("netd", "/usr/local/libexec/podflare/podflare-netd"),
    ("authority", "/var/lib/podflare/authority"),
    ("network_allow", "10.1.0.0/16"),
    ("network_deny", "198.51.100.0/24"),
    ("network_resolvers", "9.9.9.9"),
    ("memory_budget_mib", "4096"),
    ("disk_reserve_mib", "2048"),
    ("pool", "default=4"),
    ("pool_size", "4"),
    ("log", "info,host=debug"),
    ("metrics_addr", "127.0.0.1:7071"),
    ("metrics_key", "change-me"),
    ("api_keys", "pf_live_change_me"),
    ("webhook_allow", "10.1.0.0/16"),
    ("region", "eu"),
    ("public_url", "https://podflare.example.com"),
    ("auth_disabled", "false"),
    ("wake_spaces", "true"),
    ("space_days", "365"),
];

const WIDTH: usize = 110;

const HEAD: &str = "\
# Podflare's configuration file: every setting, commented out, with its default or an example.
#
# A flag goes before the environment, the environment before this file, this file before the default.
# The file is the one that --config or PODFLARE_CONFIG names (PODFLARE_CONFIG= means none), or else the first of
# <state-dir>/podflare.toml, ~/.config/podflare/podflare.toml and /etc/podflare/podflare.toml.
#
# `podflare config check` finds mistakes; `podflare config show` tells what holds and why.
# Relative paths begin at the folder of this file.
";

/// The text of the file.
#[must_use]
pub fn reference() -> String {
    let mut text = HEAD.to_owned();
    for section in Section::all() {
        let about = match section.name {
            "up" => "What `podflare up` decides before there is a daemon.",
            _ => {
                "The daemon, podflare-hostd. `podflare up` hands these on to it, into the software host too."
            }
        };
        text.push_str(&format!("\n# {about}\n[{}]\n", section.name));
        for setting in &section.settings {
            text.push('\n');
            describe(&mut text, setting);
        }
    }
    text
}

fn describe(text: &mut String, setting: &Setting) {
    for line in wrapped(&setting.help) {
        text.push_str(&format!("# {line}\n"));
    }
    if !setting.words.is_empty() {
        text.push_str(&format!("# One of: {}.\n", setting.words.join(", ")));
    }
    let flag = setting.flag.iter().map(|flag| format!("--{flag}"));
    let ways: Vec<String> = flag.chain(setting.variable.clone()).collect();
    if !ways.is_empty() {
        text.push_str(&format!("# Also: {}\n", ways.join(", ")));
    }
    if setting.set_by_up {
        text.push_str("# `podflare up` sets it; this is for a daemon that is started by hand.\n");
    }
    let example = EXAMPLES.iter().find(|(key, _)| *key == setting.key);
    let values = match example {
        _ if !setting.default.is_empty() => setting.default.clone(),
        Some((_, example)) => vec![(*example).to_owned()],
        None => Vec::new(),
    };
    text.push_str(&format!(
        "#{} = {}\n",
        setting.key,
        written(setting.kind, &values)
    ));
}

fn written(kind: Kind, values: &[String]) -> String {
    let first = values.first().map(String::as_str).unwrap_or_default();
    match kind {
        Kind::Flag if first.is_empty() => "false".to_owned(),
        Kind::Flag | Kind::Integer | Kind::Seconds => first.to_owned(),
        Kind::Text | Kind::Path => format!("{first:?}"),
        Kind::List => format!("{values:?}"),
    }
}

fn wrapped(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len() + word.len() >= WIDTH {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if !line.is_empty() {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::File;

    #[test]
    fn the_checked_in_file_is_made_from_the_settings() {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/podflare.toml");
        if std::env::var_os("PODFLARE_UPDATE").is_some() {
            std::fs::write(&path, reference()).unwrap();
            return;
        }
        let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            checked_in == reference(),
            "docs/podflare.toml is out of date; `cargo xtask generate` writes it anew"
        );
    }

    #[test]
    fn it_is_sound_as_it_is_and_with_every_setting_taken_out_of_its_comment() {
        let path = Path::new("/etc/podflare/podflare.toml");
        File::parse(path, &reference()).unwrap();
        let lines = reference();
        let lines = lines.lines().map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.starts_with(' ') => setting,
            _ => line,
        });
        let text = lines.collect::<Vec<_>>().join("\n");
        let file = File::parse(path, &text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
        for section in Section::all() {
            for setting in &section.settings {
                assert!(
                    file.get(&section, setting).is_some(),
                    "{}.{}",
                    section.name,
                    setting.key
                );
            }
        }
    }

    #[test]
    fn every_setting_of_the_daemon_reaches_it_as_a_variable_wherever_it_runs() {
        for setting in Section::hostd().settings {
            assert!(setting.variable.is_some(), "{} has no variable", setting.key);
            assert!(!setting.help.is_empty(), "{} is not documented", setting.key);
        }
    }
}
