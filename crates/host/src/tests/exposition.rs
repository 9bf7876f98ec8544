//! A strict reader of the OpenMetrics text format, as far as this host uses it.

use std::collections::{BTreeMap, BTreeSet};

/// A family of metrics: its type, and its samples.
#[derive(Debug, Default)]
pub(super) struct Family {
    pub(super) kind: String,
    pub(super) help: String,
    pub(super) samples: Vec<Sample>,
}

#[derive(Debug)]
pub(super) struct Sample {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) value: f64,
}

/// Reads a whole exposition and checks all that the format demands.
pub(super) fn parse(text: &str) -> BTreeMap<String, Family> {
    let body = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            let new = Family {
                help: help.to_owned(),
                ..Family::default()
            };
            assert!(
                families.insert(name.to_owned(), new).is_none(),
                "{name} comes twice"
            );
            name.clone_into(&mut current);
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(name, current);
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            kind.clone_into(&mut families.get_mut(name).unwrap().kind);
        } else {
            let sample = sample(line);
            let family = families.get_mut(&current).expect("a sample has a family");
            let suffix = sample.name.strip_prefix(current.as_str()).expect(line);
            let allowed: &[&str] = match family.kind.as_str() {
                "counter" => &["_total"],
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(allowed.contains(&suffix), "{line}");
            family.samples.push(sample);
        }
    }
    let mut seen = BTreeSet::new();
    for (name, family) in &families {
        assert!(!family.kind.is_empty() && !family.help.is_empty(), "{name}");
        for sample in &family.samples {
            let series = format!("{}{:?}", sample.name, sample.labels);
            assert!(seen.insert(series.clone()), "{series} comes twice");
        }
        if family.kind == "histogram" {
            check_histogram(name, family);
        }
    }
    families
}

/// The value of one series; 0 when there is none.
pub(super) fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> f64 {
    let family = name
        .strip_suffix("_total")
        .or_else(|| name.strip_suffix("_count"));
    let Some(family) = families.get(family.unwrap_or(name)) else {
        panic!("there is no metric {name}");
    };
    let matching = family.samples.iter().filter(|sample| {
        sample.name == name
            && labels
                .iter()
                .all(|(label, value)| sample.labels.get(*label).is_some_and(|found| found == value))
    });
    matching.map(|sample| sample.value).sum()
}

fn check_histogram(name: &str, family: &Family) {
    let mut series: BTreeMap<String, (Vec<(f64, f64)>, f64)> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        let end = labels.remove("le");
        let (buckets, count) = series.entry(format!("{labels:?}")).or_default();
        if let Some(end) = end {
            let end = if end == "+Inf" {
                f64::INFINITY
            } else {
                end.parse().unwrap()
            };
            buckets.push((end, sample.value));
        } else if sample.name.ends_with("_count") {
            *count = sample.value;
        }
    }
    for (labels, (buckets, count)) in series {
        assert!(
            buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
            "{name}{labels}: {buckets:?}"
        );
        let last = buckets.last().unwrap();
        assert!(
            last.0.is_infinite() && (last.1 - count).abs() < 0.5,
            "{name}{labels}: {buckets:?}, {count}"
        );
    }
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').expect(line);
    let (name, labels) = match series.split_once('{') {
        Some((name, rest)) => (name, rest.strip_suffix('}').expect(line)),
        None => (series, ""),
    };
    let is_name = |name: &str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
    };
    assert!(is_name(name), "{line}");
    let mut found = BTreeMap::new();
    for pair in labels.split("\",").filter(|pair| !pair.is_empty()) {
        let (label, value) = pair.split_once("=\"").expect(line);
        assert!(is_name(label), "{line}");
        let value = value.strip_suffix('"').unwrap_or(value);
        assert!(!value.contains(['"', '\n']), "{line}");
        assert!(
            found.insert(label.to_owned(), value.to_owned()).is_none(),
            "{line}"
        );
    }
    Sample {
        name: name.to_owned(),
        labels: found,
        value: value.parse().expect(line),
    }
}
