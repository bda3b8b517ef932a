//! Where blocks were allocated, read from the file that dhat writes.

use std::collections::BTreeMap;
use std::ops::Add;

use serde::Deserialize;

/// What is read of dhat's file (version 2). Its own names are kept, but for those that say nothing.
#[derive(Debug, Deserialize)]
pub(crate) struct HeapFile {
    /// The unit of times.
    #[serde(rename = "tu")]
    pub(crate) time_unit: String,
    #[serde(rename = "pps")]
    points: Vec<Point>,
    #[serde(rename = "ftbl")]
    frames: Vec<String>,
}

/// One stack from which blocks were allocated.
#[derive(Debug, Deserialize)]
struct Point {
    #[serde(rename = "tb")]
    total_bytes: u64,
    #[serde(rename = "tbk")]
    total_blocks: u64,
    #[serde(rename = "tl")]
    lifetimes: u64,
    #[serde(rename = "gb")]
    peak_bytes: u64,
    #[serde(rename = "gbk")]
    peak_blocks: u64,
    /// Indexes of its frames, the innermost first.
    #[serde(rename = "fs")]
    frames: Vec<usize>,
}

/// Sums over the blocks of a place in the source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) total_bytes: u64,
    pub(crate) total_blocks: u64,
    /// The lifetimes of all blocks together.
    pub(crate) lifetimes: u64,
    /// When the heap was largest.
    pub(crate) peak_bytes: u64,
    pub(crate) peak_blocks: u64,
}

impl Add for Sums {
    type Output = Sums;

    fn add(self, other: Sums) -> Sums {
        Sums {
            total_bytes: self.total_bytes + other.total_bytes,
            total_blocks: self.total_blocks + other.total_blocks,
            lifetimes: self.lifetimes + other.lifetimes,
            peak_bytes: self.peak_bytes + other.peak_bytes,
            peak_blocks: self.peak_blocks + other.peak_blocks,
        }
    }
}

impl Point {
    fn sums(&self) -> Sums {
        let Point { total_bytes, total_blocks, lifetimes, peak_bytes, peak_blocks, .. } = *self;
        Sums { total_bytes, total_blocks, lifetimes, peak_bytes, peak_blocks }
    }
}

impl Sums {
    /// The mean lifetime of a block.
    pub(crate) fn mean_lifetime(&self) -> u64 {
        self.lifetimes / self.total_blocks.max(1)
    }
}

impl HeapFile {
    /// The sums over everything.
    pub(crate) fn totals(&self) -> Sums {
        self.points.iter().map(Point::sums).fold(Sums::default(), Add::add)
    }

    /// The places in the crates that `is_own` accepts by name, each with its sums: those with the most bytes at the peak
    /// first, then those with the most bytes in total. A stack belongs to its innermost frame in such a crate.
    pub(crate) fn sites(&self, is_own: impl Fn(&str) -> bool) -> Vec<(String, Sums)> {
        let mut sites: BTreeMap<String, Sums> = BTreeMap::new();
        for point in &self.points {
            let mut frames = point.frames.iter().filter_map(|frame| Frame::parse(self.frames.get(*frame)?));
            let own = frames.find(|frame| is_own(frame.crate_name()));
            let sums = sites.entry(own.map_or_else(|| "elsewhere".into(), |frame| frame.site())).or_default();
            *sums = *sums + point.sums();
        }
        let mut sites: Vec<_> = sites.into_iter().collect();
        sites.sort_by_key(|(_, sums)| std::cmp::Reverse((sums.peak_bytes, sums.total_bytes)));
        sites
    }
}

/// `ADDRESS: FUNCTION (FILE:LINE:COLUMN)`
struct Frame<'a> {
    function: &'a str,
    /// `None` without debug information.
    place: Option<&'a str>,
}

impl<'a> Frame<'a> {
    fn parse(text: &'a str) -> Option<Frame<'a>> {
        let (_, rest) = text.split_once(": ")?;
        let (function, place) = rest.strip_suffix(')')?.rsplit_once(" (")?;
        let (place, _column) = place.rsplit_once(':')?;
        Some(Frame { function, place: Some(place).filter(|place| !place.starts_with("???")) })
    }

    /// The crate of the function, or of the type whose method it is.
    fn crate_name(&self) -> &'a str {
        let path = self.function.trim_start_matches(['<', '&', '(', '[', '*']);
        let path = ["mut ", "dyn ", "const "].iter().fold(path, |path, word| path.strip_prefix(word).unwrap_or(path));
        path.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or(path)
    }

    fn site(&self) -> String {
        match self.place {
            Some(place) => format!("{place} {}", self.function),
            None => self.function.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
        "dhatFileVersion": 2, "mode": "rust-heap", "tu": "µs", "tg": 7,
        "pps": [
            {"tb": 100, "tbk": 2, "tl": 10, "mb": 60, "mbk": 1, "gb": 0, "gbk": 0, "eb": 0, "ebk": 0, "fs": [1, 2, 3]},
            {"tb": 30, "tbk": 1, "tl": 50, "mb": 30, "mbk": 1, "gb": 30, "gbk": 1, "eb": 0, "ebk": 0, "fs": [4, 3]},
            {"tb": 7, "tbk": 2, "tl": 9, "mb": 7, "mbk": 1, "gb": 7, "gbk": 1, "eb": 0, "ebk": 0, "fs": [1, 3]},
            {"tb": 5, "tbk": 1, "tl": 1, "mb": 5, "mbk": 1, "gb": 0, "gbk": 0, "eb": 0, "ebk": 0, "fs": [1, 5]}
        ],
        "ftbl": [
            "[root]",
            "0x1: <alloc::vec::Vec<T> as core::clone::Clone>::clone (src/vec/mod.rs:3000:9)",
            "0x2: <my_cache::Cache as kv_core::cache::KvCache>::attend (my-cache/src/lib.rs:12:3)",
            "0x3: kv_script::rows::step::{{closure}} (kv-script/src/rows.rs:80:5)",
            "0x4: kv_core::held_rows::HeldRows::commit (???:0:0)",
            "0x5: rayon_core::registry::main_loop (???:0:0)"
        ]
    }"#;

    #[test]
    fn blocks_belong_to_the_innermost_own_frame() {
        let file: HeapFile = serde_json::from_str(FILE).unwrap();
        let sums = |total_bytes, total_blocks, lifetimes, peak_bytes, peak_blocks| Sums {
            total_bytes,
            total_blocks,
            lifetimes,
            peak_bytes,
            peak_blocks,
        };
        assert_eq!(file.time_unit, "µs");
        assert_eq!(file.totals(), sums(142, 6, 70, 37, 2));
        assert_eq!(
            file.sites(|name| name == "my_cache" || name.starts_with("kv_")),
            [
                ("kv_core::held_rows::HeldRows::commit".to_owned(), sums(30, 1, 50, 30, 1)),
                ("kv-script/src/rows.rs:80 kv_script::rows::step::{{closure}}".to_owned(), sums(7, 2, 9, 7, 1)),
                ("my-cache/src/lib.rs:12 <my_cache::Cache as kv_core::cache::KvCache>::attend".to_owned(), sums(100, 2, 10, 0, 0)),
                ("elsewhere".to_owned(), sums(5, 1, 1, 0, 0)),
            ]
        );
        assert_eq!(sums(142, 6, 70, 37, 2).mean_lifetime(), 11);
    }
}
