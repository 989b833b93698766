//! What an account has exported, imported by a new device of it; and files that are no such thing.

use std::{fs, io::Write as _, path::Path, process::Stdio};

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead as _, KeyInit as _, Payload},
};
use serde_json::{Value, json};

use crate::{
    cli_devices::{elsewhere, linked},
    cli_world::{Ended, Person, World, texts},
};

const KINDS: [&str; 8] = ["", "origin", "identity", "op", "group", "imported", "line", "end"];

/// A registered person, the recovery key, and where to export to.
fn registered(world: &World, name: &str) -> (Person, String, String) {
    let person = world.person(name);
    let shown = person.ok(&["register", name]);
    let file = person.home.with_extension("export").to_str().unwrap().to_owned();
    (person, shown[0]["recovery_key"].as_str().unwrap().to_owned(), file)
}

/// Lets a guest into the host's group by a link.
fn let_in(host: &Person, guest: &Person, group: &str) {
    let invite = host.ok(&["invite", "create", group]);
    let tail = host.tail(&[]);
    guest.ok(&["invite", "accept", invite[0]["link"].as_str().unwrap()]);
    tail.stop();
}

fn import(person: &Person, file: &str, key: &str) -> Ended {
    person.run_with(&["backup", "import", file], key)
}

fn imported(person: &Person, file: &str, key: &str) -> Value {
    let ended = import(person, file, key);
    assert!(ended.status.success(), "{}", ended.stderr);
    ended.lines[0].clone()
}

/// What is said of a file that is not imported. No key is said with it.
fn refused(person: &Person, file: &str, key: &str, code: i32) -> String {
    let ended = import(person, file, key);
    assert_eq!(ended.status.code(), Some(code), "{}", ended.stderr);
    assert!(!ended.stderr.contains(key.trim()), "{}", ended.stderr);
    let said: Value = serde_json::from_str(ended.stderr.lines().last().unwrap()).unwrap();
    assert!(said["error"]["next"].is_string(), "{said}");
    said["error"]["what"].as_str().unwrap().to_owned()
}

/// The most memory that a process has had, in KiB, as it ends.
fn most_memory(person: &Person, arguments: &[&str], stdin: &str) -> u64 {
    let mut child = person
        .command(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut most = 0;
    let ended = loop {
        let shown = fs::read_to_string(&status).unwrap_or_default();
        let peak = shown.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse().ok());
        most = most.max(peak.unwrap_or(0));
        if let Some(ended) = child.try_wait().unwrap() {
            break ended;
        }
        std::thread::yield_now();
    };
    assert!(ended.success());
    most
}

/// The same file with so many lines in place of its last.
fn with_lines(key: &str, file: &str, lines: i64) {
    let mut found = records(key, Path::new(file));
    let (last, end) = (found.iter().rposition(|(kind, _)| *kind == 6).unwrap(), found.len() - 1);
    let (mut line, mut counts): (Value, Value) = (
        serde_json::from_slice(&found[last].1).unwrap(),
        serde_json::from_slice(&found[end].1).unwrap(),
    );
    counts["lines"] = json!(counts["lines"].as_i64().unwrap() + lines);
    found[end].1 = counts.to_string().into_bytes();
    let row = line["row"].as_i64().unwrap();
    let made = (1..=lines).map(|n| {
        line["row"] = json!(row + n);
        line["body"] = json!("x".repeat(1_000));
        (6, line.to_string().into_bytes())
    });
    let made: Vec<_> = made.collect();
    let behind = found.split_off(last + 1);
    found.extend(made.into_iter().chain(behind));
    fs::write(file, written(key, &found)).unwrap();
}

