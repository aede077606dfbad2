"""`ridge run` through pipes and on a terminal."""

import json
import os
import pty
import select
import subprocess
import time

import pytest

from ridge_process import MODEL


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


def test_a_closed_pipe_ends_it(ridge_binary, model_environment):
    process = subprocess.Popen(
        [ridge_binary, "run", MODEL, "Write a very long story.", "--temperature", "0", "--max-tokens", "2000"],
        env=model_environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )
    assert process.stdout.read(1)
    process.stdout.close()
    assert process.wait(timeout=60) != 0


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, command, environment):
        self.master, slave = pty.openpty()
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

    def wait(self):
        while self.process.poll() is None:
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
    import fcntl
    import termios

    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)


@pytest.fixture
def chat(ridge_binary, model_environment):
    terminal = Terminal(
        [ridge_binary, "run", MODEL, "--temperature", "0", "--max-tokens", "1500", "--context", "2048"],
        model_environment,
    )
    yield terminal
    if terminal.process.poll() is None:
        terminal.process.kill()
        terminal.process.wait()


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


def test_ctrl_c_stops_the_answer_and_not_the_chat(chat):
    chat.wait_for(">>> ")
    chat.type("List the first 300 prime numbers.\r")  # at temperature 0 it goes on and on
    chat.wait_for("numbers.\r\n")
    chat.wait_for("2")
    chat.type("\x03")
    chat.wait_for("(stopped)", timeout_s=10)
    chat.wait_for(">>> ")
    chat.type("\x03")  # at the prompt it only clears the line
    chat.wait_for("leaves")
    chat.wait_for(">>> ")
    chat.type("What is the capital of France?\r")
    chat.wait_for("tokens/s")
    chat.wait_for(">>> ")
    chat.type("\x04")
    assert chat.wait() == 0


def test_ctrl_c_ends_a_single_answer_with_130(ridge_binary, model_environment):
    terminal = Terminal(
        [ridge_binary, "run", MODEL, "Write a very long story.", "--temperature", "0", "--max-tokens", "2000"],
        model_environment,
    )
    terminal.wait_for(". ")
    terminal.type("\x03")
    assert terminal.wait() == 130
