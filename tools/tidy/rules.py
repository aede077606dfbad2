"""The rules. Each takes a Tree and yields Findings; its name is its key in RULES."""

import dataclasses
import re

from sources import Tree, back_end_of, blank, layer_of, line_of

__all__ = ["RULES", "Finding", "Tree"]


@dataclasses.dataclass(frozen=True)
class Finding:
    path: str
    line: int
    message: str
    warning: bool = False


# Stricter than the order of the layers. The reasons stand in the project's design.
FORBIDDEN_INCLUDES = {
    "sampling": ({"text"}, "sampling receives masks, not grammars"),
    "platform": (
        {"tensor", "backend", "communicator", "text", "sampling", "kvcache", "model"},
        "platform knows no tensor",
    ),
}
# Boost's HTTP parts cost seconds in each file that sees them.
BOOST_LAYERS = {"server"}
# The one file that knows the list of back ends.
REGISTRY = re.compile(r"src/backend/registry\.(cc|h)$")

FORBIDDEN_WORDS = {"manager", "managers", "util", "utils", "helper", "helpers", "impl", "impls"}
NAMED_FOLDERS = ("src/", "rust/", "console/", "tools/", "tests/", "benchmarks/", "data/", "deploy/", "cmake/")

KERNELS = "src/backend/ascend/kernels/"
# What a device's compiler does not take, with the reason.
NOT_ON_A_DEVICE = (
    (re.compile(r"\bstd\s*::\s*\w+"), "a device has no standard library"),
    (re.compile(r"\b(?:throw|try|catch|noexcept)\b"), "a device knows no exceptions"),
    (re.compile(r"\b(?:virtual|dynamic_cast|typeid)\b"), "a device has no types at run time"),
    (re.compile(r"(?<!\boperator )\b(?:new|delete)\b"), "a device has no heap"),
    (re.compile(r"\b(?:thread_local|goto|asm|union)\b"), "kernels do without"),
    (re.compile(r"\b(?:concept|requires|consteval|constinit|co_await|co_yield|co_return)\b"), "the toolkit compiles C++17"),
    (re.compile(r"[{,]\s*\.\w+\s*=(?!=)"), "the toolkit compiles C++17, which names no members in braces"),
    (re.compile(r"(?:(?<=[=(,{;])|\breturn)\s*\[[&=\w\s,]*\]\s*[({]"), "a lambda is no __aicore__ function"),
)
KERNEL_INCLUDE = re.compile(r"backend/ascend/kernels/\w+\.h$|kernel_operator\.h$|cstdint$")
# A name, its parameters, and the brace of a body, with what may stand between.
FUNCTION = re.compile(
    r"(?P<before>[^;{}()]*?)\b(?P<name>\w+)\s*\((?P<parameters>[^(){};]*)\)\s*(?:const\b\s*)?(?::\s*\w+[({][^;]*?)?\{"
)
NOT_FUNCTIONS = {"if", "for", "while", "switch", "defined", "constexpr"}

DEVICE_MACRO = re.compile(
    r"\w*(?<![A-Z])(?:ASCEND|CANN|ACL|CUDA(?:CC)?|HIP(?:CC)?|ROCM|MUSA|METAL|VULKAN|SYCL|OPENCL|NPU|GPU)(?![A-Z])\w*"
    r"|__AVX\w*|__AMX\w*|__SSE\w*|__FMA__|__F16C__|__ARM_NEON\w*|__ARM_FEATURE_\w*"
)
ATTACKS = "docs/attacks.md"
LINES_ERROR = 700
LINES_WARNING = 500
LENGTH_SUFFIXES = (".h", ".cc", ".cpp", ".c", ".py", ".rs", ".ts", ".svelte", ".sh", ".cmake")

# Spelt so that these lines do not find themselves.
MACHINE_PATH = re.compile(r"(?<![\w.~}-])/(?:work|root|tmp/bash_jobs)(?:/)")
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")


def layers(tree):
    """The folders of src/ in cmake/Layers.cmake, lowest first."""
    if "cmake/Layers.cmake" not in tree.paths:
        return []
    listed = re.search(r"set\(\s*RIDGE_LAYERS\s+([^)]*)\)", re.sub(r"#.*", "", tree.text("cmake/Layers.cmake")))
    return listed[1].split() if listed else []


