//! The terminal while it is watched: another screen without a cursor, which is left as it was found.

use std::io;

use rustix::termios::tcgetwinsize;

use crate::context::Context;
use crate::interrupts::Armed;
use crate::output::Printer;

const OPEN: &[u8] = b"\x1b[?1049h\x1b[?25l";
const CLOSE: &[u8] = b"\x1b[?25h\x1b[?1049l";
/// To the upper left corner. Each line clears what is left of it, and the last one what is below.
const HOME: &str = "\x1b[H";
const CLEAR_LINE: &str = "\x1b[K\n";
const CLEAR_BELOW: &str = "\x1b[K\x1b[J";

/// Where the terminal does not tell.
const SIZE: (usize, usize) = (24, 80);

pub(super) struct Screen {
    printer: Printer,
    _armed: Armed,
}

impl Screen {
    pub(super) fn open(context: &Context) -> io::Result<Self> {
        let printer = context.printer;
        let armed = context.interrupts.on_interrupt(move || drop(printer.out(CLOSE)));
        printer.out(OPEN)?;
        Ok(Self {
            printer,
            _armed: armed,
        })
    }

    pub(super) fn show(&self, title: &str, text: &str) -> io::Result<()> {
        let (rows, columns) = tcgetwinsize(io::stdout()).map_or(SIZE, |size| {
            (usize::from(size.ws_row.max(2)), usize::from(size.ws_col.max(20)))
        });
        let lines: Vec<String> = std::iter::once(title)
            .chain(text.lines())
            .take(rows)
            .map(|line| cut(line, columns))
            .collect();
        let frame = format!("{HOME}{}{CLEAR_BELOW}", lines.join(CLEAR_LINE));
        self.printer.out(frame.as_bytes())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to be told that the terminal is gone.
        let _ = self.printer.out(CLOSE);
    }
}

/// The beginning of a line that fits. Styles have no width, and the last one is ended.
fn cut(line: &str, columns: usize) -> String {
    let mut shown = String::with_capacity(line.len());
    let (mut width, mut in_style) = (0, false);
    for character in line.chars() {
        if character == '\x1b' {
            in_style = true;
        }
        if !in_style {
            if width == columns {
                shown.push_str("\x1b[0m");
                break;
            }
            width += 1;
        }
        shown.push(character);
        if in_style && character.is_ascii_alphabetic() {
            in_style = false;
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_where_the_terminal_ends_and_its_style_with_it() {
        assert_eq!(cut("abc", 3), "abc");
        assert_eq!(cut("abcd", 3), "abc\x1b[0m");
        assert_eq!(cut("\x1b[31mabcd\x1b[0m", 3), "\x1b[31mabc\x1b[0m");
        assert_eq!(cut("\x1b[31mabc\x1b[0m", 3), "\x1b[31mabc\x1b[0m");
    }
}
