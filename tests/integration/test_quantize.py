"""`ridge quantize`, its files read by the independent `gguf` package; and the random-weight models."""

import json
import os
import pathlib
import resource
import signal
import struct
import subprocess
import time

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType as Type

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"
TINY = GOLDENS / "llama-f32.gguf"

# The greatest relative error for Gaussian weights, as in tests/tensor/quantize_test.cc.
BOUNDS = {
    "Q4_0": 0.0825,
    "Q4_1": 0.0710,
    "Q5_0": 0.0410,
    "Q5_1": 0.0345,
    "Q8_0": 0.0055,
    "Q4_K_M": 0.0715,
    "Q5_K_M": 0.0355,
    "Q6_K": 0.0176,
    "IQ4_NL": 0.0750,
    "IQ4_XS": 0.0758,
    "F16": 0.0004,
    "BF16": 0.003,
}


@pytest.fixture(scope="module")
def weights():
    """By tensor name, as rows; one matrix for each rule of the mixes, in 16 layers."""
    rng = np.random.default_rng(3)
    tensors = {"token_embd.weight": (40, 512), "output_norm.weight": (512,), "output.weight": (40, 512)}
    for layer in range(16):
        for role, shape in (("attn_q", (64, 512)), ("attn_v", (32, 512)), ("ffn_down", (64, 768))):
            tensors[f"blk.{layer}.{role}.weight"] = shape
        tensors[f"blk.{layer}.attn_q.bias"] = (64,)
    return {name: (0.02 * rng.standard_normal(shape)).astype(np.float32) for name, shape in tensors.items()}


@pytest.fixture(scope="module")
def write_model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")

    def write(name, tensors):
        path = folder / name
        out = gguf.GGUFWriter(path, "llama")
        out.add_block_count(16)
        out.add_head_count(8)
        out.add_head_count_kv(4)
        out.add_description("drawn at random")
        out.add_array("some.words", ["one", "zwei", "три"])
        for tensor, values in tensors.items():
            out.add_tensor(tensor, values)
        out.write_header_to_file()
        out.write_kv_data_to_file()
        out.write_tensors_to_file()
        out.close()
        return path

    return write


@pytest.fixture(scope="module")
def model(write_model, weights):
    return write_model("model.gguf", weights)


def read(path):
    """The tensors of a file by name, and its metadata."""
    reader = gguf.GGUFReader(path)
    return {tensor.name: tensor for tensor in reader.tensors}, reader.fields


def relative_error(values, got):
    return np.linalg.norm((got - values).astype(np.float64)) / np.linalg.norm(values)


@pytest.mark.parametrize("name", BOUNDS)
def test_another_program_reads_what_was_written(ridge, model, weights, tmp_path, name):
    result = ridge("quantize", model, "out.gguf", name.lower())
    assert result.returncode == 0, result.stderr
    tensors, fields = read(tmp_path / "out.gguf")
    assert list(tensors) == list(weights)
    assert fields["general.description"].contents() == "drawn at random"
    assert fields["some.words"].contents() == ["one", "zwei", "три"]
    assert fields["general.file_type"].contents() == gguf.LlamaFileType[f"MOSTLY_{name}"]
    assert fields["general.quantization_version"].contents() == gguf.GGML_QUANT_VERSION
    for tensor, values in weights.items():
        kind = Type(tensors[tensor].tensor_type)
        got = gguf.quants.dequantize(tensors[tensor].data, kind)
        if values.ndim == 1:
            assert kind == Type.F32 and np.array_equal(got, values)
            continue
        error = relative_error(values, got)
        assert error <= 1.03 * BOUNDS[name], tensor  # a small matrix strays from the mean
        if name in ("Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0") and kind.name == name:
            theirs = gguf.quants.dequantize(gguf.quants.quantize(values, kind), kind)
            assert error <= relative_error(values, theirs), tensor


def test_the_mix_is_the_documented_one(ridge, model, tmp_path):
    assert ridge("quantize", model, "out.gguf", "Q4_K_M").returncode == 0
    tensors, _ = read(tmp_path / "out.gguf")
    finer = {0, 1, 4, 7, 10, 13, 14, 15}  # the first and last eighth of 16, and every third
    for layer in range(16):
        expected = Type.Q6_K if layer in finer else Type.Q4_K
        assert tensors[f"blk.{layer}.attn_v.weight"].tensor_type == expected
        assert tensors[f"blk.{layer}.ffn_down.weight"].tensor_type == expected
        assert tensors[f"blk.{layer}.attn_q.weight"].tensor_type == Type.Q4_K
    assert tensors["output.weight"].tensor_type == Type.Q6_K
    assert tensors["token_embd.weight"].tensor_type == Type.Q4_K


