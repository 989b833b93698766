//! What a file, the command line and the environment say, and what is said of each fault in them.

use super::{
    Config, ConfigError,
    load::{Sources, moved},
};

fn read(text: &str, file: &str, set: &[(&str, String)]) -> Result<Config, ConfigError> {
    Sources::read(text, file, set)?.merged()
}

#[test]
fn an_empty_file_is_the_defaults() {
    for text in ["", "# nothing\n", "{}"] {
        assert_eq!(read(text, "f", &[]).unwrap(), Config::default(), "{text}");
    }
}

#[test]
fn what_is_dumped_is_read_again() {
    let text = serde_saphyr::to_string(&Config::default()).unwrap();
    assert_eq!(read(&text, "f", &[]).unwrap(), Config::default(), "{text}");
}

#[test]
fn limits_are_read_where_they_were() {
    let text = "native:\n  ops: {per_minute: 7, burst: 8}\n  logins: {per_minute: 5, burst: 6}\n\
                limits:\n  logins: {per_minute: 1, burst: 2}\n";
    let config = read(text, "f", &[("native.claims.burst", "9".to_owned())]).unwrap();
    let limits = config.limits;
    assert_eq!((limits.ops.per_minute, limits.ops.burst), (7, 8));
    assert_eq!(limits.logins.per_minute, 1, "where it is now counts");
    assert_eq!(limits.claims.burst, 9);
    // As `init` of before wrote it.
    let text = "native:\n  new_groups: {per_minute: 1, burst: 300}\n";
    let groups = read(text, "f", &[]).unwrap().limits.new_groups;
    assert_eq!((groups.per_hour, groups.burst), (60, 300));
    assert_eq!(moved("native.logins.burst"), "limits.logins.burst");
    for key in ["native.listen", "native.trusted_proxies", "limits.ops", "native"] {
        assert_eq!(moved(key), key);
    }
}

#[test]
fn what_is_wrong_on_the_command_line_is_said_to_be_there() {
    for (key, value, said) in [
        (
            "native.listen",
            "nowhere",
            "--set native.listen: it is `nowhere`; write an IP address and a port, as in \
             127.0.0.1:29361",
        ),
        (
            "limits.devices",
            "many",
            "--set limits.devices: it is the text `many`; write a whole number from 0 to \
             4294967295",
        ),
        (
            "limits.devices",
            "-1",
            "--set limits.devices: it is the number -1; write a whole number from 0 to \
             4294967295",
        ),
        (
            "limits.logins",
            "5",
            "--set limits.logins: it is the number 5; write keys and values below it: burst, \
             per_minute",
        ),
        (
            "limits.new_groups",
            "5",
            "--set limits.new_groups: it is the number 5; write keys and values below it: \
             burst, per_hour",
        ),
        (
            "bridge.allow",
            "ann",
            "--set bridge.allow: it is the text `ann`; write a list of texts, in brackets: [ann]",
        ),
        (
            "bridge.allow",
            "[ann, 2]",
            "--set bridge.allow, item 2: it is the number 2; write a text, with quotes: \"2\"",
        ),
        (
            "homeserver.server_name",
            "5",
            "--set homeserver.server_name: it is the number 5; write a text, with quotes: \"5\"",
        ),
        ("logging.format", "xml", "--set logging.format: it is `xml`; write `text` or `json`"),
        (
            "native.registration",
            "all",
            "--set native.registration: it is `all`; write `closed`, `token` or `open`",
        ),
        (
            "native.lissen",
            "127.0.0.1:1",
            "--set: there is no key `native.lissen`; did you mean `listen`?",
        ),
    ] {
        let error = read("", "f", &[(key, value.to_owned())]).unwrap_err().to_string();
        assert_eq!(error, said);
    }
}

