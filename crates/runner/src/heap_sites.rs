//! Where blocks were allocated, read from the file that dhat writes.
//!
//! dhat cuts the paths of source files, and inlined functions have no path in a build with line tables only. So addresses are
//! resolved again, in the process that was profiled, and functions get the path of the module that their file is.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Add;
use std::path::{Component, Path, PathBuf};

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

    /// The places in kvlab and in the strategy, each with its sums: those with the most bytes at the peak first, then those
    /// with the most bytes in total. A stack belongs to the innermost function of either. Where that is kvlab's, the
    /// strategy's innermost function follows.
    ///
    /// `resolve` answers the functions at an address, the innermost first.
    pub(crate) fn sites(&self, strategy_crate: &str, resolve: impl Fn(usize) -> Vec<Function>) -> Vec<(String, Sums)> {
        let mut resolved: HashMap<usize, Vec<Site>> = HashMap::new();
        let mut sums: BTreeMap<String, Sums> = BTreeMap::new();
        for point in &self.points {
            let mut addresses: Vec<usize> = point.frames.iter().filter_map(|frame| address(self.frames.get(*frame)?)).collect();
            // Functions that were inlined into each other have the same one.
            addresses.dedup();
            for address in &addresses {
                resolved.entry(*address).or_insert_with(|| resolve(*address).iter().filter_map(Site::of).collect());
            }
            let mut sites = addresses.iter().flat_map(|address| &resolved[address]);
            let innermost = sites.next();
            let is_strategys = |site: &&Site| site.module.first().is_some_and(|name| name == strategy_crate);
            let caller = innermost.filter(|site| !is_strategys(site)).and_then(|_| sites.find(is_strategys));
            let name = match (innermost, caller) {
                (Some(site), Some(caller)) => format!("{site}, for {caller}"),
                (Some(site), None) => site.to_string(),
                (None, _) => "elsewhere".into(),
            };
            let sums = sums.entry(name).or_default();
            *sums = *sums + point.sums();
        }
        let mut sites: Vec<_> = sums.into_iter().collect();
        sites.sort_by_key(|(_, sums)| std::cmp::Reverse((sums.peak_bytes, sums.total_bytes)));
        sites
    }
}

/// The address in a frame of dhat's file: `ADDRESS: FUNCTION (FILE:LINE:COLUMN)`.
fn address(frame: &str) -> Option<usize> {
    usize::from_str_radix(frame.split_once(':')?.0.strip_prefix("0x")?, 16).ok()
}

/// A function with a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) file: PathBuf,
    pub(crate) line: u32,
}

/// The functions at an address of this process whose source is known, the innermost first.
pub(crate) fn functions_at(address: usize) -> Vec<Function> {
    let mut functions = vec![];
    backtrace::resolve(std::ptr::without_provenance_mut(address), |symbol| {
        if let (Some(name), Some(file), Some(line)) = (symbol.name(), symbol.filename(), symbol.lineno()) {
            functions.push(Function { name: format!("{name:#}"), file: file.to_owned(), line });
        }
    });
    functions
}

/// A place in kvlab or in a strategy.
#[derive(Debug)]
struct Site {
    /// The crate, then its modules down to the file.
    module: Vec<String>,
    function: String,
    /// From the crate's folder on.
    file: String,
    line: u32,
}

