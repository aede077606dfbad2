"""Each rule of tools/tidy fires on a small bad tree and stays quiet on a good one."""

import io
import os
import subprocess
import sys
import tempfile
import unittest
from contextlib import redirect_stdout

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(PROJECT, "tools", "tidy"))

import rules  # noqa: E402
import tidy  # noqa: E402

HEADER = "#pragma once\n"
GOOD_TREE = {
    "CHANGELOG.md": "# Changelog\n",
    "cmake/Layers.cmake": "# lowest first (base)\nset(RIDGE_LAYERS\n  base tensor\n  backend text sampling platform api server)\n",
    "docs/adr/0001-plain-files.md": "# 0001. Plain files\n\n## Context\n\n## Decision\n\n## Consequences\n",
    "src/base/README.md": "# base\n",
    "src/base/error.h": "// Why.\n#pragma once\nnamespace ridge {\n}\n",
    "src/tensor/README.md": "# tensor\n",
    "src/tensor/shape.h": HEADER + '#include <vector>\n\n#include "base/error.h"\n',
    "src/backend/README.md": "# backend\n",
    "src/backend/registry.cc": '#include "backend/cpu/cpu.h"\n',
    "src/backend/cpu/README.md": "# cpu\n",
    "src/backend/cpu/cpu.h": HEADER + "#ifdef __AVX512F__\n#endif\n",
    "src/server/README.md": "# server\n",
    "src/server/session.h": HEADER + "#include <boost/beast/http.hpp>\n",
    "tests/backend/cpu_test.cc": '#include "backend/cpu/cpu.h"\n',
}
BACK_END = {"src/backend/cuda/README.md": "# cuda\n", "src/backend/cuda/cuda.h": HEADER}


class TreeTest(unittest.TestCase):
    def check(self, files):
        """(rule, path, line) of each finding on the good tree with `files` laid over it; None removes a file."""
        with tempfile.TemporaryDirectory() as folder:
            for path, text in {**GOOD_TREE, **files}.items():
                if text is None:
                    continue
                os.makedirs(os.path.dirname(os.path.join(folder, path)), exist_ok=True)
                with open(os.path.join(folder, path), "w", encoding="utf-8") as file:
                    file.write(text)
            reports, _ = tidy.check(folder)
            return [(r.rule, r.path, r.line) for r in reports]

    def assert_finds(self, rule, path, line, files):
        self.assertEqual(self.check(files), [(rule, path, line)])

    def assert_clean(self, files):
        self.assertEqual(self.check(files), [])


class GoodTree(TreeTest):
    def test_has_no_findings(self):
        self.assert_clean({})


class LayerOrder(TreeTest):
    def test_refuses_an_include_of_a_layer_above(self):
        self.assert_finds("layer-order", "src/base/up.cc", 2, {"src/base/up.cc": '\n#include "tensor/shape.h"\n'})

    def test_sees_through_spaces_in_the_directive(self):
        self.assert_finds("layer-order", "src/base/up.cc", 1, {"src/base/up.cc": '  #  include "tensor/shape.h"\n'})

    def test_ignores_an_include_in_a_comment_or_a_raw_string(self):
        self.assert_clean({"src/base/a.cc": '/*\n#include "tensor/shape.h"\n*/\nauto s = R"(\n#include "tensor/shape.h"\n)";\n'})

    def test_refuses_a_folder_that_is_no_layer(self):
        self.assert_finds("layer-order", "src/extra/a.cc", 1, {"src/extra/a.cc": "\n", "src/extra/README.md": "\n"})

    def test_keeps_grammars_out_of_sampling(self):
        files = {"src/sampling/a.cc": '#include "text/grammar.h"\n', "src/sampling/README.md": "\n"}
        self.assert_finds("layer-order", "src/sampling/a.cc", 1, files)

    def test_keeps_tensors_out_of_platform(self):
        files = {"src/platform/a.cc": '#include "tensor/shape.h"\n', "src/platform/README.md": "\n"}
        self.assert_finds("layer-order", "src/platform/a.cc", 1, files)

    def test_demands_the_list_of_layers(self):
        self.assert_finds("layer-order", "cmake/Layers.cmake", 1, {"cmake/Layers.cmake": "set(OTHER a)\n"})


