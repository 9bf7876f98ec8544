//! Reads the host's package sources: `sources.list(5)` in its one-line and its deb822 form.

use std::fs;
use std::io;
use std::path::Path;

/// One archive and suite that the host takes packages from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) uri: String,
    /// e.g. `bookworm`, `bookworm-updates`.
    pub(crate) suite: String,
    pub(crate) components: Vec<String>,
    /// Keyring the source is to be verified with, as written; empty when not said.
    pub(crate) signed_by: String,
}

/// Reads all sources below an apt configuration directory such as `/etc/apt`, in apt's order.
pub(crate) fn read(apt_directory: &Path) -> Vec<Source> {
    let mut sources = fs::read_to_string(apt_directory.join("sources.list"))
        .map_or_else(|_| Vec::new(), |text| parse_list(&text));
    let mut files = list_files(&apt_directory.join("sources.list.d")).unwrap_or_default();
    files.sort();
    for file in files {
        let Ok(text) = fs::read_to_string(&file) else {
            continue;
        };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => sources.extend(parse_list(&text)),
            Some("sources") => sources.extend(parse_deb822(&text)),
            _ => {}
        }
    }
    sources
}

fn list_files(directory: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    fs::read_dir(directory)?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect()
}

/// Lines such as `deb [arch=amd64 signed-by=/k.gpg] http://mirror/debian bookworm main`.
fn parse_list(text: &str) -> Vec<Source> {
    text.lines().filter_map(parse_line).collect()
}

fn parse_line(line: &str) -> Option<Source> {
    let line = line.split('#').next()?.trim();
    let mut rest = line.strip_prefix("deb")?.strip_prefix([' ', '\t'])?.trim_start();
    let mut signed_by = String::new();
    if let Some(options) = rest.strip_prefix('[') {
        let (options, after) = options.split_once(']')?;
        let value = options
            .split_whitespace()
            .find_map(|option| option.strip_prefix("signed-by="));
        signed_by = value.unwrap_or_default().to_owned();
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    Some(Source {
        uri: words.next()?,
        suite: words.next()?,
        components: words.collect(),
        signed_by,
    })
}

/// Paragraphs of `Field: value` lines; a field goes on in lines that start with a blank.
fn parse_deb822(text: &str) -> Vec<Source> {
    let mut sources = Vec::new();
    let mut paragraph = Paragraph::default();
    for line in text.lines().chain([""]) {
        if line.trim().is_empty() {
            sources.extend(std::mem::take(&mut paragraph).into_sources());
        } else if !line.starts_with('#') {
            paragraph.add_line(line);
        }
    }
    sources
}

#[derive(Default)]
struct Paragraph {
    /// Lower-case names and values, in order.
    fields: Vec<(String, String)>,
}

impl Paragraph {
    fn add_line(&mut self, line: &str) {
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = self.fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            self.fields
                .push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }

    fn words(&self, field: &str) -> Vec<String> {
        let value = self
            .fields
            .iter()
            .find(|(name, _)| name == field)
            .map_or("", |(_, value)| value);
        value.split_whitespace().map(str::to_owned).collect()
    }

    fn into_sources(self) -> Vec<Source> {
        let disabled = self
            .words("enabled")
            .first()
            .is_some_and(|word| word.eq_ignore_ascii_case("no"));
        if disabled || !self.words("types").iter().any(|kind| kind == "deb") {
            return Vec::new();
        }
        let (components, signed_by) = (self.words("components"), self.words("signed-by").join(" "));
        let source = |uri: &String, suite: &String| Source {
            uri: uri.clone(),
            suite: suite.clone(),
            components: components.clone(),
            signed_by: signed_by.clone(),
        };
        let suites = self.words("suites");
        self.words("uris")
            .iter()
            .flat_map(|uri| {
                suites
                    .iter()
                    .map(move |suite| source(uri, suite))
                    .collect::<Vec<_>>()
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_sources_are_read_with_their_options() {
        let text = "# deb http://old.example/debian bookworm main\n\
                    deb-src http://m.example/debian bookworm main\n\
                    deb http://m.example/debian bookworm main contrib # comment\n\
                    deb\t[arch=amd64 signed-by=/k.gpg]  https://n.example/x stable main\n";
        let sources = parse_list(text);
        assert_eq!(sources.len(), 2);
        assert_eq!(
            (sources[0].uri.as_str(), sources[0].suite.as_str()),
            ("http://m.example/debian", "bookworm")
        );
        assert_eq!(sources[0].components, ["main", "contrib"]);
        assert_eq!(
            (sources[1].uri.as_str(), sources[1].signed_by.as_str()),
            ("https://n.example/x", "/k.gpg")
        );
    }

    #[test]
    fn deb822_paragraphs_multiply_uris_by_suites() {
        let text = "Types: deb deb-src\n# a comment inside\nURIs: http://m.example/debian\nSuites: trixie\n trixie-updates\n\
                    Components: main\nSigned-By:\n /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
                    Types: deb\nEnabled: no\nURIs: http://off.example\nSuites: trixie\nComponents: main\n\n\
                    Types: deb-src\nURIs: http://src.example\nSuites: trixie\nComponents: main";
        let sources = parse_deb822(text);
        let suites: Vec<_> = sources.iter().map(|source| source.suite.as_str()).collect();
        assert_eq!(suites, ["trixie", "trixie-updates"]);
        assert_eq!(
            sources[1].signed_by,
            "/usr/share/keyrings/debian-archive-keyring.gpg"
        );
    }

    #[test]
    fn all_files_of_a_configuration_are_read() {
        let directory = tempfile::tempdir().unwrap();
        let parts = directory.path().join("sources.list.d");
        fs::create_dir(&parts).unwrap();
        fs::write(
            directory.path().join("sources.list"),
            "deb http://one.example a main\n",
        )
        .unwrap();
        fs::write(parts.join("b.list"), "deb http://three.example a main\n").unwrap();
        fs::write(
            parts.join("a.sources"),
            "Types: deb\nURIs: http://two.example\nSuites: a\nComponents: main\n",
        )
        .unwrap();
        fs::write(parts.join("c.list.save"), "deb http://saved.example a main\n").unwrap();
        let uris: Vec<_> = read(directory.path())
            .into_iter()
            .map(|source| source.uri)
            .collect();
        assert_eq!(
            uris,
            ["http://one.example", "http://two.example", "http://three.example"]
        );
    }
}
