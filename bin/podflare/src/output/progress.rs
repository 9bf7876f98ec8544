//! Steps of long work: a spinner with the elapsed time on a terminal, a line for each finished step elsewhere.

use std::fmt;
use std::io::{self, IsTerminal};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::{Printer, duration};

/// How often the spinner turns.
const TURN: Duration = Duration::from_millis(120);

/// Steps that end sooner are not worth a line in a log; on a terminal they would only flicker.
const WORTH_A_LINE: Duration = Duration::from_millis(300);

/// Shows the steps of one piece of work after another. Dropping it clears an unfinished spinner.
pub(crate) struct Steps {
    printer: Printer,
    /// A terminal shows what is going on; a log gets only what has happened.
    terminal: bool,
    current: Mutex<Option<Step>>,
}

struct Step {
    text: String,
    since: Instant,
    bar: Option<ProgressBar>,
}

impl Steps {
    pub(crate) fn new(printer: Printer) -> Self {
        Self {
            printer,
            terminal: io::stderr().is_terminal(),
            current: Mutex::new(None),
        }
    }

    /// Begins a step; the one before it, if any, has ended.
    pub(crate) fn begin(&self, text: &str) {
        let mut current = self.lock();
        if let Some(step) = current.take() {
            let ended = step.text.clone();
            self.end(&step, &ended);
        }
        let bar = self.terminal.then(|| spinner(text));
        *current = Some(Step {
            text: text.to_owned(),
            since: Instant::now(),
            bar,
        });
    }

    /// Says what the current step is at just now.
    pub(crate) fn at(&self, detail: &str) {
        if let Some(step) = self.lock().as_ref()
            && let Some(bar) = &step.bar
        {
            bar.set_message(format!("{} {}", step.text, self.printer.err_paint().dim(detail)));
        }
    }

    /// Says something that stays, without ending the step.
    pub(crate) fn remark(&self, text: &str) {
        match self.lock().as_ref().and_then(|step| step.bar.as_ref()) {
            Some(bar) => bar.suspend(|| self.printer.warn(text)),
            None => self.printer.warn(text),
        }
    }

    /// Ends the current step with what came of it.
    pub(crate) fn finish(&self, text: &str) {
        if let Some(step) = self.lock().take() {
            self.end(&step, text);
        }
    }

    /// Drops the current step without a word, because the failure is about to be told.
    pub(crate) fn abandon(&self) {
        if let Some(bar) = self.lock().take().and_then(|step| step.bar) {
            bar.finish_and_clear();
        }
    }

    fn end(&self, step: &Step, text: &str) {
        if let Some(bar) = &step.bar {
            bar.finish_and_clear();
        }
        let took = step.since.elapsed();
        let paint = self.printer.err_paint();
        if took >= WORTH_A_LINE {
            self.printer.note(&format!(
                "{} {text} {}",
                paint.green("✓"),
                paint.dim(&format!("({})", duration(took)))
            ));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Step>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        self.abandon();
    }
}

impl fmt::Debug for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Steps")
            .field("terminal", &self.terminal)
            .finish_non_exhaustive()
    }
}

impl image::Progress for Steps {
    fn step(&self, text: &str) {
        self.begin(text);
    }

    fn detail(&self, text: &str) {
        self.at(text);
    }

    fn warn(&self, text: &str) {
        self.remark(text);
    }

    fn done(&self, text: &str) {
        self.finish(text);
    }
}

fn spinner(text: &str) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.set_message(text.to_owned());
    bar.enable_steady_tick(TURN);
    bar
}
