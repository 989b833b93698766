//! Who met which limit, for the operator.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use causeway_protocol::ids::Timestamp;

/// Pairs of limit and account or address that are remembered: those that came last.
const MAX_HITS: usize = 1_000;

/// What was refused since the start, by limit and by whom.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hits(Arc<Mutex<BTreeMap<(&'static str, String), Hit>>>);

/// How often one met one limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hit {
    pub(crate) times: u64,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
}

impl Hits {
    /// `who` met `limit`.
    pub(crate) fn note(&self, now: Timestamp, limit: &'static str, who: &impl ToString) {
        metrics::counter!("causeway_limit_hits_total", "limit" => limit).increment(1);
        let key = (limit, who.to_string());
        let mut hits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if hits.len() >= MAX_HITS
            && !hits.contains_key(&key)
            && let Some(oldest) = hits.iter().min_by_key(|(_, hit)| hit.last).map(|(key, _)| key)
        {
            let oldest = oldest.clone();
            hits.remove(&oldest);
        }
        let hit = hits.entry(key).or_insert(Hit { times: 0, first: now, last: now });
        hit.times += 1;
        hit.last = now;
    }

    /// By limit and by whom, after `after`, at most `limit`.
    pub(crate) fn page(&self, after: Option<&str>, limit: u32) -> Vec<(&'static str, String, Hit)> {
        let hits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hits.iter()
            .filter(|((limit, who), _)| after.is_none_or(|after| *place(limit, who) > *after))
            .take(limit as usize)
            .map(|((limit, who), hit)| (*limit, who.clone(), *hit))
            .collect()
    }
}

/// By what a page begins after an entry. A space is in no limit's name.
pub(crate) fn place(limit: &str, who: &str) -> String {
    format!("{limit} {who}")
}

#[cfg(test)]
mod tests {
    use causeway_protocol::ids::Timestamp;

    use super::{Hits, MAX_HITS, place};

    #[test]
    fn those_who_came_last_are_remembered_and_pages_have_each_once() {
        let hits = Hits::default();
        for n in 0..2 * MAX_HITS as u64 {
            hits.note(Timestamp(n), "limits.ops", &format!("m{n:05}"));
            hits.note(Timestamp(n), "limits.ops-of-others", &"ann");
        }
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = hits.page(after.as_deref(), 300);
            let Some((limit, who, _)) = page.last() else { break };
            after = Some(place(limit, who));
            seen.extend(page);
        }
        assert_eq!(seen.len(), MAX_HITS);
        let ann = seen.iter().find(|(_, who, _)| who == "ann").unwrap().2;
        assert_eq!((ann.times, ann.first, ann.last.0), (2_000, Timestamp(0), 1_999));
        assert!(seen.iter().any(|(_, who, _)| who == "m01999"));
        assert!(!seen.iter().any(|(_, who, _)| who == "m00000"));
    }
}
