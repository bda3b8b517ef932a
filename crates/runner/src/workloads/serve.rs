//! `serve`: requests that join and leave under a memory limit.

use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Load, at_least_one};
use crate::sizes::{UNITS, parse_bytes};

/// Requests of different lengths that wait in a queue and are served under a memory limit. A request is admitted if the next step
/// of all sequences then fits into the memory, by what the strategy says that a sequence takes. All admitted sequences decode
/// together. Where their next step would not fit, the newest one is closed, goes back to the front of the queue, and is computed
/// again later (preemption by recomputing, as in vLLM, arXiv:2309.06180). No model runs: rows of its shape are generated, and times
/// are the cache's. A strategy is compared by the time of a step over the sequences in it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Serve {
    /// Requests, all there from the start. The default is 64.
    pub requests: Option<usize>,
    /// The median of the lengths of prompts, which are log-normal. The default is 256.
    pub prompt_median: Option<usize>,
    /// The standard deviation of the logarithm of these lengths. The default is 0.6.
    pub prompt_sigma: Option<f64>,
    /// The median of the lengths of outputs, which are log-normal. The default is 64.
    pub output_median: Option<usize>,
    /// The standard deviation of the logarithm of these lengths. The default is 0.6.
    pub output_sigma: Option<f64>,
    /// A CSV file with the lengths, instead of the five keys above: columns `prompt_tokens` and `output_tokens`, one row per request.
    /// The path starts at the config's folder if it is relative.
    pub trace: Option<String>,
    /// Memory of all sequences together.
    pub memory: String,
    /// Tokens that prompt and output of a request may have together. Drawn lengths keep to it; longer requests of a trace are
    /// refused.
    pub max_tokens: usize,
}

impl Default for Serve {
    fn default() -> Serve {
        Serve {
            requests: None,
            prompt_median: None,
            prompt_sigma: None,
            output_median: None,
            output_sigma: None,
            trace: None,
            memory: "64 MiB".into(),
            max_tokens: 1024,
        }
    }
}

/// Requests that are drawn at most.
const MOST_REQUESTS: usize = 1_000_000;

/// What a cell does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct ServeScript {
    pub(crate) lengths: RequestLengths,
    /// Bytes of all sequences.
    pub(crate) memory: u64,
    pub(crate) max_tokens: usize,
}

/// Where the lengths of requests come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RequestLengths {
    /// They are drawn.
    Drawn { requests: usize, prompt: LogNormal, output: LogNormal },
    /// They are those of a trace.
    Traced(Vec<RequestLength>),
}

/// A log-normal distribution.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct LogNormal {
    pub(crate) median: usize,
    /// Of the logarithm.
    pub(crate) sigma: f64,
}

/// Tokens of a request; at least one of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestLength {
    pub(crate) prompt: usize,
    pub(crate) output: usize,
}

impl Serve {
    /// The requests that a config names. Relative paths start at `folder`.
    ///
    /// # Errors
    /// What is wrong with a key or with the trace.
    pub(super) fn script(&self, folder: &Path) -> Result<ServeScript, String> {
        at_least_one("max_tokens", self.max_tokens)?;
        let memory = parse_bytes(&self.memory)
            .map_err(|wrong| format!("`memory = \"{}\"` {wrong}: {UNITS}; for example \"64 MiB\"", self.memory))?;
        let lengths = match &self.trace {
            Some(name) => RequestLengths::Traced(self.traced(name, folder)?),
            None => self.drawn()?,
        };
        Ok(ServeScript { lengths, memory, max_tokens: self.max_tokens })
    }

    fn drawn(&self) -> Result<RequestLengths, String> {
        let log_normal = |name: &str, median: Option<usize>, sigma: Option<f64>, usual: usize| {
            let drawn = LogNormal { median: median.unwrap_or(usual), sigma: sigma.unwrap_or(0.6) };
            at_least_one(&format!("{name}_median"), drawn.median)?;
            match drawn.sigma {
                sigma if (0.0..=3.0).contains(&sigma) => Ok(drawn),
                sigma => Err(format!("`{name}_sigma` is {sigma}: it must be 0 to 3; 0.6 is usual")),
            }
        };
        let requests = self.requests.unwrap_or(64);
        at_least_one("requests", requests)?;
        if requests > MOST_REQUESTS {
            return Err(format!("`requests` is {requests}: it must be {MOST_REQUESTS} at most"));
        }
        let prompt = log_normal("prompt", self.prompt_median, self.prompt_sigma, 256)?;
        let output = log_normal("output", self.output_median, self.output_sigma, 64)?;
        let together = prompt.median.saturating_add(output.median);
        if together > self.max_tokens {
            return Err(format!(
                "`prompt_median` {} and `output_median` {} are {together} tokens together, and `max_tokens` is {}: most requests would be longer than that",
                prompt.median, output.median, self.max_tokens
            ));
        }
        Ok(RequestLengths::Drawn { requests, prompt, output })
    }

