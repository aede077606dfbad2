"""`ridge profile`: the table, JSON, the timeline, and what it refuses."""

import json
import pathlib
import subprocess
import sys
import xml.etree.ElementTree

import pytest

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "goldens" / "qwen2-f32.gguf"
DRAW = pathlib.Path(__file__).resolve().parents[2] / "tools" / "timeline" / "draw.py"


@pytest.fixture
def profile(ridge):
    """Runs `ridge profile WORDS --json` and gives its answer."""

    def run(*words, returncode=0):
        result = ridge("profile", "--json", *words, timeout=600)
        assert result.returncode == returncode, result.stderr + result.stdout
        return json.loads(result.stdout)

    return run


def launches(step):
    return {kernel["kernel"]: kernel for kernel in step["kernels"]}


def test_each_kernel_of_a_step_is_counted(profile):
    answer = profile(str(GOLDEN), "--rows", "3", "--depth", "20", "--prompt-tokens", "40")
    decode, prefill = answer["steps"]
    assert answer["device"] == "ascend-twin:910B2"
    assert (decode["phase"], decode["sequences"], decode["tokens"], decode["depth_tokens"]) == ("decode", 3, 1, 20)
    assert (prefill["phase"], prefill["sequences"], prefill["tokens"], prefill["depth_tokens"]) == ("prefill", 1, 40, 0)
    for step in (decode, prefill):
        kernels = step["kernels"]
        assert step["launches"] == sum(kernel["launches"] for kernel in kernels)
        assert step["kernel_us"] == pytest.approx(sum(kernel["all_us"] for kernel in kernels))
        assert step["task_us"] == pytest.approx(step["launches"] * step["task_overhead_us"])
        assert sum(kernel["share"] for kernel in kernels) == pytest.approx(1)
        assert [kernel["all_us"] for kernel in kernels] == sorted((k["all_us"] for k in kernels), reverse=True)
        for kernel in kernels:
            assert kernel["all_us"] == pytest.approx(kernel["launches"] * kernel["each_us"])
            # Nothing is faster than its bytes, its products or its busiest pipe.
            assert kernel["each_us"] >= 0.999 * max(kernel["least_us"], *(p["busy_us"] for p in kernel["pipes"]))
        assert {"ridge_attention_f16", "ridge_linear_f16", "ridge_add_rms_norm_f32"} <= launches(step).keys()
    # More tokens are more products and no more weights.
    assert prefill["kernel_us"] > decode["kernel_us"]


def test_a_model_that_is_not_here_is_known_by_its_dimensions(profile):
    answer = profile("smollm2:135m", "--weights", "f16", "--rows", "1", "--depth", "64", "--prompt-tokens", "0")
    (step,) = answer["steps"]
    assert answer["weights"] == "F16"
    # All weights are read, the table of tokens as the head.
    read = sum(kernel["launches"] * kernel["hbm_bytes"] for kernel in step["kernels"])
    assert 2 * 134e6 < read < 2 * 150e6
    halves = profile("smollm2:135m", "--weights", "f16", "--prompt-tokens", "0", "--device", "ascend-twin:910B4")
    # Half the memory is half the bandwidth.
    assert halves["steps"][0]["kernel_us"] > 1.2 * step["kernel_us"]


@pytest.mark.parametrize(
    ("golden", "choices", "kernels"),
    [
        ("mixtral-q8_0", (6, 80), {"ridge_expert_linear_i8", "ridge_attention_f16"}),
        ("qwen3moe-f32", (9, 120), {"ridge_expert_linear_f16", "ridge_rms_norm_f32"}),
        ("deepseek-v3-q8_0", (9, 120), {"ridge_expert_linear_i8", "ridge_mla_attention_f16"}),
        ("gpt-oss-mxfp4", (6, 80), {"ridge_expert_linear_i8", "ridge_combine_experts_f32"}),
    ],
)
def test_experts_and_latents_are_counted_with_choices_spread_evenly(profile, tmp_path, golden, choices, kernels):
    trace = tmp_path / "timeline.json"
    answer = profile(
        str(GOLDEN.parent / f"{golden}.gguf"), "--rows", "3", "--depth", "20", "--prompt-tokens", "40", "--trace", str(trace)
    )
    assert answer["weight_bytes"] < answer["memory_bytes"]
    for step, wanted in zip(answer["steps"], choices, strict=True):
        assert step["expert_choices"] == wanted
        assert step["experts_with_work"] == min(answer["experts"], wanted)
        assert kernels | {"ridge_route_f32", "ridge_sort_experts"} <= launches(step).keys()
        assert step["host_ops"] == []
    names = {event["name"] for event in json.loads(trace.read_text())["traceEvents"]}
    assert kernels <= names


