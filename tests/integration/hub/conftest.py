import json
import pathlib
import random

import pytest

from stand_in import Hub


@pytest.fixture
def hub():
    hub = Hub()
    yield hub
    hub.close()


@pytest.fixture
def model_bytes():
    """Bytes that look like no other file's: 600 kB, the same in each run."""
    return random.Random(1).randbytes(600_000)


@pytest.fixture
def store(clean_environment):
    return pathlib.Path(clean_environment["RIDGE_HOME"])


@pytest.fixture
def pull(ridge, hub):
    """Runs `ridge pull WORDS` against the hub."""

    def run(*words, env=None, **keywords):
        here = {"HF_ENDPOINT": hub.url(), "MODELSCOPE_ENDPOINT": hub.url()}
        return ridge("pull", "--attempts", "3", *words, env={**here, **(env or {})}, **keywords)

    return run


@pytest.fixture
def stored_bytes(ridge):
    """The bytes of a model in the store; checks that `ridge list` and `ridge verify` agree."""

    def read(name):
        models = json.loads(ridge("list", "--json").stdout)["models"]
        (model,) = [each for each in models if each["name"] == name]
        verified = ridge("verify", name)
        assert verified.returncode == 0, verified.stderr
        show = ridge("pull", name, "--json")
        path = json.loads(show.stdout)["pulled"][0]["path"]
        assert model["size_bytes"] >= pathlib.Path(path).stat().st_size
        return pathlib.Path(path).read_bytes()

    return read