    fn traced(&self, name: &str, folder: &Path) -> Result<Vec<RequestLength>, String> {
        let of_drawn = [
            ("requests", self.requests.is_some()),
            ("prompt_median", self.prompt_median.is_some()),
            ("prompt_sigma", self.prompt_sigma.is_some()),
            ("output_median", self.output_median.is_some()),
            ("output_sigma", self.output_sigma.is_some()),
        ];
        if let Some((key, _)) = of_drawn.into_iter().find(|(_, is_given)| *is_given) {
            return Err(format!(
                "`{key}` is about lengths that are drawn, and `trace` names a file with the lengths: leave one of the two out"
            ));
        }
        let file = std::fs::File::open(folder.join(name)).map_err(|error| format!("`trace`: cannot read `{name}`: {error}"))?;
        lengths_of(file).map_err(|wrong| format!("`trace`: `{name}`{wrong}"))
    }
}

/// The requests of a trace.
///
/// # Errors
/// What is wrong with it: the end of a sentence about the file.
fn lengths_of(source: impl std::io::Read) -> Result<Vec<RequestLength>, String> {
    const COLUMNS: [&str; 2] = ["prompt_tokens", "output_tokens"];
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(source);
    let header = reader.headers().map_err(|error| format!(" cannot be read: {error}"))?.clone();
    let place = |column: &str| {
        let place = header.iter().position(|name| name == column);
        if header.iter().filter(|name| *name == column).count() > 1 {
            return Err(format!(" has the column `{column}` twice"));
        }
        place.ok_or_else(|| format!(" has no column `{column}`; its columns are {}", header.iter().collect::<Vec<_>>().join(", ")))
    };
    let places = [place(COLUMNS[0])?, place(COLUMNS[1])?];
    let mut requests = vec![];
    for record in reader.records() {
        let record = record.map_err(|error| format!(" cannot be read: {error}"))?;
        let line = record.position().map_or(0, csv::Position::line);
        let tokens = |column: usize| {
            let (name, written) = (COLUMNS[column], record.get(places[column]).unwrap_or_default());
            match written.parse::<i64>() {
                Ok(tokens @ 1..) => Ok(tokens as usize),
                Ok(tokens) => Err(format!(", line {line}: `{name}` is {tokens}: a request has at least 1 of them")),
                Err(_) => Err(format!(", line {line}: `{name}` is \"{written}\", which is no whole number")),
            }
        };
        requests.push(RequestLength { prompt: tokens(0)?, output: tokens(1)? });
    }
    if requests.is_empty() { Err(" has no request in it".into()) } else { Ok(requests) }
}

impl ServeScript {
    /// How many requests there are.
    pub(crate) fn requests(&self) -> usize {
        match &self.lengths {
            RequestLengths::Drawn { requests, .. } => *requests,
            RequestLengths::Traced(traced) => traced.len(),
        }
    }

    /// The requests, in their order.
    pub(crate) fn drawn(&self, seed: u64) -> Vec<RequestLength> {
        match &self.lengths {
            RequestLengths::Traced(traced) => traced.clone(),
            RequestLengths::Drawn { requests, prompt, output } => {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                let mut request = || RequestLength { prompt: prompt.draw(&mut random), output: output.draw(&mut random) };
                // A quarter of the pairs at least is within both medians, which keep to the most.
                let mut kept = || loop {
                    let request = request();
                    if request.tokens() <= self.max_tokens {
                        return request;
                    }
                };
                (0..*requests).map(|_| kept()).collect()
            }
        }
    }

    pub(super) fn load(&self) -> Load {
        let requests = self.requests();
        let (prompt_tokens, output_tokens) = match &self.lengths {
            RequestLengths::Drawn { prompt, output, .. } => {
                (requests.saturating_mul(prompt.median), requests.saturating_mul(output.median))
            }
            RequestLengths::Traced(traced) => traced.iter().fold((0usize, 0usize), |(prompts, outputs), request| {
                (prompts.saturating_add(request.prompt), outputs.saturating_add(request.output))
            }),
        };
        let depth = prompt_tokens.saturating_add(output_tokens) / requests;
        // A step is one of as many sequences as there are requests.
        Load { prompt_tokens, steps: output_tokens / requests, depth, sequences: requests }
    }
}

impl LogNormal {
    fn draw(self, random: &mut ChaCha8Rng) -> usize {
        let normal: f64 = StandardNormal.sample(random);
        (self.median as f64 * (self.sigma * normal).exp()).round().max(1.0) as usize
    }
}