#[test]
fn a_long_history_is_imported_in_little_memory() {
    let world = World::new();
    let (alice, key, file) = registered(&world, "alice");
    alice.ok(&["group", "create", "team"]);
    alice.ok(&["send", "team", "a word"]);
    let mut took = Vec::new();
    for (n, lines) in [1, 20_000].into_iter().enumerate() {
        let _ = fs::remove_file(&file);
        alice.ok(&["backup", "export", &file]);
        with_lines(&key, &file, lines);
        let new = elsewhere(&world, &alice, &format!("alice-{n}"));
        took.push(most_memory(&new, &["backup", "import", &file], &key));
        let last = new.ok(&["history", "team", "--limit", "5"]);
        assert!(last.iter().any(|line| line["body"] == "x".repeat(1_000)), "{n}");
    }
    // The bodies alone are 20 MB.
    let more = took[1].saturating_sub(took[0]);
    eprintln!("{} KiB, and {} KiB for one line", took[1], took[0]);
    assert!(more < 15_000, "{took:?}");
}

/// Key and check of a file, as `docs/protocol.md` §1 has them.
fn keys(recovery_key: &str, salt: &[u8]) -> [u8; 64] {
    use base64::Engine as _;
    let seed = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(recovery_key).unwrap();
    let mut made = [0; 64];
    let key = hkdf::Hkdf::<sha2::Sha256>::new(Some(salt), &seed);
    key.expand(b"cg/export/key", &mut made).unwrap();
    made
}

fn nonce(last: bool, number: u64) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3] = u8::from(last);
    nonce[4..].copy_from_slice(&number.to_be_bytes());
    nonce
}

/// A file with these records, written from the document.
fn written(recovery_key: &str, records: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let salt = [5; 32];
    let made = keys(recovery_key, &salt);
    let header = [b"causeway-export\x01", &salt[..], &made[32..]].concat();
    let mut texts = vec![Vec::new()];
    for (kind, body) in records {
        let mut text: Vec<u8> = texts.pop().unwrap();
        if !text.is_empty() && text.len() + 5 + body.len() > 64 << 10 {
            texts.push(std::mem::take(&mut text));
        }
        text.push(*kind);
        text.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
        text.extend(body);
        texts.push(text);
    }
    let cipher = Aes256Gcm::new_from_slice(&made[..32]).unwrap();
    let mut file = header.clone();
    for (number, text) in (0..).zip(&texts) {
        let is_last = number + 1 == u64::try_from(texts.len()).unwrap();
        let payload = Payload { msg: text, aad: &header };
        let sealed = cipher.encrypt(&nonce(is_last, number).into(), payload).unwrap();
        file.push(u8::from(is_last));
        file.extend(u32::try_from(sealed.len()).unwrap().to_be_bytes());
        file.extend(sealed);
    }
    file
}

/// The records of a file, read from the document.
fn records(recovery_key: &str, file: &Path) -> Vec<(u8, Vec<u8>)> {
    let file = fs::read(file).unwrap();
    let (header, mut rest) = file.split_at(80);
    let made = keys(recovery_key, &header[16..48]);
    assert_eq!(header[48..], made[32..]);
    let cipher = Aes256Gcm::new_from_slice(&made[..32]).unwrap();
    let (mut records, mut number) = (Vec::new(), 0);
    while let Some(([last, length @ ..], behind)) = rest.split_first_chunk::<5>() {
        let (sealed, behind) = behind.split_at(u32::from_be_bytes(*length) as usize);
        let payload = Payload { msg: sealed, aad: header };
        let text = cipher.decrypt(&nonce(*last == 1, number).into(), payload).unwrap();
        let mut text = text.as_slice();
        while let Some(([kind, length @ ..], body)) = text.split_first_chunk::<5>() {
            let (body, behind) = body.split_at(u32::from_be_bytes(*length) as usize);
            records.push((*kind, body.to_vec()));
            text = behind;
        }
        (rest, number) = (behind, number + 1);
    }
    records
}

