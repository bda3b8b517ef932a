use kv_model::*;
use kv_quality::*;
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let model = if args[1] == "small" {
        gguf::load(&mut std::io::Cursor::new(SMALL_GGUF), LoadOptions::default()).unwrap()
    } else {
        gguf::load(&mut std::fs::File::open(&args[1]).unwrap(), LoadOptions::default()).unwrap()
    };
    let text = if args[2] == "held" { HELD_OUT_TEXT.to_owned() } else { std::fs::read_to_string(&args[2]).unwrap() };
    let lengths: Vec<usize> = args[3].split(',').map(|l| l.parse().unwrap()).collect();
    let lines = filler(&text);
    let tok = |before: &str, text: &str| model.tokenizer.continuation(before, text);
    let vocabulary = model.decoder.config().vocabulary;
    for task in [RecallTask::Needle, RecallTask::Lookup] {
        for stream in 0..2u64 {
            let t0 = std::time::Instant::now();
            let longest = *lengths.iter().max().unwrap();
            let offset = lines.len() / 2 * stream as usize;
            let text = match task {
                RecallTask::Needle => {
                    RecallText::needle((&lengths, 16), lines.iter().map(String::as_str).cycle().skip(offset), 7, stream, tok).unwrap()
                }
                RecallTask::Lookup => RecallText::lookup(longest, 7, 10 + stream, tok).unwrap(),
            };
            println!("{task:?} {stream}: {} tokens, built in {:?}", text.tokens().len(), t0.elapsed());

            let mut cache =
                runner::builtin().get("contiguous").unwrap().build(&Default::default(), &model.decoder.config().geometry).unwrap();
            let mut seq = [Sequence::open(cache.as_mut()).unwrap()];
            let mut fed = 0;
            for l in &lengths {
                let p = text.prompt(*l, 16);
                let t0 = std::time::Instant::now();
                model.decoder.prefill(cache.as_mut(), &mut seq, &[text.tokens()[fed..p.tokens].to_vec()], 512).unwrap();
                fed = p.tokens;
                let tp = t0.elapsed();
                let t0 = std::time::Instant::now();
                let mut marks = String::new();
                for q in &p.questions {
                    let mut inputs = [StepInput { sequence: &mut seq[0], fresh: Fresh::Tokens(q.fed()) }];
                    let logits = model.decoder.step_each(cache.as_mut(), &mut inputs).unwrap();
                    marks.push(if q.is_answered(&logits[0], vocabulary) { '1' } else { '.' });
                    seq[0].truncate(cache.as_mut(), fed).unwrap();
                }
                println!(
                    "  {l}: prompt {} questions {} tokens each {:?} prefill {tp:?} asked {:?}  {marks}",
                    p.tokens,
                    p.questions.len(),
                    p.questions.first().map(|q| (q.tokens.len(), q.answer)),
                    t0.elapsed()
                );
            }
        }
    }
}
