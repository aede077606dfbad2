"""DeepSeek-V3's layer for multi-token prediction, written out after its report (arXiv 2412.19437, section 2.2).

transformers leaves these tensors out, so the formula is here, over transformers' own decoder layer:
h' = Layer(W [norm(E(next token)); norm(h)]), where h is the model's last hidden state, normed, and
logits = head(norm(h')), of the token after the next.
"""

import gguf
import numpy as np
import torch
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3DecoderLayer, DeepseekV3RMSNorm

import reference


class Predictor(torch.nn.Module):
    """The layer behind the last of `model`, whose embedding, norm and head stand for those that the file lacks."""

    def __init__(self, path, model, dtype=torch.float32):
        super().__init__()
        config = model.config
        self.model = model
        self.token_norm = DeepseekV3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.hidden_norm = DeepseekV3RMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.join = torch.nn.Linear(2 * config.hidden_size, config.hidden_size, bias=False)
        self.layer = DeepseekV3DecoderLayer(config, config.num_hidden_layers)
        weights = reference.guessing_weights_of(gguf.GGUFReader(path), config)
        names = {"enorm.": "token_norm.", "hnorm.": "hidden_norm.", "eh_proj.": "join."}
        own, others = {}, {}
        for name, values in weights.items():
            start = name.split(".")[0] + "."
            if start in ("embed_tokens.", "shared_head."):
                others[name] = values.to(dtype)
            else:
                own[name.replace(start, names[start]) if start in names else "layer." + name] = values
        missing, unexpected = self.load_state_dict(own, strict=False)
        missing = [name for name in missing if not name.startswith("model.")]
        if missing or unexpected:
            raise ValueError(f"{path}: missing {missing}, unexpected {unexpected}")
        self.embedding = others.get("embed_tokens.weight", model.model.embed_tokens.weight.detach())
        self.norm = others.get("shared_head.norm.weight", model.model.norm.weight.detach())
        self.head = others.get("shared_head.head.weight", model.lm_head.weight.detach())
        reference.weigh_experts_in(self.layer, dtype)
        self.to(dtype).eval()

    def logits(self, tokens) -> np.ndarray:
        """[n - 1, vocabulary]: row i is of token i + 2, from the tokens up to i + 1."""
        with torch.inference_mode():
            ids = torch.tensor([list(map(int, tokens))])
            hidden = self.model.model(ids, use_cache=False).last_hidden_state[:, :-1]
            return self.after(hidden, ids[:, 1:])[0].numpy()

    def after(self, hidden, following):
        count = following.shape[1]
        token = self.token_norm(torch.nn.functional.embedding(following, self.embedding))
        x = self.join(torch.cat([token, self.hidden_norm(hidden)], dim=-1))
        positions = torch.arange(count)[None]
        mask = torch.full((count, count), -torch.inf, dtype=x.dtype).triu(1)[None, None]
        x = self.layer(
            x,
            attention_mask=mask,
            position_ids=positions,
            position_embeddings=self.model.model.rotary_emb(x, positions),
        )
        normed = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.model.config.rms_norm_eps)
        return normed * self.norm @ self.head.T