#[test]
fn a_lost_device_s_export_is_what_the_new_one_begins_with() {
    let world = World::new();
    let ((old, key, file), bob) = (registered(&world, "alice"), world.registered("bob"));
    old.ok(&["group", "create", "team"]);
    let_in(&old, &bob, "team");
    bob.ok(&["group", "create", "walks", "--scheme", "pairwise"]);
    let_in(&bob, &old, "walks");
    old.ok(&["verify", &bob.account(), "--yes"]);
    for (n, group) in ["team", "walks", "team"].iter().enumerate() {
        old.ok(&["send", group, &format!("hers {n}")]);
        bob.ok(&["send", group, &format!("his {n}")]);
        old.read();
    }
    bob.read();
    let (team, walks) = (old.ok(&["history", "team"]), old.ok(&["history", "walks"]));
    let made = &old.ok(&["backup", "export", &file])[0];
    assert_eq!((&made["recovery_key"], &made["counts"]["groups"]), (&false.into(), &2.into()));
    assert!(old.fails(&["backup", "export", &file], 1).to_string().contains("already"));
    fs::remove_dir_all(&old.home).unwrap();
    bob.ok(&["send", "team", "while she had nothing"]);

    let new = elsewhere(&world, &old, "alice-new");
    let shown = imported(&new, &file, &key);
    assert_eq!(shown["imported"], made["counts"]);
    // She had agreed to both groups.
    assert_eq!((&shown["offered"], shown["groups"].as_array().unwrap().len()), (&0.into(), 2));
    assert_eq!(new.ok(&["history", "team"])[..team.len()], team);
    assert_eq!(new.ok(&["history", "walks"])[..walks.len()], walks);
    assert_eq!(new.ok(&["verify", &bob.account()])[0]["verified"], true);
    // What was shown is not shown again; her reply finds the line that it answers.
    let row = team.iter().find(|line| line["body"] == "his 2").unwrap()["row"].to_string();
    assert!(texts(&new.read()).is_empty());
    new.ok(&["send", "team", "--reply-to", &row, "I am back"]);
    new.ok(&["send", "walks", "here too"]);

    // Bob sees her new device, in both, and that she is who she was.
    let lines = bob.read();
    let of = |kind: &str| lines.iter().filter(|line| line["type"] == kind).collect::<Vec<_>>();
    let changes = of("roster");
    assert!(changes.len() == 2 && changes.iter().all(|l| l["change"] == "devices"), "{lines:?}");
    // Of two groups, each of which waits for what it needs and not for the other.
    let mut said = texts(&lines);
    said.sort_unstable();
    assert_eq!(said, ["I am back", "here too"]);
    assert!(of("message").iter().any(|line| line["reply_row"].is_number()), "{lines:?}");
    assert!(of("identity").is_empty());
    bob.ok(&["send", "team", "welcome"]);
    bob.ok(&["send", "walks", "welcome there"]);
    assert_eq!(new.texts(), ["welcome", "welcome there"]);

    assert!(refused(&new, &file, &key, 1).contains("alice"), "it is her device already");
    assert_eq!(new.ok(&["history", "team"])[..team.len()], team);
}

#[test]
fn an_export_holds_what_it_says_and_no_key() {
    let world = World::new();
    let ((alice, key, file), bob) = (registered(&world, "alice"), world.registered("bob"));
    alice.ok(&["group", "create", "team"]);
    let_in(&alice, &bob, "team");
    alice.ok(&["send", "team", "a word"]);
    bob.ok(&["send", "team", "another"]);
    alice.read();
    alice.ok(&["backup", "export", &file]);
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    let bytes = fs::read(&file).unwrap();
    for clear in ["alice", "a word", "team"] {
        assert!(!bytes.windows(clear.len()).any(|window| window == clear.as_bytes()), "{clear}");
    }
    let mut seen: Vec<(&str, Vec<String>)> = Vec::new();
    for (kind, body) in records(&key, Path::new(&file)) {
        let fields: Value =
            if kind == 3 { json!({}) } else { serde_json::from_slice(&body).unwrap() };
        let names = fields.as_object().unwrap().keys().cloned().collect();
        if kind != 6 {
            seen.push((KINDS[usize::from(kind)], names));
        }
    }
    let named = |kind: &str, fields: &[&str]| {
        let all: Vec<_> = seen.iter().filter(|(found, _)| *found == kind).collect();
        assert!(!all.is_empty() && all.iter().all(|(_, names)| names == fields), "{kind}: {all:?}");
    };
    named("origin", &["account", "device_id", "made_at_ms", "member_id", "server_url", "version"]);
    named("identity", &["account", "member_id", "since_ms", "standing"]);
    named("op", &[]);
    named("group", &["group", "shown", "taken"]);
    named("end", &["groups", "identities", "imported_groups", "lines", "ops"]);

    // A linked device has no recovery key, and makes no file that nobody could import.
    let laptop = linked(&world, &alice, "laptop");
    let other = format!("{file}-2");
    let said = laptop.fails(&["backup", "export", &other], 1);
    assert!(said["error"]["next"].as_str().unwrap().contains("--key-file"), "{said}");
    let key_file = laptop.home.join("key");
    fs::write(&key_file, &key).unwrap();
    let with_key = ["backup", "export", &other, "--key-file", key_file.to_str().unwrap()];
    laptop.ok(&with_key);
    bob.fails(&with_key, 1);
    assert_eq!(records(&key, Path::new(&other))[0].0, 1);
}

