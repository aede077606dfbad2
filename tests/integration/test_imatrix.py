"""`ridge imatrix` and `ridge quantize --imatrix`, their files read and written by the independent `gguf` package."""

import json
import pathlib
import struct

import gguf
import numpy as np
import pytest

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"
DENSE = GOLDENS / "llama-f32.gguf"
EXPERTS = GOLDENS / "qwen3moe-f32.gguf"
TEXT = "The path along the ridge climbs slowly: 12 of us in 1987, and it's 345 now.\n" * 8


def read(path):
    reader = gguf.GGUFReader(path)
    return {tensor.name: tensor for tensor in reader.tensors}, reader.fields


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_another_program_reads_the_matrix(ridge, text, tmp_path):
    result = ridge("imatrix", EXPERTS, "--text", "text.txt", "-o", "imatrix.gguf", "--chunk-tokens", "32")
    assert result.returncode == 0, result.stderr
    tokens = len(json.loads(ridge("tokenize", EXPERTS, TEXT).stdout))
    tensors, fields = read(tmp_path / "imatrix.gguf")
    assert fields["general.type"].contents() == "imatrix"
    assert fields["imatrix.datasets"].contents() == ["text.txt"]
    assert fields["imatrix.chunk_count"].contents() == -(-tokens // 32)
    assert fields["imatrix.chunk_size"].contents() == 32
    assert f"from {tokens} tokens in {-(-tokens // 32)} chunks" in result.stderr
    of_model, keys = read(EXPERTS)
    matrices = [name for name, tensor in of_model.items() if name.startswith("blk.") and len(tensor.shape) > 1]
    assert sorted(tensors) == sorted(f"{name}.{part}" for name in matrices for part in ("in_sum2", "counts"))
    used = keys["qwen3moe.expert_used_count"].contents()
    for name in matrices:
        sums, counts = tensors[f"{name}.in_sum2"], tensors[f"{name}.counts"]
        is_experts = "_exps" in name
        assert sums.shape[0] == of_model[name].shape[0] and (sums.data >= 0).all() and sums.data.any()
        if is_experts:
            assert len(counts.data) == of_model[name].shape[2]
        assert counts.data.sum() == tokens * (used if is_experts else 1)


def test_chunks_are_no_longer_than_the_models_context(ridge, text, tmp_path):
    told = json.loads(ridge("imatrix", GOLDENS / "gemma3-f32.gguf", "--text", "text.txt", "-o", "imatrix.gguf", "--json").stdout)
    assert told["chunk_tokens"] == 128 and told["tokens"] > 128
    result = ridge(
        "imatrix", GOLDENS / "gemma3-f32.gguf", "--text", "text.txt", "-o", "other.gguf", "--chunk-tokens", "129"
    )
    assert result.returncode == 2 and "129 tokens is more than this model was made for, which is 128" in result.stderr
    assert not (tmp_path / "other.gguf").exists()


def test_a_matrix_is_no_model(ridge, text, tmp_path):
    assert ridge("imatrix", DENSE, "--text", "text.txt", "-o", "imatrix.gguf").returncode == 0
    for command in (("show", "imatrix.gguf"), ("run", "./imatrix.gguf", "hello"), ("plan", "imatrix.gguf", "--devices", "cpu")):
        result = ridge(*command)
        assert result.returncode == 1 and "an importance matrix and no model" in result.stderr, command


def test_what_it_did_is_told_in_json_and_a_file_stays_unless_forced(ridge, text, tmp_path):
    command = ("imatrix", DENSE, "--text", "text.txt", "-o", "imatrix.gguf", "--chunk-tokens", "16", "--chunks", "3")
    told = json.loads(ridge(*command, "--json").stdout)
    assert told["tokens"] == 48 and told["chunks"] == 3 and told["chunk_tokens"] == 16
    assert told["entries"] == len(read(tmp_path / "imatrix.gguf")[0]) / 2
    before = (tmp_path / "imatrix.gguf").read_bytes()
    result = ridge(*command)
    assert result.returncode == 2 and "imatrix.gguf exists; --force replaces it" in result.stderr
    assert ridge(*command, "--force", "--threads", "1").returncode == 0
    assert (tmp_path / "imatrix.gguf").read_bytes() == before


def test_quantize_weighs_by_a_matrix_of_either_program(ridge, text, tmp_path):
    values = np.random.default_rng(5).standard_normal((64, 256)).astype(np.float32)
    out = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    out.add_block_count(1)
    out.add_head_count(1)
    out.add_tensor("blk.0.attn_q.weight", values)
    out.add_tensor("blk.0.attn_k.weight", values)
    close(out)
    weights = np.exp(2 * np.random.default_rng(6).standard_normal(256)).astype(np.float32)
    write_matrix(tmp_path / "theirs.gguf", "blk.0.attn_q.weight", weights[None] * 7, [[7.0]])
    assert ridge("quantize", "model.gguf", "plain.gguf", "Q4_K_M").returncode == 0
    result = ridge("quantize", "model.gguf", "weighted.gguf", "Q4_K_M", "--imatrix", "theirs.gguf")
    assert result.returncode == 0
    assert "1 of the matrices have no entry in theirs.gguf" in result.stderr
    assert "blk.0.attn_k.weight" in result.stderr
    tensors, fields = read(tmp_path / "weighted.gguf")
    plain, _ = read(tmp_path / "plain.gguf")

    def lost(tensor):
        got = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        return (weights * (got - values) ** 2).sum()

    assert lost(tensors["blk.0.attn_q.weight"]) < 0.95 * lost(plain["blk.0.attn_q.weight"])
    assert (tensors["blk.0.attn_k.weight"].data == plain["blk.0.attn_k.weight"].data).all()
    assert fields["quantize.imatrix.file"].contents() == "theirs.gguf"
    assert fields["quantize.imatrix.dataset"].contents() == "calibration.txt"
    assert fields["quantize.imatrix.entries_count"].contents() == 1
    assert fields["quantize.imatrix.chunks_count"].contents() == 4
    report = json.loads(
        ridge("quantize", "model.gguf", "weighted.gguf", "Q4_0", "--imatrix", "theirs.gguf", "--force", "--json").stdout
    )
    assert report["unweighted"] == ["blk.0.attn_k.weight"]


def close(out):
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_matrix(path, tensor, sums, counts):
    out = gguf.GGUFWriter(path, arch="none")
    out.add_type("imatrix")
    out.add_array("imatrix.datasets", ["calibration.txt"])
    out.add_uint32("imatrix.chunk_count", 4)
    out.add_uint32("imatrix.chunk_size", 512)
    out.add_tensor(f"{tensor}.in_sum2", np.array(sums, dtype=np.float32))
    out.add_tensor(f"{tensor}.counts", np.array(counts, dtype=np.float32))
    close(out)


def test_a_matrix_that_is_none_or_of_another_model_is_refused(ridge, text, tmp_path):
    def refusal(path):
        result = ridge("quantize", DENSE, "out.gguf", "Q4_0", "--imatrix", path)
        assert result.returncode == 1 and result.stderr.count("\n") == 1
        assert not list(tmp_path.glob("out*"))
        return result.stderr

    old = struct.pack("<ii", 1, 19) + b"blk.0.attn_k.weight" + struct.pack("<ii", 5, 64) + bytes(256)
    (tmp_path / "old.dat").write_bytes(old)
    assert "older binary form (.dat)" in refusal("old.dat")
    assert "general.type" in refusal(DENSE)
    assert "does not exist" in refusal("none.gguf") or "cannot open" in refusal("none.gguf")
    write_matrix(tmp_path / "wide.gguf", "blk.0.attn_q.weight", [[1.0] * 999], [[1.0]])
    assert '"blk.0.attn_q.weight"' in refusal("wide.gguf")
    write_matrix(tmp_path / "other.gguf", "blk.99.attn_q.weight", [[1.0] * 64], [[1.0]])
    assert '"blk.99.attn_q.weight"' in refusal("other.gguf")
    whole = (tmp_path / "wide.gguf").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(whole[:-100])
    assert "cut short" in refusal("cut.gguf")


def test_a_text_that_is_none_is_refused(ridge, tmp_path):
    result = ridge("imatrix", DENSE, "--text", "none.txt", "-o", "imatrix.gguf")
    assert result.returncode == 1 and "none.txt" in result.stderr
    (tmp_path / "empty.txt").write_text("")
    result = ridge("imatrix", DENSE, "--text", "empty.txt", "-o", "imatrix.gguf")
    assert result.returncode == 2 and "no tokens" in result.stderr
    result = ridge("imatrix", DENSE, "--text", "empty.txt", "-o", "imatrix.gguf", "--chunk-tokens", "0")
    assert result.returncode == 2
    assert not list(tmp_path.glob("imatrix*"))
