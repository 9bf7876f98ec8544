//! One line for people: time, level, spans, message, fields.

use std::fmt::{self, Write};

use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use super::fields::{Fields, Style, escaped};

pub(super) struct Text;

/// `name=value`, with quotes only where they are needed.
pub(super) struct TextFields;

impl Style for TextFields {
    fn text(out: &mut dyn Write, name: &str, value: &str) -> fmt::Result {
        let is_word = |character: char| {
            character.is_ascii_graphic() && !matches!(character, '"' | '\\' | '=' | '{' | '}')
        };
        write!(out, "{name}=")?;
        if !value.is_empty() && value.chars().all(is_word) {
            return escaped(out, value);
        }
        out.write_str("\"")?;
        escaped(out, value)?;
        out.write_str("\"")
    }

    fn plain(out: &mut dyn Write, name: &str, value: &dyn fmt::Display) -> fmt::Result {
        write!(out, "{name}={value}")
    }
}

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = Fields::<Self>::new(&mut writer, " ");
        fields.record(&mut visitor);
        visitor.result
    }
}

impl<S, N> FormatEvent<S, N> for Text
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
        let mut visitor = Fields::<TextFields>::new(&mut members, " ");
        event.record(&mut visitor);
        visitor.result?;
        let message = visitor.message;

        SystemTime.format_time(&mut writer)?;
        let meta = event.metadata();
        write!(writer, " {:>5} ", meta.level())?;
        for span in context
            .event_scope()
            .into_iter()
            .flat_map(tracing_subscriber::registry::Scope::from_root)
        {
            writer.write_str(span.name())?;
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.fields.is_empty()
            {
                write!(writer, "{{{}}}", fields.fields)?;
            }
            writer.write_str(": ")?;
        }
        write!(writer, "{}: ", meta.target())?;
        // Not in quotes, which would be escaped for nothing.
        escaped(&mut writer, &message.replace('"', "'"))?;
        if !members.is_empty() {
            write!(writer, " {members}")?;
        }
        writeln!(writer)
    }
}
