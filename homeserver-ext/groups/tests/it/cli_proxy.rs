//! A TCP proxy that loses answers: the request arrives, and nobody hears what became of it. Or it
//! refuses envelopes as a server does that has taken some of them.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, RwLock, RwLockWriteGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

use causeway_protocol::api::{AcceptedEnvelope, ErrorBody, PostEnvelopes};

/// Stands before a server on its own port.
pub(crate) struct Proxy {
    address: SocketAddr,
    plan: Arc<Plan>,
}

#[derive(Default)]
struct Plan {
    /// End of the path of posts and puts whose answers are lost, and how many of them.
    path: Mutex<&'static str>,
    to_lose: AtomicUsize,
    lost: AtomicUsize,
    /// Refuses posts of envelopes, as if so many of each were taken before; 0: carries them.
    taken: AtomicUsize,
    /// Knows no fan-outs in bytes.
    is_of_before: AtomicBool,
    /// Says of servers for calls that they hear what is said.
    is_clear: AtomicBool,
    /// Closed while nothing passes.
    gate: RwLock<()>,
    /// Closed while no account is asked for.
    accounts: RwLock<()>,
    /// Accounts that were asked for.
    asked: AtomicUsize,
}

impl Proxy {
    /// Before the server at `upstream`.
    pub(crate) fn before(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(Plan::default());
        let carried = Arc::clone(&plan);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let plan = Arc::clone(&carried);
                thread::spawn(move || carry(client, upstream, &plan));
            }
        });
        Self { address, plan }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Loses the answers to the next `n` posts of envelopes.
    pub(crate) fn lose_answers(&self, n: usize) {
        self.lose_answers_to("/envelopes", n);
    }

    /// Loses the answers to the next `n` posts or puts to a path with this end.
    pub(crate) fn lose_answers_to(&self, path: &'static str, n: usize) {
        *self.plan.path.lock().unwrap() = path;
        self.plan.to_lose.store(n, Ordering::SeqCst);
    }

    /// Refuses the next post of envelopes as a server whose group was closed when it had taken `n` of
    /// them.
    pub(crate) fn refuse_after(&self, n: usize) {
        self.plan.taken.store(n, Ordering::SeqCst);
    }

    /// Answers fan-outs in bytes from now on as a server does that does not know them.
    pub(crate) fn is_of_before(&self) {
        self.plan.is_of_before.store(true, Ordering::SeqCst);
    }

    /// Takes everything and hands nothing on while this is held, as before a server that is stopped where
    /// it stands.
    pub(crate) fn hang(&self) -> RwLockWriteGuard<'_, ()> {
        self.plan.gate.write().unwrap()
    }

    /// Hands no question for an account on while this is held.
    pub(crate) fn hold_accounts(&self) -> RwLockWriteGuard<'_, ()> {
        self.plan.accounts.write().unwrap()
    }

    /// How many accounts were asked for.
    pub(crate) fn asked(&self) -> usize {
        self.plan.asked.load(Ordering::SeqCst)
    }

    /// Says from now on that servers for calls hear what is said, as where Matrix users are in a call.
    pub(crate) fn calls_are_clear(&self) {
        self.plan.is_clear.store(true, Ordering::SeqCst);
    }

    /// How many were lost.
    pub(crate) fn lost(&self) -> usize {
        self.plan.lost.load(Ordering::SeqCst)
    }
}

impl Plan {
    /// Whether the answer to what begins with these bytes is to be lost.
    fn takes(&self, bytes: &[u8]) -> bool {
        let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let path = format!("{} HTTP/1.1", self.path.lock().unwrap());
        (line.starts_with(b"POST ") || line.starts_with(b"PUT "))
            && line.ends_with(path.as_bytes())
            && self
                .to_lose
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1))
                .is_ok()
    }
}

