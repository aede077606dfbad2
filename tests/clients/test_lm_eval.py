"""lm-eval's `local-completions` model on tasks of ours, held against what transformers computes."""

import json
import os
import pathlib

import pytest

from ridge_process import MODEL

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = json.loads((HERE / "tasks" / "smollm2.golden.json").read_text())
# The data is in the repository, and nothing is fetched. Set before lm-eval is imported.
os.environ.update(HF_DATASETS_OFFLINE="1", HF_HUB_OFFLINE="1")


@pytest.fixture(scope="module")
def results(start_server, tmp_path_factory):
    os.environ["HF_HOME"] = str(tmp_path_factory.mktemp("datasets"))
    import lm_eval
    from lm_eval.tasks import TaskManager

    server = start_server("--context", "512", "--precision", "full")
    os.chdir(HERE)  # the tasks name their data from here
    return lm_eval.simple_evaluate(
        model="local-completions",
        model_args={
            "model": MODEL,
            "base_url": server.url + "/v1/completions",
            "tokenizer_backend": "remote",
            "num_concurrent": 2,
            "max_length": 512,
            "max_retries": 1,
        },
        tasks=["ridge_facts", "ridge_series"],
        task_manager=TaskManager(include_path=str(HERE / "tasks"), include_defaults=False),
        log_samples=True,
        bootstrap_iters=0,
    )


def samples_of(results, task):
    return sorted(results["samples"][task], key=lambda sample: sample["doc_id"])


def test_scores_endings_as_transformers_does(results):
    score = results["results"]["ridge_facts"]["acc,none"]
    print(f"\nridge_facts: acc {score}, transformers {GOLDEN['facts']['acc']}")
    samples = samples_of(results, "ridge_facts")
    ours = [[float(response[0][0]) for response in sample["resps"]] for sample in samples]
    apart = [abs(a - b) for row, other in zip(ours, GOLDEN["facts"]["logprobs"], strict=True) for a, b in zip(row, other, strict=True)]  # fmt: skip
    print(f"log-likelihoods: {len(apart)}, at most {max(apart):.4f} from transformers'")
    assert max(apart) < 0.05
    assert score == pytest.approx(GOLDEN["facts"]["acc"])


def test_continues_series_as_transformers_does(results):
    score = results["results"]["ridge_series"]["exact_match,none"]
    print(f"\nridge_series: exact_match {score}, transformers {GOLDEN['series']['exact_match']}")
    samples = samples_of(results, "ridge_series")
    assert [sample["resps"][0][0] for sample in samples] == GOLDEN["series"]["texts"]
    assert score == pytest.approx(GOLDEN["series"]["exact_match"])
