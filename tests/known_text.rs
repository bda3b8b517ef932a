//! A greedy text that another program wrote, and the logits that it computed on the way.

use kv_model::{Decoder, Fresh, Sequence, StepInput, argmax};
use serde::Deserialize;

/// What is known of one text.
pub(crate) struct KnownText<'a> {
    pub(crate) prompt: &'a [u32],
    pub(crate) generated: &'a [u32],
    pub(crate) logits: &'a [Logits],
}

/// The logits after the last token of a sequence.
#[derive(Deserialize)]
pub(crate) struct Logits {
    /// Tokens of the sequence.
    tokens: usize,
    values: Vec<f32>,
}

impl KnownText<'_> {
    /// Lets a decoder write the text through a strategy, with the prompt in steps of `chunk` tokens. `what` names the case.
    pub(crate) fn check(&self, decoder: &Decoder, (id, config): (&str, &str), chunk: usize, what: &str) {
        let config = toml::from_str(config).unwrap();
        let mut cache = runner::builtin().get(id).unwrap().build(&config, &decoder.config().geometry).unwrap();
        let mut sequences = [Sequence::open(cache.as_mut()).unwrap()];
        let mut logits = decoder.prefill(cache.as_mut(), &mut sequences, &[self.prompt.to_vec()], chunk).unwrap().remove(0);
        let [sequence] = &mut sequences;
        let what = format!("{what}, {id} {config}");
        self.compare(sequence.history().len(), &logits, &what);
        for (index, token) in self.generated.iter().enumerate() {
            assert_eq!(argmax(&logits), *token, "{what}: token {index} after {:?}", self.prompt);
            logits = decoder.step(cache.as_mut(), &mut [StepInput { sequence, fresh: Fresh::Tokens(&[*token]) }]).unwrap().remove(0);
            self.compare(sequence.history().len(), &logits, &what);
        }
    }

    /// Compares the logits after so many tokens, if they are known.
    fn compare(&self, tokens: usize, logits: &[f32], what: &str) {
        for known in self.logits.iter().filter(|known| known.tokens == tokens) {
            assert_eq!(logits.len(), known.values.len());
            let worst = logits.iter().zip(&known.values).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(worst < 1e-4, "{what}, after {tokens} tokens: logits differ by {worst}");
        }
    }
}