def layer_order(tree):
    """A folder of src/ includes only itself and the folders before it in cmake/Layers.cmake."""
    order = layers(tree)
    if not order:
        yield Finding("cmake/Layers.cmake", 1, "no set(RIDGE_LAYERS ...) that states the order of src/")
        return
    for path in tree.cpp("src/"):
        layer = layer_of(path)
        if layer not in order:
            yield Finding(path, 1, f"src/{layer or ''} is not among the layers of cmake/Layers.cmake")
            continue
        forbidden, reason = FORBIDDEN_INCLUDES.get(layer, ((), ""))
        for line, included, quoted in tree.includes(path):
            other = included.split("/")[0]
            if not quoted or other not in order:
                continue
            if order.index(other) > order.index(layer):
                yield Finding(path, line, f'includes "{included}", but {other} stands above {layer}')
            elif other in forbidden:
                yield Finding(path, line, f'includes "{included}", but {reason}')


def include_path(tree):
    """Our headers are included by their path from src/, never by `../` or by the bare name."""
    known = set(tree.paths)
    for path in tree.cpp("src/"):
        folder = path.rsplit("/", 1)[0]
        for line, included, quoted in tree.includes(path):
            if not quoted:
                continue
            if included.startswith("../") or "/../" in included:
                yield Finding(path, line, f'includes "{included}"; name it by its path from src/')
            elif f"{folder}/{included}" in known and f"src/{included}" not in known:
                right = f"{folder}/{included}".removeprefix("src/")
                yield Finding(path, line, f'includes "{included}"; write "{right}"')


def back_end_private(tree):
    """Nothing includes backend/X/ but X itself, its own tests and benchmarks, and the registry; a back end
    may do by the reference what it has no kernel for."""
    for path in tree.cpp():
        own = back_end_of(path) if path.startswith("src/") else None
        # Tests and benchmarks of one back end stand in tests/backend/ and benchmarks/.
        if path.startswith(("tests/backend/", "benchmarks/")) or REGISTRY.match(path):
            continue
        for line, included, quoted in tree.includes(path):
            other = back_end_of(included) if quoted else None
            if own and other == "reference":
                continue
            if other and other != own:
                who = f"back end {own}" if own else "this file"
                yield Finding(path, line, f'includes "{included}", but {who} must not know back end {other}')


def folder_readme(tree):
    """Each folder of src/, and each back end, has a README.md."""
    folders = {}
    for path in tree.paths:
        parts = path.split("/")
        if parts[0] == "src" and len(parts) > 2:
            folders["/".join(parts[:2])] = True
            if parts[1] == "backend" and len(parts) > 3:
                folders["/".join(parts[:3])] = True
    for folder in sorted(folders):
        if f"{folder}/README.md" not in tree.paths:
            yield Finding(f"{folder}/README.md", 1, "is missing: what the folder is, what it may include, where to begin")


def words_of(name):
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


def forbidden_names(tree):
    """No file and no type is called manager, utils, helper or impl."""
    for path in tree.paths:
        if path.startswith(NAMED_FOLDERS):
            for word in words_of(path.rsplit("/", 1)[-1]):
                if word in FORBIDDEN_WORDS:
                    yield Finding(path, 1, f"is called '{word}'; name it by what it holds")
    for path in tree.cpp("src/"):
        code = tree.code(path)
        for match in re.finditer(r"\b(?:class|struct|namespace)\s+(?:\w+::)*(\w+)", code):
            for word in words_of(match[1]):
                if word in FORBIDDEN_WORDS:
                    yield Finding(path, line_of(code, match.start()), f"{match[1]} is called '{word}'; name it by what it is")


def constant_names(tree):
    """Constants are lower_case like all variables, not kName."""
    for path in tree.cpp():
        code = tree.code(path)
        for match in re.finditer(r"\b(?:const|constexpr)\b[^;(){}=]*?\b(k[A-Z]\w*)\s*[={\[]", code):
            yield Finding(path, line_of(code, match.start(1)), f"{match[1]} is a constant; name it in lower_case")


def device_conditional(tree):
    """No #if of a device or of an instruction set outside the folder of its back end."""
    for path in tree.cpp():
        if not path.startswith(("src/", "tests/", "benchmarks/")) or back_end_of(path):
            continue
        for number, line in enumerate(tree.code(path).splitlines(), 1):
            directive = re.match(r"\s*#\s*(?:if|ifdef|ifndef|elif)\b(.*)", line)
            macro = directive and DEVICE_MACRO.search(directive[1])
            if macro:
                yield Finding(path, number, f"asks for {macro[0]}; what depends on a device belongs in src/backend/X/")


