//! Open files on a Unix socket, beside the bytes.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Most descriptors in one message: `SCM_MAX_FD` of the kernel.
const PART: usize = 253;

/// Sends at least one byte with each part of the descriptors, and says how many bytes have gone. Without descriptors
/// nothing is sent.
pub(crate) async fn send(
    stream: &UnixStream,
    bytes: &[u8],
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<usize> {
    let mut sent = 0;
    let mut parts = descriptors.chunks(PART).peekable();
    while let Some(part) = parts.next() {
        // A part that is not the last leaves bytes for those that follow.
        let end = if parts.peek().is_none() {
            bytes.len()
        } else {
            sent + 1
        };
        sent += send_part(stream, bytes.get(sent..end).unwrap_or_default(), part).await?;
    }
    Ok(sent)
}

async fn send_part(stream: &UnixStream, bytes: &[u8], part: &[BorrowedFd<'_>]) -> io::Result<usize> {
    stream
        .async_io(Interest::WRITABLE, || {
            let message = SendAncillaryMessage::ScmRights(part);
            let mut space = vec![MaybeUninit::uninit(); message.size()];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            if !ancillary.push(message) {
                return Err(io::Error::from(io::ErrorKind::InvalidInput));
            }
            let sent = sendmsg(
                stream,
                &[IoSlice::new(bytes)],
                &mut ancillary,
                SendFlags::NOSIGNAL,
            )?;
            Ok(sent)
        })
        .await
}
