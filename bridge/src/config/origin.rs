//! Where each value of a configuration was set, so that a message can name the line to change.

use std::collections::BTreeMap;

/// The place of each key. Two configurations that say the same are the same, wherever they say it.
#[derive(Debug, Clone, Default)]
pub struct Origin(BTreeMap<String, String>);

impl PartialEq for Origin {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Origin {}

impl FromIterator<(String, String)> for Origin {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(places: I) -> Self {
        Self(places.into_iter().collect())
    }
}

impl Origin {
    /// `key`, and where it was set, as far as that is known.
    pub(super) fn of(&self, key: &str) -> String {
        match self.0.get(key) {
            Some(place) => format!("{key} ({place})"),
            None => key.to_owned(),
        }
    }
}