#[test]
fn what_is_not_whole_or_not_hers_changes_nothing() {
    let world = World::new();
    let (alice, key, file) = registered(&world, "alice");
    let (bob, bobs_key, _) = registered(&world, "bob");
    alice.ok(&["group", "create", "team"]);
    alice.ok(&["backup", "export", &file]);
    let whole = fs::read(&file).unwrap();
    let new = elsewhere(&world, &alice, "alice-new");
    let says = |bytes: &[u8], key: &str, code, why: &str| {
        fs::write(&file, bytes).unwrap();
        let said = refused(&new, &file, key, code);
        assert!(said.contains(why), "{why}: {said}");
        assert!(!new.home.exists(), "{why}");
    };
    says(&whole, &bobs_key, 1, "does not open with this recovery key");
    says(&whole, "not a key", 2, "has 43 characters");
    says(b"PK\x03\x04", &key, 2, "no export of causeway-client");
    says(&[], &key, 2, "no export of causeway-client");
    says(&whole[..40], &key, 1, "ends too early");
    says(&whole[..whole.len() - 1], &key, 1, "ends too early");
    says(&[&whole[..], &[0]].concat(), &key, 1, "damaged");
    let changed = |at: usize| {
        let mut changed = whole.clone();
        changed[at] ^= 4;
        changed
    };
    says(&changed(15), &key, 1, "version 5");
    says(&changed(90), &key, 1, "damaged");
    says(&changed(whole.len() - 20), &key, 1, "damaged");
    refused(&new, "/nowhere/at.all", &key, 2);
    refused(&new, alice.home.to_str().unwrap(), &key, 2);

    // Into the folder of a device, her own or another's, it does not go.
    fs::write(&file, &whole).unwrap();
    for taken in [&alice, &bob] {
        let said = refused(taken, &file, &key, 1);
        assert!(said.contains("the folder of a device already"), "{said}");
        taken.ok(&["group", "list"]);
    }
    // No server: nothing was made, and the same command goes on.
    let away = Person { url: "http://127.0.0.1:1".to_owned(), ..new.clone() };
    refused(&away, &file, &key, 4);
    new.fails(&["whoami"], 3);
    imported(&new, &file, &key);
    alice.fails(&["send", "team", "a thief's words"], 3);
}

