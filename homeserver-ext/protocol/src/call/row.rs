//! A call as JSON has it: maps by who as lists of pairs, since a key is a text there.

pub(super) mod pairs {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::call::Who;

    pub(in crate::call) fn serialize<S: Serializer, V: Serialize>(
        map: &BTreeMap<Who, V>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_seq(map)
    }

    pub(in crate::call) fn deserialize<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
        from: D,
    ) -> Result<BTreeMap<Who, V>, D::Error> {
        Ok(Vec::deserialize(from)?.into_iter().collect())
    }
}
