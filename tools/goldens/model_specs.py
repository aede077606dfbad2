"""The tiny models of tests/goldens that make_models.py writes."""

from dataclasses import dataclass, field, replace

from gguf import GGMLQuantizationType as Type
from gguf import LlamaFileType as FileType

import reference

LLAMA3_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    # Far below the real 8192, so that a few dozen positions meet all three regions of the formula.
    "original_max_position_embeddings": 64,
}
YARN_SCALING = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}


@dataclass(frozen=True)
class Spec:
    """One tiny model: its shape, and the type of each weight by role."""

    name: str
    file_type: FileType
    types: dict[str, Type | tuple[Type, ...]]  # by role; "" is for all others; a tuple has one a layer
    family: str = "llama"
    pre: str = "smollm"
    vocabulary: int = 320
    hidden: int = 64
    feed_forward: int = 96
    layers: int = 2
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    tied: bool = True
    theta: float = 10000.0
    context: int = 128
    scaling: dict = field(default_factory=dict)
    tokens: int = 24
    experts: int = 0  # 0: dense
    experts_used: int = 0
    expert_feed_forward: int = 0
    shared_experts: int = 0
    dense_layers: int = 0
    router: dict = field(default_factory=dict)  # DeepSeek's keys of the router, by the ends of their names
    query_rank: int = 0  # of latent attention; 0: queries are one linear
    rank: int = 0  # 0: attention is not latent
    nope_dim: int = 0
    rope_dim: int = 0
    value_dim: int = 0
    splits_kv_b: bool = True  # into attn_k_b and attn_v_b, as files of today
    guessing_layers: int = 0  # for multi-token prediction, behind the others
    shares_guessing: bool = False  # which take embedding and head of the model
    window: int = 0  # of Gemma 3 and gpt-oss
    seed: str = ""  # else the name
    # Tokens are such that no router's choice is closer (reference.choice_margins); 0: any.
    choice_margin: float = 0.0

    @property
    def has_qk_norm(self) -> bool:
        return self.family.startswith(("qwen3", "gemma3"))

    @property
    def has_qkv_bias(self) -> bool:
        return self.family in ("qwen2", "gpt-oss")

    def type_of(self, role: str, layer: int = 0) -> Type:
        kind = self.types.get(role, self.types[""])
        return kind[layer] if isinstance(kind, tuple) else kind


def plain_llama(name: str, kind: Type, file_type: FileType) -> Spec:
    return Spec(name, file_type, {"": kind}, hidden=128, feed_forward=96, head_dim=32)


def every_other_type() -> dict:
    """Types by layer such that each of the five kinds meets at least two roles."""
    kinds = (Type.Q2_K, Type.Q3_K, Type.Q5_K, Type.IQ4_NL, Type.IQ4_XS)
    roles = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    types = {role: (kinds[i % 5], kinds[(i + 2) % 5]) for i, role in enumerate(roles)}
    return types | {"": Type.Q6_K}


# What a choice of experts is clear by (Spec.choice_margin), some four times what mixed precision moves it by at
# most: docs/adr/0033. Sigmoids of routers lie closer than logits.
CLEAR_SCORE = 0.03
CLEAR_LOGIT = 0.1

# Every branch of V3: ranks of queries, groups of experts, a bias that steers the choice, YaRN with scores
# that grow.
DEEPSEEK_V3 = Spec(
    "deepseek-v3-f32",
    FileType.ALL_F32,
    {"": Type.F32},
    family="deepseek2",
    pre="qwen2",
    tied=False,
    layers=3,
    heads=3,
    scaling=YARN_SCALING | {"mscale": 1.0, "mscale_all_dim": 1.0},
    tokens=40,
    experts=12,
    experts_used=3,
    expert_feed_forward=32,
    shared_experts=1,
    dense_layers=1,
    router={
        "expert_gating_func": reference.SIGMOID,
        "expert_weights_norm": True,
        "expert_weights_scale": 2.5,
        "expert_group_count": 4,
        "expert_group_used_count": 2,
    },
    query_rank=32,
    rank=64,
    nope_dim=32,
    rope_dim=16,
    value_dim=32,
    seed="deepseek-v3-f32",
)