/// The refusal of a post of envelopes that begins with these bytes, if it is to be refused.
fn refusal(begun: &[u8], client: &mut TcpStream, plan: &Plan) -> Option<String> {
    let line = begun.split(|byte| *byte == b'\r').next()?;
    if line.ends_with(b"/fan-outs HTTP/1.1") && plan.is_of_before.load(Ordering::SeqCst) {
        let body = r#"{"errcode":"M_UNRECOGNIZED","error":"no such path"}"#;
        let length = body.len();
        return Some(format!("HTTP/1.1 404 Not Found\r\ncontent-length: {length}\r\n\r\n{body}"));
    }
    if !line.starts_with(b"POST ") || !line.ends_with(b"/envelopes HTTP/1.1") {
        return None;
    }
    let taken = plan.taken.swap(0, Ordering::SeqCst);
    if taken == 0 {
        return None;
    }
    let mut request = begun.to_vec();
    let posted: PostEnvelopes = loop {
        let body = request.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4);
        if let Some(Ok(posted)) = body.map(|at| serde_json::from_slice(&request[at..])) {
            break posted;
        }
        let mut more = [0; 4_096];
        let n = client.read(&mut more).ok()?;
        request.extend_from_slice(&more[..n]);
    };
    let accepted = posted.envelopes.iter().take(taken);
    let accepted = accepted.map(|one| AcceptedEnvelope { id: one.name(), recipients: 1 }).collect();
    let body = ErrorBody {
        errcode: "M_FORBIDDEN".to_owned(),
        error: "the group is closed".to_owned(),
        retry_after_ms: None,
        epoch: None,
        ops: None,
        server: None,
        since_ms: None,
        call: None,
        max: None,
        who: Vec::new(),
        accepted,
    };
    let body = serde_json::to_string(&body).unwrap();
    let length = body.len();
    Some(format!("HTTP/1.1 403 Forbidden\r\ncontent-length: {length}\r\n\r\n{body}"))
}

fn asks_for_account(begun: &[u8]) -> bool {
    let line = begun.split(|byte| *byte == b'\r').next().unwrap_or_default();
    line.starts_with(b"GET ") && line.windows(10).any(|these| these == b"/accounts/")
}

/// Puts one word for another of the same length.
fn clear(bytes: &mut [u8]) {
    let (native, none) = (br#""e2ee":"native""#, br#""e2ee":  "none""#);
    if let Some(at) = bytes.windows(native.len()).position(|these| these == native) {
        bytes[at..at + none.len()].copy_from_slice(none);
    }
}

fn carry(mut client: TcpStream, upstream: SocketAddr, plan: &Plan) {
    let Ok(mut server) = TcpStream::connect(upstream) else { return };
    let (mut back_from, mut back_to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    // Set by the way there, read by the way back.
    let is_lost = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut bytes = [0; 16 << 10];
            while let Ok(n @ 1..) = client.read(&mut bytes) {
                if let Some(answer) = refusal(&bytes[..n], &mut client, plan) {
                    let _ = client.write_all(answer.as_bytes());
                    break;
                }
                if plan.takes(&bytes[..n]) {
                    is_lost.store(true, Ordering::SeqCst);
                }
                if asks_for_account(&bytes[..n]) {
                    plan.asked.fetch_add(1, Ordering::SeqCst);
                    drop(plan.accounts.read());
                }
                drop(plan.gate.read());
                if server.write_all(&bytes[..n]).is_err() {
                    break;
                }
            }
            let _ = server.shutdown(Shutdown::Both);
        });
        let mut bytes = [0; 16 << 10];
        while let Ok(n @ 1..) = back_from.read(&mut bytes) {
            if is_lost.load(Ordering::SeqCst) {
                plan.lost.fetch_add(1, Ordering::SeqCst);
                break;
            }
            drop(plan.gate.read());
            if plan.is_clear.load(Ordering::SeqCst) {
                clear(&mut bytes[..n]);
            }
            if back_to.write_all(&bytes[..n]).is_err() {
                break;
            }
        }
        let _ = back_to.shutdown(Shutdown::Both);
        let _ = back_from.shutdown(Shutdown::Both);
    });
}
