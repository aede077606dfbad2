"""`ridge pull` against the stand-in for a hub."""

import hashlib
import json
import os
import resource
import signal
import subprocess
import threading
import time

import pytest

from terminal import open_terminal

NAME = "hf:org/tiny:Q8_0"
PATH = "tiny-Q8_0.gguf"


def blobs(store):
    return sorted(path.name for path in (store / "blobs").iterdir())


def nothing_appeared(ridge, store):
    return blobs(store) == [] and json.loads(ridge("list", "--json").stdout)["models"] == []


def parts(store):
    return [path for path in (store / "partial").iterdir() if not path.name.endswith((".json", ".lock"))]


def test_a_file_is_fetched_checked_and_named(hub, pull, stored_bytes, model_bytes, store):
    file = hub.add("org/tiny", PATH, model_bytes)
    result = pull("hf:org/tiny")
    assert result.returncode == 0, result.stderr
    assert result.stdout == ""
    assert stored_bytes(NAME) == model_bytes
    assert blobs(store) == [f"sha256-{file.sha256}"]
    assert parts(store) == []
    # The commit that was listed is the one that is fetched.
    assert f"/org/tiny/resolve/{hub.commit}/{PATH}" in hub.paths()


def test_a_second_pull_asks_nobody(hub, pull, model_bytes):
    hub.add("org/tiny", PATH, model_bytes)
    assert pull(NAME).returncode == 0
    hub.requests.clear()
    result = pull(NAME, "--json")
    assert json.loads(result.stdout)["pulled"][0]["was_here"] is True
    assert hub.requests == []


def test_a_quantization_is_found_in_any_case_and_a_missing_one_is_named(hub, pull, model_bytes):
    hub.add("org/tiny", "tiny.q8_0.gguf", model_bytes)
    hub.add("org/tiny", "tiny-Q2_K.gguf", b"x")
    assert pull("hf:org/tiny:q8_0").returncode == 0
    result = pull("hf:org/tiny:Q5_K_M")
    assert result.returncode == 1
    assert "has no Q5_K_M; it has Q2_K, Q8_0" in result.stderr


def test_redirects_to_another_host_do_not_carry_the_token(hub, pull, stored_bytes, model_bytes):
    hub.token = "hf_canary"
    hub.add("org/tiny", PATH, model_bytes, redirect="http://127.0.0.2:{port}{path}")
    result = pull(NAME, env={"HF_TOKEN": "hf_canary"})
    assert result.returncode == 0, result.stderr
    elsewhere = [request for request in hub.requests if request.host.startswith("127.0.0.2")]
    assert elsewhere, "the redirect was not followed"
    assert all("authorization" not in request.headers for request in elsewhere)
    at_home = [request for request in hub.requests if request.host.startswith("127.0.0.1")]
    assert all(request.headers["authorization"] == "Bearer hf_canary" for request in at_home)
    assert "hf_canary" not in result.stderr + result.stdout
    assert stored_bytes(NAME) == model_bytes


def test_another_name_for_the_same_machine_is_another_host(hub, pull, model_bytes):
    hub.token = "hf_canary"
    hub.add("org/tiny", PATH, model_bytes, redirect="http://localhost:{port}{path}")
    assert pull(NAME, env={"HF_TOKEN": "hf_canary"}).returncode == 0
    elsewhere = [request for request in hub.requests if request.host.startswith("localhost")]
    assert elsewhere and all("authorization" not in request.headers for request in elsewhere)


def test_a_redirect_on_the_same_host_keeps_working(hub, pull, stored_bytes, model_bytes):
    hub.add("org/tiny", PATH, model_bytes, redirect="{path}")
    assert pull(NAME).returncode == 0
    assert stored_bytes(NAME) == model_bytes


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://user@127.0.0.1/x",
                                    "http://127.0.0.1\\@127.0.0.2/x"])
def test_redirects_to_strange_places_are_refused(hub, pull, ridge, store, model_bytes, target):
    hub.add("org/tiny", PATH, model_bytes, redirect=target)
    result = pull(NAME)
    assert result.returncode == 1
    assert "sends elsewhere, but" in result.stderr
    assert len(hub.requests) == 2, "the list and the redirect, and no third try"
    assert nothing_appeared(ridge, store)


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest/meta-data/iam", "http://0xa9fea9fe/", "http://[fe80::1]/"])
def test_redirects_to_where_clouds_keep_their_secrets_are_refused(hub, pull, ridge, store, model_bytes, target):
    hub.add("org/tiny", PATH, model_bytes, redirect=target)
    result = pull(NAME)
    assert result.returncode == 1
    assert "link-local" in result.stderr
    assert nothing_appeared(ridge, store)


