//! Servers that are found by a name server of the test's own, and asked by TLS.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use hickory_resolver::{
    ResolverBuilder, TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig},
    net::runtime::TokioRuntimeProvider,
    proto::{
        op::{Message, OpCode, ResponseCode},
        rr::{Name, RData, Record, rdata::SRV},
    },
};
use reqwest::dns::{Addrs, Resolve, Resolving};
use ruma::ServerName;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    task::AbortHandle,
};
use tokio_rustls::{TlsAcceptor, rustls};

use super::{
    Federation, PORT,
    listening::{Listening, few_of_each, in_order},
};
use crate::gateway::public::{Public, PublicError};

/// Aborts what a test has started.
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "a server beside the test")]
fn beside(task: impl Future<Output = ()> + Send + 'static) -> Running {
    Running(tokio::spawn(task).abort_handle())
}

/// A name server, which answers these questions for SRV, and that there is nothing else; or is silent.
struct Dns {
    at: SocketAddr,
    _running: Running,
}

/// Of a question: priority, weight, port and target of each record.
type Zone = Vec<(String, Vec<(u16, u16, u16, String)>)>;

impl Dns {
    async fn start(zone: Zone, is_silent: bool) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = socket.local_addr().unwrap();
        let running = beside(async move {
            let mut bytes = [0; 2048];
            while let Ok((length, from)) = socket.recv_from(&mut bytes).await {
                if !is_silent {
                    let answer = answer(&zone, &Message::from_vec(&bytes[..length]).unwrap());
                    socket.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
                }
            }
        });
        Self { at, _running: running }
    }

    fn asked(&self) -> ResolverBuilder<TokioRuntimeProvider> {
        let mut udp = ConnectionConfig::udp();
        udp.port = self.at.port();
        let server = NameServerConfig::new(self.at.ip(), true, vec![udp]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    }

    /// By it, however slow it is.
    fn finds(&self, private: bool) -> Listening {
        Listening::by(self.asked(), Duration::from_mins(1), private)
    }
}

fn answer(zone: &Zone, asked: &Message) -> Message {
    let mut answer = Message::response(asked.metadata.id, OpCode::Query);
    let query = asked.queries.first().unwrap();
    answer.add_query(query.clone());
    let name = query.name().to_string().to_lowercase();
    let known = zone.iter().find(|(it, _)| format!("{it}.") == name);
    match known {
        Some((_, records)) => {
            for (priority, weight, port, target) in records {
                let target = Name::from_ascii(format!("{target}.")).unwrap();
                let srv = RData::SRV(SRV::new(*priority, *weight, *port, target));
                answer.add_answer(Record::from_rdata(query.name().clone(), 60, srv));
            }
        }
        None => answer.metadata.response_code = ResponseCode::NXDomain,
    }
    answer
}

/// Records of one service whose targets are equals.
fn of(name: &str, targets: &[(&str, u16)]) -> (String, Vec<(u16, u16, u16, String)>) {
    let record = |(target, port): &(&str, u16)| (10, 0, *port, (*target).to_owned());
    (name.to_owned(), targets.iter().map(record).collect())
}

