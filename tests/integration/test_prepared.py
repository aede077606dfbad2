"""`--prepared-cache`: the same answers from weights on the disk, whatever happens to them there."""

import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess

import pytest

from ridge_process import MODEL, RidgeServer

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"
# The tiny model with the most types of weights.
TINY = GOLDENS / "llama-k-mix.gguf"
TOKENS = "1,5,9,14,3,200,77"


@pytest.fixture
def model(tmp_path):
    """A plain file, of which no digest is known."""
    path = tmp_path / "model.gguf"
    shutil.copy(TINY, path)
    return path


@pytest.fixture
def logits(ridge, model):
    def run(*words, file=None, **keywords):
        result = ridge("logits", file or model, "--tokens", TOKENS, "--top", "0", *words, **keywords)
        assert result.returncode == 0, result.stderr
        return result

    return run


def prepared_files(tmp_path):
    return sorted((tmp_path / "store" / "prepared").glob("*.weights"))


def test_the_second_start_gives_the_same_logits(logits, tmp_path):
    plain = logits()
    assert "prepared" not in plain.stderr
    first = logits("--prepared-cache")
    assert "keeping prepared weights: " in first.stderr
    assert str(tmp_path / "store" / "prepared") in first.stderr
    assert "kept prepared weights: " in first.stderr
    assert len(prepared_files(tmp_path)) == 1
    second = logits("--prepared-cache")
    assert "prepared weights: " in second.stderr and "keeping" not in second.stderr
    assert plain.stdout == first.stdout == second.stdout
    assert logits("--prepared-cache", "--quiet").stderr == ""


@pytest.mark.parametrize(
    "golden", sorted(path for path in GOLDENS.glob("*.gguf") if ".golden." not in path.name), ids=lambda path: path.stem
)
def test_every_type_of_weight_is_the_same_from_the_disk(logits, golden):
    plain = logits(file=golden)
    logits("--prepared-cache", file=golden)
    assert logits("--prepared-cache", file=golden).stdout == plain.stdout


def test_another_instruction_set_has_its_own_answers(logits):
    wanted = {isa: logits("--cpu-isa", isa).stdout for isa in ("scalar", "avx2")}
    for _ in range(2):
        for isa, answer in wanted.items():
            assert logits("--cpu-isa", isa, "--prepared-cache").stdout == answer


def test_the_reference_keeps_nothing(logits, tmp_path):
    assert "keeping" not in logits("--device", "reference", "--prepared-cache").stderr
    assert prepared_files(tmp_path) == []


def test_damage_is_noticed_and_the_weights_are_prepared_anew(logits, tmp_path):
    wanted = logits("--prepared-cache").stdout
    (file,) = prepared_files(tmp_path)
    whole = file.read_bytes()
    generator = random.Random(3)
    noticed = 0
    for round_number in range(12):
        damaged = bytearray(whole)
        if round_number % 3 == 0:
            del damaged[generator.randrange(len(damaged)):]
        else:
            damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
        file.write_bytes(damaged)
        result = logits("--prepared-cache")
        assert result.stdout == wanted
        # A bit of the padding means nothing.
        if "the weights are prepared anew" in result.stderr:
            noticed += 1
            assert "kept prepared weights" in result.stderr
            assert file.read_bytes() == whole
    assert noticed >= 8


def test_a_changed_model_is_prepared_anew(logits, model, tmp_path):
    logits("--prepared-cache")
    shutil.copy(GOLDENS / "llama-q8_0.gguf", model)
    changed = logits("--prepared-cache")
    assert "keeping prepared weights" in changed.stderr
    assert changed.stdout == logits().stdout
    assert len(prepared_files(tmp_path)) == 2


