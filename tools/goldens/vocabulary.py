"""Small byte-level BPE vocabularies in the four kinds of pre-tokenisation that the goldens name."""

import json
from dataclasses import dataclass

import tokenizers
from tokenizers import Regex, decoders, models, normalizers, pre_tokenizers, trainers

# Split patterns as the models' own tokenizer.json files give them.
QWEN2_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN2_LIKE = ("qwen2", "deepseek-r1-qwen")
LLAMA3_SPLIT = QWEN2_SPLIT.replace(r"|\p{N}| ?", r"|\p{N}{1,3}| ?")

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
GPT4O_SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    + CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    + CONTRACTIONS
    + r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

# As little of harmony as a conversation needs.
HARMONY_TEMPLATE = (
    "<|start|>system<|message|>Reasoning: {{ reasoning_effort or 'medium' }}<|end|>"
    "{% if tools %}<|start|>developer<|message|>{% for tool in tools %}"
    "{{ tool.function.name }}: {{ tool.function.parameters | tojson }}\n"
    "{% endfor %}<|end|>{% endif %}"
    "{% for message in messages %}"
    "{% if message.role == 'tool' %}"
    "<|start|>functions.{{ message.name }} to=assistant<|channel|>commentary<|message|>{{ message.content }}<|end|>"
    "{% elif message.tool_calls %}{% for call in message.tool_calls %}"
    "<|start|>assistant<|channel|>commentary to=functions.{{ call.function.name }} <|constrain|>json<|message|>"
    "{{ call.function.arguments | tojson }}<|call|>{% endfor %}"
    "{% elif message.role == 'assistant' %}"
    "<|start|>assistant<|channel|>final<|message|>{{ message.content }}<|end|>"
    "{% else %}<|start|>{{ message.role }}<|message|>{{ message.content }}<|end|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|start|>assistant{% endif %}"
)

TRAINING_TEXT = """
The path along the ridge climbs slowly at first, then the trees thin out and the whole valley opens below.
We walked for three hours before the rain came, and the river that had been a thread of silver was a road
of brown water by the time we reached the bridge. There were 12 of us in 1987, and 345 the year after.
What is the answer to the question? The answer is that there is no single answer: there are many of them,
and each one of the people who asked has found another. She said it wasn't there; they'll say that it's over.
def total(values):
    result = 0
    for value in values:
        if value > 0:
            result += value
    return result
int main() { return 0; }  // nothing happens here, and nothing should.
Der Weg am Grat entlang ist schmal, aber schön. Le chemin est étroit. 山の道は細い。Дорога вдоль хребта.
The model reads the tokens one by one; the tokens are the letters and the words; the words are the story.
"""


@dataclass(frozen=True)
class Kind:
    """How one value of `tokenizer.ggml.pre` splits text, and where its control tokens stand."""

    pre: str
    specials: tuple[str, ...]
    specials_first: bool
    bos: str
    eos: str
    add_bos: bool


KINDS = {
    "smollm": Kind(
        "smollm", ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), True, "<|im_start|>", "<|im_end|>", False
    ),
    "qwen2": Kind(
        "qwen2", ("<|endoftext|>", "<|im_start|>", "<|im_end|>"), False, "<|endoftext|>", "<|im_end|>", False
    ),
    "llama-bpe": Kind(
        "llama-bpe",
        ("<|begin_of_text|>", "<|end_of_text|>", "<|im_start|>", "<|im_end|>"),
        False,
        "<|begin_of_text|>",
        "<|im_end|>",
        True,
    ),
    # gpt-oss: o200k with the tokens of harmony, as far as the tests need them.
    "gpt-4o": Kind(
        "gpt-4o",
        ("<|startoftext|>", "<|return|>", "<|constrain|>", "<|channel|>", "<|start|>", "<|end|>", "<|message|>", "<|call|>"),
        False,
        "<|startoftext|>",
        "<|return|>",
        False,
    ),
}


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of its tokenizer, and the tokenizer itself to encode the golden's text."""

    kind: Kind
    tokens: list[str]
    types: list[int]  # GGUF's: 1 normal, 3 control
    merges: list[str]
    tokenizer: tokenizers.Tokenizer

    def id(self, token: str) -> int:
        return self.tokens.index(token)

    def encode(self, text: str) -> list[int]:
        ids = self.tokenizer.encode(text, add_special_tokens=False).ids
        return [self.id(self.kind.bos)] + ids if self.kind.add_bos else ids


def chat_template(pre: str) -> str:
    return HARMONY_TEMPLATE if pre == "gpt-4o" else CHAT_TEMPLATE


def splitter(pre: str):
    if pre not in ("smollm", "llama-bpe", "gpt-4o", *QWEN2_LIKE):
        raise ValueError(f"tokenizer.ggml.pre is {pre!r}, which is not known here")
    if pre == "smollm":
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    split = {"llama-bpe": LLAMA3_SPLIT, "gpt-4o": GPT4O_SPLIT}.get(pre, QWEN2_SPLIT)
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )


def bare_tokenizer(pre: str, model: models.BPE) -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = splitter(pre)
    tokenizer.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def from_gguf(meta) -> tokenizers.Tokenizer:
    """The tokenizer that a file's metadata (`reference.Metadata`) describes."""
    tokens = meta.get("tokenizer.ggml.tokens")
    merges = [tuple(pair.split(" ")) for pair in meta.get("tokenizer.ggml.merges")]
    model = models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges)
    tokenizer = bare_tokenizer(meta.get("tokenizer.ggml.pre"), model)
    types = meta.get("tokenizer.ggml.token_type")
    tokenizer.add_special_tokens([token for token, kind in zip(tokens, types) if kind == 3])
    return tokenizer


def train(pre: str, size: int) -> Vocabulary:
    """A vocabulary of `size` tokens: the 256 bytes, merges of `TRAINING_TEXT`, and the control tokens."""
    kind = KINDS[pre]
    trained = bare_tokenizer(pre, models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(kind.specials),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    trained.train_from_iterator([TRAINING_TEXT], trainer)
    state = json.loads(trained.to_str())["model"]
    pieces = sorted(state["vocab"], key=state["vocab"].get)
    specials = list(kind.specials)
    tokens = specials + pieces if kind.specials_first else pieces + specials
    if len(tokens) != size:
        raise ValueError(f"{pre}: {len(tokens)} tokens where {size} were wanted; the text is too short")
    merges = [tuple(pair) for pair in state["merges"]]
    model = models.BPE(
        vocab={t: i for i, t in enumerate(tokens)}, merges=merges, ignore_merges=pre == "gpt-4o"
    )
    tokenizer = bare_tokenizer(pre, model)
    tokenizer.add_special_tokens(specials)
    return Vocabulary(
        kind=kind,
        tokens=tokens,
        types=[3 if token in specials else 1 for token in tokens],
        merges=[" ".join(pair) for pair in merges],
        tokenizer=tokenizer,
    )
