//! Output of a run, passed on as it comes.

use std::io;

use api::{Event, EventData, EventKind};
use client::{Client, ExecStream};
use pod_types::SandboxId;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Form, Printer};
use crate::source::Source;

/// Runs code in a sandbox and passes its output on. Returns how the run ended.
pub(crate) fn execute(
    client: &Client,
    id: SandboxId,
    source: Source,
    printer: &Printer,
) -> Result<Exit, Failure> {
    if let Some(preparation) = source.preparation() {
        swallow(client.exec(id, &preparation)?)?;
    }
    pass_on(client.exec(id, &source.request())?, printer)
}

/// Passes stdout to stdout and stderr to stderr, or every event as it is in JSON. Returns how the run ended.
/// Dropping the stream early, as happens when nobody reads any more, cancels the run.
fn pass_on(stream: ExecStream, printer: &Printer) -> Result<Exit, Failure> {
    for event in stream {
        let event = event?;
        write(&event, printer)?;
        if let (EventKind::Exit, EventData::Code(code)) = (event.kind, &event.data) {
            return Ok(Exit::of_run((*code).into()));
        }
    }
    Err(Failure::new("no_exit", "the run ended without an exit code"))
}

/// Runs to the end of a stream whose output nobody wants to see unless it fails.
fn swallow(stream: ExecStream) -> Result<(), Failure> {
    let mut said = Vec::new();
    for event in stream {
        match event?.data {
            EventData::Code(0) => return Ok(()),
            EventData::Code(_) => break,
            EventData::Line(line) => said.push(line),
        }
    }
    Err(Failure::new(
        "preparation",
        format!("cannot hand the arguments to the code: {}", said.join("\n")),
    ))
}

fn write(event: &Event, printer: &Printer) -> io::Result<()> {
    if printer.form() == Form::Json {
        let json = serde_json::to_string(event)?;
        return printer.out(format!("{json}\n").as_bytes());
    }
    let EventData::Line(line) = &event.data else {
        return Ok(());
    };
    // One write for the line and its newline, so that lines of both kinds do not mix on a terminal.
    let line = format!("{line}\n");
    match event.kind {
        EventKind::Stdout => printer.out(line.as_bytes()),
        EventKind::Stderr => printer.err(line.as_bytes()),
        EventKind::Exit => Ok(()),
    }
}
