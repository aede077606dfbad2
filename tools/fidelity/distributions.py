"""Next-token distributions from whom they are asked, and how far two of them lie apart."""

import json
import subprocess
from dataclasses import dataclass

import numpy as np


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """[n, vocabulary] natural logarithms of probability, worked out in float64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    shifted -= np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return shifted


@dataclass
class Divergence:
    """KL(P || Q) in nats at each position, and where both find the same token likeliest."""

    kl: np.ndarray  # [positions]
    agree: np.ndarray  # [positions]

    @staticmethod
    def between(p: np.ndarray, q: np.ndarray) -> "Divergence":
        """Of two [n, vocabulary] arrays of logprobs."""
        kl = (np.exp(p) * (p - q)).sum(axis=-1)
        return Divergence(kl, p.argmax(axis=-1) == q.argmax(axis=-1))

    @staticmethod
    def joined(parts: list["Divergence"]) -> "Divergence":
        return Divergence(np.concatenate([d.kl for d in parts]), np.concatenate([d.agree for d in parts]))

    def summary(self) -> dict:
        return {
            "mean_kl": float(self.kl.mean()),
            "p99_kl": float(np.quantile(self.kl, 0.99)),
            "top1_agreement": float(self.agree.mean()),
            "positions": len(self.kl),
        }


class Ridge:
    """`ridge logits`, asked for the whole vocabulary."""

    def __init__(self, program: str, model: str, vocabulary: int, options: list[str]):
        self.command = [program, "logits", model, "--top", str(vocabulary), *options]
        self.vocabulary = vocabulary

    def logprobs(self, tokens: list[int]) -> np.ndarray:
        """[n, vocabulary], from one run of the program."""
        command = [*self.command, "--tokens", ",".join(map(str, tokens))]
        rows = np.full((len(tokens), self.vocabulary), np.nan)
        seen = []
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as run:
            for line in run.stdout:
                answer = json.loads(line)
                seen.append(answer["position"])
                rows[answer["position"], answer["ids"]] = answer["logprobs"]
        if run.returncode != 0:
            raise RuntimeError(f"{' '.join(command[:3])} … ended with status {run.returncode}")
        if seen != list(range(len(tokens))) or np.isnan(rows).any():
            raise RuntimeError(f"ridge logits left out positions or ids: {len(seen)} of {len(tokens)} lines")
        return rows


class LlamaCpp:
    """The peer: llama.cpp by its Python binding, with its own defaults but for the context's size."""

    def __init__(self, model: str, context: int, threads: int):
        import llama_cpp

        self.llama = llama_cpp.Llama(
            model_path=model,
            n_ctx=context,
            n_batch=context,
            n_threads=threads,
            n_threads_batch=threads,
            logits_all=True,
            verbose=False,
        )

    def logits(self, tokens: list[int]) -> np.ndarray:
        """[n, vocabulary]"""
        self.llama.reset()
        self.llama.eval(tokens)
        return np.array(self.llama.scores[: len(tokens)])

    def logprobs(self, tokens: list[int]) -> np.ndarray:
        return log_softmax(self.logits(tokens))
