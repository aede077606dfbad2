"""What benchmarks/peers parses and computes; nothing is installed and nothing measured."""

import io
import json
import os
import sys
import tempfile
import unittest
import unittest.mock
from contextlib import redirect_stderr, redirect_stdout

PROJECT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(PROJECT, "benchmarks", "peers"))

import compare  # noqa: E402
import engines  # noqa: E402
import install  # noqa: E402
import machine  # noqa: E402
import models  # noqa: E402
import report  # noqa: E402
import serving  # noqa: E402

ZEN4 = "processor: 0\nmodel name\t: AMD EPYC\nflags\t\t: avx avx2 fma f16c bmi2 avx512f avx512vbmi avx512_vnni avx512_bf16\n"
INTEL = ZEN4.replace("avx512_bf16", "avx512_bf16 amx_tile amx_int8 amx_bf16")
OLD = "model name : Old\nflags : avx avx2 fma f16c bmi2\n"


def record(engine, figure, number, value, unit="tok/s", model="m", kind="decode", limits=None):
    return {"model": model, "kind": kind, "engine": engine, "round": number, "figure": figure, "unit": unit,
            "value": value, "limits": limits}


class MachineTest(unittest.TestCase):
    def test_switches_follow_the_processor(self):
        name, flags = machine.parse_cpuinfo(ZEN4)
        self.assertEqual(name, "AMD EPYC")
        self.assertFalse(machine.has_amx(flags))
        switches = machine.cmake_switches(flags, amx=True)
        self.assertEqual(switches["GGML_AVX512_VBMI"], "ON")
        self.assertEqual(switches["GGML_AVX512_BF16"], "ON")
        self.assertEqual(switches["GGML_AMX_TILE"], "OFF")
        self.assertEqual(switches["GGML_NATIVE"], "OFF")

    def test_amx_is_built_only_where_it_is_and_wanted(self):
        flags = machine.parse_cpuinfo(INTEL)[1]
        self.assertTrue(machine.has_amx(flags))
        self.assertEqual(machine.cmake_switches(flags, amx=True)["GGML_AMX_INT8"], "ON")
        self.assertEqual(machine.cmake_switches(flags, amx=False)["GGML_AMX_INT8"], "OFF")

    def test_an_older_processor_gets_no_avx512(self):
        switches = machine.cmake_switches(machine.parse_cpuinfo(OLD)[1], amx=True)
        self.assertEqual(switches["GGML_AVX2"], "ON")
        self.assertEqual(switches["GGML_AVX512"], "OFF")

    def test_memory_is_read(self):
        text = "MemTotal:       100 kB\nMemAvailable:    50 kB\n"
        self.assertEqual(machine.parse_available_memory(text), 50 * 1024)

    def test_the_newest_clang_is_taken(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("clang-9", "clang++-9", "clang-19", "clang++-19", "clang++-20", "clang", "clang++"):
                path = os.path.join(folder, name)
                with open(path, "w"):
                    os.chmod(path, 0o755)
            before = os.environ["PATH"]
            try:
                os.environ["PATH"] = folder
                self.assertEqual(machine.newest_clang(), ("clang-19", "clang++-19"))  # 20 has no C compiler
                os.environ["PATH"] = "/nowhere"
                self.assertIsNone(machine.newest_clang())
                with self.assertRaises(install.Missing):
                    install.build_settings("llama-clang", set())
            finally:
                os.environ["PATH"] = before


class InstallTest(unittest.TestCase):
    def test_versions_are_pinned(self):
        for packages in install.PACKAGES.values():
            for package in packages:
                self.assertIn("==", package)

    def test_gcc_never_builds_amx(self):
        settings = install.build_settings("llama-gcc", machine.parse_cpuinfo(INTEL)[1])
        self.assertIn("-DGGML_AMX_TILE=OFF", settings["CMAKE_ARGS"])
        self.assertIn("-DCMAKE_CXX_COMPILER=g++", settings["CMAKE_ARGS"])

    def test_another_machine_means_another_build(self):
        stamps = {
            install.stamp_text("llama-gcc", install.build_settings("llama-gcc", machine.parse_cpuinfo(text)[1]))
            for text in (ZEN4, OLD)
        }
        self.assertEqual(len(stamps), 2)


class ModelsTest(unittest.TestCase):
    def test_names_and_files(self):
        self.assertEqual(models.find("1.5b-q4_k_m"), (models.KNOWN["1.5b-q4_k_m"], None))
        model, path = models.find("7b-q4_k_m=/nowhere/x.gguf")
        self.assertEqual((model.parameters, path), (models.KNOWN["7b-q4_k_m"].parameters, "/nowhere/x.gguf"))
        with self.assertRaisesRegex(models.Missing, "1.5b-q4_0"):
            models.find("3b")

    def test_disk_needs_count_what_is_missing(self):
        with tempfile.TemporaryDirectory() as folder:
            both = [models.KNOWN["1.5b-q4_0"], models.KNOWN["1.5b-q8_0"]]
            with open(models.path_of(folder, both[0]), "w"):
                pass
            self.assertEqual(models.missing_bytes(folder, both), both[1].file_bytes)

    def test_a_model_that_does_not_fit_the_disk_is_missing(self):
        huge = models.Model("huge", "r1-distill-qwen-7b", "f16", 1 << 60, 7.6)
        with tempfile.TemporaryDirectory() as folder:
            with self.assertRaisesRegex(models.Missing, "GB of disk"):
                models.make(folder, huge, "ridge", "random_model", 1, print)

    def test_every_default_is_known(self):
        self.assertLessEqual(set(models.DEFAULT), set(models.KNOWN))


class EnginesTest(unittest.TestCase):
    def test_decode_gives_the_bytes_of_a_step(self):
        bench = {
            "read_bytes_per_second": 40e9,
            "results": [
                {"batch": 1, "decode_tokens_per_second": 20.0, "decode_share_of_bandwidth": 0.5},
                {"batch": 4, "decode_tokens_per_second": 40.0, "decode_share_of_bandwidth": 0.25},
            ],
        }
        figures, limits = engines.figures_of_bench("batch", bench)
        self.assertEqual([each.name for each in figures],
                         ["decode, batch 1, after 128", "decode, batch 4, after 128"])
        self.assertAlmostEqual(limits[figures[0].name]["step_bytes"], 1e9)
        self.assertAlmostEqual(limits[figures[1].name]["step_bytes"], 1e9)

    def test_prefill_has_one_figure(self):
        figures, limits = engines.figures_of_bench("depth", {"results": [{"prefill_tokens_per_second": 78.6}]})
        self.assertEqual(figures, [engines.Figure("prefill 512 after 8192", "tok/s", 78.6)])
        self.assertEqual(limits, {})

    def test_workers_have_the_figures_of_ridge(self):
        batches = {str(size): 1.0 for size in engines.SETTINGS["batch"]["batches"]}
        bench = {"results": [{"batch": int(size), "decode_tokens_per_second": 1.0} for size in batches]}
        self.assertEqual(
            [each.name for each in engines.figures_of_worker("batch", {"tokens_per_second": batches})],
            [each.name for each in engines.figures_of_bench("batch", bench)[0]],
        )
        loaded = engines.figures_of_worker("load", {"first_token_ms": 900.0, "peak_bytes": 2e9})
        self.assertEqual([each.value for each in loaded], [900.0, 900.0, 2000.0, 2000.0])

    def test_the_last_object_is_the_answer(self):
        self.assertEqual(engines.json_of('loading\n{"a": 1}\nbye\n'), {"a": 1})
        with self.assertRaises(engines.Failed):
            engines.json_of("nothing")

    def test_a_failing_command_says_why(self):
        options = engines.Options("ridge", (), "", 1, "env", 10)
        with self.assertRaisesRegex(engines.Failed, "exit code 3: no room"):
            engines.run([sys.executable, "-c", "import sys; print('no\\nroom', file=sys.stderr); sys.exit(3)"], options)
        slow = engines.Options("ridge", (), "", 1, "", 0.1)
        with self.assertRaisesRegex(engines.Failed, "no end after"):
            engines.run([sys.executable, "-c", "import time; time.sleep(5)"], slow)

    def test_memory_and_time_of_a_command_are_measured(self):
        with tempfile.NamedTemporaryFile(mode="r") as out:
            command = [sys.executable, os.path.join(PROJECT, "benchmarks/peers/peak.py"), out.name, sys.executable, "-c",
                       "import time; b = bytearray(100_000_000); time.sleep(0.2)"]
            engines.run(command, engines.Options("", (), "", 1, "", 30))
            seconds, peak_bytes = json.load(out)
        self.assertGreater(seconds, 0.2)
        self.assertGreater(peak_bytes, 100_000_000)
        self.assertLess(peak_bytes, 200_000_000)

    def test_peak_passes_a_failure_on(self):
        with tempfile.NamedTemporaryFile(mode="r") as out:
            command = [sys.executable, os.path.join(PROJECT, "benchmarks/peers/peak.py"), out.name, "/bin/false"]
            with self.assertRaises(engines.Failed):
                engines.run(command, engines.Options("", (), "", 1, "", 30))


class PlanTest(unittest.TestCase):
    def test_engines_take_turns_and_done_work_is_left_out(self):
        done = compare.done_keys([record("ridge", "x", 1, 1.0, kind="prefill")])
        steps = compare.plan(["m"], ["prefill", "depth"], ["ridge", "openvino"], 2, done)
        self.assertEqual(steps, [
            ("m", "prefill", "openvino", 1), ("m", "depth", "ridge", 1),
            ("m", "prefill", "ridge", 2), ("m", "prefill", "openvino", 2), ("m", "depth", "ridge", 2),
        ])

    def test_what_does_not_fit_in_memory_has_a_reason(self):
        huge = models.Model("huge", "", "", 0, 1e6)
        self.assertIn("GB of memory", compare.reason_against("openvino", huge))
        self.assertEqual(compare.reason_against("llama-gcc", huge), "")

    def test_a_cut_line_of_the_results_is_left_out(self):
        with tempfile.NamedTemporaryFile(mode="w+", suffix=".jsonl") as file:
            file.write(json.dumps(record("ridge", "x", 1, 1.0)) + '\n{"model": "m", "ki')
            file.flush()
            self.assertEqual(len(compare.read_results(file.name)), 1)
        self.assertEqual(compare.read_results("/nowhere"), [])

    def test_unknown_words_are_refused(self):
        for words in (["--peers", "vllm"], ["--kinds", "prefil"], ["--rounds", "0"]):
            with self.assertRaises(SystemExit), redirect_stderr(io.StringIO()):
                compare.parse(words)
        self.assertEqual(compare.parse(["--peers", ""]).peers, [])


class ReportTest(unittest.TestCase):
    RECORDS = [
        *(record("ridge", "decode, batch 4, after 128", n, value,
                 limits={"read_bytes_per_second": 40e9, "step_bytes": 1e9}) for n, value in ((1, 60.0), (2, 80.0), (3, 70.0))),
        *(record("llama-gcc", "decode, batch 4, after 128", n, value) for n, value in ((1, 40.0), (2, 30.0), (3, 35.0))),
        *(record("ridge", engines.PEAK, n, 1000.0, unit="MB") for n in (1, 2)),
        record("llama-gcc", engines.PEAK, 2, 1500.0, unit="MB"),
        record("openvino", "decode, batch 4, after 128", 7, 1.0),
        record("llama-gcc", "only theirs", 1, 1.0),
    ]

    def test_medians_ratios_and_worst_rounds(self):
        rows = {row.name: row for row in report.tables(self.RECORDS)["m"]}
        row = rows["decode, batch 4, after 128"]
        self.assertEqual(row.ours, 70.0)
        self.assertEqual(row.peers["llama-gcc"].median, 35.0)
        self.assertEqual(row.peers["llama-gcc"].ratio, 2.0)
        self.assertEqual(row.peers["llama-gcc"].worst, 1.5)
        self.assertAlmostEqual(row.share, 70 / 4 * 1e9 / 40e9)
        self.assertNotIn("openvino", row.peers, "no round in common")
        self.assertNotIn("only theirs", rows)

    def test_of_times_and_memory_less_is_better(self):
        rows = {row.name: row for row in report.tables(self.RECORDS)["m"]}
        self.assertEqual(rows[engines.PEAK].peers["llama-gcc"].ratio, 1.5)

    def test_the_last_of_two_measurements_counts(self):
        again = self.RECORDS + [record("ridge", engines.PEAK, n, 500.0, unit="MB") for n in (1, 2)]
        rows = {row.name: row for row in report.tables(again)["m"]}
        self.assertEqual(rows[engines.PEAK].ours, 500.0)

    def test_forms(self):
        result = report.tables(self.RECORDS)
        markdown = report.as_markdown(result).splitlines()
        self.assertEqual(markdown[0], "| m | ridge | of bandwidth | llama.cpp (GCC) | ratio | worst |")
        self.assertEqual(markdown[1], "|---|---|---|---|---|---|")
        self.assertEqual(markdown[2], "| decode, batch 4, after 128, tok/s | 70.0 | 44 % | 35.0 | 2.00 | 1.50 |")
        self.assertIn("70.0", report.as_text(result))
        self.assertEqual(json.loads(json.dumps(report.as_json(result)))["m"][0]["peers"]["llama-gcc"]["ratio"], 2.0)

    def test_a_report_needs_nothing_but_results(self):
        with tempfile.TemporaryDirectory() as folder:
            with open(os.path.join(folder, "results.jsonl"), "w") as file:
                file.writelines(json.dumps(each) + "\n" for each in self.RECORDS)
            args = compare.parse(["--folder", folder, "--report", "--markdown", os.path.join(folder, "t.md")])
            with redirect_stdout(io.StringIO()) as output:
                compare.show(args, compare.read_results(args.results))
            self.assertIn("llama.cpp (GCC)", output.getvalue())
            with open(os.path.join(folder, "t.md")) as file:
                self.assertIn("| 2.00 |", file.read())


def load_report(tokens=985.2, first=391.4, gap=167.0, **more):
    return {"total_tokens_per_second": tokens, "ttft_ms": {"p50": first, "p95": 2 * first}, "inter_token_ms": {"p99": gap},
            **more}


class ServingTest(unittest.TestCase):
    def test_clients_side_by_side(self):
        lines = serving.clients_table({"ridge": load_report(), "llama.cpp": load_report(321, 5845, 200)}).splitlines()
        self.assertEqual(lines[0], "|  | ridge | llama.cpp | ratio |")
        self.assertEqual(lines[2], "| tokens/s, prompts and answers | 985 | 321 | 3.07 |")
        self.assertEqual(lines[3], "| time to the first token, median | 391 ms | 5845 ms | 1/15 |")
        self.assertEqual(lines[4], "| between tokens, p99 | 167 ms | 200 ms | 0.83 |", "below a half it is no part of one")

    def test_ridge_alone(self):
        lines = serving.clients_table({"ridge": load_report()}).splitlines()
        self.assertEqual(lines[0], "|  | ridge |")
        self.assertEqual(lines[4], "| between tokens, p99 | 167 ms |")
        self.assertEqual(serving.prefix_table({"a": load_report(), "b": load_report(first=62)}).splitlines()[2],
                         "| 391 ms | 62 ms |")

    def test_fairness(self):
        def of(first, answered, failures):
            return {"groups": [{"name": "light", **load_report(first=first)},
                               {"name": "heavy", "ok": answered, "failures": failures, **load_report()}]}

        reports = {3: of(215, 82, {}), 40: of(188, 187, {"429 queue_full": 729, "500": 1})}
        lines = serving.fairness_table(reports).splitlines()
        self.assertEqual(lines[2], "| 3 a second | 215 / 430 ms | 82 / 0 |")
        self.assertEqual(lines[3], "| 40 a second | 188 / 376 ms | 187 / 729 |")
        self.assertAlmostEqual(serving.share_of_patience(reports), 188 / 215)

    def test_guesses(self):
        def of(speed, each):
            return {"output_tokens_per_second": speed, "per_token_ms": {"p50": each}}

        rounds = [{"one": (of(263, 2.5), of(162, 5.0)), "many": (of(388, 9), of(362, 9))},
                  {"one": (of(271, 2.0), of(175, 5.0)), "many": (of(400, 9), of(500, 9))}]
        lines = serving.guesses_table(rounds).splitlines()
        self.assertEqual(lines[2], "| one client, tokens/s of answers | 263, 271 | 162, 175 | 1.62, 1.55 |")
        self.assertEqual(lines[3], "| one client, ms a token after the first | 2.50, 2.00 | 5.00, 5.00 | 2.00, 2.50 |")
        self.assertEqual(lines[4], "| 16 clients, tokens/s of answers | 388, 400 | 362, 500 | 1.07, 0.80 |")

    def test_the_share_of_right_guesses_is_read(self):
        metrics = ("# TYPE vllm:spec_decode_num_draft_tokens_total counter\n"
                   'vllm:spec_decode_num_draft_tokens_total{model_name="m"} 200\n'
                   'vllm:spec_decode_num_accepted_tokens_total{model_name="m"} 142\n')
        self.assertAlmostEqual(serving.guesses_right(metrics), 0.71)
        self.assertEqual(serving.guesses_right(""), 0.0)

    def test_what_clients_that_leave_leave_behind(self):
        health = {"connections": 1, "models": [{"running": 0, "waiting": 0, "blocks_free": 128}]}
        before = serving.state_of(health, 17)
        self.assertEqual(serving.left_behind(before, serving.state_of(health, 16)), [], "fewer is no leak")
        for change, words in [({"connections": 2}, "connections: 1 before, 2 after"),
                              ({"models": [{"running": 1, "waiting": 0, "blocks_free": 128}]}, "requests that run: 0 before, 1 after"),
                              ({"models": [{"running": 0, "waiting": 3, "blocks_free": 128}]}, "requests that wait: 0 before, 3 after"),
                              ({"models": [{"running": 0, "waiting": 0, "blocks_free": 127}]},
                               "blocks that are free: 128 before, 127 after")]:
            self.assertEqual(serving.left_behind(before, serving.state_of({**health, **change}, 17)), [words])
        after = serving.state_of(health, 18)
        self.assertEqual(serving.left_behind(before, after), ["descriptors: 17 before, 18 after"])
        loads = [{"requests": 1500, "left": 900, "ok": 590, "failed": 10}, {"requests": 200, "left": 101, "ok": 99, "failed": 0}]
        lines = serving.disconnects_table(loads, before, after).splitlines()
        self.assertEqual(lines[0], "Of 1,700 requests 1,001 left, 689 were answered first and 10 refused (429).")
        self.assertIn("| descriptors | 17 | 18 |", lines)

    def measure_disconnects(self, reports, states):
        """The part itself, of a server and loads that are made up."""
        reports, states = iter(reports), iter(states)
        health = {"connections": 1, "models": [{"running": 0, "waiting": 0, "blocks_free": 128}]}
        with unittest.mock.patch.multiple(
            serving, Server=unittest.mock.MagicMock(), BACK_S=0,
            measure=lambda *_: next(reports), state=lambda _: serving.state_of({**health, **next(states)}, 17),
        ):
            return serving.measure_disconnects(serving.parse(["m.gguf", "--parts", "disconnects", "--disconnects", "100"]))

    def test_disconnects_go_on_until_so_many_have_left(self):
        def load(left, failures={}):
            return {"requests": 100, "left": left, "ok": 100 - left, "failed": sum(failures.values()), "failures": failures}

        result, words = self.measure_disconnects([load(0), load(60, {"429 queue_full": 2}), load(50)], [{}, {}])
        self.assertEqual([each["left"] for each in result["loads"]], [60, 50])
        self.assertIn("110 left", words)
        with self.assertRaisesRegex(serving.Failed, "connections: 1 before, 2 after"):
            self.measure_disconnects([load(0), load(100)], [{}, {"connections": 2}])
        with self.assertRaisesRegex(serving.Failed, "no client left"):
            self.measure_disconnects([load(0), load(0)], [{}])
        with self.assertRaisesRegex(serving.Failed, "500"):
            self.measure_disconnects([load(0), load(60, {"500 internal": 1})], [{}])

    def test_commands_are_those_of_the_documents(self):
        args = serving.parse(["m.gguf", "--threads", "2", "--llama-server", "llama-server", "--ridge-options", "--precision mixed"])
        self.assertEqual(serving.ridge_server(args, "--no-prefix-cache")[-3:], ["--precision", "mixed", "--no-prefix-cache"])
        self.assertIn("-t 2 -c 16384 --parallel 16 -fa on", " ".join(serving.llama_server(args, 1, 16384)))
        words = " ".join(serving.load(args, "URL", *serving.clients_load(args)))
        self.assertIn("--concurrency 16 --warmup 4 -p 230 -n 64 --requests 64", words)
        with open(os.path.join(PROJECT, "docs", "performance.md")) as file:
            documents = file.read()
        for part in ("--concurrency 16 --warmup 4 -p 230 -n 64", "--group light,rate=2,key=a --group heavy,rate=40,key=b",
                     "-p 20 --shared-prefix 1500 -n 8", " ".join(map(str, serving.disconnects_load(20000, 1)))):
            self.assertIn(part, documents)

    def test_mistakes_are_named(self):
        for words in (["m", "--parts", "guess"], ["m", "--rounds", "0"], ["m", "--disconnects", "0"], []):
            with self.assertRaises(SystemExit), redirect_stderr(io.StringIO()):
                serving.parse(words)

    def test_a_server_that_ends_is_told_of(self):
        with self.assertRaises(serving.Failed), redirect_stderr(io.StringIO()):
            with serving.Server(["false"]):
                pass


if __name__ == "__main__":
    unittest.main()
