//! Whether sound gets through LiveKit: two participants of nobody's come into a room made for it, from this
//! machine by the address for clients, and listen for each other.

use std::net::IpAddr;

use causeway_groups::{
    public::is_public,
    trial::{One, Sound, Trial},
    try_sound,
};
use causeway_server::{LiveKit, TrialRoom};
use reqwest::Url;

use super::Check;

const VERSION: &str = "LiveKit's version";
const BY_UDP: &str = "sound through LiveKit";
const BY_TCP: &str = "sound without UDP";
/// As `docs/calls.md` has it.
pub(super) const TESTED: [&str; 1] = ["1.13.5"];

/// Tries it, and leaves nothing.
pub(super) async fn look(livekit: &LiveKit, show: &mut dyn FnMut(Check)) {
    let mut name = [0; 8];
    if getrandom::fill(&mut name).is_err() {
        return show(Check::skipped(BY_UDP, "this system gives no chance"));
    }
    let room = match TrialRoom::open(livekit, &format!("doctor-{}", hex::encode(name))).await {
        Ok(room) => room,
        Err(why) => return show(Check::skipped(BY_UDP, format!("there is no room for it: {why}"))),
    };
    let one = |identity: &str| {
        let token = room.token(identity).unwrap_or_default().into();
        One { token, identity: identity.to_owned() }
    };
    let tried = try_sound(&livekit.public_url, [one("doctor-1"), one("doctor-2")]).await;
    match tried {
        Some(tried) => said(&livekit.public_url, &tried).into_iter().for_each(&mut *show),
        None => show(Check::skipped(
            BY_UDP,
            "this build has no calls: build all of it (cargo build --release --workspace)",
        )),
    }
    if let Err(why) = room.close().await {
        let fix = "nothing: LiveKit closes it itself in a minute";
        show(Check::warning(BY_UDP, format!("the room of the trial is still there: {why}"), fix));
    }
}

/// What is said of it.
fn said(url: &str, tried: &Trial) -> Vec<Check> {
    let in_vain = match &tried.by_udp {
        Sound::NotIn(why) => Some(Check::failed(
            BY_UDP,
            format!("nobody comes into a call at {url}: {why}"),
            "have the proxy there pass WebSockets on to LiveKit's `port` (docs/calls.md)",
        )),
        Sound::NotTried(why) => Some(Check::skipped(BY_UDP, why.clone())),
        Sound::Heard(_) | Sound::NotHeard | Sound::NotConnected => None,
    };
    let mut all = Vec::new();
    if !tried.version.is_empty() {
        all.push(version(&tried.version));
    }
    match in_vain {
        Some(check) => all.push(check),
        None => all.extend([by_udp(url, tried), by_tcp(tried)]),
    }
    all
}

fn version(version: &str) -> Check {
    if TESTED.contains(&version) {
        return Check::ok(VERSION, format!("{version}, with which Causeway is tested"));
    }
    let found = format!("{version}, with which Causeway was not tested");
    let fix = format!("if calls fail try {} (docs/calls.md)", TESTED.join(" or "));
    Check::warning(VERSION, found, fix)
}

fn by_udp(url: &str, tried: &Trial) -> Check {
    let at = listed(tried.udp.iter());
    let open = "open LiveKit's `rtc.udp_port` to everybody, and see that it tells an address that devices \
                reach: `rtc.use_external_ip: true`, or `rtc.node_ip`";
    match &tried.by_udp {
        Sound::Heard(after) => {
            let ms = after.as_millis();
            let found = format!(
                "two who came in from this machine heard each other after {ms} ms, by UDP at {at}"
            );
            let here = Url::parse(url).ok().is_some_and(|url| is_of_this_network(&url));
            if here || tried.udp.iter().any(|at| is_public(at.ip())) {
                return Check::ok(BY_UDP, found);
            }
            Check::warning(
                BY_UDP,
                format!("{found}; nobody outside this network reaches that"),
                open,
            )
        }
        heard => {
            let how = how_far(heard);
            let found = format!(
                "two came in at {url} from this machine, and {how} by UDP at {at}; a router that does not \
                 let a network reach itself from inside shows the same"
            );
            // By TCP they hear each other all the same, later and less well.
            let is_left = matches!(tried.by_tcp, Some(Sound::Heard(_)));
            if is_left {
                return Check::warning(BY_UDP, found, open);
            }
            Check::failed(BY_UDP, found, open)
        }
    }
}

