//! What `/metrics` shows, read as Prometheus reads it, and no more leniently.

use std::collections::BTreeMap;

/// A page of metrics.
#[derive(Debug)]
pub(crate) struct Page {
    /// Kind of each figure.
    pub(crate) kinds: BTreeMap<String, String>,
    meanings: BTreeMap<String, String>,
    samples: BTreeMap<String, f64>,
}

impl Page {
    /// Reads the text format, version 0.0.4; panics at what is not right in it.
    pub(crate) fn read(text: &str) -> Self {
        let mut page =
            Self { kinds: BTreeMap::new(), meanings: BTreeMap::new(), samples: BTreeMap::new() };
        for line in text.lines().filter(|line| !line.is_empty()) {
            page.line(line);
        }
        assert!(text.ends_with('\n'), "the last line is cut off");
        page.check_histograms();
        page
    }

    fn line(&mut self, line: &str) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, meaning) = rest.split_once(' ').unwrap();
            assert!(self.meanings.insert(name.to_owned(), meaning.to_owned()).is_none(), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert!(self.meanings.contains_key(name), "nobody says what {name} means");
            assert!(self.kinds.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let name = sample.split('{').next().unwrap();
            let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
            assert!(name.starts_with("causeway_") && name.chars().all(allowed), "{line}");
            let kind = self.kind_of(name);
            assert!(kind != "counter" || name.ends_with("_total"), "{line}");
            let value: f64 = value.parse().unwrap();
            assert!(self.samples.insert(sample.to_owned(), value).is_none(), "{line} is doubled");
        }
    }

    fn kind_of(&self, sample: &str) -> &str {
        let parts = ["_bucket", "_sum", "_count"];
        let whole = parts.iter().find_map(|part| sample.strip_suffix(part));
        let histogram =
            whole.filter(|name| self.kinds.get(*name).is_some_and(|k| k == "histogram"));
        &self.kinds[histogram.unwrap_or(sample)]
    }

    /// Buckets only rise, and the last one holds everything.
    fn check_histograms(&self) {
        for (name, _) in self.kinds.iter().filter(|(_, kind)| *kind == "histogram") {
            let mut series = BTreeMap::<String, Vec<(f64, f64)>>::new();
            for (sample, count) in &self.samples {
                let Some(labels) = sample.strip_prefix(&format!("{name}_bucket{{")) else {
                    continue;
                };
                let (others, bound) = labels.trim_end_matches('}').rsplit_once("le=").unwrap();
                let bound: f64 = bound.trim_matches('"').parse().unwrap();
                series
                    .entry(others.trim_end_matches(',').to_owned())
                    .or_default()
                    .push((bound, *count));
            }
            assert!(!series.is_empty(), "{name} has no buckets");
            for (labels, mut buckets) in series {
                buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
                assert!(
                    buckets.windows(2).all(|pair| pair[0].1 <= pair[1].1),
                    "{name} {buckets:?}"
                );
                let last = *buckets.last().unwrap();
                let all = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
                assert_eq!(
                    last,
                    (f64::INFINITY, self.value(&format!("{name}_count{all}"))),
                    "{name}"
                );
            }
        }
    }

    /// The value of a sample, named with its labels.
    #[track_caller]
    pub(crate) fn value(&self, sample: &str) -> f64 {
        let value = self.samples.get(sample);
        *value.unwrap_or_else(|| panic!("no {sample} in {:#?}", self.samples))
    }
}