impl RequestLength {
    /// Tokens of the whole sequence.
    pub(crate) fn tokens(self) -> usize {
        self.prompt.saturating_add(self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(keys: &str, folder: &Path) -> Result<ServeScript, String> {
        toml::from_str::<Serve>(keys).unwrap().script(folder)
    }

    #[test]
    fn numbers_that_make_no_sense_are_refused_with_what_would_be_right() {
        let script = |keys: &str| script(keys, Path::new("/nowhere"));
        assert_eq!(script("").unwrap().requests(), 64);
        for (keys, expected) in [
            ("requests = 0", "`requests` is 0: it must be at least 1"),
            ("requests = 1000001", "`requests` is 1000001: it must be 1000000 at most"),
            ("prompt_median = 0", "`prompt_median` is 0: it must be at least 1"),
            ("output_sigma = -0.5", "`output_sigma` is -0.5: it must be 0 to 3"),
            ("prompt_sigma = nan", "`prompt_sigma` is NaN: it must be 0 to 3"),
            ("max_tokens = 0", "`max_tokens` is 0: it must be at least 1"),
            ("max_tokens = 300", "`prompt_median` 256 and `output_median` 64 are 320 tokens together, and `max_tokens` is 300"),
            ("memory = '64 MB'", "`memory = \"64 MB\"` is not a size: a number with a unit: KiB, MiB, GiB or TiB"),
            ("trace = 'a.csv'\nrequests = 3", "`requests` is about lengths that are drawn, and `trace` names a file"),
            ("trace = 'a.csv'", "`trace`: cannot read `a.csv`: "),
        ] {
            let error = script(keys).unwrap_err();
            assert!(error.starts_with(expected), "{keys}: {error}");
        }
    }

    #[test]
    fn numbers_that_are_too_large_stay_numbers() {
        let huge = usize::MAX - 1;
        let lengths = RequestLengths::Traced(vec![RequestLength { prompt: huge, output: huge }; 3]);
        let load = ServeScript { lengths, memory: 1, max_tokens: huge }.load();
        assert_eq!((load.prompt_tokens, load.depth, load.sequences), (usize::MAX, usize::MAX / 3, 3));
        let keys = format!("requests = 1000000\nprompt_median = {0}\nmax_tokens = {0}\noutput_median = 1", i64::MAX);
        assert!(script(&keys, Path::new("/nowhere")).unwrap_err().contains("tokens together"));
        let keys = format!("requests = 1000000\nprompt_median = {}\nmax_tokens = {}", i64::MAX - 64, i64::MAX);
        assert_eq!(script(&keys, Path::new("/nowhere")).unwrap().load().prompt_tokens, usize::MAX);
    }

    #[test]
    fn drawn_lengths_are_log_normal_keep_to_the_most_and_follow_the_seed() {
        let script = script("requests = 4000\nmax_tokens = 4000", Path::new("/nowhere")).unwrap();
        let requests = script.drawn(7);
        assert_eq!((requests.len(), &requests), (4000, &script.drawn(7)));
        assert_ne!(requests, script.drawn(8));
        let mut prompts: Vec<usize> = requests.iter().map(|request| request.prompt).collect();
        prompts.sort_unstable();
        // The median, and a standard deviation of the logarithm above it.
        assert!((240..272).contains(&prompts[2000]), "{}", prompts[2000]);
        assert!((430..505).contains(&prompts[3365]), "{}", prompts[3365]);
        let tight = ServeScript { max_tokens: 320, ..script };
        assert!(tight.drawn(7).iter().all(|request| request.tokens() <= 320 && request.prompt > 0 && request.output > 0));
    }

    #[test]
    fn a_trace_is_read_by_its_columns_and_errors_name_the_line() {
        let folder = tempfile::tempdir().unwrap();
        let traced = |text: &str| {
            std::fs::write(folder.path().join("trace.csv"), text).unwrap();
            script("trace = 'trace.csv'", folder.path())
        };
        let lengths = traced("time,output_tokens,prompt_tokens\n0.5, 7 ,120\n1.5,1,3\n").unwrap().lengths;
        let request = |prompt, output| RequestLength { prompt, output };
        assert_eq!(lengths, RequestLengths::Traced(vec![request(120, 7), request(3, 1)]));
        for (text, expected) in [
            ("prompt_tokens,prompt_tokens,output_tokens\n1,2,3\n", " has the column `prompt_tokens` twice"),
            ("prompt_tokens,outputs\n1,2\n", " has no column `output_tokens`; its columns are prompt_tokens, outputs"),
            ("prompt_tokens,output_tokens\n5,6\n-4,2\n", ", line 3: `prompt_tokens` is -4: a request has at least 1 of them"),
            ("prompt_tokens,output_tokens\n5,0\n", ", line 2: `output_tokens` is 0: a request has at least 1 of them"),
            ("prompt_tokens,output_tokens\nmany,2\n", ", line 2: `prompt_tokens` is \"many\", which is no whole number"),
            ("prompt_tokens,output_tokens\n1.5,2\n", ", line 2: `prompt_tokens` is \"1.5\", which is no whole number"),
            (
                "prompt_tokens,output_tokens\n1,2\n1\n",
                " cannot be read: CSV error: record 2 (line: 3, byte: 32): found record with 1 fields",
            ),
            ("prompt_tokens,output_tokens\n", " has no request in it"),
        ] {
            let error = traced(text).unwrap_err();
            assert!(error.starts_with(&format!("`trace`: `trace.csv`{expected}")), "{error}");
        }
    }
}