class IncludePath(TreeTest):
    def test_refuses_a_path_upwards(self):
        self.assert_finds("include-path", "src/tensor/a.cc", 1, {"src/tensor/a.cc": '#include "../base/error.h"\n'})

    def test_refuses_the_bare_name(self):
        self.assert_finds("include-path", "src/tensor/a.cc", 1, {"src/tensor/a.cc": '#include "shape.h"\n'})

    def test_accepts_a_header_from_elsewhere(self):
        self.assert_clean({"src/tensor/a.cc": '#include "textkit.h"\n'})


class BackEndPrivate(TreeTest):
    def test_refuses_one_back_end_in_another(self):
        files = {**BACK_END, "src/backend/cuda/a.cc": '#include "backend/cpu/cpu.h"\n'}
        self.assert_finds("back-end-private", "src/backend/cuda/a.cc", 1, files)

    def test_refuses_a_back_end_elsewhere_in_src(self):
        files = {"src/server/a.cc": '#include "backend/cpu/cpu.h"\n'}
        self.assert_finds("back-end-private", "src/server/a.cc", 1, files)

    def test_refuses_a_back_end_in_the_contract_beside_the_registry(self):
        files = {"src/backend/program.cc": '#include "backend/cpu/cpu.h"\n'}
        self.assert_finds("back-end-private", "src/backend/program.cc", 1, files)

    def test_refuses_a_back_end_in_the_tests_of_another_layer(self):
        files = {"tests/server/a_test.cc": '#include "backend/cpu/cpu.h"\n'}
        self.assert_finds("back-end-private", "tests/server/a_test.cc", 1, files)

    def test_accepts_the_contract_everywhere(self):
        self.assert_clean({"src/server/a.cc": '#include "backend/device.h"\n'})


class FolderReadme(TreeTest):
    def test_demands_one_in_each_layer(self):
        self.assert_finds("folder-readme", "src/tensor/README.md", 1, {"src/tensor/README.md": None})

    def test_demands_one_in_each_back_end(self):
        self.assert_finds("folder-readme", "src/backend/cpu/README.md", 1, {"src/backend/cpu/README.md": None})


class ForbiddenNames(TreeTest):
    def test_refuses_file_names(self):
        for path in ("src/base/string_utils.cc", "src/base/BlockManager.cc", "tools/helper.py", "src/base/x_impl.cc"):
            with self.subTest(path):
                self.assert_finds("forbidden-names", path, 1, {path: "\n"})

    def test_refuses_type_names(self):
        for code in ("class BlockManager {};", "struct Impl;", "namespace ridge::utils {\n}"):
            with self.subTest(code):
                self.assert_finds("forbidden-names", "src/base/a.cc", 1, {"src/base/a.cc": code + "\n"})

    def test_looks_at_whole_words(self):
        self.assert_clean({"src/base/utilisation.cc": "struct Implied {};\n// class Manager\n"})


class ConstantNames(TreeTest):
    def test_refuses_a_k_before_the_name(self):
        for line in ("constexpr int kMaxParts = 5;", "inline constexpr const char* kName = \"x\";",
                     "static const std::string kText{};", "constexpr std::array<int, 2> kList = {1, 2};",
                     "const int kTable[] = {1};"):
            with self.subTest(line):
                self.assert_finds("constant-names", "src/base/a.cc", 2, {"src/base/a.cc": "\n" + line + "\n"})

    def test_accepts_lower_case_and_other_names_with_a_k(self):
        self.assert_clean({"src/base/a.cc": "constexpr int max_parts = 5;\nconst int k = 1;\nTEST(Pool, kNothing) {}\n"
                                            "const auto text = \"kName = 1\";\n"})


class DeviceConditional(TreeTest):
    def test_refuses_devices_and_instruction_sets(self):
        for line in ("#ifdef RIDGE_CUDA", "#if defined(RIDGE_WITH_ASCEND)", "#elif USE_NPU", "#ifdef __AVX2__"):
            with self.subTest(line):
                self.assert_finds("device-conditional", "src/base/a.cc", 1, {"src/base/a.cc": line + "\n"})

    def test_accepts_other_conditions(self):
        self.assert_clean({"src/base/a.cc": "#ifdef __linux__\n#endif\n#if RIDGE_SHIP\n#endif\n// #ifdef RIDGE_CUDA\n"})


