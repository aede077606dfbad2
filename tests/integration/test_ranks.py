"""`ridge serve --ranks N`: a model that several processes compute together, over a real Open MPI."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
import tiny_model
from ridge_process import MODEL, RidgeServer

needs_mpi = pytest.mark.skipif(
    shutil.which("mpirun") is None,
    reason="NO MPI: ranks are not tested; 'tools/bootstrap test' installs Open MPI (apt install openmpi-bin)",
)
ADVICE = "apt install openmpi-bin"


def processes_of(server_pid):
    """{pid: rank} of a server's ranks that have not ended."""
    found = {}
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if b"rank-worker" not in words[1:2] or (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                continue
            if not any(word.startswith(f"ridge-ranks-{server_pid}-".encode()) for word in words):
                continue
            variables = dict(
                entry.split(b"=", 1) for entry in (folder / "environ").read_bytes().split(b"\0") if b"=" in entry
            )
            found[int(folder.name)] = int(variables[b"OMPI_COMM_WORLD_RANK"])
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile
    return found


def wait_until_none(server_pid, timeout_s=60):
    until = time.monotonic() + timeout_s
    while left := processes_of(server_pid):
        assert time.monotonic() < until, f"ranks that go on: {left}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A Llama of 4 heads and 2 KV heads."""
    folder = tmp_path_factory.mktemp("ranks")
    return tiny_model.write_tiny_model(folder / "tiny.gguf", tiny_model.LLAMA_TOKENS, tiny_model.LLAMA_TEMPLATE)


@pytest.fixture
def serve(ridge_binary, model_environment):
    """serve(model, *options) as a context: a RidgeServer, killed at the end if it is still there."""

    @contextlib.contextmanager
    def start(model, *options):
        server = RidgeServer(ridge_binary, model_environment, model, options)
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.process.kill()
            server.process.wait()
            wait_until_none(server.process.pid)
            server.process.stdout.close()
            server.log.close()

    return start


def answers(server, tokens=24):
    """Texts and log probabilities of greedy and seeded answers, alone and several at once."""
    model = server.greeting["models"][0]
    all_answers = []
    for sampling in ({"temperature": 0}, {"temperature": 1, "seed": 7, "n": 3}):
        for prompt in ("The capital of France is", "Once upon a time, in a land far away, there lived " * 12):
            status, body = server.post_json(
                "/v1/completions",
                {"model": model, "prompt": prompt, "max_tokens": tokens, "logprobs": 3, **sampling},
                timeout=300,
            )
            assert status == 200, body
            all_answers.append(
                [(choice["text"], choice["logprobs"]["tokens"], choice["logprobs"]["token_logprobs"])
                 for choice in body["choices"]]
            )
    return all_answers


@needs_mpi
def test_any_number_of_ranks_gives_the_same_tokens(serve, tiny):
    options = ("--batch-invariant", "--context", "512", "--max-sequences", "4")
    with serve(tiny, *options, "--threads", "2") as server:
        alone = answers(server)
    for ranks in (1, 2, 4):
        with serve(tiny, *options, "--ranks", str(ranks)) as server:
            assert sorted(processes_of(server.process.pid).values()) == list(range(ranks))
            assert answers(server) == alone, f"{ranks} ranks"
            assert server.stop() == 0, server.read_log()
            wait_until_none(server.process.pid)


@needs_mpi
def test_a_real_model_gives_the_same_tokens_on_two_ranks(serve):
    options = ("--batch-invariant", "--context", "512", "--max-sequences", "4")
    with serve(MODEL, *options, "--threads", "2") as server:
        alone = answers(server, tokens=6)
        embedded = server.post_json("/v1/embeddings", {"model": MODEL, "input": "A sentence."}, timeout=300)
    with serve(MODEL, *options, "--ranks", "2", "--threads", "1", "--kv-spill-mib", "16") as server:
        assert answers(server, tokens=6) == alone
        assert server.post_json("/v1/embeddings", {"model": MODEL, "input": "A sentence."}, timeout=300) == embedded


def begin_stream(server):
    """A connection whose long answer has begun, and the response."""
    connection = server.connect(timeout=120)
    body = {"model": MODEL, "prompt": "1 2 3 4 5", "max_tokens": 3000, "stream": True, "temperature": 1, "seed": 1,
            "ignore_eos": True}
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    assert response.status == 200, response.read()
    line = response.readline()
    while line in (b": waiting\n", b"\n"):  # which a slow machine's first token has before it
        line = response.readline()
    assert line.startswith(b"data: {"), line
    return connection, response


def check_that_all_has_ended(server, streams, since, within_s):
    for connection, response in streams:
        rest = response.read().decode()
        error = json.loads(rest.strip().split("data: ")[-2 if rest.strip().endswith("[DONE]") else -1])["error"]
        assert "rank" in error["message"] or "mpirun" in error["message"], rest[-500:]
        connection.close()
    assert server.process.wait(timeout=60) == 1
    assert time.monotonic() - since < within_s
    farewell = json.loads(server.process.stdout.read())["error"]["message"]
    assert "the model cannot be computed any more" in farewell
    wait_until_none(server.process.pid)
    return farewell


@needs_mpi
@pytest.mark.parametrize("victim", [0, 1, "mpirun"])
def test_what_dies_ends_requests_and_server(serve, victim):
    with serve(MODEL, "--ranks", "2", "--threads", "1", "--context", "4096") as server:
        streams = [begin_stream(server), begin_stream(server)]
        ranks = {rank: pid for pid, rank in processes_of(server.process.pid).items()}
        parents = {int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
                   for pid in ranks.values()}
        assert len(parents) == 1
        since = time.monotonic()
        os.kill(parents.pop() if victim == "mpirun" else ranks[victim], signal.SIGKILL)
        check_that_all_has_ended(server, streams, since, within_s=10)


@needs_mpi
def test_a_rank_that_stands_still_ends_requests_and_server(serve):
    with serve(MODEL, "--ranks", "2", "--threads", "1", "--context", "4096") as server:
        streams = [begin_stream(server)]
        ranks = {rank: pid for pid, rank in processes_of(server.process.pid).items()}
        since = time.monotonic()
        os.kill(ranks[1], signal.SIGSTOP)
        farewell = check_that_all_has_ended(server, streams, since, within_s=60)
        assert "rank 1" in farewell and "has stood still" in farewell


@needs_mpi
def test_a_rank_that_dies_while_nothing_runs_ends_the_server(serve, tiny):
    with serve(tiny, "--ranks", "2") as server:
        since = time.monotonic()
        os.kill(next(iter(processes_of(server.process.pid))), signal.SIGKILL)
        check_that_all_has_ended(server, [], since, within_s=10)


@needs_mpi
def test_ranks_end_with_a_server_that_is_killed(serve, tiny):
    with serve(tiny, "--ranks", "2") as server:
        assert len(processes_of(server.process.pid)) == 2
        server.process.kill()
        server.process.wait()
        wait_until_none(server.process.pid)


@needs_mpi
def test_what_goes_with_no_ranks_is_refused(ridge, tiny, tmp_path):
    def refused(*options):
        done = ridge("serve", tiny, "--no-auth", "--port", "0", *options)
        assert done.returncode == 2, done.stderr
        return done.stderr

    assert "up to 2 ranks can, or a multiple of 2 up to 4" in refused("--ranks", "3")
    assert "--lora" in refused("--ranks", "2", "--lora", f"a={tmp_path}")
    assert "--model-memory-mib" in refused("--ranks", "2", "--model-memory-mib", "1000")
    assert "--expert-memory-mib" in refused("--ranks", "2", "--expert-memory-mib", "0")
    assert "more machines" in refused("--ranks", "2", "--hosts", "a,b,c")
    assert "Ascend" in refused("--ranks", "2", "--device", "ascend-twin")


@needs_mpi
def test_a_model_that_ranks_cannot_load_is_said_as_it_is(ridge, tmp_path, tiny):
    done = ridge("serve", tiny, "--no-auth", "--port", "0", "--ranks", "2", "--cpu-isa", "none-such")
    assert done.returncode != 0
    assert "rank 0: " in done.stderr and "none-such" in done.stderr
    assert "cannot be computed any more" not in done.stderr


def test_without_mpi_only_ranks_are_lacking(ridge, ridge_binary, tiny, tmp_path):
    no_mpirun = tmp_path / "bin"
    no_mpirun.mkdir()
    done = ridge("serve", tiny, "--no-auth", "--port", "0", "--ranks", "2", env={"PATH": str(no_mpirun)})
    assert done.returncode == 1
    assert ADVICE in done.stderr
    # The loader stops at a library that is none.
    broken = tmp_path / "lib"
    broken.mkdir()
    (broken / "libmpi.so.40").write_text("no library")
    without = {"LD_LIBRARY_PATH": str(broken)}
    done = ridge("serve", tiny, "--no-auth", "--port", "0", "--ranks", "2", env=without)
    assert done.returncode == 1
    assert ADVICE in done.stderr
    assert subprocess.run([ridge_binary, "--version"], env={**os.environ, **without}).returncode == 0
    assert ridge("logits", tiny, "--tokens", "1,2,3", env=without).returncode == 0