# Weights of one expert of a layer in its first linear, and how many experts a token has of how many.
@pytest.mark.parametrize(
    ("model", "expert_weights", "used", "count"),
    [
        ("qwen3:30b-a3b", 2 * 768 * 2048, 8, 128),
        ("deepseek-v2-lite", 2 * 1408 * 2048, 6, 64),
        ("deepseek-v3", 2 * 2048 * 7168, 8, 256),
        ("gpt-oss:20b", 2 * 2880 * 2880, 4, 32),
    ],
)
def test_experts_by_dimensions_read_the_weights_of_those_with_work(profile, model, expert_weights, used, count):
    rows = 3
    answer = profile(model, "--weights", "f16", "--rows", str(rows), "--depth", "64", "--prompt-tokens", "0")
    (step,) = answer["steps"]
    assert (answer["experts"], step["experts_with_work"]) == (count, rows * used)
    # Gate and up is the larger of the two.
    most = max(each["hbm_bytes"] for each in step["kernels"] if each["kernel"] == "ridge_expert_linear_f16")
    assert most == pytest.approx(rows * used * expert_weights * 2, rel=0.02)
    # One chip could not hold V3: it is counted all the same.
    assert (answer["weight_bytes"] > answer["memory_bytes"]) == (model == "deepseek-v3")


def test_people_are_told_of_experts_and_of_a_model_that_the_chip_could_not_hold(ridge):
    words = ("qwen3:235b-a22b", "--weights", "f16", "--rows", "1", "--depth", "64", "--prompt-tokens", "0")
    result = ridge("profile", *words, timeout=600)
    assert result.returncode == 0, result.stderr
    assert "and the chip has 69 GB: counted as if it held them" in result.stdout
    assert "experts: in each layer 8 choices of tokens, spread evenly over 8 of 128" in result.stdout


def test_the_timeline_has_the_pipes_of_each_launch(profile, tmp_path):
    trace = tmp_path / "timeline.json"
    answer = profile(str(GOLDEN), "--depth", "20", "--prompt-tokens", "0", "--trace", str(trace))
    (step,) = answer["steps"]
    events = json.loads(trace.read_text())["traceEvents"]
    names = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    spans = [event for event in events if event["ph"] == "X"]
    kernels = [event for event in spans if event["tid"] == 0]
    assert len(kernels) == step["launches"]
    assert {"kernels", "AIC MTE2", "AIC M", "AIV0 V", "AIV0 MTE3"} <= set(names.values())
    end = 0
    for kernel in kernels:
        assert kernel["ts"] >= end
        end = kernel["ts"] + kernel["dur"]
    for span in spans:
        inside = [k for k in kernels if k["ts"] - 1e-6 <= span["ts"] and span["ts"] + span["dur"] <= k["ts"] + k["dur"] + 1e-6]
        assert inside, span
    last = {}
    for span in sorted(spans, key=lambda event: event["ts"]):
        assert span["ts"] >= last.get(span["tid"], 0) - 1e-6, span
        last[span["tid"]] = span["ts"] + span["dur"]


def test_a_launch_of_the_timeline_becomes_a_picture(profile, tmp_path):
    trace, picture = tmp_path / "timeline.json", tmp_path / "picture.svg"
    profile(str(GOLDEN), "--depth", "20", "--prompt-tokens", "0", "--trace", str(trace))
    draw = [sys.executable, str(DRAW), str(trace)]
    subprocess.run([*draw, "ridge_attention_f16", str(picture)], check=True)
    texts = [element.text for element in xml.etree.ElementTree.parse(picture).iter() if element.text]
    assert any("ridge_attention_f16" in text for text in texts) and {"AIC M", "AIV1 V"} <= set(texts)
    unknown = subprocess.run([*draw, "ridge_nothing", str(picture)], capture_output=True, text=True, check=False)
    assert unknown.returncode == 1 and "ridge_linear_f16" in unknown.stderr


def test_people_get_a_table(ridge):
    result = ridge("profile", str(GOLDEN), "--depth", "20", "--prompt-tokens", "0", timeout=600)
    assert result.returncode == 0, result.stderr
    assert "decode: 1 row behind 20 tokens" in result.stdout and "limited by" in result.stdout
    assert "ridge_linear_f16" in result.stdout and "tokens/s" in result.stdout


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        ([str(GOLDEN), "--device", "cpu"], 1, "cannot count"),
        ([str(GOLDEN), "--device", "ascend-twin:910B9"], 1, "910B9"),
        ([str(GOLDEN), "--device", "abacus"], 1, "abacus"),
        ([str(GOLDEN), "--rows", "0", "--prompt-tokens", "0"], 2, "no step"),
        ([str(GOLDEN), "--depth", "1000000"], 2, "--depth"),
        ([str(GOLDEN), "--weights", "f16"], 2, "--weights"),
        (["deepseek-r1:7b", "--weights", "q3"], 2, "q3"),
        (["deepseek-v2-lite", "--weights", "q4_k"], 1, "10944"),
        (["no-such.gguf"], 1, "no-such.gguf"),
    ],
)
def test_what_cannot_be_profiled_is_said(profile, words, code, says):
    answer = profile(*words, returncode=code)
    assert says in answer["error"]["message"]


def test_a_timeline_that_cannot_be_written_is_an_error(profile, tmp_path):
    answer = profile(str(GOLDEN), "--prompt-tokens", "0", "--depth", "4", "--trace", str(tmp_path / "no" / "t.json"), returncode=1)
    assert "cannot write the timeline" in answer["error"]["message"]