class DeviceKernel(TreeTest):
    START = '#include "kernel_operator.h"\n'
    BACK_END = {"src/backend/ascend/README.md": "# ascend\n"}

    def files(self, code, name="a.cc"):
        return {**self.BACK_END, f"src/backend/ascend/kernels/{name}": self.START + code}

    def assert_refuses(self, code, line=2):
        self.assert_finds("device-kernel", "src/backend/ascend/kernels/a.cc", line, self.files(code))

    def in_a_function(self, statement):
        return f"__aicore__ inline void f(uint32_t n) {{\n  {statement}\n}}\n"

    def test_takes_a_kernel(self):
        self.assert_clean(self.files(
            "class Add {\n public:\n"
            "  __aicore__ inline explicit Add(const Tiling& tiling) : tiling_(tiling), rows_(round_up(tiling.rows, 8)) {}\n"
            "  __aicore__ inline uint32_t rows() const {\n    for (uint32_t i = 0; i < 2; ++i) {\n      other_.rows();\n    }\n"
            "    return std_rows(rows_);\n  }\n"
            "  // std::vector and throw in a comment\n  uint32_t rows_;\n};\n"
            "#define KERNEL(suffix, T)                    \\\n"
            '  extern "C" __global__ __aicore__ void add_##suffix(GM_ADDR x) { \\\n'
            "    KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_AIV_ONLY);  \\\n"
            "    Add add(x[0]);                           \\\n  }\n"
            "KERNEL(f16, half)\n"))

    def test_leaves_the_host_alone(self):
        self.assert_clean({**self.BACK_END, "src/backend/ascend/tiling.cc": "std::vector<int> f() { return g([] {}); }\n"})

    def test_refuses_the_standard_library(self):
        self.assert_refuses(self.in_a_function("std::swap(n, n);"), 3)

    def test_refuses_its_headers(self):
        self.assert_finds("device-kernel", "src/backend/ascend/kernels/a.cc", 1, {**self.files(""), "src/backend/ascend/kernels/a.cc": "#include <vector>\n"})

    def test_refuses_exceptions(self):
        self.assert_refuses(self.in_a_function("if (n == 0) throw 1;"), 3)

    def test_refuses_the_heap(self):
        self.assert_refuses(self.in_a_function("int* x = new int[n];"), 3)

    def test_refuses_virtual_functions(self):
        self.assert_refuses("class A {\n  __aicore__ virtual void f() {}\n};\n", 3)

    def test_refuses_lambdas(self):
        self.assert_refuses(self.in_a_function("each([&](uint32_t i) { g(i); });"), 3)
        self.assert_refuses(self.in_a_function("const auto g = [n] { h(n); };"), 3)

    def test_refuses_what_cpp_20_brought(self):
        self.assert_refuses(self.in_a_function("const Copy copy{.rows = n};"), 3)
        self.assert_refuses("template <typename T>\n  requires(sizeof(T) == 2)\n__aicore__ inline void f() {}\n", 3)

    def test_refuses_a_function_that_is_not_the_devices(self):
        self.assert_refuses("inline uint32_t twice(uint32_t n) {\n  return 2 * n;\n}\n")

    def test_refuses_one_in_a_macro(self):
        self.assert_refuses("#define F(name) \\\n  void name(GM_ADDR x) { \\\n    g(x); \\\n  }\n", 3)

    def test_refuses_recursion(self):
        self.assert_refuses("__aicore__ inline uint32_t f(uint32_t n) {\n  return n < 2 ? 1 : n * f(n - 1);\n}\n")

    def test_refuses_recursion_by_another(self):
        code = ("__aicore__ inline void g(uint32_t n);\n__aicore__ inline void f(uint32_t n) {\n  g(n);\n}\n"
                "__aicore__ inline void g(uint32_t n) {\n  if (n) f(n - 1);\n}\n")
        path = "src/backend/ascend/kernels/a.cc"
        self.assertEqual(self.check(self.files(code)), [("device-kernel", path, 3), ("device-kernel", path, 6)])

    def test_refuses_two_kinds_of_cores_in_a_source(self):
        kernel = '  extern "C" __global__ __aicore__ void {}(GM_ADDR x) {{ KERNEL_TASK_TYPE_DEFAULT(KERNEL_TYPE_{}); }}\n'
        self.assert_refuses(kernel.format("a", "AIV_ONLY") + kernel.format("b", "AIC_ONLY"), 3)