def test_a_circle_of_redirects_ends(hub, pull, model_bytes):
    hub.add("org/tiny", PATH, model_bytes, redirect="http://127.0.0.1:{port}/org/tiny/resolve/main/" + PATH)
    result = pull(NAME)
    assert result.returncode == 1
    assert "redirects" in result.stderr
    assert len(hub.requests) < 20


def test_a_cut_connection_is_continued(hub, pull, stored_bytes, model_bytes):
    hub.add("org/tiny", PATH, model_bytes, cuts=[200_000, 100_000])
    result = pull(NAME)
    assert result.returncode == 0, result.stderr
    assert "trying again" in result.stderr
    ranges = [r.headers["range"] for r in hub.requests if "range" in r.headers]
    assert ranges == ["bytes=200000-", "bytes=300000-"]
    assert all(r.headers["if-range"] == '"1"' for r in hub.requests if "range" in r.headers)
    assert stored_bytes(NAME) == model_bytes


def test_a_later_pull_continues_an_earlier_one(hub, pull, stored_bytes, model_bytes, ridge, store):
    hub.add("org/tiny", PATH, model_bytes, cuts=[100_000, 0, 0])
    result = pull(NAME)
    assert result.returncode == 1
    assert blobs(store) == []
    assert [path.stat().st_size for path in parts(store)] == [100_000]
    hub.requests.clear()
    assert pull(NAME).returncode == 0
    assert [r.headers["range"] for r in hub.requests if "range" in r.headers] == ["bytes=100000-"]
    assert stored_bytes(NAME) == model_bytes


def test_ctrl_c_leaves_a_part_that_is_continued(hub, ridge_binary, clean_environment, pull, stored_bytes,
                                                model_bytes, store):
    file = hub.add("org/tiny", PATH, model_bytes, pause_s=0.2)
    process = subprocess.Popen([ridge_binary, "pull", NAME], stderr=subprocess.PIPE, text=True,
                               env={**clean_environment, "HF_ENDPOINT": hub.url()})
    deadline = time.monotonic() + 30
    while not any(path.stat().st_size for path in (store / "partial").glob("sha256-*[0-9a-f]")):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    assert errors.splitlines()[-1].startswith("ridge: stopped; 'ridge pull")
    (part,) = parts(store)
    kept = part.stat().st_size
    assert 0 < kept < len(model_bytes)
    file.pause_s = 0
    hub.requests.clear()
    assert pull(NAME).returncode == 0
    assert [r.headers["range"] for r in hub.requests if "range" in r.headers] == [f"bytes={kept}-"]
    assert stored_bytes(NAME) == model_bytes


