//! Sends a carried run to whoever follows it.

use agent_proto::Reply;
use rustix::event::{PollFd, PollFlags};

use super::{Follower, Next};
use crate::connection::{Connection, ConnectionError, Stream};
use crate::poll;

/// Sends what is kept and then what comes, to the run's end, `first` before it. A connection that ends leaves the run as it is: it goes on,
/// and may be followed again from the beginning of what is kept.
pub(crate) fn follow<S: Stream>(
    connection: &mut Connection<S>,
    mut follower: Follower,
    first: &Reply,
) -> Result<(), ConnectionError> {
    connection.reply(first)?;
    loop {
        match follower.next() {
            Next::Reply(reply) => connection.reply(&reply)?,
            Next::Last(reply) => {
                // Gone before the host knows the end, which it may answer by following anew.
                drop(follower);
                return connection.reply(&reply);
            }
            Next::Nothing => wait(connection, &follower)?,
        }
    }
}

fn wait<S: Stream>(connection: &mut Connection<S>, follower: &Follower) -> Result<(), ConnectionError> {
    let mut fds = [
        PollFd::new(follower, PollFlags::IN),
        PollFd::new(&*connection, PollFlags::IN | PollFlags::RDHUP),
    ];
    poll::wait(&mut fds, None)?;
    let [news, host] = fds.map(|fd| !fd.revents().is_empty());
    if news {
        follower.heard_of_news();
    }
    if host { connection.attend() } else { Ok(()) }
}