fn at(addresses: &[&str]) -> Vec<SocketAddr> {
    addresses.iter().map(|it| it.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_name_without_port_leads_where_its_records_say() {
    let many: Vec<_> = (1..=12).map(|n| (format!("1.1.1.{n}"), n)).collect();
    let many: Vec<_> = many.iter().map(|(target, port)| (&**target, *port)).collect();
    let dns = Dns::start(
        vec![
            of("_matrix-fed._tcp.new.example", &[("1.1.1.1", 4433)]),
            of("_matrix._tcp.old.example", &[("1.1.1.2", 443)]),
            of("_matrix-fed._tcp.both.example", &[("1.1.1.3", 1)]),
            of("_matrix._tcp.both.example", &[("1.1.1.4", 2)]),
            of("_matrix-fed._tcp.gone.example", &[("", 0)]),
            of("_matrix-fed._tcp.many.example", &many),
            (
                "_matrix-fed._tcp.ordered.example".to_owned(),
                vec![(20, 0, 2, "1.1.1.2".to_owned()), (10, 0, 1, "1.1.1.1".to_owned())],
            ),
        ],
        false,
    )
    .await;
    let finds = dns.finds(false);
    for (name, addresses) in [
        ("new.example", &["1.1.1.1:4433"][..]),
        ("new.example.", &["1.1.1.1:4433"]),
        ("old.example", &["1.1.1.2:443"]),
        ("both.example", &["1.1.1.3:1"]),
        ("gone.example", &[]),
        ("ordered.example", &["1.1.1.1:1", "1.1.1.2:2"]),
    ] {
        assert_eq!(finds.addresses(name).await, at(addresses), "{name}");
    }
    assert_eq!(finds.addresses("many.example").await.len(), 4);
}

#[tokio::test]
async fn records_lead_to_nothing_of_this_network() {
    let here = [
        "localhost",
        "127.0.0.1",
        "0x7f.1",
        "2130706433",
        "10.0.0.1",
        "169.254.169.254",
        "0",
        "192.168.1.1",
    ];
    let mut zone: Zone = here
        .iter()
        .enumerate()
        .map(|(n, target)| of(&format!("_matrix-fed._tcp.{n}.example"), &[(target, 8448)]))
        .collect();
    let mixed: Vec<_> = here.iter().take(3).chain(&["1.1.1.1"]).map(|it| (*it, 8448)).collect();
    zone.push(of("_matrix-fed._tcp.mixed.example", &mixed));
    let dns = Dns::start(zone, false).await;
    let finds = dns.finds(false);
    for (n, target) in here.iter().enumerate() {
        assert!(finds.addresses(&format!("{n}.example")).await.is_empty(), "{target}");
    }
    assert_eq!(finds.addresses("mixed.example").await, at(&["1.1.1.1:8448"]));
    // The way that is left without records is guarded as well.
    assert!(finds.addresses("localhost").await.is_empty());
    assert!(dns.finds(true).addresses("0.example").await.contains(&at(&["127.0.0.1:8448"])[0]));
}

async fn leads_to_its_own_port(found: Listening) {
    let found = found.addresses("localhost").await;
    assert!(found.iter().all(|it| it.ip().is_loopback() && it.port() == PORT), "{found:?}");
    assert!(!found.is_empty());
}

#[tokio::test]
async fn a_name_without_records_is_asked_at_its_own_port() {
    let dns = Dns::start(Vec::new(), false).await;
    leads_to_its_own_port(dns.finds(true)).await;
}

#[tokio::test(start_paused = true)]
async fn where_no_name_server_answers_a_name_is_asked_at_its_own_port() {
    let dns = Dns::start(Vec::new(), true).await;
    leads_to_its_own_port(Listening::by(dns.asked(), Duration::from_secs(1), true)).await;
}

#[test]
fn a_few_addresses_of_each_kind_are_tried_in_their_order() {
    let all =
        ["[2606:4700::1]:1", "[2606:4700::2]:1", "[2606:4700::3]:1", "1.1.1.1:1", "1.1.1.2:1"];
    let few = few_of_each(at(&all).into_iter());
    assert_eq!(few, at(&[all[0], all[1], all[3], all[4]]));
}

#[test]
fn records_are_tried_by_priority_and_among_equals_by_weight() {
    let record = |priority, weight, port| SRV::new(priority, weight, port, Name::root());
    let all = || vec![record(20, 0, 5), record(10, 30, 3), record(10, 0, 1), record(10, 10, 2)];
    let ports = |chance: fn(u32) -> u32| -> Vec<u16> {
        in_order(all(), chance).iter().map(|it| it.port).collect()
    };
    assert_eq!(ports(|_| 0), [1, 2, 3, 5]);
    assert_eq!(ports(|most| most), [3, 2, 1, 5]);
    assert_eq!(ports(|most| most.min(10)), [2, 3, 1, 5]);
    assert!(in_order(Vec::new(), |most| most).is_empty());
}

/// Everything leads there.
struct There(SocketAddr);

impl Resolve for There {
    fn resolve(&self, _: reqwest::dns::Name) -> Resolving {
        let at = self.0;
        Box::pin(async move { Ok(Box::new([at].into_iter()) as Addrs) })
    }
}

/// A server by TLS that says who it was asked as (the name of TLS, and `Host`) and for what.
struct Asked {
    at: SocketAddr,
    ca: reqwest::Certificate,
    said: Arc<Mutex<Vec<String>>>,
    _running: Running,
}

impl Asked {
    async fn start(names: &[&str], well_known: &'static str) -> Self {
        // Another test may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let names: Vec<String> = names.iter().map(|it| (*it).to_owned()).collect();
        let own = rcgen::generate_simple_self_signed(names).unwrap();
        let ca = reqwest::Certificate::from_der(own.cert.der()).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider);
        let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
        let config = config.with_single_cert(vec![own.cert.der().clone()], key.unwrap()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let at = listener.local_addr().unwrap();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let running = beside({
            let said = said.clone();
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                    let name = stream.get_ref().1.server_name().unwrap_or("none").to_owned();
                    let mut bytes = [0; 4096];
                    let length = stream.read(&mut bytes).await.unwrap();
                    let head = String::from_utf8_lossy(&bytes[..length]).into_owned();
                    let path = head.split(' ').nth(1).unwrap().to_owned();
                    let mut lines = head.lines();
                    let host = lines.find_map(|line| line.strip_prefix("host: ")).unwrap();
                    let body = if path.contains("well-known") { well_known } else { "{}" };
                    said.lock().unwrap().push(format!("{name} {host} {path}"));
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n", body.len());
                    let answer = format!("{head}connection: close\r\n\r\n{body}");
                    stream.write_all(answer.as_bytes()).await.unwrap();
                    let _ = stream.shutdown().await;
                }
            }
        });
        Self { at, ca, said, _running: running }
    }

    fn federation(&self, dns: &Dns, private: bool) -> Federation {
        let by = |resolver: Listening| {
            Public::trusting(Arc::new(resolver), private, self.ca.clone()).unwrap()
        };
        let there = Arc::new(There(self.at));
        let direct = Public::trusting(there, private, self.ca.clone()).unwrap();
        let by_name = OnceLock::new();
        by_name.set(by(dns.finds(private))).unwrap();
        Federation { direct, by_name: Arc::new(by_name) }
    }

    fn said(&self) -> Vec<String> {
        std::mem::take(&mut self.said.lock().unwrap())
    }
}

