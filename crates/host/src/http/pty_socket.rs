//! A terminal over a WebSocket.
//!
//! Binary messages are the terminal's bytes, both ways. Text messages are JSON: from the client
//! `{"type":"resize","cols":80,"rows":24}`, from the host the events of the stream other than data. After `pty_exit` or
//! `pty_error` the host closes. Either side going away only detaches.

use std::sync::Arc;
use std::time::Duration;

use agent_proto::PTY_INPUT_MAX;
use api::{PtyEvent, PtyResizeRequest};
use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use pod_types::{ErrorChain, PtyId};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::pty::{self, PtyStream, StreamEvent};
use crate::sandbox::Sandbox;

/// What browsers and servers agree to speak.
pub(super) const PROTOCOL: &str = "podflare.terminal.v1";

/// Longest text message: a resize has some 40 bytes.
const TEXT_MAX: usize = 4096;
/// Messages of the reading half that wait for the writing half.
const NOTES_MAX: usize = 4;

pub(super) fn upgrade(
    socket: WebSocketUpgrade,
    sandbox: Arc<Sandbox>,
    id: PtyId,
    stream: PtyStream,
    heartbeat: Duration,
) -> Response {
    socket
        .protocols([PROTOCOL])
        .max_message_size(PTY_INPUT_MAX)
        .max_frame_size(PTY_INPUT_MAX)
        .on_upgrade(move |socket| converse(socket, sandbox, id, stream, heartbeat))
}

async fn converse(
    socket: WebSocket,
    sandbox: Arc<Sandbox>,
    id: PtyId,
    stream: PtyStream,
    heartbeat: Duration,
) {
    let (sink, source) = socket.split();
    let (note, notes) = mpsc::channel(NOTES_MAX);
    // Two halves, so that Ctrl-C gets through while the client is behind with output.
    tokio::select! {
        () = listen(source, &sandbox, id, note) => {}
        () = speak(sink, stream, notes, heartbeat) => {}
    }
}

/// Until the client has gone or has said something that makes no sense.
async fn listen(
    mut source: SplitStream<WebSocket>,
    sandbox: &Sandbox,
    id: PtyId,
    note: mpsc::Sender<PtyEvent>,
) {
    while let Some(Ok(message)) = source.next().await {
        let done = match message {
            Message::Binary(bytes) => pty::input(sandbox, id, bytes.to_vec()).await,
            Message::Text(text) => match resize(text.as_str()) {
                Ok(size) => pty::resize(sandbox, id, size).await,
                Err(why) => {
                    // With the queue full the client is told nothing, and it has been told enough.
                    drop(note.try_send(PtyEvent::PtyError { message: why }));
                    // The writing half says it and ends the conversation.
                    return std::future::pending().await;
                }
            },
            Message::Close(_) => return,
            // Answered by the library.
            Message::Ping(_) | Message::Pong(_) => Ok(()),
        };
        // A client that types at what takes nothing says so again with each key.
        if let Err(error) = done
            && sandbox.may_log()
        {
            let chain = ErrorChain(&error).to_string();
            tracing::warn!(sandbox_id = %sandbox.id(), error = chain, "a terminal took no input");
        }
    }
}

/// Until the program has exited, the client takes nothing any more, or the other half has something to object.
async fn speak(
    mut sink: SplitSink<WebSocket, Message>,
    mut stream: PtyStream,
    mut notes: mpsc::Receiver<PtyEvent>,
    heartbeat: Duration,
) {
    loop {
        let event = tokio::select! {
            event = timeout(heartbeat, stream.next()) => event,
            Some(objection) = notes.recv() => {
                drop(sink.send(text(&objection)).await);
                return drop(sink.send(closing(close_code::POLICY)).await);
            }
        };
        let sent = match event {
            Err(_) => sink.send(Message::Ping(Bytes::new())).await,
            Ok(None) => break,
            Ok(Some(StreamEvent::Output { bytes, .. })) => sink.send(Message::Binary(bytes.into())).await,
            Ok(Some(other)) => {
                let mut sent = Ok(());
                for event in other.events() {
                    sent = sent.and(sink.send(text(&event)).await);
                }
                sent
            }
        };
        if sent.is_err() {
            return;
        }
    }
    drop(sink.send(closing(close_code::NORMAL)).await);
}

fn resize(text: &str) -> Result<PtyResizeRequest, String> {
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: String,
    }
    if text.len() > TEXT_MAX {
        return Err(format!(
            "a text message has at most {TEXT_MAX} bytes; bytes for the terminal are binary"
        ));
    }
    match serde_json::from_str::<Kind>(text) {
        Ok(Kind { kind }) if kind == "resize" => {
            PtyResizeRequest::parse(text.as_bytes()).map_err(|error| error.to_string())
        }
        _ => Err(
            r#"a text message is {"type":"resize","cols":80,"rows":24}; bytes for the terminal are binary"#
                .to_owned(),
        ),
    }
}

fn text(event: &PtyEvent) -> Message {
    let mut line = event.line();
    line.pop();
    Message::Text(String::from_utf8_lossy(&line).into_owned().into())
}

fn closing(code: u16) -> Message {
    Message::Close(Some(CloseFrame {
        code,
        reason: "".into(),
    }))
}