#[test]
fn what_this_program_never_writes_is_refused_whole() {
    let world = World::new();
    let (alice, key, file) = registered(&world, "alice");
    alice.ok(&["group", "create", "team"]);
    alice.ok(&["send", "team", "a word"]);
    alice.ok(&["backup", "export", &file]);
    let good = records(&key, Path::new(&file));
    let at = |kind: u8| good.iter().position(|(found, _)| *found == kind).unwrap();
    let new = elsewhere(&world, &alice, "alice-new");
    let json_at = |kind: u8, change: &dyn Fn(&mut Value)| {
        let mut records = good.clone();
        let mut body: Value = serde_json::from_slice(&records[at(kind)].1).unwrap();
        change(&mut body);
        records[at(kind)].1 = body.to_string().into_bytes();
        records
    };
    let mut twice = good.clone();
    twice.insert(at(6), good[at(6)].clone());
    let mut unknown = good.clone();
    unknown.insert(at(6), (99, b"{}".to_vec()));
    let mut early = good.clone();
    early.swap(at(6), at(3));
    let mut op = good.clone();
    op[at(3)].1[20] ^= 1;
    for (what, records) in [
        ("no end", good[..good.len() - 1].to_vec()),
        ("nothing", vec![]),
        ("two beginnings", [&good[..1], &good[..]].concat()),
        ("a line twice", twice),
        ("an unknown kind", unknown),
        ("a line before its group", early),
        ("behind the end", [&good[..], &good[good.len() - 1..]].concat()),
        ("an op that is none", op),
        ("another number", json_at(7, &|end| end["lines"] = json!(9_000_000))),
        ("no row", json_at(6, &|line| line["row"] = json!(0))),
        ("the last row of all", json_at(6, &|line| line["row"] = json!(i64::MAX))),
        ("shown for ever", json_at(4, &|group| group["shown"] = json!(i64::MAX))),
        ("a group without its ops", json_at(4, &|group| group["group"] = json!("A".repeat(43)))),
        ("a line of no kind", json_at(6, &|line| line["type"] = json!("order"))),
        ("a name that is none", json_at(1, &|origin| origin["account"] = json!("../alice"))),
        ("another's identity", json_at(1, &|origin| origin["member_id"] = json!("A".repeat(43)))),
    ] {
        fs::write(&file, written(&key, &records)).unwrap();
        let said = refused(&new, &file, &key, 1);
        assert!(said.contains("cannot be imported"), "{what}: {said}");
        assert!(!new.home.exists(), "{what}");
    }
    // Of another account than the key's: the server knows whose it is.
    let other = json_at(1, &|origin| origin["account"] = json!("bob:b.example"));
    fs::write(&file, written(&key, &other)).unwrap();
    assert!(refused(&new, &file, &key, 1).contains("not of bob"));
    new.fails(&["whoami"], 3);
    // An op that is well made, and not the next one of its group.
    let mut skipped = good.clone();
    let (from, ops) = (at(3), good.iter().filter(|(kind, _)| *kind == 3).count());
    assert_eq!(ops, 1);
    let length = skipped[from].1.len();
    skipped[from].1[length - 1] ^= 1;
    fs::write(&file, written(&key, &skipped)).unwrap();
    assert!(refused(&new, &file, &key, 1).contains("an op that is not valid"));
    new.fails(&["whoami"], 3);
    // And what is as it should be goes into the same folder.
    fs::write(&file, written(&key, &good)).unwrap();
    assert_eq!(imported(&new, &file, &key)["groups"][0]["name"], "team");
    let lines = new.ok(&["history", "team"]);
    assert!(lines.iter().any(|line| line["body"] == "a word" && line["own"] == true), "{lines:?}");
}

#[test]
fn who_was_taken_out_of_a_group_after_the_export_comes_back_to_the_others() {
    let world = World::new();
    let (ann, key, file) = registered(&world, "ann");
    let ben = world.registered("ben");
    ann.ok(&["group", "create", "hers"]);
    ben.ok(&["group", "create", "his"]);
    let_in(&ben, &ann, "his");
    let_in(&ann, &ben, "hers");
    ann.ok(&["backup", "export", &file]);
    ben.ok(&["member", "remove", "his", &ann.account()]);
    ben.ok(&["group", "close", "his", "--yes"]);

    let again = elsewhere(&world, &ann, "ann-again");
    imported(&again, &file, &key);
    again.ok(&["send", "hers", "I am back"]);
    assert!(ben.texts().contains(&"I am back".to_owned()));
    // The other one stands in nobody's way, and can be forgotten.
    again.ok(&["group", "forget", "his", "--yes"]);
    let listed = again.ok(&["group", "list"]);
    let names: Vec<_> = listed[0]["groups"].as_array().unwrap().iter().collect();
    assert_eq!(names.len(), 1, "{listed:?}");
}