def test_a_model_changed_within_its_size_and_time_is_noticed(logits, model):
    logits("--prepared-cache")
    stamp = model.stat()
    bytes_ = bytearray(model.read_bytes())
    # The sign of a scale in the last tensor.
    bytes_[-2] ^= 0x80
    with open(model, "r+b") as file:
        file.write(bytes_)
    os.utime(model, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    changed = logits("--prepared-cache")
    assert "keeping prepared weights" in changed.stderr
    assert changed.stdout == logits().stdout


def test_a_full_disk_costs_only_the_keeping(ridge_binary, clean_environment, model, logits, tmp_path):
    wanted = logits().stdout

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))

    words = [ridge_binary, "logits", model, "--tokens", TOKENS, "--top", "0", "--prepared-cache"]
    # Output goes through pipes: files would meet the limit as well.
    result = subprocess.run(words, env=clean_environment, capture_output=True, text=True, preexec_fn=limit)
    assert result.returncode == 0, result.stderr
    assert "nothing is kept" in result.stderr
    assert result.stdout == wanted
    assert prepared_files(tmp_path) == []
    assert "kept prepared weights" in logits("--prepared-cache").stderr


def test_a_store_that_cannot_be_written_costs_only_the_keeping(logits, tmp_path):
    wanted = logits().stdout
    (tmp_path / "store" / "prepared").write_text("no folder")
    result = logits("--prepared-cache")
    assert result.stdout == wanted
    assert "prepared weights of" in result.stderr


def test_two_processes_at_once(ridge_binary, clean_environment, model, logits, tmp_path):
    wanted = logits().stdout
    words = [ridge_binary, "logits", model, "--tokens", TOKENS, "--top", "0", "--prepared-cache", "-t", "1"]
    for _ in range(3):
        both = [
            subprocess.Popen(words, env=clean_environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        for process in both:
            out, err = process.communicate(timeout=60)
            assert process.returncode == 0, err
            assert out == wanted
        assert len(prepared_files(tmp_path)) == 1
        assert list((tmp_path / "store" / "prepared").glob("*.draft")) == []
        prepared_files(tmp_path)[0].unlink()


def test_list_and_rm_show_and_remove_it(ridge, logits, model, tmp_path):
    logits("--prepared-cache")
    size = prepared_files(tmp_path)[0].stat().st_size
    (entry,) = json.loads(ridge("list", "--json").stdout)["prepared"]
    assert entry["model"] == str(model)
    assert entry["size_bytes"] == size
    assert entry["layout"].startswith("cpu-tiles-")
    assert "PREPARED WEIGHTS OF" in ridge("list").stdout
    removed = ridge("rm", "--prepared", model, "--json")
    assert json.loads(removed.stdout) == {"removed_prepared_bytes": size}
    assert prepared_files(tmp_path) == []
    logits("--prepared-cache")
    assert "freed" in ridge("rm", "--prepared").stderr
    assert list((tmp_path / "store" / "prepared").iterdir()) == []
    assert ridge("rm").returncode == 2


def test_a_pulled_model_takes_its_prepared_weights_along(ridge_binary, model_home, plain_environment, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(model_home, home, copy_function=os.link)
    environment = {**plain_environment, "RIDGE_HOME": str(home)}

    def run(*words):
        result = subprocess.run([ridge_binary, *words], env=environment, capture_output=True, text=True, timeout=120)
        assert result.returncode == 0, result.stderr
        return result

    # Linked files have their inode and times, but the store looks at these alone.
    answers = [
        run("run", MODEL, "Say hello.", "--temperature", "0", "--max-tokens", "8", "--context", "256", *more).stdout
        for more in ([], ["--prepared-cache"], ["--prepared-cache"])
    ]
    assert answers[0] == answers[1] == answers[2]
    (entry,) = json.loads(run("list", "--json").stdout)["prepared"]
    assert entry["model"] == MODEL
    # Its digest was known: none was read.
    assert list((home / "prepared").glob("digest-*")) == []
    run("rm", MODEL)
    assert list((home / "prepared").iterdir()) == []


def test_serve_takes_it_from_its_configuration(ridge_binary, clean_environment, model, tmp_path):
    config = tmp_path / "ridge.toml"
    config.write_text("prepared_cache = true\ncontext = 64\n")
    options = ["--config", str(config), "--home", str(tmp_path / "store")]
    for _ in range(2):
        server = RidgeServer(ridge_binary, clean_environment, str(model), options)
        assert server.health()["models"]
        # It ends only once the file is on the disk.
        assert server.stop() == 0
        assert len(prepared_files(tmp_path)) == 1