impl Site {
    /// `None` for the standard library, for packages of a registry, and for the allocator that handed over to dhat.
    fn of(function: &Function) -> Option<Site> {
        let names: Vec<&str> =
            function.file.components().filter_map(|part| if let Component::Normal(name) = part { name.to_str() } else { None }).collect();
        let is_foreign =
            names.first() == Some(&"rustc") || names.windows(2).any(|pair| pair == ["registry", "src"] || pair == ["rustlib", "src"]);
        let source = names.iter().rposition(|name| matches!(*name, "src" | "tests" | "examples" | "benches")).filter(|at| *at > 0)?;
        let package = names[source - 1];
        // The compiler's calls of the allocator stand at the line that installs it.
        let is_allocator = package == "kv-metrics" || function.name.starts_with("__r");
        if is_foreign || is_allocator {
            return None;
        }
        let mut module: Vec<String> =
            names[source + 1..].iter().map(|name| Path::new(name).with_extension("").display().to_string()).collect();
        // Beside `src`, every file is a crate.
        if names[source] == "src" {
            module.insert(0, package.replace('-', "_"));
        }
        module.pop_if(|last| matches!(last.as_str(), "lib" | "main" | "mod"));
        // The name of a function that was not inlined may be a whole path, and that of a generic one ends with its types.
        let name = function.name.rsplit_once(">::").map_or(function.name.as_str(), |(_, name)| name);
        let name = name.split('<').next().filter(|name| !name.is_empty()).unwrap_or(name);
        let name = name.rsplit("::").next().unwrap_or(name);
        Some(Site { module, function: name.to_owned(), file: names[source - 1..].join("/"), line: function.line })
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Site { module, function, file, line } = self;
        write!(f, "{file}:{line} {}::{function}", module.join("::"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
        "dhatFileVersion": 2, "mode": "rust-heap", "tu": "µs", "tg": 7,
        "pps": [
            {"tb": 100, "tbk": 2, "tl": 10, "mb": 60, "mbk": 1, "gb": 0, "gbk": 0, "eb": 0, "ebk": 0, "fs": [1, 2, 3]},
            {"tb": 30, "tbk": 1, "tl": 50, "mb": 30, "mbk": 1, "gb": 30, "gbk": 1, "eb": 0, "ebk": 0, "fs": [4, 2, 3]},
            {"tb": 7, "tbk": 2, "tl": 9, "mb": 7, "mbk": 1, "gb": 7, "gbk": 1, "eb": 0, "ebk": 0, "fs": [1, 3]},
            {"tb": 5, "tbk": 1, "tl": 1, "mb": 5, "mbk": 1, "gb": 0, "gbk": 0, "eb": 0, "ebk": 0, "fs": [1, 5]}
        ],
        "ftbl": ["[root]", "0x1: alloc (src/a.rs:1:1)", "0x2: attend (cut/src/lib.rs:12:3)", "0x3: step (???:0:0)", "0x4: new", "0x5: main_loop (???:0:0)"]
    }"#;

    fn function(name: &str, file: &str, line: u32) -> Function {
        Function { name: name.into(), file: file.into(), line }
    }

    fn resolve(address: usize) -> Vec<Function> {
        match address {
            1 => vec![
                function("alloc", "/home/me/kvlab/crates/kv-metrics/src/allocator.rs", 9),
                function("__rust_alloc", "/home/me/my-cache/src/main.rs", 1),
                function("from_elem<f32>", "/rustc/5980/library/alloc/src/vec/mod.rs", 3651),
            ],
            2 => vec![function("<my_cache::Cache as kv_core::cache::KvCache>::attend", "/home/me/my-cache/src/lib.rs", 12)],
            3 => vec![function("step<my_cache::Rows>", "/home/me/kvlab/crates/kv-script/src/rows.rs", 80)],
            4 => vec![
                function("new", "/home/me/kvlab/crates/kv-kernels/src/lanes/mod.rs", 277),
                function("other", "/home/me/kvlab/crates/kv-kernels/src/block.rs", 1),
            ],
            _ => vec![function("run", "/home/me/.cargo/registry/src/index/rayon-core-1.13.0/src/job.rs", 5)],
        }
    }

    #[test]
    fn blocks_belong_to_the_innermost_function_of_kvlab_or_the_strategy() {
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
        let expected = [
            ("kv-kernels/src/lanes/mod.rs:277 kv_kernels::lanes::new, for my-cache/src/lib.rs:12 my_cache::attend", sums(30, 1, 50, 30, 1)),
            ("kv-script/src/rows.rs:80 kv_script::rows::step", sums(7, 2, 9, 7, 1)),
            ("my-cache/src/lib.rs:12 my_cache::attend", sums(100, 2, 10, 0, 0)),
            ("elsewhere", sums(5, 1, 1, 0, 0)),
        ];
        assert_eq!(file.sites("my_cache", resolve), expected.map(|(site, sums)| (site.to_owned(), sums)));
        assert_eq!(sums(142, 6, 70, 37, 2).mean_lifetime(), 11);
    }

    #[test]
    fn a_test_is_a_crate_of_its_own() {
        let site = Site::of(&function("attend<my_cache::Rows>", "/home/me/my-cache/tests/looks.rs", 3)).unwrap();
        assert_eq!(site.to_string(), "my-cache/tests/looks.rs:3 looks::attend");
    }

    #[test]
    fn this_process_knows_its_own_functions() {
        let mut address = 0;
        backtrace::trace(|frame| {
            address = frame.ip().addr();
            // The innermost frame is the library's.
            !functions_at(address).iter().any(|function| function.file.ends_with("heap_sites.rs"))
        });
        let functions = functions_at(address);
        assert!(functions.iter().any(|function| function.line > 0 && function.file.is_absolute()), "{functions:?}");
    }
}
