//! Time spans as people type them: `90`, `90s`, `10m`, `2h`, `1h30m`, `1d`.

use api::Wish;

const EXPECTED: &str = "expected a time such as 90s, 10m, 2h, 1h30m or 1d; a number alone is seconds";

/// In seconds, at least one.
pub(crate) fn seconds(text: &str) -> Result<u64, String> {
    let parsed = match text.parse::<u64>() {
        Ok(seconds) => Some(seconds),
        Err(_) => with_units(text),
    };
    parsed
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| EXPECTED.to_owned())
}

/// The same, or `none` for as long as there can be.
pub(crate) fn limit(text: &str) -> Result<Wish, String> {
    match text {
        "none" | "max" => Ok(Wish::Most),
        text => seconds(text).map(Wish::Seconds),
    }
}

/// Parts of one number and one unit each, the larger first.
fn with_units(text: &str) -> Option<u64> {
    let (mut rest, mut total, mut largest) = (text, 0_u64, u64::MAX);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = match rest.as_bytes()[digits] {
            b's' => 1,
            b'm' => 60,
            b'h' => 3600,
            b'd' => 86_400,
            _ => return None,
        };
        if unit >= largest {
            return None;
        }
        largest = unit;
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_numbers_with_units_the_larger_first() {
        let cases = [
            ("45", 45),
            ("90s", 90),
            ("10m", 600),
            ("2h", 7200),
            ("1h30m", 5400),
            ("1d2h3m4s", 93_784),
        ];
        for (text, expected) in cases {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "0",
            "0m",
            "h",
            "2",
            "-1",
            "1.5h",
            "30m1h",
            "1h1h",
            "2 h",
            "2é",
            "99999999999999999999d",
        ] {
            assert!(text == "2" || seconds(text).is_err(), "{text}");
        }
        assert_eq!(limit("none"), Ok(Wish::Most));
        assert_eq!(limit("2h"), Ok(Wish::Seconds(7200)));
    }
}
