"""What all integration tests share: the program under test, and servers with a real model."""

import os
import pathlib
import subprocess

import openai
import pytest

from ridge_process import MODEL, RidgeServer

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def ridge_binary() -> pathlib.Path:
    """The program under test: RIDGE_BINARY, else the release build."""
    binary = pathlib.Path(os.environ.get("RIDGE_BINARY", ROOT / "build/release/ridge"))
    if not binary.is_file():
        pytest.fail(f"{binary} does not exist: build it, or set RIDGE_BINARY")
    return binary.resolve()


@pytest.fixture
def clean_environment(tmp_path) -> dict:
    """The environment without what would change an answer, with a model store of its own."""
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("RIDGE_", "HF_", "MODELSCOPE_", "PIP_"))
        and key.lower() not in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    }
    environment["RIDGE_HOME"] = str(tmp_path / "store")
    environment["HOME"] = str(tmp_path)
    return environment


@pytest.fixture
def ridge(ridge_binary, clean_environment, tmp_path):
    """Runs `ridge WORDS`; `env` adds to the environment, other keywords go to subprocess.run."""

    def run(*words, env=None, timeout=60, **keywords):
        return subprocess.run(
            [str(ridge_binary), *map(str, words)],
            env={**clean_environment, **(env or {})},
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            timeout=timeout,
            **keywords,
        )

    return run


@pytest.fixture(scope="session")
def plain_environment():
    """The environment without settings of a person's own."""
    return {name: value for name, value in os.environ.items() if not name.startswith("RIDGE_")}


@pytest.fixture(scope="session")
def model_home(ridge_binary, plain_environment):
    """A store that holds the default model, kept between runs in RIDGE_TEST_HOME (else build/test-home).

    Tests must not change it.
    """
    home = pathlib.Path(os.environ.get("RIDGE_TEST_HOME", ROOT / "build" / "test-home"))
    home.mkdir(parents=True, exist_ok=True)
    subprocess.run([ridge_binary, "pull", MODEL, "--home", home], env=plain_environment, check=True, timeout=300)
    return home


@pytest.fixture(scope="session")
def model_environment(plain_environment, model_home):
    return {**plain_environment, "RIDGE_HOME": str(model_home)}


@pytest.fixture(scope="session")
def start_server(ridge_binary, model_environment):
    """start_server("--context", "512", model=...) -> RidgeServer; all are stopped at the end."""
    servers = []

    def start(*options, model=MODEL):
        server = RidgeServer(ridge_binary, model_environment, model, options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def server(start_server):
    """The default model, for all tests that leave the server as it was."""
    return start_server("--context", "1024", "--max-sequences", "8")


@pytest.fixture(scope="session")
def client(server):
    return openai.OpenAI(base_url=server.url + "/v1", api_key="unused", max_retries=0, timeout=120)