#[tokio::test]
async fn a_server_is_asked_by_its_name_wherever_its_records_lead() {
    let delegates = r#"{"m.server": "fed.example"}"#;
    for (well_known, asked_as) in [("{}", "b.example"), (delegates, "fed.example")] {
        let server = Asked::start(&["b.example", "fed.example"], well_known).await;
        let service = format!("_matrix-fed._tcp.{asked_as}");
        let dns = Dns::start(vec![of(&service, &[("localhost", server.at.port())])], false).await;
        let name = <&ServerName>::try_from("b.example").unwrap();
        let query = [("access_token", "a b")];
        let answer = server.federation(&dns, true).get(name, "x", &query).await;
        assert_eq!(answer.unwrap(), (200, b"{}".to_vec()));
        assert_eq!(
            server.said(),
            [
                "b.example b.example /.well-known/matrix/server".to_owned(),
                format!("{asked_as} {asked_as} /x?access_token=a+b"),
            ]
        );
        // The same where only the open internet may be asked.
        let answer = server.federation(&dns, false).get(name, "x", &query).await;
        assert_eq!(answer, Err(PublicError::NoAnswer));
        assert_eq!(server.said().len(), 1, "its records lead to this machine");
    }
}

#[tokio::test]
async fn a_name_with_a_port_has_no_records() {
    let server = Asked::start(&["b.example"], "{}").await;
    let service = "_matrix-fed._tcp.b.example";
    let dns = Dns::start(vec![of(service, &[("localhost", 9)])], false).await;
    let port = server.at.port();
    for name in [format!("b.example:{port}"), "b.example:443".to_owned()] {
        let asked = <&ServerName>::try_from(&*name).unwrap();
        let answer = server.federation(&dns, true).get(asked, "x", &[("of", "a")]).await;
        // The test's resolver knows one port alone.
        assert_eq!(answer.unwrap().0, 200, "{name}");
        assert_eq!(server.said(), [format!("b.example {name} /x?of=a")]);
    }
}

#[test]
fn an_address_without_a_port_is_asked_at_that_of_servers() {
    for (name, url) in [
        ("b.example", "https://b.example/x"),
        ("b.example:443", "https://b.example/x"),
        ("b.example:80", "https://b.example:80/x"),
        ("1.1.1.1", "https://1.1.1.1:8448/x"),
        ("[2606:4700::1]", "https://[2606:4700::1]:8448/x"),
    ] {
        let named = <&ServerName>::try_from(name).unwrap();
        assert_eq!(super::address(named, "x").unwrap().as_str(), url);
    }
}