fn by_tcp(tried: &Trial) -> Check {
    let at = listed(tried.tcp.iter().map(|(at, _)| at));
    let open =
        "open LiveKit's `rtc.tcp_port` to everybody: networks that let no UDP through need it";
    match &tried.by_tcp {
        Some(Sound::Heard(after)) => {
            let ms = after.as_millis();
            Check::ok(BY_TCP, format!("by TCP alone they heard each other after {ms} ms, at {at}"))
        }
        Some(heard) => {
            let how = how_far(heard);
            Check::warning(
                BY_TCP,
                format!("a connection to {at} comes about, and {how} by it"),
                open,
            )
        }
        None if tried.tcp.is_empty() => {
            Check::warning(BY_TCP, "LiveKit says that it listens at no TCP port for sound", open)
        }
        None => Check::warning(BY_TCP, format!("no connection by TCP to {at} comes about"), open),
    }
}

const fn how_far(sound: &Sound) -> &'static str {
    match sound {
        Sound::NotHeard => "what they said did not come to the other",
        Sound::NotConnected => "no sound got there",
        Sound::NotIn(_) => "they were put out",
        Sound::Heard(_) | Sound::NotTried(_) => "it could not be tried",
    }
}

fn listed<'a>(all: impl Iterator<Item = &'a std::net::SocketAddr>) -> String {
    let all: Vec<_> = all.map(ToString::to_string).collect();
    if all.is_empty() { "no address".to_owned() } else { all.join(", ") }
}

/// Whether clients are not to come from elsewhere at all.
fn is_of_this_network(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| !is_public(ip))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::State, *};

    fn tried(udp: &str, by_udp: Sound, by_tcp: Option<Sound>) -> Trial {
        let (udp, tcp) =
            (vec![udp.parse().unwrap()], vec![("1.1.1.1:7881".parse().unwrap(), false)]);
        Trial { version: "1.13.5".to_owned(), udp, tcp, by_udp, by_tcp }
    }

    fn states(url: &str, tried: &Trial) -> Vec<(&'static str, State)> {
        said(url, tried).iter().map(|check| (check.name, check.state)).collect()
    }

    #[test]
    fn each_end_of_a_trial_is_said_as_what_it_is() {
        let (url, heard) =
            ("wss://livekit.example.org", || Sound::Heard(Duration::from_millis(800)));
        let (public, private) = ("1.1.1.1:7882", "10.0.0.1:7882");
        let ok = (VERSION, State::Ok);
        for (at, by_udp, by_tcp, expected) in [
            (public, heard(), Some(heard()), [State::Ok, State::Ok]),
            (private, heard(), Some(heard()), [State::Warning, State::Ok]),
            (public, heard(), None, [State::Ok, State::Warning]),
            (public, Sound::NotConnected, Some(heard()), [State::Warning, State::Ok]),
            (public, Sound::NotHeard, Some(Sound::NotConnected), [State::Failed, State::Warning]),
        ] {
            let [udp, tcp] = expected;
            let found = states(url, &tried(at, by_udp, by_tcp));
            assert_eq!(found, [ok, (BY_UDP, udp), (BY_TCP, tcp)], "{at}");
        }
        // In a network of one's own nobody is to come from outside.
        let found = states("ws://10.0.0.1:7880", &tried(private, heard(), Some(heard())));
        assert_eq!(found, [ok, (BY_UDP, State::Ok), (BY_TCP, State::Ok)]);
        let out = tried(public, Sound::NotIn("refused".to_owned()), None);
        assert_eq!(states(url, &out), [ok, (BY_UDP, State::Failed)]);
        let none = Trial { version: String::new(), ..out };
        assert_eq!(states(url, &none), [(BY_UDP, State::Failed)]);
        let old = Trial { version: "1.9.0".to_owned(), ..none };
        assert_eq!(states(url, &old), [(VERSION, State::Warning), (BY_UDP, State::Failed)]);
    }

    #[test]
    fn the_version_of_the_tests_is_one_that_was_tested() {
        assert!(TESTED.contains(&causeway_livekit::VERSION.trim_start_matches('v')));
        let docs = include_str!("../../../docs/calls.md");
        for version in TESTED {
            assert!(docs.contains(&format!("| LiveKit | {version} |")), "{version}");
        }
    }
}
