//! Stands before a homeserver's federation port and counts what passes.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::start;

/// What passes one port, as long as this process lives.
pub(crate) struct Wire(Arc<AtomicU64>);

impl Wire {
    /// Listens at the port `at`, and leads to the port `to`.
    pub(crate) async fn lay(at: u16, to: u16) -> Self {
        let bytes = Arc::new(AtomicU64::new(0));
        let listener = TcpListener::bind(("127.0.0.1", at)).await.expect("its port is ours");
        start(serve(listener, to, Arc::clone(&bytes)));
        Self(bytes)
    }

    /// Bytes that passed, both ways, as TCP carries them: with TLS and HTTP, without headers of packets.
    pub(crate) fn bytes(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, to: u16, bytes: Arc<AtomicU64>) {
    loop {
        let Ok((near, _)) = listener.accept().await else { continue };
        let Ok(far) = TcpStream::connect(("127.0.0.1", to)).await else { continue };
        let set = near.set_nodelay(true).and_then(|()| far.set_nodelay(true));
        set.expect("a socket's option");
        let ((from_near, to_near), (from_far, to_far)) = (near.into_split(), far.into_split());
        start(carry(from_near, to_far, Arc::clone(&bytes)));
        start(carry(from_far, to_near, Arc::clone(&bytes)));
    }
}

async fn carry(
    mut from: impl AsyncRead + Unpin + Send,
    mut to: impl AsyncWrite + Unpin + Send,
    bytes: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
        bytes.fetch_add(count as u64, Ordering::SeqCst);
    }
    // The other side may have gone.
    let _ = to.shutdown().await;
}
