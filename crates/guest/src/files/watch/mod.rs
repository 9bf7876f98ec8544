//! Tells what happens below a directory, or to one file, as it happens.
//!
//! Beside the kernel's own queue nothing is kept for a host that does not listen. When that queue is full the kernel
//! drops what comes, and an [overflow](agent_proto::files::ChangeKind::Overflow) says so.

mod batch;
mod watches;

use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use agent_proto::Reply;
use agent_proto::files::FileReply;
use archive::FileError;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::inotify::Reader;
use rustix::io::Errno;

use super::problem::Problem;
use crate::connection::{Connection, Stream};
use crate::poll;
use watches::{Event, Watches};

/// The two halves of a move within the tree stand next to each other in the queue, so the second one comes at once.
const MOVE_WAIT: Duration = Duration::from_millis(50);

/// Bytes of events read at once; the longest event has 272.
const READ_BYTES: usize = 8 * 1024;

pub(super) fn watch<S: Stream>(
    connection: &mut Connection<S>,
    path: &Path,
    recursive: bool,
) -> Result<(), Problem> {
    let mut watches = Watches::begin(path, recursive)?;
    connection.reply(&Reply::Done)?;
    let mut half_since: Option<Instant> = None;
    while !watches.is_over() {
        let deadline = half_since.map(|since| since + MOVE_WAIT);
        let (news, host) = wait(connection, &watches, deadline)?;
        if host {
            connection.attend()?;
        }
        connection.send_some()?;
        if news && let Err(error) = take_events(&mut watches) {
            return Err(FileError::system("watch", path.as_os_str().as_bytes(), error).into());
        }
        half_since = watches
            .has_half_a_move()
            .then(|| half_since.unwrap_or_else(Instant::now));
        if half_since.is_some_and(|since| since.elapsed() >= MOVE_WAIT) {
            watches.end_half_a_move();
            half_since = None;
        }
        for page in watches.batch.take_pages() {
            connection.push(&Reply::File(FileReply::Changes(page)))?;
        }
        connection.send_some()?;
    }
    Ok(connection.reply(&Reply::Done)?)
}

/// Whether something has happened, and whether the host has to be attended to. Events stay in the kernel while the host
/// does not take those it has been sent.
fn wait<S: Stream>(
    connection: &Connection<S>,
    watches: &Watches,
    deadline: Option<Instant>,
) -> Result<(bool, bool), Problem> {
    let wanted = if connection.is_flushed() {
        PollFlags::IN
    } else {
        PollFlags::empty()
    };
    let mut fds = vec![PollFd::new(watches, wanted)];
    fds.extend(connection.watch());
    poll::wait(&mut fds, deadline).map_err(crate::connection::ConnectionError::from)?;
    let news = fds[0].revents().contains(PollFlags::IN);
    let host = fds
        .get(1)
        .is_some_and(|host| host.revents().intersects(!PollFlags::OUT));
    Ok((news, host))
}

fn take_events(watches: &mut Watches) -> Result<(), Errno> {
    let mut buffer = [MaybeUninit::uninit(); READ_BYTES];
    let mut events = Vec::new();
    {
        let mut reader = Reader::new(&*watches, &mut buffer);
        loop {
            match reader.next() {
                Ok(event) => events.push(Event {
                    watch: event.wd(),
                    flags: event.events(),
                    cookie: event.cookie(),
                    name: event.file_name().map(|name| name.to_bytes().to_vec()),
                }),
                Err(Errno::AGAIN | Errno::INTR) => break,
                Err(error) => return Err(error),
            }
            if reader.is_buffer_empty() {
                break;
            }
        }
    }
    for event in events {
        watches.take(event);
    }
    Ok(())
}
