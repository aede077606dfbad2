"""Tokenizers put together with the Python package `tokenizers`, as each model's tokenizer.json does."""

import dataclasses

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


@dataclasses.dataclass
class Vocabulary:
    tokens: list
    types: list
    merges: list
    scores: list
    bos: int
    eos: int
    unknown: int
    add_bos: bool
    template: str

    @staticmethod
    def read(reader):
        def value(key, default=None):
            field = reader.fields.get(key)
            return default if field is None else field.contents()

        return Vocabulary(
            tokens=value("tokenizer.ggml.tokens"),
            types=value("tokenizer.ggml.token_type"),
            merges=value("tokenizer.ggml.merges", []),
            scores=value("tokenizer.ggml.scores", []),
            bos=value("tokenizer.ggml.bos_token_id"),
            eos=value("tokenizer.ggml.eos_token_id"),
            unknown=value("tokenizer.ggml.unknown_token_id"),
            add_bos=value("tokenizer.ggml.add_bos_token", False),
            template=value("tokenizer.chat_template", ""),
        )

    def text(self, token):
        return self.tokens[token]

    def added(self):
        """What tokenizer.json lists under added_tokens."""
        return [
            AddedToken(text, special=kind != USER_DEFINED, normalized=False)
            for text, kind in zip(self.tokens, self.types)
            if kind in (UNKNOWN, CONTROL, USER_DEFINED)
        ]


CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
LLAMA3 = (
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
QWEN35 = (
    CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + "+%s|" + r"[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + "*%s"
CASED_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = CASED % (CONTRACTIONS + "?", CONTRACTIONS + "?") + r"|\p{N}{1,3}" + CASED_TAIL
TEKKEN = CASED % ("", "") + r"|\p{N}" + CASED_TAIL
DEEPSEEK_V3 = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Letters of cased scripts one by one, as tokenizer.json of DeepSeek LLM and DeepSeek-V2 lists them.
CASED_LETTERS = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿ\u01c4-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ"
    "Ὗ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳ"
    "Ꙁ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
PUNCTUATION = "[!-/:-~！-／：-～‘-‟　-。]"
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"


def split(expression):
    return pre_tokenizers.Split(Regex(expression), behavior="isolated")


def gpt2():
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)


def digits():
    return pre_tokenizers.Digits(individual_digits=True)


# pre kind → (steps before the byte level, composes, ignores merges)
KINDS = {
    "gpt-2": ([gpt2], False, False),
    "llama-bpe": ([lambda: split(LLAMA3)], False, True),
    "smaug-bpe": ([lambda: split(LLAMA3)], False, False),
    "qwen2": ([lambda: split(QWEN2)], True, False),
    "qwen35": ([lambda: split(QWEN35)], True, False),
    "gpt-4o": ([lambda: split(GPT4O)], False, True),
    "tekken": ([lambda: split(TEKKEN)], False, True),
    "smollm": ([digits, gpt2], False, False),
    "deepseek-llm": (
        [lambda: split("[\r\n]"), lambda: split(rf"\s?[{CASED_LETTERS}]+"), lambda: split(rf"\s?{PUNCTUATION}+"),
         lambda: split(r"\s+$"), lambda: split(CJK), digits], False, False),
    "deepseek-coder": (
        [lambda: split("[\r\n]"), lambda: split(r"\s?\p{L}+"), lambda: split(r"\s?\p{P}+"),
         lambda: split(CJK), digits], False, False),
    "deepseek-v3": (
        [lambda: split(r"\p{N}{1,3}"), lambda: split("[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"),
         lambda: split(DEEPSEEK_V3)], False, False),
}


def byte_level(vocabulary, kind):
    if kind == "deepseek-r1-qwen":
        kind = "qwen2"
    steps, composes, ignores_merges = KINDS[kind]
    steps = [step() for step in steps]
    if not any(isinstance(step, pre_tokenizers.ByteLevel) for step in steps):
        steps.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    model = models.BPE(
        vocab={text: index for index, text in enumerate(vocabulary.tokens)},
        merges=[tuple(merge.split(" ")) for merge in vocabulary.merges],
        ignore_merges=ignores_merges,
    )
    tokenizer = Tokenizer(model)
    if composes:
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_tokens(vocabulary.added())
    return tokenizer


def sentencepiece(vocabulary):
    """As transformers' LlamaConverter for a `legacy` tokenizer."""
    from transformers.convert_slow_tokenizer import generate_merges

    vocab = {text: index for index, text in enumerate(vocabulary.tokens)}
    scored = zip(vocabulary.tokens, vocabulary.scores, vocabulary.types)
    merges = generate_merges(vocab, {text: score for text, score, kind in scored if kind == NORMAL})
    tokenizer = Tokenizer(models.BPE(vocab, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
         decoders.Strip(content=" ", left=1)]
    )
    tokenizer.add_tokens(vocabulary.added())
    return tokenizer
