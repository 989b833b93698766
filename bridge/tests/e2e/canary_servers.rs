//! A group of each scheme on two real homeservers, with everything logged by all four processes: nothing that
//! was said and no key of anybody lies in any of their files, however it may be spelled.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use causeway_protocol::{ids::text_of, roster::Scheme};
use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    needles::{Needles, Secret},
    people::{PATIENCE, Person},
    secrets,
    servers::{Side, two},
};

/// What each says in each group.
const WORDS: usize = 4;
/// How what must be found is called.
const PLANTED: &str = "planted: ";
/// Every kind of key that is looked for.
const KINDS: [&str; 9] = [
    "device key",
    "identity key",
    "session token",
    "shared key",
    "key of an Olm account",
    "key of an Olm session",
    "signing key of a chain",
    "chain key",
    "message key",
];

/// Both processes of a side say all that they can.
async fn log_everything(side: &mut Side) {
    let file = side.synapse.dir().join("log.yaml");
    let quiet = fs::read_to_string(&file).unwrap();
    let loud = quiet.replace("WARNING", "DEBUG");
    assert_ne!(quiet, loud);
    fs::write(file, loud).unwrap();
    side.synapse.start_again().await.unwrap();
    side.causeway.kill().unwrap();
    side.causeway.set_env("CAUSEWAY__LOGGING__LEVEL", "trace");
    side.causeway.start().await.unwrap();
}

/// Everything that must not be found, by what it is.
#[derive(Default)]
struct Secrets(BTreeMap<Vec<u8>, String>);

impl Secrets {
    async fn note(&mut self, people: &[(&str, &Person)]) {
        for (name, who) in people {
            for (kind, key) in secrets::of(&who.client).await {
                self.0.entry(key).or_insert_with(|| format!("{name}: {kind}"));
            }
        }
    }

    fn count(&self, kind: &str) -> usize {
        self.0.values().filter(|what| what.ends_with(kind)).count()
    }

    fn all(&self) -> Vec<Secret> {
        self.0.iter().map(|(bytes, what)| (what.clone(), bytes.clone())).collect()
    }
}

/// What is said across both, and noted.
async fn talk(sides: &[Side; 2], name: &str) -> Secrets {
    let (alice, carol) = (sides[0].person("alice").await, sides[1].person("carol").await);
    let people = [("alice", &alice), ("carol", &carol)];
    let mut secrets = Secrets::default();
    for (nth, scheme) in
        [Scheme::SenderKeys, Scheme::Pairwise, Scheme::SharedKey].into_iter().enumerate()
    {
        let group = alice.create_group_as(&format!("{name} {nth}"), scheme).await;
        alice.add(group, &format!("carol:{}", sides[1].name())).await;
        for n in 0..WORDS {
            for (from, [to, by]) in [("alice", [&carol, &alice]), ("carol", [&alice, &carol])] {
                let text = format!("canary of {from} in {nth}, {n}");
                by.say(group, std::slice::from_ref(&text)).await;
                // What the next message is sealed under is there now, and will be used up.
                secrets.note(&people).await;
                to.wait("the canary", |read| read.last().is_some_and(|it| it.body == text)).await;
                secrets.note(&people).await;
                secrets.0.insert(text.clone().into_bytes(), text);
            }
        }
        // New keys, which only she has.
        let carols = format!("carol:{}", sides[1].name()).parse().unwrap();
        alice.client.remove(group, &carols).await.unwrap();
        let text = format!("canary after removal from {nth}");
        alice.say(group, std::slice::from_ref(&text)).await;
        secrets.note(&people).await;
        secrets.0.insert(text.clone().into_bytes(), text);
    }
    secrets
}