#[test]
fn what_is_no_key_or_no_list_on_the_command_line_is_said_so() {
    for (key, value, said) in [
        ("", "3", "--set: a key is missing before `=`; write KEY=VALUE, as in native.listen="),
        (".", "3", "--set: `.` is no key: a part of it is missing beside a dot"),
        ("native.", "3", "--set: `native.` is no key: a part of it is missing"),
        ("native..listen", "3", "--set: `native..listen` is no key: a part of it is missing"),
        (
            "bridge.allow",
            "[a'",
            "--set bridge.allow: in `[a'` the bracket is not closed; write a list of texts, as in \
             [one, two]",
        ),
        ("bridge.allow", "[a, [b]", "--set bridge.allow: in `[a, [b]` the bracket is not closed;"),
        ("bridge.allow", "[\"a]", "--set bridge.allow: in `[\"a]` a quotation mark is not closed;"),
        ("bridge.allow", "['ann']", "--set bridge.allow: in `['ann']` a text is in single quot"),
        ("bridge.allow", "[a] b", "--set bridge.allow: in `[a] b` something stands beside the"),
        (
            "limits.logins",
            "{burst: 5}",
            "--set limits.logins: in `{burst: 5}` a key has `:` behind it, and `=` belongs there; \
             write keys and values below it: burst, per_minute",
        ),
    ] {
        let error = read("", "f", &[(key, value.to_owned())]).unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
    let brackets = read("", "f", &[("native.listen", "[::1]:5".to_owned())]).unwrap();
    assert_eq!(brackets.native.listen.to_string(), "[::1]:5");
}

/// Serde takes a list for the values of a section's keys, in their order.
#[test]
fn a_section_is_keys_and_values_and_nothing_else() {
    for (text, said) in [
        ("limits: []\n", "f:1: limits: it is a list; write keys and values below it: claims, "),
        ("# x\nhomeserver: [example.org]\n", "f:2: homeserver: it is a list; write keys"),
        ("native: []\n", "f:1: native: it is a list; write keys and values below it: address"),
        ("native:\n  keep_read: [1, 2]\n", "f:2: native.keep_read: it is a list; write keys"),
        ("native:\n  ops: [1, 2]\n", "f:2: limits.ops: it is a list; write keys"),
        ("limits:\n  new_groups: [1, 2]\n", "f:2: limits.new_groups: it is a list; write keys"),
        ("appservice: 5\n", "f:1: appservice: it is the number 5; write keys and values"),
        ("bridge: true\n", "f:1: bridge: it is `true`; write keys and values below it: allow"),
        ("logging: debug\n", "f:1: logging: it is the text `debug`; write keys and values"),
        ("limits:\n", "f:1: limits: it is empty; write keys and values below it"),
    ] {
        // Whatever the command line adds.
        for set in [&[][..], &[("limits.devices", "5".to_owned())]] {
            let error = read(text, "f", set).unwrap_err().to_string();
            assert!(error.starts_with(said), "{error}");
        }
    }
    for (key, value) in [("limits", "[]"), ("limits.logins", "[5, 6]"), ("homeserver", "[a.org]")] {
        let error = read("", "f", &[(key, value.to_owned())]).unwrap_err().to_string();
        let said = format!("--set {key}: it is a list; write keys and values below it: ");
        assert!(error.starts_with(&said), "{error}");
    }
}

#[test]
fn the_command_line_wins() {
    let text = "native: {listen: '127.0.0.1:1'}\nlogging: {level: debug}\n";
    let config = read(text, "f", &[("native.listen", "127.0.0.1:2".to_owned())]).unwrap();
    assert_eq!(config.native.listen.port(), 2);
    assert_eq!(config.logging.level, "debug");
}

#[test]
fn an_unknown_key_is_named_with_its_place_and_a_hint() {
    let rows = [
        ("homserver: {}\n", "f:1: there is no key `homserver`; did you mean `homeserver`?"),
        (
            "# x\nnative:\n  lisen: 1\n",
            "f:3: there is no key `native.lisen`; did you mean `listen`?",
        ),
        (
            "native:\n  colour: red\n",
            "f:2: there is no key `native.colour`; there are: listen, address, registration, \
             trusted_proxies, servers, keep_read, max_message_ttl_s, cleanup_interval_s",
        ),
    ];
    for (text, says) in rows {
        assert_eq!(read(text, "f", &[]).unwrap_err().to_string(), says);
    }
}

#[test]
fn a_wrong_value_is_named_with_its_place() {
    for (text, said) in [
        ("native:\n  listen: nowhere\n", "f:2: native.listen: it is `nowhere`; write an IP"),
        ("native:\n  registration: all\n", "f:2: native.registration: it is `all`; write"),
        ("native:\n  ops:\n    burst: x\n", "f:3: limits.ops.burst: it is the text `x`;"),
        (
            "bridge: {allow: '*'}\n",
            "f:1: bridge.allow: it is the text `*`; write a list of texts, in brackets: [\"*\"]",
        ),
        ("limits: {devices: 16.0}\n", "f:1: limits.devices: it is the number 16.0; write a whole"),
        ("limits: {devices: '16'}\n", "f:1: limits.devices: it is the text `16`; write a"),
        ("bridge:\n  allow:\n  - 5\n", "f:2: bridge.allow, item 1: it is the number 5;"),
        ("native:\n  servers: {relay_rooms: some}\n", "f:2: native.servers.relay_rooms: it is"),
        ("homeserver:\n  server_name:\n", "f:2: homeserver.server_name: it is empty; write"),
        ("homeserver: example.org\n", "f:1: homeserver: it is the text `example.org`; write"),
        ("- a\n", "f: write sections with keys in them"),
        ("a: [\n", "f:1:4: "),
        ("a: 1\na: 2\n", "f:2:1: "),
        ("native:\n\tlisten: x\n", "f:2:"),
        ("x", "f: write sections"),
    ] {
        let error = read(text, "f", &[]).unwrap_err();
        assert!(matches!(error, ConfigError::Malformed(..)), "{error:?}");
        let error = error.to_string();
        assert!(error.starts_with(said), "{error}");
        for alien in ["u32", "struct", "sequence", "<input>", "DuplicateKeyPolicy"] {
            assert!(!error.contains(alien), "{error}");
        }
    }
}

#[test]
fn limits_and_proxies_must_be_some() {
    let named = |text: &str| {
        let mut config = read(text, "f", &[]).unwrap();
        config.homeserver.server_name = "example.org".to_owned();
        config.check().map_err(|error| error.to_string())
    };
    let good = "native:\n  trusted_proxies: [127.0.0.1, '::1', 10.0.0.0/8]\n";
    named(good).unwrap();
    for (text, key) in [
        ("native:\n  trusted_proxies: [proxy.example]\n", "native.trusted_proxies: "),
        ("limits:\n  logins: {per_minute: 0, burst: 1}\n", "limits.logins.per_minute: "),
        ("native:\n  registrations: {per_minute: 1, burst: 0}\n", "limits.registrations.burst: "),
        ("limits:\n  new_groups: {per_hour: 0, burst: 1}\n", "limits.new_groups.per_hour: "),
        ("limits: {devices: 0}\n", "limits.devices: "),
        ("native:\n  max_message_ttl_s: 2592001\n", "native.max_message_ttl_s: "),
        ("native:\n  cleanup_interval_s: 0\n", "native.cleanup_interval_s: "),
        ("calls: {mesh_max: 1}\n", "calls.mesh_max: "),
        ("calls: {mesh_max: 9}\n", "calls.mesh_max: "),
        ("calls: {focus_url: causeway.example.org}\n", "calls.focus_url: "),
        ("calls: {focus_url: 'https://causeway.example.org/livekit/jwt/'}\n", "calls.focus_url: "),
        ("calls: {focus_url: 'https://causeway.example.org/./livekit/jwt'}\n", "calls.focus_url: "),
        ("calls: {focus_url: 'https://causeway.example.org/livekit/jwt?a'}\n", "calls.focus_url: "),
        ("calls: {focus_url: 'https://causeway.example.org/livekit/jwt#a'}\n", "calls.focus_url: "),
        ("calls: {focus_url: 'https://u@causeway.example.org/livekit/jwt'}\n", "calls.focus_url: "),
        ("calls: {livekit: {api_key: a}}\n", "calls.livekit.api_url: "),
        ("calls: {livekit: {api_url: 'ws://a'}}\n", "calls.livekit.api_url: "),
        (
            "calls: {livekit: {api_url: 'http://a/livekit'}}\n",
            "calls.livekit.api_url: it has a path",
        ),
        ("calls: {livekit: {api_url: 'http://a'}}\n", "calls.livekit.public_url: "),
        (
            "calls: {livekit: {api_url: 'http://a', public_url: 'https://a'}}\n",
            "calls.livekit.public_url: ",
        ),
        (
            "calls: {livekit: {api_url: 'http://a', public_url: 'wss://a'}}\n",
            "calls.livekit.api_key: ",
        ),
        (
            "calls: {livekit: {api_url: 'http://a', public_url: 'wss://a', api_key: k}}\n",
            "calls.livekit.api_secret_file: ",
        ),
        ("calls: {mesh: {stun: ['stun.example:3478']}}\n", "calls.mesh.stun: "),
        ("calls: {mesh: {relay_only: true}}\n", "calls.mesh.relay_only: "),
        ("calls: {mesh: {turn: {urls: ['stun:a']}}}\n", "calls.mesh.turn.urls: "),
        ("calls: {mesh: {turn: {urls: ['turn:a']}}}\n", "calls.mesh.turn.secret_file: "),
    ] {
        let error = named(text).unwrap_err();
        assert!(error.starts_with(key), "{error}");
    }
}

#[test]
fn what_must_be_something_is_not_empty() {
    for (key, value, said) in [
        ("data_dir", "''", "data_dir: it is empty; write a path"),
        (
            "data_dir",
            "'~/x'",
            "data_dir: `~/x` begins with `~`, which nothing here takes for a home",
        ),
        ("registration", "''", "appservice.registration: it is empty; write a path"),
        (
            "address",
            "' '",
            "appservice.address: it is empty; write http:// or https://, and a host",
        ),
        ("address", "http://a/?b", "appservice.address: `http://a/?b` has `?` or `#` in it; write"),
        ("address", "'http://a/#b'", "appservice.address: `http://a/#b` has `?` or `#` in it;"),
    ] {
        let text = match key {
            "data_dir" => format!("{key}: {value}\n"),
            key => format!("appservice:\n  {key}: {value}\n"),
        };
        let mut config = read(&text, "f", &[]).unwrap();
        config.homeserver.server_name = "example.org".to_owned();
        let error = config.check().unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
}

#[test]
fn addresses_hold_no_passwords() {
    let mut config = Config::default();
    config.homeserver.server_name = "example.org".to_owned();
    config.check().unwrap();
    config.homeserver.address = "http://me:canary@localhost".to_owned();
    let error = config.check().unwrap_err().to_string();
    assert!(error.starts_with("homeserver.address: ") && !error.contains("canary"), "{error}");
}
