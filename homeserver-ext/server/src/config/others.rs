//! With which other servers this one speaks.

use std::str::FromStr;

/// Which other servers are spoken with: those that something in `allow` covers, and nothing in `deny`.
#[derive(Debug, Clone)]
pub struct OtherServers {
    /// All by default.
    pub allow: Vec<ServerPattern>,
    /// None by default.
    pub deny: Vec<ServerPattern>,
    /// Whether what is for all of a group on three servers or more goes by a room of their agents.
    pub relay_rooms: bool,
    /// Bytes of what they acknowledged that are kept, so that one that is put back from a copy is given it
    /// again; 256 MiB by default, 0 keeps nothing.
    pub keep_bytes: u64,
    /// Bytes that are kept of the groups of one other server, which it orders: 1 GiB by default, 256 of them for
    /// each op and each thing that one names; a sixteenth of both of groups in which nobody of this server is.
    pub log_bytes: u64,
}

/// Servers by their names, `*` for any characters: `b.example`, `*.b.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerPattern(String);

/// No server can have such a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no server has such a name")]
pub struct NoServerPattern;

impl Default for OtherServers {
    fn default() -> Self {
        Self {
            allow: vec![ServerPattern("*".to_owned())],
            deny: Vec::new(),
            relay_rooms: true,
            keep_bytes: 256 << 20,
            log_bytes: 1 << 30,
        }
    }
}

impl OtherServers {
    /// Whether the server of this name is spoken with.
    pub fn allows(&self, name: &str) -> bool {
        let has = |patterns: &[ServerPattern]| patterns.iter().any(|pattern| pattern.covers(name));
        has(&self.allow) && !has(&self.deny)
    }

    /// Whether the operator has said something of the server of this name, and not only of all.
    pub(crate) fn names(&self, name: &str) -> bool {
        let mut patterns = self.allow.iter().chain(&self.deny);
        patterns.any(|pattern| pattern.0 != "*" && pattern.covers(name))
    }
}

impl FromStr for ServerPattern {
    type Err = NoServerPattern;

    fn from_str(text: &str) -> Result<Self, NoServerPattern> {
        let fits = |c: char| c.is_ascii_alphanumeric() || ".-:*".contains(c);
        let is_name = !text.is_empty() && text.len() <= 255 && text.chars().all(fits);
        // Accounts write the names of their servers in small letters.
        is_name.then(|| Self(text.to_ascii_lowercase())).ok_or(NoServerPattern)
    }
}

impl ServerPattern {
    fn covers(&self, name: &str) -> bool {
        let mut parts = self.0.split('*');
        let first = parts.next().unwrap_or_default();
        let Some(mut rest) = name.strip_prefix(first) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        // Each part as early as it stands leaves most for those behind it.
        for part in parts {
            let Some((_, behind)) = rest.split_once(part) else { return false };
            rest = behind;
        }
        rest.ends_with(last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_what_it_says() {
        let rows = [
            ("b.example", "b.example", true),
            ("B.Example", "b.example", true),
            ("b.example", "bb.example", false),
            ("b.example", "b.example:8448", false),
            ("b.example:*", "b.example:8448", true),
            ("*", "b.example", true),
            ("*.b.example", "b.example", false),
            ("*.b.example", "a.b.example", true),
            ("*.b.example", "a.b.example.evil", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "axxbxbxc", true),
            ("a*b*c", "acb", false),
            ("*ab", "aab", true),
            ("a*a", "a", false),
        ];
        for (pattern, name, covers) in rows {
            let pattern: ServerPattern = pattern.parse().unwrap();
            assert_eq!(pattern.covers(name), covers, "{pattern:?} {name}");
        }
        for text in ["", "b example", "@a:b", "b/example", "ü.example", "[::1]"] {
            assert_eq!(text.parse::<ServerPattern>(), Err(NoServerPattern), "{text}");
        }
    }

    #[test]
    fn who_is_denied_is_not_spoken_with_though_he_is_allowed() {
        let of = |patterns: &[&str]| patterns.iter().map(|text| text.parse().unwrap()).collect();
        let others = OtherServers {
            allow: of(&["*.example"]),
            deny: of(&["evil.*"]),
            ..OtherServers::default()
        };
        assert!(others.allows("b.example"));
        assert!(!others.allows("evil.example"));
        assert!(!others.allows("b.test"));
        assert!(others.names("b.example") && others.names("evil.test") && !others.names("b.test"));
        assert!(!OtherServers::default().names("b.example"));
        assert!(OtherServers::default().allows("b.test"));
        let nobody = OtherServers { allow: Vec::new(), ..OtherServers::default() };
        assert!(!nobody.allows("b.example"));
    }
}
