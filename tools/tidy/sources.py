"""The tree that the rules look at, and what they ask of a C++ file."""

import functools
import os
import re

# A comment, a raw string, a string or a character: whatever may hold text that is no code. A quote after
# a digit separates thousands.
LITERAL = re.compile(
    r"""//[^\n]*|/\*.*?\*/|R"(?P<mark>[^()\\\s]{0,16})\(.*?\)(?P=mark)"|"(?:\\.|[^"\\\n])*"|(?<![0-9])'(?:\\.|[^'\\\n])+'""",
    re.DOTALL,
)
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*(?:"([^"\n]+)"|<([^>\n]+)>)', re.MULTILINE)
TEXT_SUFFIXES = (
    ".c .cc .cmake .cpp .css .h .html .in .js .json .md .py .rs .service .sh .svelte .toml .ts .txt .yaml .yml"
).split()


class Tree:
    """A set of files under root; `paths` are relative, with forward slashes, sorted."""

    def __init__(self, root, paths):
        self.root = root
        self.paths = paths

    @functools.lru_cache(maxsize=None)
    def text(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8", errors="replace") as file:
            return file.read()

    @functools.lru_cache(maxsize=None)
    def code(self, path):
        """The text with comments and the insides of strings blanked; line numbers stay."""
        return LITERAL.sub(blank, self.text(path))

    def includes(self, path):
        """(line, path, quoted) of each include."""
        text = LITERAL.sub(lambda match: match[0] if match[0][0] == '"' else blank(match), self.text(path))
        for match in INCLUDE.finditer(text):
            yield line_of(text, match.start()), match[1] or match[2], match[1] is not None

    def with_suffix(self, *suffixes, under=""):
        return [path for path in self.paths if path.startswith(under) and path.endswith(suffixes)]

    def cpp(self, under=""):
        return self.with_suffix(".h", ".cc", ".cpp", ".c", under=under)

    def texts(self):
        """Files that people write: sources, documents, scripts."""
        for path in self.paths:
            name = path.rsplit("/", 1)[-1]
            if path.endswith(tuple(TEXT_SUFFIXES)) or "." not in name.lstrip("."):
                with open(os.path.join(self.root, path), "rb") as file:
                    if b"\0" not in file.read(4096):
                        yield path


def blank(match):
    """Spaces for all but line ends, with the quotes of a string kept."""
    literal = re.sub(r"[^\n]", " ", match[0])
    return f'"{literal[1:-1]}"' if match[0][0] == '"' else literal


def line_of(text, offset):
    return text.count("\n", 0, offset) + 1


def layer_of(path):
    """The folder of src/ that holds path, or None."""
    parts = path.split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "src" else None


def back_end_of(path):
    """The back end X of src/backend/X/…, or of an include backend/X/…, or None."""
    parts = path.removeprefix("src/").split("/")
    return parts[1] if len(parts) > 2 and parts[0] == "backend" else None
