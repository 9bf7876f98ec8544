//! Where the time of one request went.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Spans that follow one another, for the `Server-Timing` header and the log.
#[derive(Clone, Debug)]
pub(crate) struct Marks {
    start: Instant,
    last: Instant,
    spans: Vec<(&'static str, Duration)>,
}

impl Marks {
    pub(crate) fn begin() -> Self {
        let now = Instant::now();
        Self {
            start: now,
            last: now,
            spans: Vec::with_capacity(6),
        }
    }

    /// Ends a span: what came since the one before.
    pub(crate) fn mark(&mut self, name: &'static str) {
        let now = Instant::now();
        self.spans.push((name, now - self.last));
        self.last = now;
    }

    /// A part of the span before it.
    pub(crate) fn note(&mut self, name: &'static str, time: Duration) {
        self.spans.push((name, time));
    }

    pub(crate) fn spans(&self) -> &[(&'static str, Duration)] {
        &self.spans
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// As the `Server-Timing` header has it, in milliseconds.
    pub(crate) fn header(&self) -> String {
        let mut text = String::new();
        let ms = |time: Duration| time.as_secs_f64() * 1000.0;
        for (name, time) in &self.spans {
            // Writing to a string does not fail.
            let _ = write!(text, "{name};dur={:.3}, ", ms(*time));
        }
        let _ = write!(text, "total;dur={:.3}", ms(self.elapsed()));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_follow_one_another() {
        let mut marks = Marks::begin();
        marks.mark("clone");
        marks.mark("identity");
        let header = marks.header();
        let names: Vec<_> = header
            .split(", ")
            .filter_map(|span| span.split(';').next())
            .collect();
        assert_eq!(names, ["clone", "identity", "total"], "{header}");
    }
}
