"""`ridge run` through pipes and on a terminal."""

import fcntl
import json
import os
import pathlib
import select
import struct
import subprocess
import termios
import time

import pytest

from ridge_process import MODEL
from terminal import open_terminal

GOLDENS = pathlib.Path(__file__).resolve().parents[1] / "goldens"


def run(ridge_binary, environment, *words, text=None):
    source = {"input": text} if text is not None else {"stdin": subprocess.DEVNULL}
    return subprocess.run(
        [ridge_binary, "run", MODEL, *words], env=environment, capture_output=True, text=True, timeout=120, **source
    )


def test_the_answer_alone_goes_to_standard_output(ridge_binary, model_environment):
    result = run(ridge_binary, model_environment, "What is the capital of France?", "--temperature", "0",
                 "--max-tokens", "12")
    assert result.returncode == 0
    assert "Paris" in result.stdout
    assert "tokens/s" in result.stderr
    assert "tokens/s" not in result.stdout
    assert "\x1b" not in result.stdout + result.stderr
    quiet = run(ridge_binary, model_environment, "What is the capital of France?", "--temperature", "0",
                "--max-tokens", "12", "--quiet")
    assert quiet.stdout == result.stdout
    assert quiet.stderr == ""


def test_standard_input_stands_behind_the_prompt(ridge_binary, model_environment):
    options = ["--temperature", "0", "--max-tokens", "16", "--json"]
    piped = json.loads(run(ridge_binary, model_environment, *options, text="What is the capital of France?\n").stdout)
    assert "Paris" in piped["content"]
    both = json.loads(
        run(ridge_binary, model_environment, "Answer:", *options, text="What is the capital of France?\n").stdout
    )
    one = json.loads(
        run(ridge_binary, model_environment, "Answer:\n\nWhat is the capital of France?", *options).stdout
    )
    assert both["content"] == one["content"]
    assert both["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"] > piped["usage"]["prompt_tokens"]


def test_a_seed_repeats_the_answer(ridge_binary, model_environment):
    words = ["Tell me something.", "--seed", "5", "--max-tokens", "12"]
    assert run(ridge_binary, model_environment, *words).stdout == run(ridge_binary, model_environment, *words).stdout


def test_an_empty_prompt_is_an_error(ridge_binary, model_environment):
    result = run(ridge_binary, model_environment)
    assert result.returncode == 2
    assert "prompt is empty" in result.stderr


@pytest.fixture(scope="module")
def endless_model(tmp_path_factory):
    """A tiny model that says nothing of sense and comes to no end: 131,072 tokens of context instead of 128."""
    data = (GOLDENS / "llama-f32.gguf").read_bytes()
    key = b"llama.context_length" + struct.pack("<I", 4)  # a uint32 follows
    assert data.count(key + struct.pack("<I", 128)) == 1
    path = tmp_path_factory.mktemp("endless") / "endless.gguf"
    path.write_bytes(data.replace(key + struct.pack("<I", 128), key + struct.pack("<I", 131072)))
    return path


@pytest.fixture
def endless_words(ridge_binary, endless_model):
    return [ridge_binary, "run", endless_model, "--temperature", "0", "--max-tokens", "100000"]


def test_a_closed_pipe_ends_it(endless_words, model_environment):
    process = subprocess.Popen(
        [*endless_words, "Go on."], env=model_environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    assert process.stdout.read(1)
    process.stdout.close()
    assert process.wait(timeout=60) != 0


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command, environment):
        self.master, slave = open_terminal()
        self.process = subprocess.Popen(
            command, env={**environment, "TERM": "xterm", "LC_ALL": "C.UTF-8"}, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, preexec_fn=lambda: _take_terminal(slave),
        )
        os.close(slave)
        self.text = ""
        self.seen = 0

    def type(self, text):
        os.write(self.master, text.encode())

    def wait_for(self, wanted, timeout_s=60):
        """What was shown since the last wait, up to `wanted`."""
        until = time.monotonic() + timeout_s
        while wanted not in self.text[self.seen :]:
            assert time.monotonic() < until, f"no {wanted!r} in {self.text[self.seen:]!r}"
            if not self._read(0.2) and self.process.poll() is not None:
                raise AssertionError(f"ended without {wanted!r}: {self.text[self.seen:]!r}")
        end = self.text.index(wanted, self.seen) + len(wanted)
        shown, self.seen = self.text[self.seen : end], end
        return shown

    def wait_for_more(self, timeout_s=60):
        """Anything at all after what was waited for."""
        until = time.monotonic() + timeout_s
        while len(self.text) <= self.seen:
            assert time.monotonic() < until, "nothing more is shown"
            self._read(0.2)
        self.seen = len(self.text)

    def collects_lines(self):
        return bool(termios.tcgetattr(self.master)[3] & termios.ICANON)

    def wait(self, timeout_s=60):
        until = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < until, f"does not end after {self.text[self.seen:]!r}"
            self._read(0.1)
        os.close(self.master)
        return self.process.returncode

    def _read(self, timeout_s):
        if not select.select([self.master], [], [], timeout_s)[0]:
            return False
        try:
            self.text += os.read(self.master, 65536).decode(errors="replace")
        except OSError:  # the other side is closed
            return False
        return True


