"""Files of clients, with OpenAI's own client."""

import io
import json
import os
import pathlib
import sqlite3

import openai
import pytest

from ridge_process import RidgeServer

MODEL = pathlib.Path(__file__).resolve().parents[1] / "goldens/llama-f32.gguf"  # random weights, which load at once


@pytest.fixture
def serve(ridge_binary, clean_environment):
    """serve("--option", ...) -> a server that asks for keys, on the test's own data."""
    servers = []

    def start(*options, asks_for_keys=True):
        servers.append(RidgeServer(ridge_binary, clean_environment, str(MODEL), ["--threads", "1", *options], asks_for_keys))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def make_client(ridge, clean_environment):
    """make_client(server, project) -> an openai client with a new key of the project."""
    made = []

    def make(server, project="default"):
        if project != "default" and project not in made:
            assert ridge("project", "create", project).returncode == 0
            made.append(project)
        created = ridge("key", "create", f"key{len(made)}", "--project", project, "--json")
        made.append(json.loads(created.stdout)["id"])
        return openai.OpenAI(base_url=server.url + "/v1", api_key=json.loads(created.stdout)["key"], max_retries=0)

    return make


def test_a_file_comes_back_as_it_was(serve, make_client, tmp_path):
    server = serve()
    client = make_client(server)
    content = os.urandom(3 << 20) + b"\r\n--\r\n"
    path = tmp_path / 'un"usual ü.jsonl'
    path.write_bytes(content)
    file = client.files.create(file=path, purpose="batch")
    assert (file.object, file.bytes, file.purpose, file.status) == ("file", len(content), "batch", "processed")
    assert "usual" in file.filename
    assert file.expires_at == file.created_at + 30 * 24 * 3600
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == content
    assert [each.id for each in client.files.list()] == [file.id]
    assert client.files.delete(file.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.content(file.id)
    assert list(client.files.list()) == []


def test_pages_are_followed_and_purposes_told_apart(serve, make_client):
    client = make_client(serve())
    ids = [client.files.create(file=(f"{i}.jsonl", b"x"), purpose="batch" if i % 2 else "evals").id for i in range(7)]
    assert sorted(each.id for each in client.files.list(limit=2)) == sorted(ids)
    assert [each.id for each in client.files.list(limit=3, order="asc")] == list(reversed([each.id for each in client.files.list()]))
    assert len(list(client.files.list(purpose="batch"))) == 3
    with pytest.raises(openai.BadRequestError, match="fine-tune"):
        client.files.create(file=b"x", purpose="assistants")
    short = client.files.create(file=b"x", purpose="user_data", expires_after={"anchor": "created_at", "seconds": 3600})
    assert short.expires_at == short.created_at + 3600


def test_two_projects_see_nothing_of_each_other(serve, make_client):
    server = serve()
    ours, theirs = make_client(server, "ours"), make_client(server, "theirs")
    file = ours.files.create(file=("secret.jsonl", b"secret"), purpose="batch")
    assert list(theirs.files.list()) == []
    for ask in (theirs.files.retrieve, theirs.files.content, theirs.files.delete):
        with pytest.raises(openai.NotFoundError) as refused:
            ask(file.id)
        assert "secret" not in str(refused.value)
    with pytest.raises(openai.NotFoundError):
        list(theirs.files.list(after=file.id))
    assert ours.files.content(file.id).read() == b"secret"
    assert server.request("GET", f"/v1/files/{file.id}/content")[0] == 401


def test_limits_and_a_restart(serve, make_client, clean_environment):
    server = serve("--max-file-mib", "1", "--max-project-files-mib", "2")
    client = make_client(server)
    with pytest.raises(openai.APIStatusError) as refused:
        client.files.create(file=io.BytesIO(bytes(1 << 20) + b"x"), purpose="batch")
    assert refused.value.status_code == 413
    ids = [client.files.create(file=io.BytesIO(bytes(1 << 20)), purpose="batch").id for _ in range(2)]
    with pytest.raises(openai.APIStatusError, match="delete some"):
        client.files.create(file=b"x", purpose="batch")
    server.process.kill()
    server.process.wait()
    # What a crash leaves of an upload has no name, and what it leaves half written has no record.
    kept = pathlib.Path(clean_environment["RIDGE_HOME"]) / "files"
    assert sorted(each.name for each in (kept / "kept").iterdir()) == sorted(ids)
    assert list((kept / "incoming").iterdir()) == []
    again = serve()
    client = client.with_options(base_url=again.url + "/v1")
    assert client.files.content(ids[0]).read() == bytes(1 << 20)
    client.files.create(file=b"x", purpose="batch")


def test_expired_files_are_gone(serve, make_client, clean_environment):
    server = serve()
    client = make_client(server)
    file = client.files.create(file=b"x", purpose="batch")
    home = pathlib.Path(clean_environment["RIDGE_HOME"])
    with sqlite3.connect(home / "platform.db", timeout=30) as database:
        database.execute("UPDATE files SET expires_at_ms = 1")
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file.id)
    assert (home / "files/kept" / file.id).exists()
    server.stop()
    again = serve()  # which sweeps at its start
    again.wait_for_log("files that had expired or were left over are gone")
    assert not (home / "files/kept" / file.id).exists()


def test_without_keys_all_share_the_same_files(serve):
    server = serve(asks_for_keys=False)
    client = openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0)
    file = client.files.create(file=b"x", purpose="batch")
    other = openai.OpenAI(base_url=server.url + "/v1", api_key="other", max_retries=0)
    assert other.files.content(file.id).read() == b"x"


def test_a_full_disk_is_told(ridge_binary, clean_environment, tmp_path):
    """With a limit on the size of files, which fails as a full disk does."""
    wrapper = tmp_path / "small-disk"
    wrapper.write_text(f"#!/bin/bash\ntrap '' XFSZ\nulimit -f 3000\nexec {ridge_binary} \"$@\"\n")
    wrapper.chmod(0o755)
    server = RidgeServer(wrapper, clean_environment, str(MODEL), ["--threads", "1"])
    try:
        client = openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0)
        with pytest.raises(openai.InternalServerError, match="no room on its disk") as full:
            client.files.create(file=bytes(8 << 20), purpose="batch")
        assert full.value.status_code == 503
        small = client.files.create(file=b"x", purpose="batch")
        assert client.files.content(small.id).read() == b"x"
    finally:
        server.stop()
