//! One JSON object per line.
//!
//! `{"timestamp", "level", "target", "message", "sandbox_id", "trace_id", "parent_span_id", "fields": {…}, "span":
//! {"name", …}}`. The ids are those of the event, or of the nearest span that has them; they stand at the top so that a
//! search needs no knowledge of spans.

use std::fmt::{self, Write};

use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::fields::{Fields, Style, escaped};

/// Ids that stand at the top of each line.
const IDS: [&str; 3] = ["sandbox_id", "trace_id", "parent_span_id"];

pub(super) struct Json;

/// Members of an object, without its braces.
pub(super) struct JsonFields;

impl Style for JsonFields {
    fn text(out: &mut dyn Write, name: &str, value: &str) -> fmt::Result {
        write!(out, "\"{name}\":\"")?;
        escaped(out, value)?;
        out.write_str("\"")
    }

    fn plain(out: &mut dyn Write, name: &str, value: &dyn fmt::Display) -> fmt::Result {
        write!(out, "\"{name}\":{value}")
    }
}

impl<'w> FormatFields<'w> for JsonFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Fields::<Self>::new(&mut writer, ",");
        fields.record(&mut visitor);
        visitor.result
    }

    fn add_fields(
        &self,
        current: &'w mut FormattedFields<Self>,
        fields: &tracing::span::Record<'_>,
    ) -> fmt::Result {
        if !current.fields.is_empty() {
            current.fields.push(',');
        }
        self.format_fields(current.as_writer(), fields)
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut members = String::new();
        let mut visitor = Fields::<JsonFields>::new(&mut members, ",");
        event.record(&mut visitor);
        visitor.result?;
        let message = visitor.message;

        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        let meta = event.metadata();
        write!(
            writer,
            "\",\"level\":\"{}\",\"target\":\"{}\",\"message\":\"",
            meta.level(),
            meta.target()
        )?;
        escaped(&mut writer, &message)?;
        writer.write_str("\"")?;
        for name in IDS {
            let found = id_in(&members, name).map(str::to_owned).or_else(|| {
                context.event_scope()?.find_map(|span| {
                    let extensions = span.extensions();
                    let fields = extensions.get::<FormattedFields<N>>()?;
                    id_in(&fields.fields, name).map(str::to_owned)
                })
            });
            if let Some(id) = found {
                write!(writer, ",\"{name}\":\"{id}\"")?;
            }
        }
        if !members.is_empty() {
            write!(writer, ",\"fields\":{{{members}}}")?;
        }
        if let Some(span) = context.lookup_current() {
            write!(writer, ",\"span\":{{\"name\":\"{}\"", span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.fields.is_empty()
            {
                write!(writer, ",{}", fields.fields)?;
            }
            writer.write_str("}")?;
        }
        writeln!(writer, "}}")
    }
}

/// The value of a member that is an id. A quote inside a value is escaped, so what looks like a member is one.
fn id_in<'a>(members: &'a str, name: &str) -> Option<&'a str> {
    let start = members.match_indices(name).find_map(|(at, _)| {
        let before = members.get(..at)?;
        let after = members.get(at + name.len()..)?.strip_prefix("\":\"")?;
        (before == "\"" || before.ends_with(",\"")).then_some(after)
    })?;
    start.split('"').next()
}