/// Puts things where they must be found: each with the side and the file in which.
async fn plant(sides: &[Side; 2], name: &str) -> Vec<(Secret, usize, &'static str)> {
    let mut random = [[0_u8; 32]; 2];
    for key in &mut random {
        getrandom::fill(key).unwrap();
    }
    let [key, path] = random;
    let mona = sides[0].synapse.register("mona", "secret of mona").await.unwrap();
    let nina = sides[1].synapse.register("nina", "secret of nina").await.unwrap();
    let said = "planted: what the homeserver reads";
    let room = mona.create_room(json!({})).await.unwrap();
    mona.say(&room, said).await.unwrap();
    // In the middle of something else, and over federation.
    let content = json!({"payload": text_of(&[b"a".as_slice(), &key].concat())});
    let messages = json!({"messages": {nina.user_id().as_str(): {"*": content}}});
    mona.request(Method::PUT, &["sendToDevice", "m.dummy", "planted"], messages).await.unwrap();
    // Not from the begin each time: an answer to the same question is kept for two minutes.
    let place = format!("{}/_matrix/client/v3/sync", sides[1].synapse.url());
    let mut place: reqwest::Url = place.parse().unwrap();
    let has_come = async {
        loop {
            let asked =
                reqwest::Client::new().get(place.clone()).bearer_auth(nina.token().expose());
            let said = asked.send().await.unwrap().text().await.unwrap();
            if said.contains("payload") {
                return;
            }
            let said: serde_json::Value = serde_json::from_str(&said).unwrap();
            let since = said["next_batch"].as_str().unwrap();
            let mut asks = place.query_pairs_mut();
            asks.clear().append_pair("since", since).append_pair("timeout", "10000");
        }
    };
    timeout(PATIENCE, has_come).await.expect("it comes to the other");
    let url = format!(
        "{}/_matrix/app/v1/transactions/{}",
        sides[0].causeway.appservice_url(),
        hex::encode(path)
    );
    let refused = reqwest::Client::new().put(url).bearer_auth("wrong").send().await.unwrap();
    assert_eq!(refused.status(), 403);
    let planted = |what: &str, bytes: &[u8]| (format!("{PLANTED}{what}"), bytes.to_vec());
    vec![
        (planted("a group's name", name.as_bytes()), 0, "server.db"),
        (planted("a group's name", name.as_bytes()), 1, "server.db"),
        (planted("what is said in a room", said.as_bytes()), 0, "homeserver.db"),
        (planted("a key that a user sends another", &key), 1, "homeserver.db"),
        (planted("a transaction's name", &path), 0, "causeway.log"),
    ]
}

type Found<'a> = BTreeMap<PathBuf, BTreeSet<&'a str>>;

fn is_in(found: &Found, file: &str, what: &str) -> bool {
    let named = found.iter().filter(|(path, _)| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(file))
    });
    named.flat_map(|(_, there)| there).any(|it| it.starts_with(what))
}

#[tokio::test]
async fn no_word_and_no_key_lies_in_any_file_of_any_of_two_servers() {
    let mut sides = two().await;
    for side in &mut sides {
        log_everything(side).await;
    }
    let name = "planted in the roster";
    let secrets = talk(&sides, name).await;
    for kind in KINDS {
        assert!(secrets.count(kind) > 1, "of {kind}: {}", secrets.count(kind));
    }
    let planted = plant(&sides, name).await;
    for side in &mut sides {
        assert!(side.causeway.stop().await.unwrap(), "{}", side.causeway.log());
        side.synapse.kill().unwrap();
    }

    let controls = planted.iter().map(|(secret, ..)| secret.clone());
    let needles = Needles::of(&secrets.all().into_iter().chain(controls).collect::<Vec<_>>());
    for (nth, side) in sides.iter().enumerate() {
        let (found, looked) = needles.below(side.synapse.dir()).await;
        println!("{} secrets looked for in {looked:?}", secrets.0.len());
        let leaks: Vec<_> = found
            .iter()
            .flat_map(|(file, what)| what.iter().map(move |what| (file, what)))
            .filter(|(_, what)| !what.starts_with(PLANTED))
            .collect();
        assert!(leaks.is_empty(), "{leaks:#?}");
        let logs = [side.synapse.dir().join("synapse.log"), side.causeway.log_file()];
        for (log, level) in logs.iter().zip(["DEBUG", "TRACE"]) {
            assert!(fs::read_to_string(log).unwrap().contains(level), "{}", log.display());
        }
        // The search finds what is there.
        for ((what, _), there, file) in &planted {
            assert!(*there != nth || is_in(&found, file, what), "{what}, {file}: {found:#?}");
        }
    }
}