def test_an_embedding_that_is_the_output_too_gets_its_type(ridge, write_model, weights, tmp_path):
    tied = {name: values for name, values in weights.items() if name != "output.weight"}
    assert ridge("quantize", write_model("tied.gguf", tied), "out.gguf", "Q4_K_M").returncode == 0
    assert read(tmp_path / "out.gguf")[0]["token_embd.weight"].tensor_type == Type.Q6_K


def test_rows_that_are_no_whole_blocks_are_told(ridge, write_model, tmp_path):
    rng = np.random.default_rng(4)
    tensors = {
        "blk.4.ffn_down.weight": rng.standard_normal((8, 96)),
        "blk.5.ffn_down.weight": rng.standard_normal((8, 96)),
        "blk.5.attn_q.weight": rng.standard_normal((8, 40)),
        "blk.5.attn_k.weight": rng.standard_normal((8, 256)),
    }
    odd = write_model("odd.gguf", {name: values.astype(np.float32) for name, values in tensors.items()})
    result = ridge("quantize", odd, "out.gguf", "Q4_K_M")
    assert result.returncode == 0 and result.stderr.startswith("3 of the matrices have rows")
    kinds = {name: Type(tensor.tensor_type).name for name, tensor in read(tmp_path / "out.gguf")[0].items()}
    assert list(kinds.values()) == ["Q8_0", "Q5_0", "F16", "Q4_K"]
    report = json.loads(ridge("quantize", odd, "out.gguf", "Q4_K_M", "--force", "--json").stdout)
    assert report["type"] == "Q4_K_M" and report["path"] == "out.gguf"
    assert report["tensors_by_type"] == {"F16": 1, "Q5_0": 1, "Q8_0": 1, "Q4_K": 1}
    assert report["replaced"][0] == {"tensor": "blk.4.ffn_down.weight", "asked": "Q6_K", "used": "Q8_0"}
    assert report["size_bytes"] == (tmp_path / "out.gguf").stat().st_size


def test_threads_change_nothing(ridge, model, tmp_path):
    for threads in (1, 2, 5):
        assert ridge("quantize", model, f"{threads}.gguf", "Q4_K_M", "-t", threads).returncode == 0
    assert len({(tmp_path / f"{threads}.gguf").read_bytes() for threads in (1, 2, 5)}) == 1


def test_a_file_that_is_there_stays_unless_forced(ridge, model, tmp_path):
    (tmp_path / "out.gguf").write_text("mine")
    result = ridge("quantize", model, "out.gguf", "Q4_0")
    assert result.returncode == 2 and "out.gguf exists; --force replaces it" in result.stderr
    assert (tmp_path / "out.gguf").read_text() == "mine"
    assert ridge("quantize", model, "out.gguf", "Q4_0", "--force").returncode == 0
    result = ridge("quantize", model, model, "Q4_0", "--force")
    assert result.returncode == 2 and "is the model that is read" in result.stderr


def test_quantising_again_must_be_asked_for(ridge, model):
    assert ridge("quantize", model, "q8.gguf", "Q8_0").returncode == 0
    result = ridge("quantize", "q8.gguf", "q4.gguf", "Q4_K_M")
    assert result.returncode == 2 and '"token_embd.weight" is Q8_0 already' in result.stderr
    assert ridge("quantize", "q8.gguf", "q4.gguf", "Q4_K_M", "--allow-requantize").returncode == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e9])
def test_a_value_that_cannot_be_written_is_found(ridge, write_model, weights, tmp_path, bad):
    broken = dict(weights)
    broken["blk.3.attn_v.weight"] = weights["blk.3.attn_v.weight"].copy()
    broken["blk.3.attn_v.weight"][7, 300] = bad
    result = ridge("quantize", write_model("broken.gguf", broken), "out.gguf", "Q4_K_M")
    assert result.returncode == 1 and result.stderr.count("\n") == 1
    assert 'tensor "blk.3.attn_v.weight": element 300 of row 7 is ' in result.stderr
    assert not list(tmp_path.glob("out*"))


def test_what_is_no_model_or_no_type_is_refused(ridge, model, tmp_path):
    (tmp_path / "cut.gguf").write_bytes(model.read_bytes()[:-500])
    result = ridge("quantize", "cut.gguf", "out.gguf", "Q4_0")
    assert result.returncode == 1 and "cut short" in result.stderr
    assert "does not exist" in ridge("quantize", "none.gguf", "out.gguf", "Q4_0").stderr
    result = ridge("quantize", model, "out.gguf", "Q4_X")
    assert result.returncode == 2 and "there are Q4_0, " in result.stderr
    assert ridge("quantize", model, "absent/out.gguf", "Q4_0").returncode == 1
    assert not list(tmp_path.glob("out*"))


