//! The third channel of a link, `if-agent-files`: binary frames, reliable and ordered, opened when the
//! first file is accepted (`wire.md`, *DataChannels*). What the frames say is decided elsewhere.
//!
//! The channel is negotiated, so each end opens its own at once, on the open connection. What comes
//! for a channel that this end has not opened yet, the engine acknowledges and drops: the end that
//! receives opens its channel before it says that it accepts.

use std::fmt;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use webrtc::data_channel::{DataChannel, DataChannelEvent, RTCDataChannelInit};
use webrtc::error::Error;

use super::LinkError;

/// One end of the channel for files. Cheap to clone; all clones are one end.
#[derive(Clone)]
pub struct FileChannel(Arc<dyn DataChannel>);

impl FileChannel {
    pub(super) fn new(channel: Arc<dyn DataChannel>) -> Self {
        Self(channel)
    }

    /// How the channel is made.
    pub(super) fn options() -> RTCDataChannelInit {
        RTCDataChannelInit {
            negotiated: Some(FILES_ID),
            ..Default::default()
        }
    }

    /// Sends one frame; waits while more than the send buffer's bound is under way.
    ///
    /// # Errors
    /// [`LinkError::Closed`], or what the engine says.
    pub async fn send(&self, frame: BytesMut) -> Result<(), LinkError> {
        self.0.send(frame).await.map_err(|err| match err {
            Error::ErrDataChannelClosed => LinkError::Closed,
            other => LinkError::Engine(other.to_string()),
        })
    }

    /// The next frame; none once the link is down. Text is no frame, and is dropped. Cancel-safe.
    ///
    /// Who reads slowly throttles the sender, of messages on this link too: the engine hands out
    /// nothing while one channel's reader is far behind. So what a sender may have under way is
    /// bounded elsewhere, well below that.
    pub async fn recv(&self) -> Option<Bytes> {
        loop {
            match self.0.poll().await? {
                DataChannelEvent::OnMessage(message) if !message.is_string => {
                    return Some(message.data.freeze());
                }
                DataChannelEvent::OnClose => return None,
                _ => {}
            }
        }
    }
}

impl fmt::Debug for FileChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FileChannel")
    }
}

/// The channel's name.
pub(super) const FILES: &str = "if-agent-files";
const FILES_ID: u16 = 2;
