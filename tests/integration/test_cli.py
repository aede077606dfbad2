"""The command line itself: help, exit codes, errors, completion."""

import json
import shutil
import subprocess

import pytest


def test_help_lists_the_commands_and_is_no_error(ridge):
    result = ridge("--help")
    assert result.returncode == 0 and result.stderr == ""
    for word in ["pull", "list", "show", "rm", "verify", "Examples:", "Exit codes:"]:
        assert word in result.stdout
    assert "\033" not in result.stdout
    for command in ["pull", "list", "show", "rm", "verify", "quantize", "completion"]:
        assert ridge(command, "--help").returncode == 0


@pytest.mark.parametrize("words", [["bench", "--serve", "--help"], ["serve", "--port", "-h"], ["bench", "--machine", "--help"]])
def test_help_is_no_value_of_the_option_before_it(ridge, words):
    result = ridge(*words)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == ridge(words[0], "--help").stdout


def test_version_is_one_line(ridge):
    assert ridge("--version").stdout.startswith("ridge ")


@pytest.mark.parametrize("words", [[], ["--bogus"], ["bogus"], ["list", "--bogus"], ["pull"], ["show", "a b"]])
def test_a_wrong_command_line_is_code_2(ridge, words):
    result = ridge(*words)
    assert result.returncode == 2 and result.stdout == "" and result.stderr


def test_an_error_is_one_line_or_one_object(ridge):
    result = ridge("rm", "smollm2")
    assert result.returncode == 1
    assert result.stdout == "" and result.stderr.count("\n") == 1 and result.stderr.startswith("ridge: ")
    result = ridge("rm", "smollm2", "--json")
    assert result.returncode == 1 and result.stderr == ""
    assert json.loads(result.stdout)["error"]["code"] == "not_found"
    assert json.loads(ridge("--json", "list", "--bogus").stdout)["error"]["code"] == "invalid_argument"


def test_a_file_that_is_no_model_is_an_error(ridge, tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    result = ridge("show", tmp_path / "x.gguf")
    assert result.returncode == 1 and "x.gguf" in result.stderr
    assert "does not exist" in ridge("show", "./none.gguf").stderr


def test_show_tells_what_the_catalog_knows(ridge):
    shown = json.loads(ridge("show", "deepseek-r1:70b", "--json").stdout)
    assert shown["license"] == "MIT" and "Llama 3.3" in shown["license_note"]
    assert shown["pulled"] is False and len(shown["sources"]) == 3


def test_home_and_environment_choose_the_store(ridge, tmp_path):
    ridge("list", "--home", tmp_path / "flag")
    assert (tmp_path / "flag" / "blobs").is_dir()
    ridge("list", env={"RIDGE_HOME": "", "XDG_DATA_HOME": str(tmp_path / "xdg")})
    assert (tmp_path / "xdg" / "ridge" / "blobs").is_dir()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_sound(ridge, shell):
    script = ridge("completion", shell).stdout
    assert "verify" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    checked = subprocess.run([shell, "-n"], input=script, text=True, capture_output=True)
    assert checked.returncode == 0, checked.stderr


def test_bash_completes_commands_options_and_models(ridge, ridge_binary, clean_environment):
    script = ridge("completion", "bash").stdout

    def complete(*words):
        line = f"""{script}
COMP_WORDS=({' '.join(words)} ""); COMP_WORDS=("${{COMP_WORDS[@]:0:{len(words)}}}")
COMP_CWORD={len(words) - 1}; _ridge; printf '%s\\n' "${{COMPREPLY[@]}}" """
        path = f"{ridge_binary.parent}:{clean_environment['PATH']}"
        result = subprocess.run(["bash", "--norc", "-c", line], text=True, capture_output=True,
                                env={**clean_environment, "PATH": path})
        return result.stdout.split()

    assert complete("ridge", "ver") == ["verify"]
    assert "--attempts" in complete("ridge", "pull", "--a")
    assert complete("ridge", "key", "r") == ["rotate", "revoke"]
    assert "--expires" in complete("ridge", "key", "create", "--e")


def test_each_commands_help_is_its_own(ridge):
    for command in ("rm", "ps"):
        assert "ridge pull" not in ridge(command, "--help").stdout
    logits = ridge("logits", "--help").stdout
    assert "Option Group" not in logits and "--tokens-file" in logits
    assert "MODEL" in ridge("serve", "--help").stdout


def test_logits_need_tokens_from_one_place(ridge):
    neither = ridge("logits", "some.gguf")
    assert neither.returncode == 2 and "--tokens or --tokens-file" in neither.stderr
    assert ridge("logits", "some.gguf", "--tokens", "1", "--tokens-file", "-").returncode == 2


def test_rm_of_a_model_that_is_not_here_speaks_of_the_store(ridge):
    result = ridge("rm", "nothere")
    assert result.returncode == 1
    assert "'nothere' is not in the store" in result.stderr and "catalog" not in result.stderr