def test_a_disk_that_is_full_leaves_nothing(ridge, model, tmp_path):
    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    result = ridge("quantize", model, "out.gguf", "Q4_0", preexec_fn=limit)
    assert result.returncode == 1 and "is the disk full?" in result.stderr
    assert not list(tmp_path.glob("out*"))


def test_it_can_be_stopped(ridge_binary, write_model, clean_environment, tmp_path):
    zeros = np.zeros((30_000, 4096), np.float32)
    model = write_model("zeros.gguf", {f"blk.{layer}.attn_q.weight": zeros for layer in range(3)})
    command = [ridge_binary, "quantize", model, "out.gguf", "IQ4_XS", "-t", "1"]
    process = subprocess.Popen(command, cwd=tmp_path, env=clean_environment, stderr=subprocess.PIPE, text=True)
    partial = tmp_path / "out.gguf.partial"
    until = time.monotonic() + 60
    while not partial.exists() and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    os.remove(model)
    assert process.returncode == 130 and "was not written" in errors
    assert not list(tmp_path.glob("out*"))


def best_tokens(ridge, model):
    result = ridge("logits", model, "--tokens", "1,7,42,300,5,11", "--top", "320")
    assert result.returncode == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_a_quantised_model_answers_as_the_original_does(ridge):
    original = best_tokens(ridge, TINY)
    # What the `gguf` package's own quantisation of this small, peaked model to the same types leaves.
    for name, divergence_max in (("Q8_0", 0.0030), ("Q5_K_M", 0.0538), ("Q4_K_M", 0.0706)):
        assert ridge("quantize", TINY, "tiny.gguf", name, "--force").returncode == 0
        divergence = 0
        for before, after in zip(original, best_tokens(ridge, "tiny.gguf")):
            of = dict(zip(after["ids"], after["logprobs"]))
            divergence += sum(np.exp(p) * (p - of[token]) for token, p in zip(before["ids"], before["logprobs"]))
        assert divergence / len(original) <= divergence_max, name


def test_random_models_run_and_are_the_same_for_a_seed(ridge, ridge_binary, tmp_path):
    check_random_models(ridge, ridge_binary, tmp_path, "tiny", "blk.1.attn_k.bias")


def test_random_models_of_experts_and_latents_too(ridge, ridge_binary, tmp_path):
    check_random_models(ridge, ridge_binary, tmp_path, "tiny-deepseek", "blk.1.ffn_down_exps.weight")
    tensors, _ = read(tmp_path / "a.gguf")
    assert Type(tensors["blk.1.ffn_gate_inp.weight"].tensor_type) == Type.F32
    assert Type(tensors["blk.1.ffn_gate_exps.weight"].tensor_type) == Type.Q4_K


def test_a_random_model_names_a_token_that_its_vocabulary_lacks(ridge_binary, tmp_path):
    content = bytearray(pathlib.Path(TINY).read_bytes())
    at = content.index(b"tokenizer.ggml.eos_token_id") + len("tokenizer.ggml.eos_token_id") + 4  # behind its type
    content[at : at + 4] = struct.pack("<I", 1_000_000)
    (tmp_path / "bad.gguf").write_bytes(content)
    command = [ridge_binary.parent / "random_model", "--shape", "tiny", "--vocabulary", "bad.gguf", "out.gguf"]
    answer = subprocess.run(command, cwd=tmp_path, timeout=60, capture_output=True, text=True)
    assert answer.returncode == 1
    assert "bad.gguf: tokenizer.ggml.eos_token_id is 1000000, which is none of the" in answer.stderr
    assert not (tmp_path / "out.gguf").exists()


def check_random_models(ridge, ridge_binary, tmp_path, shape, has):
    program = ridge_binary.parent / "random_model"
    if not program.is_file():
        pytest.fail(f"{program} does not exist: build the target random_model")

    def make(name, *words):
        command = [program, "--shape", shape, "--vocabulary", TINY, *words, name]
        subprocess.run(command, cwd=tmp_path, check=True, timeout=60, stdout=subprocess.DEVNULL)
        return (tmp_path / name).read_bytes()

    first = make("a.gguf", "--type", "q4_k_m", "-t", "1")
    assert first == make("b.gguf", "--type", "q4_k_m", "-t", "3")
    assert first != make("c.gguf", "--type", "q4_k_m", "--seed", "2")
    tensors, _ = read(tmp_path / "a.gguf")
    assert Type(tensors["output.weight"].tensor_type) == Type.Q6_K
    assert has in tensors
    for line in best_tokens(ridge, "a.gguf"):
        assert np.isfinite(line["logprobs"]).all() and line["logprobs"][0] > -4
