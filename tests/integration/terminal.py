"""A terminal for a program that behaves otherwise on one."""

import pty

import pytest


def open_terminal():
    """(our end, the program's end) as file descriptors. Skips the test where the machine gives no pseudo-terminal,
    as in a bare chroot."""
    try:
        return pty.openpty()
    except OSError as error:
        pytest.skip(f"no terminal to test on: {error} (is /dev/pts mounted?)")