def body_of(code, brace):
    """What stands between the brace at that place and its partner."""
    depth = 0
    for place in range(brace, len(code)):
        depth += {"{": 1, "}": -1}.get(code[place], 0)
        if depth == 0:
            return code[brace + 1 : place]
    return code[brace + 1 :]


def functions_of(code):
    """(name, line, what stands before the name, body) of each function with a body."""
    # Preprocessor lines go, but not the function that a macro is.
    code = re.sub(r"\\\n", " \n", re.sub(r"^[ \t]*#[ \t]*define\s+\w+(?:\([^)]*\))?", blank, code, flags=re.MULTILINE))
    for match in FUNCTION.finditer(code):
        if match["name"] not in NOT_FUNCTIONS and not re.search(r"\b(?:else|return)\s*$", match["before"]):
            yield match["name"], line_of(code, match.start("name")), match["before"], body_of(code, match.end() - 1)


def device_kernel(tree):
    """Kernels for Ascend have only what a device's compiler takes: C++17 without std::, exceptions, heap or recursion, each
    function __aicore__, one kind of cores a source."""
    for path in tree.cpp(KERNELS):
        if path.endswith("/kernels.h"):  # the twin's list, which no kernel includes
            continue
        code = tree.code(path)
        for line, included, _ in tree.includes(path):
            if not KERNEL_INCLUDE.match(included):
                yield Finding(path, line, f"includes {included}; a kernel includes kernel_operator.h, cstdint and kernels/")
        for word, reason in NOT_ON_A_DEVICE:
            for match in word.finditer(code):
                yield Finding(path, line_of(code, match.start()), f"says {match[0].strip()!r}: {reason}")
        kinds = {match[0]: line_of(code, match.start()) for match in re.finditer(r"\bKERNEL_TYPE_\w+", code)}
        if len(kinds) > 1:
            yield Finding(path, max(kinds.values()), f"has {' and '.join(sorted(kinds))}; CANN 8.1 takes one kind for all kernels of a source")
        functions = list(functions_of(code))
        for name, line, before, _ in functions:
            if "__aicore__" not in before:
                yield Finding(path, line, f"{name} is no __aicore__ function, so the device does not have it")
        calls = {}
        for name, _, _, body in functions:
            # What another object or type does is no call of a function of this file, nor is `Type name(...)`.
            body = re.sub(r"\b(?:return|else)\b", ";", body)
            calls.setdefault(name, set()).update(re.findall(r"(?<![.>:\w])(?<![>\w] )(\w+)\s*(?:<[^;(){}]*>)?\(", body))
        for name, line, _, _ in functions:
            reached, to_follow = set(), [name]
            while to_follow:
                for called in calls[to_follow.pop()] & calls.keys() - reached:
                    reached.add(called)
                    to_follow.append(called)
            if name in reached:
                yield Finding(path, line, f"{name} calls itself, directly or by others; a device has no recursion")


def file_length(tree):
    """A source file has at most 700 lines; more than 500 is a warning."""
    for path in tree.with_suffix(*LENGTH_SUFFIXES):
        count = tree.text(path).count("\n")
        if count > LINES_ERROR:
            yield Finding(path, LINES_ERROR, f"has {count} lines, more than {LINES_ERROR}; split it by subject")
        elif count > LINES_WARNING:
            yield Finding(path, LINES_WARNING, f"has {count} lines, more than {LINES_WARNING}", warning=True)


def using_namespace(tree):
    """No `using namespace` in a header outside a function."""
    token = re.compile(r"(?P<scope>(?:\bnamespace\b[^;{}()]*|\bextern\s*\"[^\"]*\"\s*)\{)|\{|\}|\busing\s+namespace\s+[\w:]+")
    for path in tree.with_suffix(".h"):
        code = tree.code(path)
        braces = []  # True for the brace of a namespace
        for match in token.finditer(code):
            if match[0].startswith("using"):
                if all(braces):
                    yield Finding(path, line_of(code, match.start()), f"`{match[0]}` reaches every file that includes this one")
            elif match[0] == "}":
                if braces:
                    braces.pop()
            else:
                braces.append(match["scope"] is not None)


def pragma_once(tree):
    """The first line of code of a header is `#pragma once`."""
    for path in tree.with_suffix(".h"):
        first = next((line.strip() for line in tree.code(path).splitlines() if line.strip()), "")
        if first != "#pragma once":
            yield Finding(path, 1, "does not begin with #pragma once")


def boost_in_header(tree):
    """No header outside the server includes Boost, which would slow every file that sees it."""
    for path in tree.with_suffix(".h", under="src/"):
        if layer_of(path) in BOOST_LAYERS:
            continue
        for line, included, _ in tree.includes(path):
            if included.startswith("boost/"):
                yield Finding(path, line, f"includes <{included}>; keep Boost in a .cc file")


