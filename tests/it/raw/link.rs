//! A WebRTC link made by hand on the engine's sans-IO core: it sends whatever bytes it is given,
//! as text or binary, of any size, which the product's own link refuses to do.
//!
//! One task owns the connection and its socket; frames go in and come out of queues without a
//! bound, since a test decides how many there are.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc::data_channel::{RTCDataChannelId, RTCDataChannelInit, RTCDataChannelMessage};
use rtc::ice::mdns::MulticastDnsMode;
use rtc::peer_connection::configuration::setting_engine::{
    SctpMaxMessageSize, SettingEngineBuilder,
};
use rtc::peer_connection::event::{RTCDataChannelEvent, RTCPeerConnectionEvent};
use rtc::peer_connection::message::{RTCMessage, TaggedRTCMessage};
use rtc::peer_connection::sdp::RTCSessionDescription;
use rtc::peer_connection::state::RTCPeerConnectionState;
use rtc::peer_connection::transport::{CandidateConfig, CandidateHostConfig, RTCIceCandidate};
use rtc::peer_connection::{RTCPeerConnection, RTCPeerConnectionBuilder};
use rtc::sansio::Protocol;
use rtc::shared::{TaggedBytesMut, TransportContext, TransportProtocol};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

/// The far end of a link to a real agent.
pub(crate) struct RawLink {
    orders: mpsc::UnboundedSender<Order>,
    happened: mpsc::UnboundedReceiver<Happened>,
    task: AbortHandle,
}

/// What a link is to do.
enum Order {
    Send(Frame),
    AnswerPings,
}

/// What travels on a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) channel: Channel,
    pub(crate) is_text: bool,
    pub(crate) bytes: Vec<u8>,
}

/// The channels, by their negotiated ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Channel {
    Messaging = 0,
    Control = 1,
    Files = 2,
}

/// What a link tells.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    /// All channels are open.
    Open,
    /// A frame came.
    Frame(Frame),
    /// The link is down; nothing follows.
    Closed,
}

impl Frame {
    pub(crate) fn message(text: impl Into<String>) -> Self {
        Self {
            channel: Channel::Messaging,
            is_text: true,
            bytes: text.into().into_bytes(),
        }
    }

    pub(crate) fn file(bytes: Vec<u8>) -> Self {
        Self {
            channel: Channel::Files,
            is_text: false,
            bytes,
        }
    }

    pub(crate) fn control(text: impl Into<String>) -> Self {
        Self {
            channel: Channel::Control,
            ..Self::message(text)
        }
    }
}

impl RawLink {
    /// Answers an offer; returns the link and the answer.
    ///
    /// Whatever the offer says, frames of up to [`LARGEST`] go out: who lies needs no leave.
    pub(crate) async fn answer(offer: &str) -> (Self, String) {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let settings = SettingEngineBuilder::new()
            .with_ice_connection_attempts(Some(Duration::from_millis(10)), Some(140))
            .with_multicast_dns_mode(MulticastDnsMode::Disabled)
            .with_sctp_max_message_size(SctpMaxMessageSize::Bounded(LARGEST))
            .with_crypto_provider(rtc::crypto::default_provider().unwrap())
            .build();
        let mut connection = RTCPeerConnectionBuilder::new()
            .with_setting_engine(settings)
            .build(Instant::now())
            .unwrap();
        let labels = ["if-agent-messaging", "if-agent-control", "if-agent-files"];
        let mut ids = 0..;
        let channels = labels.map(|label| {
            let options = RTCDataChannelInit {
                negotiated: ids.next(),
                ..Default::default()
            };
            let made = connection.create_data_channel(label, Some(options));
            made.unwrap().id()
        });
        let offer = offer.lines().map(|line| {
            if line.starts_with("a=max-message-size:") {
                format!("a=max-message-size:{LARGEST}\r\n")
            } else {
                format!("{line}\r\n")
            }
        });
        let offer = RTCSessionDescription::offer(offer.collect()).unwrap();
        connection
            .set_remote_description(Instant::now(), offer)
            .unwrap();
        let candidate = CandidateHostConfig {
            base_config: CandidateConfig {
                network: "udp".to_owned(),
                address: address.ip().to_string(),
                port: address.port(),
                component: 1,
                ..Default::default()
            },
            ..Default::default()
        };
        let candidate = candidate.new_candidate_host().unwrap();
        let candidate = RTCIceCandidate::from(&candidate).to_json().unwrap();
        connection.add_local_candidate(candidate).unwrap();
        let answer = connection.create_answer(None).unwrap();
        connection
            .set_local_description(Instant::now(), answer)
            .unwrap();
        let answer = connection.local_description().unwrap().sdp;

        let (orders, orders_out) = mpsc::unbounded_channel();
        let (tell, happened) = mpsc::unbounded_channel();
        let driver = Driver {
            connection,
            channels,
            socket,
            address,
            open: 0,
            answers_pings: false,
            tell,
        };
        let task = tokio::spawn(driver.run(orders_out)).abort_handle();
        let link = Self {
            orders,
            happened,
            task,
        };
        (link, answer)
    }