def _take_terminal(slave):
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


@pytest.fixture
def start_terminal(model_environment):
    started = []

    def start(words):
        started.append(Terminal(words, model_environment))
        return started[-1]

    yield start
    for terminal in started:
        if terminal.process.poll() is None:
            terminal.process.kill()
            terminal.process.wait()


@pytest.fixture
def chat(ridge_binary, start_terminal):
    return start_terminal([ridge_binary, "run", MODEL, "--temperature", "0", "--max-tokens", "100"])


@pytest.fixture
def endless_chat(endless_words, start_terminal):
    return start_terminal(endless_words)


def test_a_chat_remembers_and_leaves(chat):
    chat.wait_for(">>> ")
    chat.type("What is the capital of France?\r")
    assert "Paris" in chat.wait_for("tokens/s")
    chat.wait_for(">>> ")
    chat.type("/help\r")
    chat.wait_for("/system")
    chat.wait_for(">>> ")
    chat.type("/no-such\r")
    chat.wait_for("There is no /no-such")
    chat.wait_for(">>> ")
    chat.type('"""Say\r')
    chat.wait_for("... ")
    chat.type('hello"""\r')
    chat.wait_for("tokens/s")
    chat.wait_for(">>> ")
    chat.type("/bye\r")
    assert chat.wait() == 0


def ask_endlessly(chat):
    chat.wait_for(">>> ")
    chat.type("Go on.\r")
    chat.wait_for("Go on.\r\n")
    chat.wait_for_more()


def test_ctrl_c_stops_the_answer_and_not_the_chat(endless_chat):
    ask_endlessly(endless_chat)
    endless_chat.type("\x03")
    endless_chat.wait_for("(stopped)")
    endless_chat.wait_for(">>> ")
    endless_chat.type("\x03")  # at the prompt it only clears the line
    endless_chat.wait_for("leaves")
    ask_endlessly(endless_chat)
    endless_chat.type("\x03")
    endless_chat.wait_for("(stopped)")
    endless_chat.wait_for(">>> ")
    endless_chat.type("\x04")
    assert endless_chat.wait() == 0


def test_ctrl_d_before_the_prompt_spoils_nothing(endless_chat):
    ask_endlessly(endless_chat)
    endless_chat.type("\x03\x04")  # Ctrl-C discards what was typed before it, not what comes behind
    endless_chat.wait_for("(stopped)")
    endless_chat.wait_for(">>> ")
    endless_chat.type("\x03")
    endless_chat.wait_for("leaves")
    endless_chat.wait_for(">>> ")
    endless_chat.type("\x04")
    assert endless_chat.wait() == 0


def test_the_terminal_is_ready_when_the_prompt_shows(endless_chat):
    # What is typed while it still collects lines is echoed twice, and a Ctrl-D is lost.
    for _ in range(30):
        endless_chat.wait_for(">>> ")
        assert not endless_chat.collects_lines()
        endless_chat.type("\x03")
        endless_chat.wait_for("leaves")
    endless_chat.wait_for(">>> ")
    endless_chat.type("\x04")
    assert endless_chat.wait() == 0


def test_ctrl_c_ends_a_single_answer_with_130(endless_words, start_terminal):
    terminal = start_terminal([*endless_words, "Go on.", "--quiet"])  # so that only the answer shows
    terminal.wait_for_more()
    terminal.type("\x03")
    assert terminal.wait() == 130
