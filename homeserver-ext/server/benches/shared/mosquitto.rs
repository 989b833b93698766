//! Mosquitto beside us: the same devices as subscribers of quality 1 with sessions that last, what it
//! holds kept on disk now and then. Of MQTT 3.1.1 as much as that takes.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const TOPIC: &str = "group";
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x32;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;

/// The broker in a process of its own, killed on drop.
pub(super) struct Broker {
    child: Child,
    pub(super) port: u16,
}

impl Broker {
    /// `None` where it is not installed.
    pub(super) async fn start(folder: &Path) -> Option<Self> {
        let port = {
            let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            free.local_addr().expect("bound").port()
        };
        let file = folder.join("mosquitto.conf");
        // Root may not stay root there unless it is asked to.
        let text = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\npersistence true\n\
             persistence_location {}/\nautosave_interval 1\nmax_queued_messages 0\n\
             max_inflight_messages 256\nuser root\nlog_dest none\n",
            folder.display()
        );
        std::fs::write(&file, text).expect("a file");
        let mut command = Command::new("mosquitto");
        let command = command.arg("-c").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        let broker = Self { child: command.spawn().ok()?, port };
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            tokio::task::yield_now().await;
        }
        Some(broker)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client of it.
pub(super) struct Client {
    socket: TcpStream,
    bytes: Vec<u8>,
    next: u16,
}

impl Client {
    pub(super) async fn connect(port: u16, name: &str) -> Self {
        let socket = TcpStream::connect(("127.0.0.1", port)).await.expect("connects");
        socket.set_nodelay(true).expect("a socket");
        let mut client = Self { socket, bytes: Vec::new(), next: 0 };
        // Version 4, a session that lasts, no keep-alive.
        let head = [string("MQTT").as_slice(), &[4, 0, 0, 0]].concat();
        client.send(CONNECT, &[&head, &string(name)]).await;
        client.receive(CONNACK).await;
        client
    }

    pub(super) async fn subscribe(&mut self) {
        let id = self.next_id();
        self.send(SUBSCRIBE, &[&id, &string(TOPIC), &[1]]).await;
        self.receive(SUBACK).await;
    }

    /// Returns when the broker has it.
    pub(super) async fn publish(&mut self, payload: &[u8]) {
        let id = self.next_id();
        self.send(PUBLISH, &[&string(TOPIC), &id, payload]).await;
        self.receive(PUBACK).await;
    }

    /// So many messages, and what came together acknowledged together.
    pub(super) async fn take(&mut self, count: u32) {
        let mut taken = 0;
        while taken < count {
            let mut acks = Vec::new();
            let mut next = Some(self.packet().await);
            while let Some((kind, body)) = next.take() {
                if kind & 0xf0 == PUBLISH & 0xf0 {
                    let at = 2 + TOPIC.len();
                    acks.extend([PUBACK, 2, body[at], body[at + 1]]);
                    taken += 1;
                }
                next = self.parsed();
            }
            self.socket.write_all(&acks).await.expect("goes on");
        }
    }

    fn next_id(&mut self) -> [u8; 2] {
        self.next = self.next.checked_add(1).unwrap_or(1);
        self.next.to_be_bytes()
    }

    async fn send(&mut self, kind: u8, parts: &[&[u8]]) {
        let body = parts.concat();
        let mut packet = vec![kind];
        let mut length = body.len();
        loop {
            let low = u8::try_from(length % 128).expect("seven bits");
            length /= 128;
            packet.push(if length > 0 { low | 128 } else { low });
            if length == 0 {
                break;
            }
        }
        packet.extend(body);
        self.socket.write_all(&packet).await.expect("goes on");
    }

    async fn receive(&mut self, kind: u8) {
        while self.packet().await.0 != kind {}
    }

    async fn packet(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some(packet) = self.parsed() {
                return packet;
            }
            assert!(self.socket.read_buf(&mut self.bytes).await.expect("goes on") > 0, "it ended");
        }
    }

    /// The next packet that is there whole.
    fn parsed(&mut self) -> Option<(u8, Vec<u8>)> {
        let (mut length, mut at) = (0, 1);
        loop {
            let byte = usize::from(*self.bytes.get(at)?);
            length |= (byte & 127) << (7 * (at - 1));
            at += 1;
            if byte < 128 {
                break;
            }
        }
        if self.bytes.len() < at + length {
            return None;
        }
        let rest = self.bytes.split_off(at + length);
        let packet = std::mem::replace(&mut self.bytes, rest);
        Some((packet[0], packet[at..].to_vec()))
    }
}

fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("a short one");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}
