//! `--limit NAME=VALUE`, and limits as people read them.

use api::TenantInfo;
use pod_types::{Limit, Overrides};

use crate::output::{Paint, Show, table};

/// What is to become of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    limit: Limit,
    wanted: Wanted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Number(u64),
    /// No limit.
    None,
    /// As the tier has it.
    Tier,
}

/// `--wake`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Wake {
    On,
    Off,
    Default,
}

impl Wake {
    /// As the host takes it: none is as that is set.
    pub(super) fn setting(self) -> Option<bool> {
        match self {
            Self::On => Some(true),
            Self::Off => Some(false),
            Self::Default => None,
        }
    }
}

/// Reads `sandboxes=5`, `sandboxes=none` or `sandboxes=tier`.
pub(super) fn parse(text: &str) -> Result<Setting, String> {
    let (name, value) = text
        .split_once('=')
        .ok_or("expected NAME=VALUE, as in sandboxes=5")?;
    let limit: Limit = name.parse().map_err(|error| format!("{name:?}: {error}"))?;
    let (min, max) = limit.range();
    let wanted = match (value, value.parse()) {
        ("none", _) => Wanted::None,
        ("tier", _) => Wanted::Tier,
        (_, Ok(number)) if (min..=max).contains(&number) => Wanted::Number(number),
        _ => {
            return Err(format!(
                "{limit} is a whole number between {min} and {max}, `none` or `tier`"
            ));
        }
    };
    Ok(Setting { limit, wanted })
}

/// Changes what is there.
pub(super) fn apply(settings: &[Setting], mut overrides: Overrides) -> Overrides {
    for Setting { limit, wanted } in settings {
        match wanted {
            Wanted::Number(number) => drop(overrides.insert(*limit, Some(*number))),
            Wanted::None => drop(overrides.insert(*limit, None)),
            Wanted::Tier => drop(overrides.remove(limit)),
        }
    }
    overrides
}

impl Show for TenantInfo {
    fn words(&self, _: Paint) -> String {
        let limits = &self.limits;
        let values = [
            limits.sandboxes,
            limits.creates_per_minute,
            limits.create_burst,
            limits.runs,
            limits.timeout_seconds,
            limits.idle_timeout_seconds,
            limits.ram_mib,
            limits.rootfs_gb,
            limits.spaces,
            limits.spaces_mib,
        ];
        let mut rows = vec![
            ["tenant".to_owned(), self.name.clone()],
            ["tier".to_owned(), self.tier.name().to_owned()],
        ];
        rows.extend(Limit::ALL.into_iter().zip(values).map(|(limit, value)| {
            let value = value.map_or_else(|| "none".to_owned(), |value| value.to_string());
            let own = if self.overrides.contains_key(&limit) {
                " (its own)"
            } else {
                ""
            };
            [limit.name().to_owned(), format!("{value}{own}")]
        }));
        rows.push([
            "persistent".to_owned(),
            if limits.persistent { "yes" } else { "no" }.to_owned(),
        ]);
        let wake = match self.wake {
            Some(true) => "on",
            Some(false) => "off",
            None => "as the host is set",
        };
        rows.push(["wake".to_owned(), wake.to_owned()]);
        table(&rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_set_lifted_or_given_back_to_the_tier() {
        let set = |text: &str, before: Overrides| apply(&[parse(text).unwrap()], before);
        let five = set("sandboxes=5", Overrides::new());
        assert_eq!(five, Overrides::from([(Limit::Sandboxes, Some(5))]));
        assert_eq!(
            set("sandboxes=none", five.clone()),
            Overrides::from([(Limit::Sandboxes, None)])
        );
        assert_eq!(set("sandboxes=tier", five), Overrides::new());
        for wrong in ["sandboxes", "sandboxes=", "sandboxes=-1", "ram_mib=1", "x=1"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