    /// Queues a frame. Of a link that is down it is dropped.
    pub(crate) fn send(&self, frame: Frame) {
        let _ = self.orders.send(Order::Send(frame));
    }

    /// Answers pings by itself from now on: a link that does not is dead after 30 s.
    pub(crate) fn answer_pings(&self) {
        let _ = self.orders.send(Order::AnswerPings);
    }

    /// The next thing that happens; [`Happened::Closed`] over and over once it is down.
    pub(crate) async fn recv(&mut self) -> Happened {
        self.happened.recv().await.unwrap_or(Happened::Closed)
    }
}

impl Drop for RawLink {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Driver {
    connection: RTCPeerConnection,
    channels: [RTCDataChannelId; 3],
    socket: UdpSocket,
    address: SocketAddr,
    open: usize,
    answers_pings: bool,
    tell: mpsc::UnboundedSender<Happened>,
}

impl Driver {
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut buffer = vec![0; 2048];
        loop {
            if !self.drain().await {
                return;
            }
            let due = self.connection.poll_timeout();
            let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {
                    self.connection.handle_timeout(Instant::now()).unwrap();
                }
                Ok((size, peer_addr)) = self.socket.recv_from(&mut buffer) => {
                    let datagram = TaggedBytesMut {
                        now: Instant::now(),
                        transport: TransportContext {
                            local_addr: self.address,
                            peer_addr,
                            ecn: None,
                            transport_protocol: TransportProtocol::UDP,
                        },
                        message: BytesMut::from(&buffer[..size]),
                    };
                    // What a relay has spoiled is an error here, and no more.
                    let _ = self.connection.handle_read(datagram);
                }
                order = orders.recv() => {
                    match order {
                        Some(Order::Send(frame)) => self.write(frame),
                        Some(Order::AnswerPings) => self.answers_pings = true,
                        None => return,
                    }
                }
            }
        }
    }

    fn write(&mut self, frame: Frame) {
        let message = RTCDataChannelMessage {
            is_string: frame.is_text,
            data: BytesMut::from(&frame.bytes[..]),
        };
        let channel = self.channels[frame.channel as usize];
        let written = self.connection.handle_write(TaggedRTCMessage {
            now: Instant::now(),
            message: RTCMessage::DataChannelMessage(channel, message),
        });
        written.unwrap();
    }

    /// Lets out all that there is to send and to tell. False once the link is down.
    async fn drain(&mut self) -> bool {
        loop {
            let mut idle = true;
            while let Some(datagram) = self.connection.poll_write() {
                idle = false;
                let to = datagram.transport.peer_addr;
                let _ = self.socket.send_to(&datagram.message, to).await;
            }
            while let Some(event) = self.connection.poll_event() {
                idle = false;
                match event {
                    RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnOpen(_)) => {
                        self.open += 1;
                        if self.open == self.channels.len() {
                            let _ = self.tell.send(Happened::Open);
                        }
                    }
                    RTCPeerConnectionEvent::OnDataChannel(RTCDataChannelEvent::OnClose(_))
                    | RTCPeerConnectionEvent::OnConnectionStateChangeEvent(
                        RTCPeerConnectionState::Failed | RTCPeerConnectionState::Closed,
                    ) => {
                        let _ = self.tell.send(Happened::Closed);
                        return false;
                    }
                    _ => {}
                }
            }
            while let Some(read) = self.connection.poll_read() {
                idle = false;
                if let RTCMessage::DataChannelMessage(id, message) = read.message {
                    let frame = Frame {
                        channel: match self.channels.iter().position(|known| *known == id) {
                            Some(0) => Channel::Messaging,
                            Some(1) => Channel::Control,
                            _ => Channel::Files,
                        },
                        is_text: message.is_string,
                        bytes: message.data.to_vec(),
                    };
                    if self.answers_pings
                        && let Some(pong) = pong_to(&frame)
                    {
                        self.write(pong);
                    }
                    let _ = self.tell.send(Happened::Frame(frame));
                }
            }
            if idle {
                return true;
            }
        }
    }
}

/// The answer to a ping: the same, under another name.
fn pong_to(frame: &Frame) -> Option<Frame> {
    let text = std::str::from_utf8(&frame.bytes).ok()?;
    let is_ping = frame.channel == Channel::Control && text.starts_with(r#"{"type":"ping""#);
    is_ping.then(|| Frame::control(text.replacen("ping", "pong", 1)))
}

/// Bytes of the largest frame that can be sent: beyond all that an agent takes.
const LARGEST: u32 = 1 << 20;
