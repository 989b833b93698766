//! On which lines of the file the keys stand: the tree that sources are merged in has lost it.

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_saphyr::Spanned;

/// The keys of a part of the file, each with its line and what is below it.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<(String, u64, Lines)>);

impl Lines {
    /// Those of a file; of one that is no YAML there are none.
    pub(super) fn of(text: &str) -> Self {
        serde_saphyr::from_str::<Option<Self>>(text).ok().flatten().unwrap_or_default()
    }

    /// Whether `key` is there itself.
    pub(super) fn holds(&self, key: &str) -> bool {
        let (first, rest) = key.split_once('.').unwrap_or((key, ""));
        let found = self.0.iter().find(|(name, ..)| name == first);
        found.is_some_and(|(.., below)| rest.is_empty() || below.holds(rest))
    }

    /// The line of `key`, its parts divided by dots, or of the last of its parts that is there.
    pub(super) fn line(&self, key: &str) -> Option<u64> {
        let (first, rest) = key.split_once('.').unwrap_or((key, ""));
        let (_, line, below) = self.0.iter().find(|(name, ..)| name == first)?;
        below.line(rest).or(Some(*line))
    }
}

impl<'de> Deserialize<'de> for Lines {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Look)
    }
}

struct Look;

impl<'de> Visitor<'de> for Look {
    type Value = Lines;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("anything")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lines, A::Error> {
        let mut lines = Vec::new();
        while let Some((key, below)) = map.next_entry::<Spanned<String>, Lines>()? {
            lines.push((key.value, key.referenced.line(), below));
        }
        Ok(Lines(lines))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Lines, A::Error> {
        let mut lines = Vec::new();
        while let Some(item) = list.next_element::<Spanned<Lines>>()? {
            lines.push((lines.len().to_string(), item.referenced.line(), item.value));
        }
        Ok(Lines(lines))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Lines, E> {
        Ok(Lines::default())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Lines, E> {
        Ok(Lines::default())
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Lines, E> {
        Ok(Lines::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Lines, E> {
        Ok(Lines::default())
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Lines, E> {
        Ok(Lines::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Lines, E> {
        Ok(Lines::default())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Lines, E> {
        Ok(Lines::default())
    }

    fn visit_unit<E: Error>(self) -> Result<Lines, E> {
        Ok(Lines::default())
    }

    fn visit_none<E: Error>(self) -> Result<Lines, E> {
        Ok(Lines::default())
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Lines, D::Error> {
        Lines::deserialize(from)
    }
}

#[cfg(test)]
mod tests {
    use super::Lines;

    #[test]
    fn each_key_is_found_on_its_line() {
        let text =
            "# x\na:\n  b: 1\n\n  c:\n    - x\n    - 5\n  d: {e: true,\n    f: null}\ng: 1.5\n";
        let lines = Lines::of(text);
        for (key, line) in [
            ("a", Some(2)),
            ("a.b", Some(3)),
            ("a.c.1", Some(7)),
            ("a.d.e", Some(8)),
            ("a.d.f", Some(9)),
            ("g", Some(10)),
            ("a.not.there", Some(2)),
            ("not", None),
        ] {
            assert_eq!(lines.line(key), line, "{key}");
        }
        for text in ["", "# nothing\n", "a: [\n", "x"] {
            assert_eq!(Lines::of(text).line("a"), None, "{text}");
        }
    }
}
