//! A socket that gives no more than so many bytes until it is allowed to: what a client can make the
//! server hold before it has registered.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A socket whose reading is metered. Writing is not.
#[derive(Debug)]
pub(super) struct Metered<S> {
    socket: S,
    meter: Meter,
}

/// How much may still be read; cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Meter(Arc<AtomicUsize>);

impl Meter {
    /// So many bytes and no more.
    pub(super) fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// From now on there is no limit here: nobody sends 2^64 bytes.
    pub(super) fn lift(&self) {
        self.0.store(usize::MAX, Ordering::Relaxed);
    }

    /// Whether an error says that the limit was reached.
    pub(super) fn ran_out(err: &io::Error) -> bool {
        err.kind() == io::ErrorKind::QuotaExceeded
    }
}

impl<S> Metered<S> {
    pub(super) fn new(socket: S, meter: Meter) -> Self {
        Self { socket, meter }
    }

    /// The socket, without its meter.
    pub(super) fn into_inner(self) -> S {
        self.socket
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let left = self.meter.0.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        // The last read may give a buffer more than is left, which harms nobody.
        let left = left.saturating_sub(buf.filled().len() - before);
        self.meter.0.store(left, Ordering::Relaxed);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn gives_what_is_allowed_and_then_an_error_until_it_is_lifted() {
        let meter = Meter::new(10);
        let mut socket = Metered::new(&[7; 100][..], meter.clone());
        let mut some = [0; 6];
        assert_eq!(socket.read(&mut some).await.unwrap(), 6);
        assert_eq!(socket.read(&mut some).await.unwrap(), 6);
        let err = socket.read(&mut some).await.unwrap_err();
        assert!(Meter::ran_out(&err), "{err}");
        meter.lift();
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.unwrap();
        assert_eq!(rest.len(), 88);
    }
}