class FileLength(TreeTest):
    def test_refuses_more_than_700_lines(self):
        self.assert_finds("file-length", "src/base/a.cc", 700, {"src/base/a.cc": "\n" * 701})

    def test_only_warns_of_more_than_500_lines(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "a.py"), "w", encoding="utf-8") as file:
                file.write("\n" * 501)
            reports, _ = tidy.check(folder, ["file-length"])
            self.assertEqual([(r.severity, r.line) for r in reports], [("warning", 500)])

    def test_accepts_500_lines(self):
        self.assert_clean({"src/base/a.cc": "\n" * 500})


class UsingNamespace(TreeTest):
    def test_refuses_it_in_a_header(self):
        files = {"src/base/a.h": HEADER + "using namespace std;\n"}
        self.assert_finds("using-namespace", "src/base/a.h", 2, files)

    def test_refuses_it_inside_a_namespace(self):
        files = {"src/base/a.h": HEADER + "namespace ridge::text {\nvoid f() { g(); }\nusing namespace std::chrono;\n}\n"}
        self.assert_finds("using-namespace", "src/base/a.h", 4, files)

    def test_accepts_it_in_a_function_and_in_a_source(self):
        self.assert_clean({
            "src/base/a.h": HEADER + "namespace ridge {\ninline void f() {\n  using namespace std;\n}\n}\n",
            "src/base/a.cc": "using namespace std;\n",
        })

    def test_is_not_confused_by_braces_in_literals(self):
        files = {"src/base/a.h": HEADER + "constexpr char open = '{';\nconstexpr int n = 1'000;\n// {\nusing namespace std;\n"}
        self.assert_finds("using-namespace", "src/base/a.h", 5, files)


class PragmaOnce(TreeTest):
    def test_demands_it(self):
        self.assert_finds("pragma-once", "src/base/a.h", 1, {"src/base/a.h": "namespace ridge {}\n"})

    def test_demands_it_first(self):
        self.assert_finds("pragma-once", "src/base/a.h", 1, {"src/base/a.h": "#include <vector>\n#pragma once\n"})


class BoostInHeader(TreeTest):
    def test_refuses_it_outside_the_server(self):
        files = {"src/base/a.h": HEADER + "#include <boost/asio.hpp>\n"}
        self.assert_finds("boost-in-header", "src/base/a.h", 2, files)


class DecisionRecord(TreeTest):
    RECORD = "## Context\n\n## Decision\n\n## Consequences\n"

    def test_demands_each_section(self):
        files = {"docs/adr/0002-two.md": "# 0002. Two\n\n## Context\n\n## Decision\n"}
        self.assert_finds("decision-record", "docs/adr/0002-two.md", 1, files)

    def test_demands_the_number_in_the_title(self):
        files = {"docs/adr/0002-two.md": "# 0003. Two\n\n" + self.RECORD}
        self.assert_finds("decision-record", "docs/adr/0002-two.md", 1, files)

    def test_demands_a_number_in_the_name(self):
        self.assert_finds("decision-record", "docs/adr/two.md", 1, {"docs/adr/two.md": "# Two\n" + self.RECORD})

    def test_refuses_a_gap(self):
        files = {"docs/adr/0003-three.md": "# 0003. Three\n\n" + self.RECORD}
        self.assert_finds("decision-record", "docs/adr", 1, files)

    def test_refuses_a_number_used_twice(self):
        files = {"docs/adr/0001-other.md": "# 0001. Other\n\n" + self.RECORD}
        self.assert_finds("decision-record", "docs/adr", 1, files)

    def test_accepts_the_next_number(self):
        self.assert_clean({"docs/adr/0002-two.md": "# ADR 2: Two\n\n" + self.RECORD, "docs/adr/README.md": "# List\n"})


class Changelog(TreeTest):
    def test_demands_it(self):
        self.assert_finds("changelog", "CHANGELOG.md", 1, {"CHANGELOG.md": None})