def decision_record(tree):
    """docs/adr/NNNN-title.md count up from 0001, and have a title, context, decision and consequences."""
    records = [path for path in tree.paths if re.match(r"docs/adr/[^/]+\.md$", path) and not path.endswith("/README.md")]
    numbers = []
    for path in records:
        name = re.match(r"docs/adr/(\d{4})-[a-z0-9]+(?:-[a-z0-9]+)*\.md$", path)
        if not name:
            yield Finding(path, 1, "is not named NNNN-words-of-the-title.md")
            continue
        numbers.append(int(name[1]))
        text = tree.text(path)
        if not re.match(rf"# (?:ADR[ -])?0*{int(name[1])}\b\W* \S", text):
            yield Finding(path, 1, f"does not begin with '# {name[1]} Title'")
        for section in ("Context", "Decision", "Consequences"):
            if not re.search(rf"^## {section}\b", text, re.MULTILINE):
                yield Finding(path, 1, f"has no section '## {section}'")
    for position, number in enumerate(sorted(numbers), 1):
        if number != position:
            yield Finding("docs/adr", 1, f"expected number {position:04}, found {number:04}: a number is missing or used twice")
            break


# `Suite.Test`, `test_name` or the words of a test of the console, then "in [file](../path)" for all before it.
TESTS_OF_FILE = re.compile(r"((?:`[^`]+`(?:, )?)+) in \[[^\]]+\]\(\.\./([^)]+)\)")


def is_test(tree, path, name):
    """Whether the file has a test of that name, in the form of its language."""
    if path.endswith(".py"):
        pattern = rf"^def {re.escape(name)}\("
    elif path.endswith(".ts"):
        pattern = rf"""^test\(["']{re.escape(name)}["']"""
    else:
        suite, _, test = name.partition(".")
        pattern = rf"^TEST(?:_[FP])?\({re.escape(suite)},\s*{re.escape(test)}\)"
    return re.search(pattern, tree.text(path), re.MULTILINE) is not None


def attack_tests(tree):
    """Each attack in docs/attacks.md names tests, and each of them is in the file that it is said to be in."""
    if ATTACKS not in tree.paths:
        return
    known = set(tree.paths)
    for number, line in enumerate(tree.text(ATTACKS).splitlines(), 1):
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or cells[-1] in ("tests", "---"):
            continue
        named = TESTS_OF_FILE.findall(cells[-1])
        if TESTS_OF_FILE.sub("", cells[-1]).replace(",", "").strip() or not named:
            yield Finding(ATTACKS, number, "does not end with `Suite.Test`, `Suite.Other` in [file](../path) of each file of tests")
        for names, path in named:
            if path not in known:
                yield Finding(ATTACKS, number, f"names {path}, which does not exist")
                continue
            for name in re.findall(r"`([^`]+)`", names):
                if not is_test(tree, path, name):
                    yield Finding(ATTACKS, number, f"names the test {name}, which is not in {path}")


def changelog(tree):
    """CHANGELOG.md exists."""
    if "CHANGELOG.md" not in tree.paths:
        yield Finding("CHANGELOG.md", 1, "is missing: a line for each change that a user can see")


def machine_path(tree):
    """No path of the machine that a file was written on."""
    for path in tree.texts():
        for number, line in enumerate(tree.text(path).splitlines(), 1):
            match = MACHINE_PATH.search(line)
            if match:
                yield Finding(path, number, f"names {match[0]}, a path of one machine")


def unfinished(tree):
    """No mark that says that something is still to be done."""
    for path in tree.texts():
        for number, line in enumerate(tree.text(path).splitlines(), 1):
            match = UNFINISHED.search(line)
            if match:
                yield Finding(path, number, f"says {match[0]}; finish it, or file an issue")


RULES = {
    "layer-order": layer_order,
    "include-path": include_path,
    "back-end-private": back_end_private,
    "folder-readme": folder_readme,
    "forbidden-names": forbidden_names,
    "constant-names": constant_names,
    "device-conditional": device_conditional,
    "device-kernel": device_kernel,
    "file-length": file_length,
    "using-namespace": using_namespace,
    "pragma-once": pragma_once,
    "boost-in-header": boost_in_header,
    "decision-record": decision_record,
    "attack-tests": attack_tests,
    "changelog": changelog,
    "machine-path": machine_path,
    "unfinished": unfinished,
}
