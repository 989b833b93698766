//! A call of natives, directly and by LiveKit, in a bridged room, with everything logged: no frame key, no
//! password of TURN, no token and nothing of a description lies in any file, metric or answer to the operator.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use causeway_groups::sdk::News;
use causeway_protocol::{api::CallTopology, ids::CallId};
use serde_json::{Value, json};
use tokio::sync::mpsc::Receiver;

use crate::{
    bridged::Bridged,
    calls::{bob, comes, moves, ready},
    focus::{self, openid},
    line::Line,
    needles::{Needles, Secret},
    people::Person,
};

/// How what must be found is called.
const PLANTED: &str = "planted: ";
/// Every kind of secret that is looked for.
const KINDS: [&str; 7] = [
    "frame key",
    "ICE password",
    "fingerprint of a description",
    "password of TURN",
    "secret of TURN",
    "token for LiveKit",
    "OpenID token",
];

/// What must not be found, by what it is.
#[derive(Default)]
struct Secrets(BTreeMap<Vec<u8>, &'static str>);

impl Secrets {
    fn note(&mut self, kind: &'static str, text: &str) {
        self.0.insert(text.as_bytes().to_vec(), kind);
    }

    /// What devices told each other since this was asked last.
    fn note_signals(&mut self, news: &mut Receiver<News>) {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        while let Ok(news) = news.try_recv() {
            let News::Signal(signalled) = news else { continue };
            let said: Value = serde_json::from_slice(&signalled.signal.json).unwrap();
            if let Some(key) = said["key"].as_str() {
                self.0.insert(URL_SAFE_NO_PAD.decode(key).unwrap(), "frame key");
            }
            let lines = said["sdp"].as_str().unwrap_or_default().lines();
            for line in lines {
                if let Some(password) = line.strip_prefix("a=ice-pwd:") {
                    self.note("ICE password", password);
                }
                if let Some(print) = line.strip_prefix("a=fingerprint:sha-256 ") {
                    self.note("fingerprint of a description", print);
                }
            }
        }
    }

    fn count(&self, kind: &str) -> usize {
        self.0.values().filter(|it| **it == kind).count()
    }

    fn all(&self) -> Vec<Secret> {
        self.0.iter().map(|(bytes, kind)| ((*kind).to_owned(), bytes.clone())).collect()
    }
}

/// Has Causeway give out passwords for TURN, and log everything, from its next start on.
fn set_up(all: &mut Bridged, folder: &Path) -> String {
    let (file, secret) = (folder.join("turn"), "the-secret-of-this-tests-turn");
    fs::write(&file, secret).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    for (key, value) in [
        ("CALLS__MESH__TURN__URLS", "[\"turn:127.0.0.1:9\"]"),
        ("CALLS__MESH__TURN__SECRET_FILE", file.to_str().unwrap()),
        ("LOGGING__LEVEL", "trace"),
    ] {
        all.causeway.set_env(&format!("CAUSEWAY__{key}"), value);
    }
    secret.to_owned()
}

/// What the operator can ask for while they call.
async fn answers(all: &Bridged, call: CallId) -> Vec<(String, String)> {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let (url, token) = (all.causeway.appservice_url(), all.causeway.admin_token().unwrap());
    let documented: Value =
        serde_json::from_str(include_str!("../../../docs/admin-openapi.json")).unwrap();
    let paths = documented["paths"].as_object().unwrap().iter();
    let paths = paths.filter(|(path, methods)| {
        methods.get("get").is_some() && !path.contains('{') && !path.ends_with("/stream")
    });
    let paths = paths.map(|(path, _)| path.clone());
    let call = format!("/_causeway/admin/v1/calls/{call}");
    let mut all_said = Vec::new();
    for path in paths.chain([call, "/metrics".to_owned(), "/ready".to_owned()]) {
        let asked = http.get(format!("{url}{path}")).bearer_auth(token.expose()).send();
        let answer = asked.await.unwrap();
        let is_listed = matches!(answer.status().as_u16(), 200 | 400);
        assert!(is_listed, "{path}: {}", answer.status());
        all_said.push((path, answer.text().await.unwrap()));
    }
    let config = all.causeway.dir().join("causeway.yaml");
    for words in [&["doctor", "--json"][..], &["config", "dump"], &["calls", "list"]] {
        let mut command = tokio::process::Command::new(crate::start::binary());
        let done = command.args(words).arg("--config").arg(&config).output().await.unwrap();
        let said = [done.stdout, done.stderr].concat();
        all_said.push((words.join(" "), String::from_utf8(said).unwrap()));
    }
    all_said
}

/// What lets each of these into TURN and LiveKit.
async fn note_access(secrets: &mut Secrets, all: &Bridged, people: [&Person; 2], line: &Line) {
    for (n, person) in people.into_iter().enumerate() {
        let call = (all.group, line.states[&n].call);
        let http = person.client.http();
        for ice in http.ways_of_call(call).await.unwrap().ice {
            if let Some(password) = ice.credential {
                secrets.note("password of TURN", &password);
            }
        }
        let given = http.access_to_call(call, line.states[&n].epoch, None).await.unwrap();
        for sfu in given.sfus {
            secrets.note("token for LiveKit", &sfu.jwt);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_lets_somebody_into_a_call_or_opens_it_lies_anywhere() {
    let (mut all, livekit, room) = ready().await;
    let own = tempfile::tempdir().unwrap();
    let mut secrets = Secrets::default();
    let turn = set_up(&mut all, own.path());
    secrets.note("secret of TURN", &turn);
    all.causeway.stop().await.unwrap();
    all.causeway.start().await.unwrap();
    let bob = bob(&all).await;
    let people = [&all.alice, &bob];
    let mut news = people.map(|it| it.client.calls().attend(all.group));

    let mut line = Line::new();
    line.call(&all.alice, all.group).await;
    line.call(&bob, all.group).await;
    line.until_all_hear(None).await;
    let call = line.states[&0].call;
    moves(&all, &call.to_string(), "sfu").await;
    line.until("LiveKit carries it", |line| {
        line.states.len() == 2
            && line.states.values().all(|it| it.topology == CallTopology::Sfu && !it.clear)
    })
    .await;
    line.until_all_hear(None).await;
    note_access(&mut secrets, &all, people, &line).await;
    // One of Matrix asks, and comes.
    let token = openid(&all.carol).await;
    secrets.note("OpenID token", token["access_token"].as_str().unwrap());
    let asked = json!({"room": room, "openid_token": token, "device_id": "PAD"});
    let (status, given) = focus::ask(&all, "sfu/get", &asked).await;
    assert_eq!(status, 200, "{given}");
    secrets.note("token for LiveKit", given["jwt"].as_str().unwrap());
    let caller = comes(&all, &room).await;
    line.until_all_hear(line.guest()).await;
    let said = answers(&all, call).await;
    drop(caller);
    line.until("she is out", |line| line.states.values().all(|it| !it.clear)).await;
    for news in &mut news {
        secrets.note_signals(news);
    }
    for kind in KINDS {
        assert!(secrets.count(kind) > 0, "no {kind}");
    }
    // Each gave the other one at least.
    assert!(secrets.count("frame key") >= 2, "{}", secrets.count("frame key"));

    // What is there, and is found: one of the keys, in the middle of something else; and what may be known.
    let frame_key = secrets.0.iter().find(|(_, kind)| **kind == "frame key").unwrap().0.clone();
    let within = causeway_protocol::ids::text_of(&[b"ab".as_slice(), &frame_key].concat());
    fs::write(own.path().join("leak"), format!("TRACE a frame was sealed, key={within}")).unwrap();
    let device = people[0].client.me().record.device_id;
    let guest = format!("{}:PHONE", all.carol.user_id());
    let controls = [
        ("a device", device.as_bytes().to_vec()),
        ("who came of Matrix", guest.into_bytes()),
        ("a metric", b"causeway_sfu_tokens_total".to_vec()),
    ];
    let controls = controls.map(|(what, bytes)| (format!("{PLANTED}{what}"), bytes));
    let needles = Needles::of(&[secrets.all(), controls.to_vec()].concat());

    let mut known = BTreeSet::new();
    for (place, text) in &said {
        for found in needles.within(text.as_bytes()) {
            assert!(found.starts_with(PLANTED), "{found} is in {place}");
            known.insert(format!("{found} in {place}"));
        }
    }
    for (what, place) in [("a metric", "/metrics"), ("a device", "/calls/")] {
        let is_there = |it: &String| it.contains(what) && it.contains(place);
        assert!(known.iter().any(is_there), "{what} in {place}: {known:?}");
    }

    assert!(all.causeway.stop().await.unwrap(), "{}", all.causeway.log());
    all.synapse.kill().unwrap();
    let log = fs::read_to_string(all.causeway.log_file()).unwrap();
    for control in ["TRACE", "/livekit/jwt/sfu/get"] {
        assert!(log.contains(control), "{control} is not in the log");
    }
    let mut places = BTreeMap::new();
    for folder in [all.synapse.dir(), livekit.folder.path(), own.path()] {
        let (found, looked) = needles.below(folder).await;
        println!("{} secrets looked for in {looked:?} of {}", secrets.0.len(), folder.display());
        places.extend(found);
    }
    let mut controlled = BTreeSet::new();
    for (file, found) in &places {
        let name = file.file_name().unwrap().to_str().unwrap();
        for what in found {
            // The homeserver's own, the operator's, and the leak that is one.
            let may = what.starts_with(PLANTED)
                || (what.starts_with("OpenID token") && name.starts_with("homeserver.db"))
                || (what.starts_with("secret of TURN") && *file == own.path().join("turn"))
                || (what.starts_with("frame key") && *file == own.path().join("leak"));
            assert!(may, "{what} is in {}", file.display());
            controlled.insert(format!("{what} in {name}"));
        }
    }
    for (what, file) in [
        ("a device", "server.db"),
        ("who came of Matrix", "livekit.log"),
        ("frame key", "leak"),
        ("secret of TURN", "turn"),
        ("OpenID token", "homeserver.db"),
    ] {
        let is_there = |it: &String| it.contains(what) && it.contains(file);
        assert!(controlled.iter().any(is_there), "{what} in {file}: {controlled:?}");
    }
}
