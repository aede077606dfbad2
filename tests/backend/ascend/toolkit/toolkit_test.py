"""Ascend's kernels by a toolkit: what ours tells it, where what it makes is found, and what is said where it is none.

No toolkit of CANN is needed: fake/ has one with the documented functions, which write down what they were given. The
project around it is as small as can be, so that configuring it takes seconds."""

import os
import shutil
import subprocess
import tempfile
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PROJECT = os.path.abspath(os.path.join(HERE, *[os.pardir] * 4))
KERNELS = os.path.join(PROJECT, "src/backend/ascend/kernels")
FAKE = os.path.join(HERE, "fake")

OUTER = f"""
cmake_minimum_required(VERSION 3.25)
project(outer LANGUAGES NONE)
set(CMAKE_UNITY_BUILD ON)
add_compile_options(-Wall)
list(APPEND CMAKE_MODULE_PATH "{PROJECT}/cmake")
add_custom_target(ridge ALL)
include(AscendKernels)
"""


class Toolkit(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        with open(self.path("CMakeLists.txt"), "w", encoding="utf-8") as file:
            file.write(OUTER)

    def path(self, *parts):
        return os.path.join(self.folder, *parts)

    def read(self, *parts):
        with open(self.path(*parts), encoding="utf-8") as file:
            return file.read()

    def cmake(self, *arguments, toolkit=None, soc=None):
        environment = {k: v for k, v in os.environ.items() if k not in ("ASCEND_HOME_PATH", "SOC_VERSION")}
        environment.update({"ASCEND_HOME_PATH": toolkit} if toolkit is not None else {})
        environment.update({"SOC_VERSION": soc} if soc else {})
        ran = subprocess.run(["cmake", *arguments], cwd=self.folder, env=environment, text=True,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        # CMake breaks its messages into lines.
        return ran.returncode, ran.stdout, " ".join(ran.stdout.split())

    def configure(self, *options, **environment):
        return self.cmake("-S", ".", "-B", "build", "-G", "Ninja", *options, **environment)

    def given(self, name):
        return self.read("build", "ascend", "given", name).split("\n")

    def configure_well(self, *options, **environment):
        status, output, _ = self.configure(*options, **environment)
        self.assertEqual(status, 0, output)

    def assert_refused(self, words, *options, **environment):
        status, output, flat = self.configure(*options, **environment)
        self.assertNotEqual(status, 0, output)
        for word in words:
            self.assertIn(word, flat)

    def test_is_told_kernels_includes_and_chip(self):
        self.configure_well(toolkit=FAKE, soc="Ascend910_9391")
        self.assertEqual(self.given("target"), ["ridge_ascend_kernels"])
        sources = {os.path.realpath(path) for path in self.given("sources")}
        here = {os.path.realpath(os.path.join(KERNELS, name)) for name in os.listdir(KERNELS) if name.endswith(".cc")}
        self.assertEqual(sources, here)
        target, scope, include = self.given("include_directories")
        self.assertEqual((target, scope), ("ridge_ascend_kernels", "PRIVATE"))
        self.assertTrue(os.path.samefile(include, os.path.join(PROJECT, "src")))
        self.assertEqual(self.given("compile_definitions"), ["ridge_ascend_kernels", "PRIVATE", "ASCENDC_DUMP=0"])
        self.assertEqual(self.given("soc"), ["Ascend910_9391"])
        self.assertEqual(self.given("build_type"), ["Release"])

    def test_gets_none_of_our_compilers_settings(self):
        self.configure_well(toolkit=FAKE)
        self.assertEqual(self.given("options"), ["unity build: "])

    def test_compiles_for_910b2_unless_told(self):
        self.configure_well(toolkit=FAKE)
        self.assertEqual(self.given("soc"), ["Ascend910B2"])
        self.configure_well("-DRIDGE_ASCEND_SOC=Ascend910B4", toolkit=FAKE)
        self.assertEqual(self.given("soc"), ["Ascend910B4"])

    def test_leaves_the_file_where_ridge_looks(self):
        self.configure_well(toolkit=FAKE)
        # The program's target alone, as `make build` builds it.
        status, output, _ = self.cmake("--build", "build", "--target", "ridge")
        self.assertEqual(status, 0, output)
        built = self.read("build", "ridge_ascend_kernels.o")
        self.assertIn("ridge_linear_", built)
        status, output, _ = self.cmake("--install", "build", "--prefix", self.path("there"))
        self.assertEqual(status, 0, output)
        # The program is in bin, and looks in ../lib/ridge.
        self.assertEqual(self.read("there", "lib", "ridge", "ridge_ascend_kernels.o"), built)

    def test_can_be_built_alone(self):
        project = os.path.join(PROJECT, "src/backend/ascend/toolkit")
        status, output, _ = self.cmake("-S", project, "-B", "named", "-DSOC_VERSION=Ascend910B3", toolkit=FAKE)
        self.assertEqual(status, 0, output)
        status, output, _ = self.cmake("-S", project, "-B", "alone", toolkit=FAKE, soc="Ascend910B3")
        self.assertEqual(status, 0, output)
        status, output, _ = self.cmake("--build", "alone")
        self.assertEqual(status, 0, output)
        self.assertIn("ridge_linear_", self.read("alone", "fatbin", "ridge_ascend_kernels", "ridge_ascend_kernels.o"))

    def test_finds_ascendc_in_the_older_place(self):
        older = self.path("older", "tools", "tikcpp", "ascendc_kernel_cmake")
        shutil.copytree(os.path.join(FAKE, "compiler/tikcpp/ascendc_kernel_cmake"), older)
        self.configure_well(toolkit=self.path("older"))

    def test_is_left_out_where_no_toolkit_is_named(self):
        self.configure_well()
        self.assertFalse(os.path.exists(self.path("build", "ascend")))
        self.configure_well("-DRIDGE_COMPILE_ASCEND=OFF", toolkit="/nowhere")
        self.assertFalse(os.path.exists(self.path("build", "ascend")))

    def test_goes_on_where_set_env_was_sourced_before(self):
        self.configure_well(toolkit=FAKE)
        shutil.rmtree(self.path("build", "ascend"))
        self.configure_well()
        self.assertEqual(self.given("target"), ["ridge_ascend_kernels"])

    def test_says_that_none_is_named(self):
        self.assert_refused(["No toolkit of CANN is named", "set_env.sh"], "-DRIDGE_COMPILE_ASCEND=ON")

    def test_says_what_is_no_folder(self):
        self.assert_refused(["/nowhere/at/all", "no folder", "-DRIDGE_COMPILE_ASCEND=OFF"], toolkit="/nowhere/at/all")

    def test_says_what_a_folder_lacks(self):
        os.makedirs(self.path("runtime", "lib64"))
        self.assert_refused([self.path("runtime"), "compiler/tikcpp/ascendc_kernel_cmake", "8.1 or later"],
                            toolkit=self.path("runtime"))

    def test_says_that_a_toolkit_is_too_old(self):
        old = self.path("old", "compiler", "tikcpp", "ascendc_kernel_cmake")
        os.makedirs(old)
        with open(os.path.join(old, "ascendc.cmake"), "w", encoding="utf-8") as file:
            file.write("function(ascendc_library)\nendfunction()\n")
        self.assert_refused(["ascendc_fatbin_library", "8.1 or later"], toolkit=self.path("old"))

    def test_refuses_a_chip_of_another_kind(self):
        self.assert_refused(['"Ascend310P3"', "Ascend910B1", "npu-smi"], toolkit=FAKE, soc="Ascend310P3")


if __name__ == "__main__":
    unittest.main()
