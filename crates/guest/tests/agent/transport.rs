//! A transport that can be reset as vsock is in a clone: reading and writing fail, and whoever waits is woken.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use guest::{Listener, Stream};

/// All that were accepted.
#[derive(Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<Vec<Weak<Wire>>>>);

pub(crate) struct Door {
    listener: UnixListener,
    connections: Connections,
}

pub(crate) struct Resettable(Arc<Wire>);

struct Wire {
    stream: UnixStream,
    reset: AtomicBool,
}

impl Connections {
    pub(crate) fn reset(&self) {
        for wire in self.0.lock().unwrap().iter().filter_map(Weak::upgrade) {
            wire.reset.store(true, Ordering::SeqCst);
            wire.stream.shutdown(Shutdown::Both).unwrap();
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().unwrap().iter().filter_map(Weak::upgrade).count()
    }

    pub(crate) fn are_gone(&self) -> bool {
        let wires = self.0.lock().unwrap();
        wires
            .iter()
            .filter_map(Weak::upgrade)
            .all(|wire| !wire.reset.load(Ordering::SeqCst))
    }
}

impl Door {
    pub(crate) fn new(listener: UnixListener, connections: Connections) -> Self {
        Self {
            listener,
            connections,
        }
    }
}

impl Listener for Door {
    type Stream = Resettable;

    fn accept(&self) -> io::Result<Resettable> {
        let (stream, _) = self.listener.accept()?;
        let wire = Arc::new(Wire {
            stream,
            reset: AtomicBool::new(false),
        });
        self.connections.0.lock().unwrap().push(Arc::downgrade(&wire));
        Ok(Resettable(wire))
    }
}

impl Stream for Resettable {
    fn tells_of_clone(error: &io::Error) -> bool {
        error.kind() == ErrorKind::NotConnected
    }
}

impl Resettable {
    fn stream(&self) -> io::Result<&UnixStream> {
        if self.0.reset.load(Ordering::SeqCst) {
            Err(ErrorKind::NotConnected.into())
        } else {
            Ok(&self.0.stream)
        }
    }
}

impl Read for Resettable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = self.stream()?;
        stream.read(buffer)
    }
}

impl Write for Resettable {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut stream = self.stream()?;
        stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsFd for Resettable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.stream.as_fd()
    }
}
