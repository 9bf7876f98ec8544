//! Numbers and rows as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::{PoolState, SandboxInfo, SandboxState, Source};

/// A time span in its two largest units, or with one decimal below a minute.
pub(crate) fn duration(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 if span.as_millis() < 1000 => format!("{} ms", span.as_millis()),
        0..60 => format!("{:.1} s", span.as_secs_f64()),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{} h {:02} min", seconds / 3600, seconds / 60 % 60),
        _ => format!("{} d {:02} h", seconds / 86_400, seconds / 3600 % 24),
    }
}

/// Time since a moment in milliseconds since the Unix epoch. Clocks differ: the future counts as now.
pub(crate) fn since(epoch_ms: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    duration(now.saturating_sub(Duration::from_millis(epoch_ms)))
}

/// How long a sandbox has left at most, and whether being used puts that off.
pub(crate) fn time_left(sandbox: &SandboxInfo) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let until = |epoch_ms: u64| duration(Duration::from_millis(epoch_ms).saturating_sub(now));
    match (sandbox.expires_at_ms, sandbox.idle_expires_at_ms) {
        (Some(ends), Some(idle)) if idle < ends => format!("{} idle", until(idle)),
        (None, Some(idle)) => format!("{} idle", until(idle)),
        (Some(ends), _) => until(ends),
        (None, None) => "-".to_owned(),
    }
}

/// A sandbox's state, as the API writes it.
pub(crate) fn state_name(state: SandboxState) -> &'static str {
    match state {
        SandboxState::Booting => "booting",
        SandboxState::Ready => "ready",
        SandboxState::Freezing => "freezing",
        SandboxState::Failed => "failed",
        SandboxState::Ending => "ending",
    }
}

/// How a sandbox's VM came to be.
pub(crate) fn source_name(source: Source) -> &'static str {
    match source {
        Source::Pool => "the pool",
        Source::Clone => "a clone of its template",
        Source::Boot => "a boot",
        Source::Fork => "a fork",
        Source::Space => "a space",
        Source::Rollback => "a checkpoint",
    }
}

/// How a template's snapshot is.
pub(crate) fn pool_state_name(state: PoolState) -> &'static str {
    match state {
        PoolState::Off => "boots every sandbox",
        PoolState::Building => "makes its snapshot",
        PoolState::Ready => "ready",
        PoolState::Failed => "has no snapshot",
    }
}

/// Memory in the unit in which it is easiest to compare.
pub(crate) fn mebibytes(mib: u64) -> String {
    if mib >= 1024 && mib.is_multiple_of(1024) {
        format!("{} GiB", mib / 1024)
    } else if mib >= 10 * 1024 {
        format!("{}.{} GiB", mib / 1024, mib % 1024 * 10 / 1024)
    } else {
        format!("{mib} MiB")
    }
}

/// In the largest unit that leaves a digit before the point.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut whole, mut unit, mut rest) = (count, 0, 0);
    while whole >= 1024 && unit + 1 < UNITS.len() {
        rest = whole % 1024;
        whole /= 1024;
        unit += 1;
    }
    match unit {
        0 => format!("{whole} B"),
        _ => format!("{whole}.{} {}", rest * 10 / 1024, UNITS[unit]),
    }
}

/// Rows in columns two spaces apart, the last column ragged. Cells hold no styles: their width would lie.
pub(crate) fn table<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: &[String; COLUMNS]| {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_span_is_as_precise_as_people_want() {
        let cases = [
            (40, "40 ms"),
            (2_345, "2.3 s"),
            (61_000, "1 min 01 s"),
            (3_661_000, "1 h 01 min"),
            (90_000_000, "1 d 01 h"),
        ];
        for (ms, words) in cases {
            assert_eq!(duration(Duration::from_millis(ms)), words);
        }
    }

    #[test]
    fn bytes_are_in_round_units() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1536, "1.5 KiB"),
            (5 << 30, "5.0 GiB"),
            (1 << 52, "4096.0 TiB"),
        ];
        for (count, words) in cases {
            assert_eq!(bytes(count), words);
        }
    }

    #[test]
    fn memory_is_in_round_units() {
        assert_eq!(mebibytes(512), "512 MiB");
        assert_eq!(mebibytes(1024), "1 GiB");
        assert_eq!(mebibytes(1536), "1536 MiB");
        assert_eq!(mebibytes(24_105), "23.5 GiB");
    }

    #[test]
    fn columns_line_up_and_lines_do_not_trail_off() {
        let rows = [["a".into(), "1".into()], ["long".into(), String::new()]];
        assert_eq!(table(&rows), "a     1\nlong");
    }
}