def test_a_killed_pull_is_continued(hub, ridge_binary, clean_environment, pull, stored_bytes, model_bytes, store):
    file = hub.add("org/tiny", PATH, model_bytes, pause_s=0.2)
    process = subprocess.Popen([ridge_binary, "pull", NAME], env={**clean_environment, "HF_ENDPOINT": hub.url()},
                               stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 30
    while not any(path.stat().st_size for path in (store / "partial").glob("sha256-*[0-9a-f]")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.kill()
    process.wait()
    file.pause_s = 0
    assert pull(NAME).returncode == 0, "the lock of the dead process must not hold"
    assert stored_bytes(NAME) == model_bytes


def test_a_server_without_ranges_starts_again(hub, pull, stored_bytes, model_bytes):
    hub.add("org/tiny", PATH, model_bytes, cuts=[200_000], ranges=False)
    assert pull(NAME).returncode == 0
    assert stored_bytes(NAME) == model_bytes


def test_a_part_of_other_bytes_is_thrown_away(hub, pull, stored_bytes, model_bytes, store, ridge):
    file = hub.add("org/tiny", PATH, model_bytes)
    ridge("list")
    (store / "partial" / f"sha256-{file.sha256}").write_bytes(b"other" * 1000)
    result = pull(NAME)
    assert result.returncode == 0, result.stderr
    assert "starting again" in result.stderr
    assert stored_bytes(NAME) == model_bytes


def test_a_part_longer_than_the_file_is_thrown_away(hub, pull, stored_bytes, model_bytes, store, ridge):
    file = hub.add("org/tiny", PATH, model_bytes)
    ridge("list")
    (store / "partial" / f"sha256-{file.sha256}").write_bytes(model_bytes + b"more")
    assert pull(NAME).returncode == 0
    assert stored_bytes(NAME) == model_bytes


@pytest.mark.parametrize("honours_if_range", [True, False])
def test_a_file_that_changed_meanwhile_is_not_mixed(hub, pull, stored_bytes, model_bytes, honours_if_range):
    old = bytes(reversed(model_bytes))
    file = hub.add("org/tiny", PATH, old, cuts=[200_000, 0, 0])
    # The hub's list is of the new file already; the bytes are still the old ones.
    file.stated_sha256 = hashlib.sha256(model_bytes).hexdigest()
    assert pull(NAME).returncode == 1
    file.data = model_bytes
    file.etag = '"2"' if honours_if_range else None
    result = pull(NAME)
    assert result.returncode == 0, result.stderr
    assert stored_bytes(NAME) == model_bytes


def test_a_server_that_ignores_if_range_but_shows_another_etag(hub, pull, stored_bytes, model_bytes):
    file = hub.add("org/tiny", PATH, model_bytes, cuts=[200_000, 0, 0])
    assert pull(NAME).returncode == 1

    class Any(str):
        """Compares equal to every If-Range."""

        __hash__ = str.__hash__

        def __eq__(self, other):
            return True

    file.etag = Any('"2"')
    hub.requests.clear()
    assert pull(NAME).returncode == 0
    asked = [request.headers.get("range") for request in hub.requests if "/resolve/" in request.path]
    assert asked == ["bytes=200000-", None], "the part is of another version: from the start"
    assert stored_bytes(NAME) == model_bytes


def test_a_wrong_digest_is_refused_with_both_named(hub, pull, ridge, store, model_bytes):
    wrong = "0" * 63 + "1"
    file = hub.add("org/tiny", PATH, model_bytes, stated_sha256=wrong)
    result = pull(NAME)
    assert result.returncode == 1
    assert wrong in result.stderr and file.sha256 in result.stderr
    assert nothing_appeared(ridge, store)
    assert parts(store) == []


@pytest.mark.parametrize("stated", [10, 10_000_000])
def test_a_wrong_size_is_refused(hub, pull, ridge, store, model_bytes, stated):
    hub.add("org/tiny", PATH, model_bytes, stated_size=stated)
    result = pull(NAME)
    assert result.returncode == 1
    assert "600000 bytes, the hub states" in result.stderr
    assert nothing_appeared(ridge, store)


def test_more_bytes_than_stated_are_refused(hub, pull, ridge, store, model_bytes):
    hub.add("org/tiny", PATH, model_bytes, stated_size=100_000, chunked=True)
    result = pull(NAME)
    assert result.returncode == 1
    assert "more than 100000 bytes" in result.stderr
    assert nothing_appeared(ridge, store)


def test_without_stated_digest_the_head_of_the_file_is_asked(hub, pull, ridge, store, stored_bytes, model_bytes):
    file = hub.add("org/tiny", PATH, model_bytes, stated_sha256="", redirect="http://127.0.0.2:{port}{path}")
    result = pull(NAME)
    assert result.returncode == 1
    assert "no SHA-256" in result.stderr
    assert nothing_appeared(ridge, store)
    file.linked_etag = file.sha256
    assert pull(NAME).returncode == 0
    assert stored_bytes(NAME) == model_bytes


def test_a_file_of_unknown_length_is_fetched(hub, pull, stored_bytes, model_bytes):
    hub.add("org/tiny", PATH, model_bytes, stated_size=0, chunked=True)
    assert pull(NAME).returncode == 0
    assert stored_bytes(NAME) == model_bytes


def test_a_missing_repository_is_a_404(hub, pull):
    result = pull("hf:org/none", "--json")
    assert result.returncode == 1
    error = json.loads(result.stdout)["error"]
    assert error["code"] == "not_found"
    assert "404" in error["message"]
    assert len(hub.requests) == 1, "a 404 is not asked for again"


def test_a_gated_model_asks_for_the_token(hub, pull, stored_bytes, model_bytes):
    hub.token = "hf_right"
    hub.add("org/tiny", PATH, model_bytes)
    without = pull(NAME, "--json")
    assert json.loads(without.stdout)["error"]["code"] == "unauthenticated"
    assert "HF_TOKEN" in without.stdout
    wrong = pull(NAME, "--json", env={"HF_TOKEN": "hf_wrong"})
    assert json.loads(wrong.stdout)["error"]["code"] == "permission_denied"
    assert "hf_wrong" not in wrong.stdout + wrong.stderr
    assert len(hub.requests) == 2
    assert pull(NAME, env={"HF_TOKEN": "hf_right"}).returncode == 0
    assert stored_bytes(NAME) == model_bytes


def test_429_waits_as_long_as_asked(hub, pull, model_bytes):
    hub.add("org/tiny", PATH, model_bytes)
    hub.answers = [(429, {"Retry-After": "2"})]
    start = time.monotonic()
    result = pull(NAME)
    assert result.returncode == 0, result.stderr
    assert time.monotonic() - start >= 2
    assert "too many requests" in result.stderr and "2.0 s" in result.stderr


def test_429_with_an_absurd_wait_gives_up_at_once(hub, pull, model_bytes):
    hub.add("org/tiny", PATH, model_bytes)
    hub.answers = [(429, {"Retry-After": "999999999999"})]
    start = time.monotonic()
    result = pull(NAME, "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout)["error"]["code"] == "unavailable"
    assert time.monotonic() - start < 10


def test_a_failing_server_is_asked_again(hub, pull, model_bytes):
    hub.add("org/tiny", PATH, model_bytes)
    hub.answers = [(503, {}), (500, {})]
    assert pull(NAME).returncode == 0


@pytest.mark.parametrize("path", ["../tiny-Q8_0.gguf", "/tmp/tiny-Q8_0.gguf", "a/../../tiny-Q8_0.gguf"])
def test_a_path_that_leads_out_is_refused(hub, pull, ridge, store, tmp_path, model_bytes, path):
    hub.add("org/tiny", path, model_bytes)
    result = pull(NAME)
    assert result.returncode == 1
    assert "refused" in result.stderr
    assert nothing_appeared(ridge, store)


@pytest.mark.parametrize("name", ["hf:../x", "hf:a/..", "hf:a/b:../c", "a/../b", "..", "hf:a/b?x", "hf:a"])
def test_a_name_that_leads_out_is_a_wrong_command_line(hub, pull, name):
    assert pull(name).returncode == 2
    assert hub.requests == []


def test_a_split_model_is_whole_or_absent(hub, pull, ridge, store, model_bytes):
    halves = [model_bytes[:250_000], model_bytes[250_000:]]
    for number, half in enumerate(halves, 1):
        hub.add("org/big", f"Q8_0/big-Q8_0-{number:05}-of-00002.gguf", half)
    hub.repositories["org/big"]["Q8_0/big-Q8_0-00002-of-00002.gguf"].cuts = [1000, 0, 0]
    assert pull("hf:org/big").returncode == 1
    assert json.loads(ridge("list", "--json").stdout)["models"] == []
    hub.requests.clear()
    result = pull("hf:org/big", "--json")
    assert result.returncode == 0, result.stderr
    assert not [path for path in hub.paths() if "00001-of" in path], "the first part was there"
    path = json.loads(result.stdout)["pulled"][0]["path"]
    assert path.endswith("/big-Q8_0-00001-of-00002.gguf")
    for number, half in enumerate(halves, 1):
        assert open(path.replace("00001-of", f"{number:05}-of"), "rb").read() == half
    assert ridge("verify", "hf:org/big").returncode == 0
    assert ridge("rm", "hf:org/big").returncode == 0
    assert blobs(store) == [] and list((store / "split").iterdir()) == []


def test_a_split_model_with_a_missing_part_is_refused(hub, pull):
    hub.add("org/big", "big-Q8_0-00001-of-00002.gguf", b"x")
    result = pull("hf:org/big")
    assert result.returncode == 1
    assert "not all 2 parts" in result.stderr


def test_the_proxy_of_the_environment_is_used(hub, pull, stored_bytes, model_bytes):
    # The stand-in takes the part of the proxy; the hub's own name exists nowhere.
    hub.add("org/tiny", PATH, model_bytes)
    result = pull(NAME, env={"HF_ENDPOINT": "http://hub.invalid", "http_proxy": hub.url()})
    assert result.returncode == 0, result.stderr
    assert hub.requests[0].path.startswith("http://hub.invalid/api/models/org/tiny")
    hub.requests.clear()
    assert pull("hf:org/other", env={"http_proxy": "http://127.0.0.1:1", "no_proxy": "127.0.0.1"}).returncode == 1
    assert len(hub.requests) == 1, "no_proxy goes around the proxy"


def test_two_pulls_of_one_model_fetch_it_once(hub, ridge_binary, clean_environment, stored_bytes, model_bytes):
    hub.add("org/tiny", PATH, model_bytes, pause_s=0.05)
    processes = [subprocess.Popen([ridge_binary, "pull", NAME], env={**clean_environment, "HF_ENDPOINT": hub.url()},
                                  stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert len([path for path in hub.paths() if "/resolve/" in path]) == 1
    assert stored_bytes(NAME) == model_bytes


def test_a_limit_on_file_sizes_is_an_error_not_a_crash(hub, pull, ridge, store, model_bytes):
    file = hub.add("org/tiny", PATH, model_bytes)

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))

    result = pull(NAME, preexec_fn=limit)
    assert result.returncode == 1
    assert f"cannot write {store}/partial/sha256-{file.sha256}" in result.stderr
    assert nothing_appeared(ridge, store)
    assert pull(NAME).returncode == 0, "with room again it continues"


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MB in memory; needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("cannot mount a small file system here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_seen_before_the_first_byte(hub, pull, small_disk):
    hub.add("org/tiny", PATH, b"x" * 9_000_000)
    result = pull(NAME, env={"RIDGE_HOME": str(small_disk / "store")})
    assert result.returncode == 1
    assert "not enough space" in result.stderr and "9.0 MB" in result.stderr
    assert not [path for path in hub.paths() if "/resolve/" in path]


def test_a_disk_that_fills_up_meanwhile_is_named(hub, pull, ridge, small_disk, model_bytes):
    data = model_bytes * 50
    hub.add("org/tiny", PATH, data, stated_size=0, chunked=True)
    home = {"RIDGE_HOME": str(small_disk / "store")}
    result = pull(NAME, env=home)
    assert result.returncode == 1
    assert "No space left on device" in result.stderr and "free some space" in result.stderr
    assert blobs(small_disk / "store") == []
    assert json.loads(ridge("list", "--json", env=home).stdout)["models"] == []
    subprocess.run(["mount", "-o", "remount,size=80m", small_disk], check=True)
    hub.requests.clear()
    assert pull(NAME, env=home).returncode == 0
    assert any("range" in request.headers for request in hub.requests), "what was written is used"


def test_a_damaged_model_is_refused_and_pulled_again(hub, pull, ridge, store, stored_bytes, model_bytes):
    file = hub.add("org/tiny", PATH, model_bytes)
    assert pull(NAME).returncode == 0
    blob = store / "blobs" / f"sha256-{file.sha256}"
    with open(blob, "r+b") as stream:
        stream.write(b"damage")
    shown = ridge("show", NAME)
    assert shown.returncode == 1 and "ridge verify" in shown.stderr
    verified = ridge("verify")
    assert verified.returncode == 1
    assert file.sha256 in verified.stderr and "quarantine" in verified.stderr
    assert not blob.exists()
    hub.requests.clear()
    assert pull(NAME).returncode == 0
    assert stored_bytes(NAME) == model_bytes


def test_a_touched_model_is_not_taken_unread(hub, pull, store, stored_bytes, model_bytes):
    file = hub.add("org/tiny", PATH, model_bytes)
    assert pull(NAME).returncode == 0
    blob = store / "blobs" / f"sha256-{file.sha256}"
    blob.write_bytes(b"y" * len(model_bytes))
    assert pull(NAME).returncode == 0, "pull reads it again, finds it wrong, and fetches it"
    assert stored_bytes(NAME) == model_bytes


def test_progress_and_colour_stay_off_a_pipe(hub, pull, model_bytes):
    hub.add("org/tiny", PATH, model_bytes)
    result = pull(NAME)
    assert "\033" not in result.stderr + result.stdout and "\r" not in result.stderr
    assert pull(NAME, "--quiet").stderr == ""


def test_progress_shows_on_a_terminal(hub, ridge_binary, clean_environment, model_bytes):
    hub.add("org/tiny", PATH, model_bytes, pause_s=0.05)
    parent, child = open_terminal()
    process = subprocess.Popen([ridge_binary, "pull", NAME], stderr=child, stdout=child,
                               env={**clean_environment, "HF_ENDPOINT": hub.url(), "TERM": "xterm"})
    os.close(child)
    text = b""
    reader = threading.Thread(target=process.wait)
    reader.start()
    try:
        while piece := os.read(parent, 4096):
            text += piece
    except OSError:
        pass  # the terminal ends with the process
    reader.join()
    assert process.returncode == 0
    assert b"tiny-Q8_0.gguf" in text and b"of 600 kB" in text and b"%" in text