# Windows in turn with the whole context, sinks, YaRN with ends between two pairs, and biases everywhere.
GPT_OSS = Spec(
    "gpt-oss-bf16",
    FileType.MOSTLY_BF16,
    {"": Type.BF16},
    family="gpt-oss",
    pre="gpt-4o",
    tied=False,
    layers=3,
    heads=6,
    theta=150000.0,
    context=2048,
    scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512},
    tokens=40,
    experts=5,
    experts_used=2,
    expert_feed_forward=96,
    window=8,
)

SPECS = [
    plain_llama("llama-f32", Type.F32, FileType.ALL_F32),
    plain_llama("llama-f16", Type.F16, FileType.MOSTLY_F16),
    plain_llama("llama-bf16", Type.BF16, FileType.MOSTLY_BF16),
    plain_llama("llama-q8_0", Type.Q8_0, FileType.MOSTLY_Q8_0),
    plain_llama("llama-q4_0", Type.Q4_0, FileType.MOSTLY_Q4_0),
    plain_llama("llama-q4_1", Type.Q4_1, FileType.MOSTLY_Q4_1),
    plain_llama("llama-q5_0", Type.Q5_0, FileType.MOSTLY_Q5_0),
    plain_llama("llama-q5_1", Type.Q5_1, FileType.MOSTLY_Q5_1),
    Spec(
        "llama-rope-llama3",
        FileType.MOSTLY_F16,
        {"": Type.F16},
        pre="llama-bpe",
        tied=False,
        theta=500000.0,
        context=512,
        scaling=LLAMA3_SCALING,
        tokens=40,
    ),
    Spec("llama-head-dim", FileType.MOSTLY_F16, {"": Type.F16}, pre="llama-bpe", head_dim=48),
    Spec("qwen2-f32", FileType.ALL_F32, {"": Type.F32}, family="qwen2", pre="qwen2", tied=False, theta=1e6),
    Spec("qwen2-q8_0", FileType.MOSTLY_Q8_0, {"": Type.Q8_0}, family="qwen2", pre="qwen2", theta=1e6),
    Spec(
        "qwen2-yarn",
        FileType.MOSTLY_F16,
        {"": Type.F16},
        family="qwen2",
        pre="qwen2",
        head_dim=16,
        scaling=YARN_SCALING,
        tokens=40,
    ),
    Spec("qwen3-f32", FileType.ALL_F32, {"": Type.F32}, family="qwen3", pre="qwen2", head_dim=24, theta=1e6),
    Spec(
        "qwen3-q8_0",
        FileType.MOSTLY_Q8_0,
        {"": Type.Q8_0},
        family="qwen3",
        pre="qwen2",
        head_dim=32,
        tied=False,
        theta=1e6,
        scaling=YARN_SCALING,
        tokens=40,
    ),
    Spec(
        "qwen3moe-f32",
        FileType.ALL_F32,
        {"": Type.F32},
        family="qwen3moe",
        pre="qwen2",
        tied=False,
        theta=1e6,
        experts=7,
        experts_used=3,
        expert_feed_forward=40,
    ),
    Spec(
        "qwen3moe-q4_k_m",
        FileType.MOSTLY_Q4_K_M,
        {"": Type.Q4_K, "attn_v": Type.Q6_K, "ffn_down_exps": Type.Q6_K, "ffn_gate_inp": Type.F32},
        family="qwen3moe",
        pre="qwen2",
        hidden=256,
        layers=1,
        head_dim=64,
        theta=1e6,
        experts=4,
        experts_used=2,
        expert_feed_forward=256,
        choice_margin=CLEAR_LOGIT,
    ),
    # Seven layers, of which the sixth sees all.
    Spec(
        "gemma3-f32",
        FileType.ALL_F32,
        {"": Type.F32},
        family="gemma3",
        pre="qwen2",
        hidden=48,
        feed_forward=64,
        layers=7,
        heads=2,
        kv_heads=1,
        theta=1e6,
        window=8,
        tokens=40,
    ),
    Spec(
        "gemma3-q8_0",
        FileType.MOSTLY_Q8_0,
        {"": Type.Q8_0},
        family="gemma3",
        pre="qwen2",
        feed_forward=64,
        layers=7,
        kv_heads=1,
        theta=1e6,
        scaling={"rope_type": "linear", "factor": 8.0},
        window=8,
        tokens=40,
    ),
    Spec(
        "deepseek-v2-f32",
        FileType.ALL_F32,
        {"": Type.F32},
        family="deepseek2",
        pre="qwen2",
        tied=False,
        experts=6,
        experts_used=2,
        expert_feed_forward=24,
        shared_experts=2,
        dense_layers=1,
        rank=40,
        nope_dim=12,
        rope_dim=8,
        value_dim=20,
    ),
    Spec(
        "deepseek-v2-groups-f32",
        FileType.ALL_F32,
        {"": Type.F32},
        family="deepseek2",
        pre="qwen2",
        tied=False,
        hidden=48,
        experts=8,
        experts_used=3,
        expert_feed_forward=24,
        shared_experts=2,
        dense_layers=1,
        router={"expert_weights_scale": 16.0, "expert_group_count": 4, "expert_group_used_count": 2},
        query_rank=24,
        rank=40,
        nope_dim=12,
        rope_dim=8,
        value_dim=20,
    ),
    DEEPSEEK_V3,
    replace(DEEPSEEK_V3, name="deepseek-v3-kv_b-f32", splits_kv_b=False),
    replace(
        DEEPSEEK_V3,
        name="deepseek-v3-q8_0",
        file_type=FileType.MOSTLY_Q8_0,
        types={"": Type.Q8_0, "ffn_gate_inp": Type.F32},
        seed="",
        choice_margin=CLEAR_SCORE,
    ),
    replace(DEEPSEEK_V3, name="deepseek-v3-mtp-f32", layers=2, guessing_layers=1, seed=""),
    replace(
        DEEPSEEK_V3,
        name="deepseek-v3-mtp-q8_0",
        file_type=FileType.MOSTLY_Q8_0,
        types={"": Type.Q8_0, "ffn_gate_inp": Type.F32},
        layers=2,
        guessing_layers=1,
        shares_guessing=True,
        splits_kv_b=False,
        seed="",
        choice_margin=CLEAR_SCORE,
    ),
    Spec(
        "mixtral-q8_0",
        FileType.MOSTLY_Q8_0,
        {"": Type.Q8_0, "ffn_gate_inp": Type.F16},
        experts=4,
        experts_used=2,
        expert_feed_forward=96,
        choice_margin=CLEAR_LOGIT,
    ),
    GPT_OSS,
    replace(
        GPT_OSS,
        name="gpt-oss-mxfp4",
        file_type=FileType.MOSTLY_MXFP4_MOE,
        types={"": Type.Q8_0, "ffn_gate_inp": Type.F32}
        | {f"ffn_{role}_exps": Type.MXFP4 for role in ("gate", "up", "down")},
        choice_margin=CLEAR_LOGIT,
    ),
    Spec(
        "llama-q4_k_m",
        FileType.MOSTLY_Q4_K_M,
        {"": Type.Q4_K, "attn_v": Type.Q6_K, "ffn_down": Type.Q6_K, "token_embd": Type.Q6_K},
        hidden=256,
        feed_forward=256,
        head_dim=64,
    ),
    Spec(
        "llama-k-mix",
        FileType.MOSTLY_Q2_K,
        every_other_type(),
        hidden=256,
        feed_forward=256,
        head_dim=64,
    ),
]
