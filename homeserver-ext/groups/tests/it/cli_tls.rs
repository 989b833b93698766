//! Over TLS, at the address that a server's `.well-known` file names.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    process::Command,
    sync::Arc,
    thread::{self, JoinHandle},
};

use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
    task::JoinSet,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;

use crate::{
    cli_server::Server,
    cli_world::{Ended, Running, ended, texts},
};

const WELL_KNOWN: &str = "GET /.well-known/matrix/client ";

/// What stands before a server in the world: TLS, and the file that says where the native API is.
struct Front {
    address: SocketAddr,
    folder: TempDir,
    running: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Front {
    /// Before `upstream`; `file` is the answer to [`WELL_KNOWN`] for the port, 404 if there is none.
    fn before(upstream: impl FnOnce(u16) -> SocketAddr, file: fn(u16) -> Option<Value>) -> Self {
        let folder = TempDir::new().unwrap();
        let acceptor = acceptor(&folder);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let upstream = upstream(address.port());
        let file = file(address.port()).map(|json| json.to_string());
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            Runtime::new().unwrap().block_on(async {
                let listener = TcpListener::from_std(listener).unwrap();
                let mut serving = JoinSet::new();
                while let Some(Ok((peer, _))) = stopped.run_until_cancelled(listener.accept()).await
                {
                    let (acceptor, file) = (acceptor.clone(), file.clone());
                    serving.spawn(async move {
                        // A client that does not trust us hangs up in the handshake.
                        if let Ok(peer) = acceptor.accept(peer).await {
                            let _ = serve(peer, upstream, file).await;
                        }
                    });
                }
            });
        });
        Self { address, folder, running: Some((stop, thread)) }
    }

    fn name(&self) -> String {
        format!("localhost:{}", self.address.port())
    }

    fn url(&self) -> String {
        format!("https://{}", self.name())
    }

    fn authority(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// The client with a home of this name, which trusts this front and is told of no server.
    fn command(&self, home: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_causeway-client"));
        command
            .env_clear()
            .env("SSL_CERT_FILE", self.authority())
            .args(["--output", "json", "--home"])
            .arg(self.folder.path().join(home))
            .args(arguments);
        command
    }

    fn run(&self, home: &str, arguments: &[&str]) -> Ended {
        ended(self.command(home, arguments).output().unwrap())
    }

    fn ok(&self, home: &str, arguments: &[&str]) -> Vec<Value> {
        let ended = self.run(home, arguments);
        assert!(ended.status.success(), "{home} {arguments:?}: {}", ended.stderr);
        ended.lines
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            stop.cancel();
            let _ = thread.join();
        }
    }
}

/// A certificate for `localhost` by an authority of its own, which is written to `ca.pem`.
fn acceptor(folder: &TempDir) -> TlsAcceptor {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    let mut authority = CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let authority = CertifiedIssuer::self_signed(authority, key).unwrap();
    fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key)
        .unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}

/// Answers for the file, and passes everything else on.
async fn serve(
    mut peer: TlsStream<TcpStream>,
    upstream: SocketAddr,
    file: Option<String>,
) -> std::io::Result<()> {
    let mut begin = vec![0; WELL_KNOWN.len()];
    peer.read_exact(&mut begin).await?;
    if begin == WELL_KNOWN.as_bytes() {
        let (status, body) = match &file {
            Some(body) => ("200 OK", body.as_str()),
            None => ("404 Not Found", "<html>nothing here</html>"),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        peer.write_all(answer.as_bytes()).await?;
        return peer.shutdown().await;
    }
    let mut server = TcpStream::connect(upstream).await?;
    server.write_all(&begin).await?;
    copy_bidirectional(&mut peer, &mut server).await.map(drop)
}

fn well_known(port: u16) -> Value {
    let url = format!("https://localhost:{port}");
    json!({"m.homeserver": {"base_url": url}, "dev.causeway.native.base_url": url})
}

#[test]
fn an_account_is_found_by_its_server_alone_and_talks_over_tls() {
    let mut server = None;
    let front = Front::before(
        |port| server.insert(Server::named(&format!("localhost:{port}"))).address(),
        |port| Some(well_known(port)),
    );
    let alice = format!("alice:{}", front.name());
    assert_eq!(front.ok("alice", &["register", &alice])[0]["server_url"], front.url());
    let registered = front.ok("bob", &["register", "bob", "--server", &front.url()]);
    assert_eq!(registered[0]["account"], format!("bob:{}", front.name()));
    front.ok("alice", &["group", "create", "team"]);
    let link = front.ok("alice", &["invite", "create", "team"])[0]["link"].clone();
    let mut tail = Running::start(front.command("alice", &["tail"]));
    front.ok("bob", &["invite", "accept", link.as_str().unwrap()]);
    front.ok("bob", &["send", "team", "through the stream"]);
    tail.until(|line| line["body"] == "through the stream");
    tail.stop();
    front.ok("alice", &["send", "team", "and back"]);
    assert_eq!(texts(&front.ok("bob", &["tail", "--once"])), ["and back"]);
}

#[test]
fn a_certificate_that_nobody_vouches_for_is_not_spoken_to() {
    let front =
        Front::before(|_| SocketAddr::from(([127, 0, 0, 1], 1)), |port| Some(well_known(port)));
    for arguments in [
        &["register", &format!("alice:{}", front.name())] as &[&str],
        &["register", "alice", "--server", &front.url()],
    ] {
        let mut command = front.command("alice", arguments);
        command.env_remove("SSL_CERT_FILE");
        let ended = ended(command.output().unwrap());
        assert_eq!(ended.status.code(), Some(4), "{}", ended.stderr);
        assert!(ended.stderr.contains("certificate"), "{}", ended.stderr);
    }
}

#[test]
fn a_server_that_names_no_native_api_is_said_to() {
    for file in [|_| None, |_| Some(json!({"m.homeserver": {}})) as Option<Value>] {
        let front = Front::before(|_| SocketAddr::from(([127, 0, 0, 1], 1)), file);
        let ended = front.run("alice", &["register", &format!("alice:{}", front.name())]);
        assert_eq!(ended.status.code(), Some(1), "{}", ended.stderr);
        let said = &ended.stderr;
        assert!(said.contains("/.well-known/matrix/client") && said.contains("--server"), "{said}");
    }
}
