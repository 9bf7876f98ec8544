//! Colour and weight of words on a terminal; nothing at all elsewhere.

use std::env;
use std::io::IsTerminal;

/// Wraps words in terminal styles, or leaves them as they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    /// Colours only a terminal, and none for people who set `NO_COLOR` (to anything but nothing) or have a dumb one.
    pub(crate) fn for_stream(stream: &impl IsTerminal) -> Self {
        let refused = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            on: stream.is_terminal() && !refused,
        }
    }

    pub(crate) fn bold(self, text: &str) -> String {
        self.style("1", text)
    }

    pub(crate) fn dim(self, text: &str) -> String {
        self.style("2", text)
    }

    pub(crate) fn green(self, text: &str) -> String {
        self.style("32", text)
    }

    pub(crate) fn yellow(self, text: &str) -> String {
        self.style("33", text)
    }

    pub(crate) fn red(self, text: &str) -> String {
        self.style("31", text)
    }

    fn style(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_untouched_where_there_is_no_terminal() {
        assert_eq!(Paint { on: false }.red("no"), "no");
        assert_eq!(Paint { on: true }.red("no"), "\x1b[31mno\x1b[0m");
    }
}
