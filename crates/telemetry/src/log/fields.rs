//! Values of fields as text: cut and escaped.

use std::fmt::{self, Write};

use tracing::field::{Field, Visit};

/// Longest value of a field in a line, in bytes before it is escaped.
pub const FIELD_BYTES_MAX: usize = 4096;

/// What stands at the end of a value that was cut.
const CUT: &str = "… (cut)";

/// How one format writes a field.
pub(super) trait Style {
    /// A text, which may hold anything.
    fn text(out: &mut dyn Write, name: &str, value: &str) -> fmt::Result;
    /// A number or a truth value, which needs no care.
    fn plain(out: &mut dyn Write, name: &str, value: &dyn fmt::Display) -> fmt::Result;
}

/// Writes fields one after the other, and keeps the message apart.
pub(super) struct Fields<'a, S: Style> {
    out: &'a mut dyn Write,
    separator: &'static str,
    first: bool,
    pub(super) message: String,
    pub(super) result: fmt::Result,
    style: std::marker::PhantomData<S>,
}

impl<'a, S: Style> Fields<'a, S> {
    pub(super) fn new(out: &'a mut dyn Write, separator: &'static str) -> Self {
        Self {
            out,
            separator,
            first: true,
            message: String::new(),
            result: Ok(()),
            style: std::marker::PhantomData,
        }
    }

    fn write(&mut self, field: &Field, write: impl FnOnce(&mut dyn Write, &str) -> fmt::Result) {
        let first = std::mem::replace(&mut self.first, false);
        let out = &mut *self.out;
        self.result = self.result.and_then(|()| {
            if !first {
                out.write_str(self.separator)?;
            }
            write(out, field.name())
        });
    }

    fn text(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.message);
        } else {
            self.write(field, |out, name| S::text(out, name, value));
        }
    }
}

impl<S: Style> Visit for Fields<'_, S> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        let mut text = Cut::default();
        // Stops at the bound, so that a long value is not built whole.
        let _ = write!(text, "{value:?}");
        self.text(field, &text.0);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.write(field, |out, name| S::plain(out, name, &value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.write(field, |out, name| S::plain(out, name, &value));
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        self.write(field, |out, name| S::plain(out, name, &value));
    }

    fn record_i128(&mut self, field: &Field, value: i128) {
        self.write(field, |out, name| S::plain(out, name, &value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.write(field, |out, name| S::plain(out, name, &value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.write(field, |out, name| S::plain(out, name, &value));
        } else {
            self.text(field, &value.to_string());
        }
    }
}

/// Takes a little more than what is shown, so that it shows that it was cut.
#[derive(Default)]
struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if self.0.len() > FIELD_BYTES_MAX {
            return Err(fmt::Error);
        }
        self.0.push_str(piece);
        Ok(())
    }
}

/// Writes a text with everything in it made harmless. Both formats use JSON's escapes.
pub(super) fn escaped(out: &mut dyn Write, value: &str) -> fmt::Result {
    let shown = &value[..boundary(value)];
    let mut units = [0; 2];
    let mut plain = 0;
    for (at, character) in shown.char_indices() {
        if !is_risky(character) {
            continue;
        }
        out.write_str(&shown[plain..at])?;
        plain = at + character.len_utf8();
        match character {
            '"' => out.write_str("\\\"")?,
            '\\' => out.write_str("\\\\")?,
            '\n' => out.write_str("\\n")?,
            '\r' => out.write_str("\\r")?,
            '\t' => out.write_str("\\t")?,
            other => other
                .encode_utf16(&mut units)
                .iter()
                .try_for_each(|unit| write!(out, "\\u{unit:04x}"))?,
        }
    }
    out.write_str(&shown[plain..])?;
    if shown.len() < value.len() {
        out.write_str(CUT)?;
    }
    Ok(())
}

/// Ends a string or a line, moves a cursor, or turns the direction of text.
fn is_risky(character: char) -> bool {
    matches!(
        character,
        '"' | '\\' | '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{061c}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    ) || character.is_control()
}

/// Where to cut, between two characters.
fn boundary(value: &str) -> usize {
    if value.len() <= FIELD_BYTES_MAX {
        return value.len();
    }
    let is_start = |at: &usize| value.is_char_boundary(*at);
    (0..=FIELD_BYTES_MAX).rev().find(is_start).unwrap_or(0)
}
