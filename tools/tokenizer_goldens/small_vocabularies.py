"""Small vocabularies, trained here on the golden texts and some source text of Python itself."""

import argparse
import inspect
import json
import lzma
import pathlib
import tempfile
import textwrap

import gguf
import sentencepiece as spm
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from pipelines import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, Vocabulary
from texts import TEXTS, UNTRAINED


def corpus():
    prose = [inspect.getsource(module) for module in (argparse, textwrap, pathlib)]
    return [text for name, text in TEXTS if (name, text) not in UNTRAINED for _ in range(8)] + prose


def train_byte_level():
    """Merges that reach over every border that a pre-tokenizer may set (spaces, digits, punctuation,
    line ends), so that a wrong border shows in the ids."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"[\s\S]{1,12}"), behavior="isolated"),
         pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=4000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(corpus(), trainer)
    vocab = tokenizer.get_vocab()
    tokens = sorted(vocab, key=vocab.get)
    types = [NORMAL] * len(tokens)
    merges = [" ".join(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    # Whole words that no merge builds: only a vocabulary that ignores merges gives them.
    for word in ("\u0120Quick", "Zebra"):
        tokens.append(word)
        types.append(NORMAL)
    further = [("<|begin_of_text|>", CONTROL), ("<|endoftext|>", CONTROL), ("<|im_start|>", CONTROL),
               ("<|im_end|>", CONTROL), ("<think>", USER_DEFINED), ("</think>", USER_DEFINED),
               ("[PAD]", UNUSED)]
    bos = len(tokens)
    for text, kind in further:
        tokens.append(text)
        types.append(kind)
    return Vocabulary(tokens, types, merges, [], bos, bos + 1, None, True, "")


def train_sentencepiece():
    """A vocabulary as Llama 2's: BPE with byte fallback, digits apart, no normalisation."""
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "corpus.txt"
        source.write_text("\n".join(corpus()).replace("\0", ""), encoding="utf-8")
        prefix = str(pathlib.Path(folder) / "small")
        spm.SentencePieceTrainer.train(
            input=str(source), model_prefix=prefix, model_type="bpe", vocab_size=1600,
            character_coverage=0.99, byte_fallback=True, split_digits=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2,
        )
        processor = spm.SentencePieceProcessor(model_file=prefix + ".model")
    tokens, types, scores = [], [], []
    for index in range(processor.get_piece_size()):
        tokens.append(processor.id_to_piece(index))
        scores.append(processor.get_score(index))
        types.append(
            UNKNOWN if processor.is_unknown(index) else
            CONTROL if processor.is_control(index) else
            BYTE if processor.is_byte(index) else
            UNUSED if processor.is_unused(index) else NORMAL
        )
    vocabulary = Vocabulary(tokens, types, [], scores, processor.bos_id(), processor.eos_id(),
                            processor.unk_id(), True, "")
    return vocabulary, processor


def write_packed(path, vocabulary, model, pre):
    """A GGUF file with a vocabulary and no tensors, compressed."""
    with tempfile.TemporaryDirectory() as folder:
        plain = pathlib.Path(folder) / "vocab.gguf"
        writer = gguf.GGUFWriter(plain, "llama")
        writer.add_tokenizer_model(model)
        if pre:
            writer.add_tokenizer_pre(pre)
        writer.add_token_list(vocabulary.tokens)
        writer.add_token_types(vocabulary.types)
        if vocabulary.merges:
            writer.add_token_merges(vocabulary.merges)
        if vocabulary.scores:
            writer.add_token_scores(vocabulary.scores)
        writer.add_bos_token_id(vocabulary.bos)
        writer.add_eos_token_id(vocabulary.eos)
        if vocabulary.unknown is not None:
            writer.add_unk_token_id(vocabulary.unknown)
        writer.add_add_bos_token(vocabulary.add_bos)
        if vocabulary.template:
            writer.add_chat_template(vocabulary.template)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        path.write_bytes(lzma.compress(plain.read_bytes(), preset=9))
