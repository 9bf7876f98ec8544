//! Whole trees, as tar archives in the content of a connection.

use std::io::{self, Read, Write};
use std::path::Path;

use agent_proto::Reply;
use agent_proto::files::{FileReply, Opened};
use archive::{make_directories, remove_directories};

use super::content::{DataFrame, next_piece, refuse_midway};
use super::problem::Problem;
use super::stat::stat;
use crate::connection::{Connection, ConnectionError, Stream};

/// What an archive may ask for: in a guest everything is root's anyway.
const MODE_MASK: u32 = 0o7777;

pub(super) fn pack<S: Stream>(connection: &mut Connection<S>, path: &Path) -> Result<(), Problem> {
    let opened = Opened {
        stat: stat(path, true)?,
        offset: 0,
        length: None,
    };
    connection.push(&Reply::File(FileReply::Opened(opened)))?;
    let mut sink = Sink {
        connection,
        frame: DataFrame::new(u64::MAX),
        used: 0,
        broke: None,
    };
    let packed = archive::pack(path, &mut sink);
    let broke = sink.broke.take();
    match (packed, broke) {
        (_, Some(error)) => Err(error.into()),
        (packed, None) => {
            packed?;
            Ok(connection.reply(&Reply::Done)?)
        }
    }
}

pub(super) fn unpack<S: Stream>(connection: &mut Connection<S>, path: &Path) -> Result<(), Problem> {
    let made = make_directories(path)?;
    connection
        .reply(&Reply::Done)
        .inspect_err(|_| remove_directories(&made))?;
    let mut source = Source {
        connection,
        piece: Vec::new(),
        taken: 0,
        over: false,
        broke: None,
    };
    let unpacked = archive::unpack(path, &mut source, MODE_MASK);
    let (over, broke) = (source.over, source.broke.take());
    let error = match (unpacked, broke) {
        (Ok(unpacked), None) => {
            let (entries, bytes) = (unpacked.entries, unpacked.bytes);
            let reply = Reply::File(FileReply::Unpacked { entries, bytes });
            return Ok(connection.reply(&reply)?);
        }
        (_, Some(error)) => Problem::Connection(error),
        (Err(error), None) => Problem::File(error),
    };
    // Only as far as nothing was unpacked into them.
    remove_directories(&made);
    match error {
        Problem::File(error) if !over => refuse_midway(connection, error.into()),
        error => Err(error),
    }
}

/// Takes an archive and sends it.
struct Sink<'a, S> {
    connection: &'a mut Connection<S>,
    frame: DataFrame,
    used: usize,
    broke: Option<ConnectionError>,
}

impl<S: Stream> Sink<'_, S> {
    fn send(&mut self) -> io::Result<()> {
        if self.used == 0 {
            return Ok(());
        }
        let sent = self.frame.send(self.connection, self.used);
        self.used = 0;
        sent.map_err(|error| {
            let told = io::Error::other(error.to_string());
            self.broke = Some(error);
            told
        })
    }
}

impl<S: Stream> Write for Sink<'_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = &mut self.frame.room()[self.used..];
        let count = room.len().min(bytes.len());
        room[..count].copy_from_slice(&bytes[..count]);
        self.used += count;
        if self.used == self.frame.room().len() {
            self.send()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// Gives the archive that comes in.
struct Source<'a, S> {
    connection: &'a mut Connection<S>,
    piece: Vec<u8>,
    taken: usize,
    over: bool,
    broke: Option<ConnectionError>,
}

impl<S: Stream> Read for Source<'_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.piece.len() {
            if self.over {
                return Ok(0);
            }
            self.taken = 0;
            match next_piece(self.connection, &mut self.piece) {
                Ok(more) => self.over = !more,
                Err(error) => {
                    let told = io::Error::other(error.to_string());
                    self.broke = Some(error);
                    return Err(told);
                }
            }
        }
        let count = (self.piece.len() - self.taken).min(buffer.len());
        buffer[..count].copy_from_slice(&self.piece[self.taken..][..count]);
        self.taken += count;
        Ok(count)
    }
}
