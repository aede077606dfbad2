"""Makes the tokenizer.json files of tests/goldens/tokenizer: the small vocabularies there as Hugging Face's
`tokenizers` saves them, and of each kind of pre-tokenizer what differs. The ids are those of make.py.

    venv/bin/python tools/tokenizer_goldens/make_files.py
"""

import json
import lzma
import pathlib
import tempfile

import gguf

import pipelines

OUT = pathlib.Path(__file__).resolve().parents[2] / "tests" / "goldens" / "tokenizer"


def read(name):
    with tempfile.TemporaryDirectory() as folder:
        plain = pathlib.Path(folder) / "vocab.gguf"
        plain.write_bytes(lzma.decompress((OUT / f"{name}.vocab.gguf.xz").read_bytes()))
        return pipelines.Vocabulary.read(gguf.GGUFReader(plain))


def pack(name, text):
    path = OUT / f"{name}.tokenizer.json.xz"
    path.write_bytes(lzma.compress(text.encode(), preset=9))
    print(path.name, path.stat().st_size)


def main():
    small = read("small-bpe")
    kinds = {}
    for kind in pipelines.KINDS:
        saved = json.loads(pipelines.byte_level(small, kind).to_str())
        kinds[kind] = {
            "normalizer": saved["normalizer"],
            "pre_tokenizer": saved["pre_tokenizer"],
            "ignore_merges": saved["model"]["ignore_merges"],
        }
    pack("small-bpe", pipelines.byte_level(small, "gpt-2").to_str())
    (OUT / "pre-tokenizers.json").write_text(json.dumps(kinds, ensure_ascii=True, indent=1) + "\n")
    pack("small-spm", pipelines.sentencepiece(read("small-spm")).to_str())


if __name__ == "__main__":
    main()