class MachinePath(TreeTest):
    def test_refuses_paths_of_one_machine(self):
        for folder in ("work", "root"):
            with self.subTest(folder):
                self.assert_finds("machine-path", "docs/a.md", 2, {"docs/a.md": f"\nsee /{folder}/main/x\n"})

    def test_looks_at_files_without_a_suffix(self):
        self.assert_finds("machine-path", "tools/go", 1, {"tools/go": "cd /" + "work/main\n"})

    def test_accepts_folders_of_that_name_elsewhere(self):
        self.assert_clean({"docs/a.md": "src/work/a ../root/b ~/work/c ${HOME}/root/d\n"})

    def test_leaves_binary_files_alone(self):
        self.assert_clean({"tools/binary": "\0 /" + "work/main\n"})


class AttackTests(TreeTest):
    HEAD = "# Attacks\n\n| attack | what happens | tests |\n|---|---|---|\n"
    FILES = {
        "tests/a_test.cc": "TEST(Head, IsBounded) {}\nTEST_F(Body,\n       IsBounded) {}\n",
        "tests/test_a.py": "def test_a(server):\n    pass\n",
        "console/tests/a.test.ts": 'test("HTML, of a model, is text", () => {});\n',
    }

    def document(self, tests):
        return {**self.FILES, "docs/attacks.md": f"{self.HEAD}| a | b | {tests} |\n"}

    def test_takes_tests_that_are_there(self):
        self.assert_clean(self.document(
            "`Head.IsBounded`, `Body.IsBounded` in [a_test.cc](../tests/a_test.cc), `test_a` in [a](../tests/test_a.py), "
            "`HTML, of a model, is text` in [a.test.ts](../console/tests/a.test.ts)"))

    def test_refuses_a_test_that_is_not_there(self):
        for tests in (
            "`Head.IsBound` in [a](../tests/a_test.cc)",
            "`Head.IsBounded`, `Body.Ends` in [a](../tests/a_test.cc)",
            "`test_` in [a](../tests/test_a.py)",
            "`HTML` in [a](../console/tests/a.test.ts)",
            "`Head.IsBounded` in [b](../tests/b_test.cc)",
        ):
            with self.subTest(tests):
                self.assert_finds("attack-tests", "docs/attacks.md", 5, self.document(tests))

    def test_refuses_an_attack_without_tests(self):
        for tests in ("", "none yet", "`Head.IsBounded`", "`Head.IsBounded` in [a](../tests/a_test.cc), and more"):
            with self.subTest(tests):
                self.assert_finds("attack-tests", "docs/attacks.md", 5, self.document(tests))


class Unfinished(TreeTest):
    def test_refuses_the_marks(self):
        for mark in ("TO" "DO", "FIX" "ME", "XX" "X"):
            with self.subTest(mark):
                self.assert_finds("unfinished", "src/base/a.cc", 1, {"src/base/a.cc": f"// {mark}: later\n"})

    def test_looks_at_whole_words(self):
        self.assert_clean({"tools/a.sh": "mktemp aXX" "XX\n"})


class CommandLine(unittest.TestCase):
    def run_tidy(self, *arguments):
        output = io.StringIO()
        with redirect_stdout(output):
            status = tidy.main(list(arguments))
        return status, output.getvalue().splitlines()

    def test_ends_with_1_and_counts_for_a_bad_tree(self):
        with tempfile.TemporaryDirectory() as folder:
            status, lines = self.run_tidy("--root", folder, "--rule", "changelog")
        self.assertEqual(status, 1)
        self.assertTrue(lines[0].startswith("CHANGELOG.md:1: error: [changelog] is missing"))
        self.assertEqual(lines[-1], "tidy: 1 errors, 0 warnings in 0 files")

    def test_looks_at_untracked_files_of_a_checkout_only_when_asked(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["git", "init", "-q", folder], check=True)
            for name in ("tracked.h", "untracked.h"):
                with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                    file.write("int x;\n")
            subprocess.run(["git", "-C", folder, "add", "tracked.h"], check=True)
            arguments = ("--root", folder, "--rule", "pragma-once")
            status, lines = self.run_tidy(*arguments)
            self.assertEqual(status, 1)
            self.assertEqual([line.split(":")[0] for line in lines], ["tracked.h", "tidy"])
            status, lines = self.run_tidy(*arguments, "--untracked")
            self.assertEqual([line.split(":")[0] for line in lines], ["tracked.h", "untracked.h", "tidy"])

    def test_lists_every_rule(self):
        status, lines = self.run_tidy("--list")
        self.assertEqual(status, 0)
        self.assertEqual([line.split()[0] for line in lines], list(rules.RULES))


if __name__ == "__main__":
    unittest.main()
