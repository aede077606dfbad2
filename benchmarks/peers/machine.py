"""What this machine is, and which instructions a peer may be built for."""

import glob
import os
import re
import shutil

# llama.cpp's CMake switches and the flag of /proc/cpuinfo that each needs.
VECTOR_SWITCHES = {
    "GGML_AVX": "avx",
    "GGML_AVX2": "avx2",
    "GGML_FMA": "fma",
    "GGML_F16C": "f16c",
    "GGML_BMI2": "bmi2",
    "GGML_AVX512": "avx512f",
    "GGML_AVX512_VBMI": "avx512_vbmi",
    "GGML_AVX512_VNNI": "avx512_vnni",
    "GGML_AVX512_BF16": "avx512_bf16",
}
AMX_SWITCHES = {"GGML_AMX_TILE": "amx_tile", "GGML_AMX_INT8": "amx_int8", "GGML_AMX_BF16": "amx_bf16"}
# The kernel writes some flags without the line, and AVX-512 VBMI so.
SPELLINGS = {"avx512vbmi": "avx512_vbmi"}


def parse_cpuinfo(text):
    """(name of the processor, set of its flags)."""
    name = re.search(r"^model name\s*:\s*(.*)$", text, re.M)
    flags = re.search(r"^flags\s*:\s*(.*)$", text, re.M)
    words = flags[1].split() if flags else []
    return (name[1].strip() if name else "unknown processor"), {SPELLINGS.get(word, word) for word in words}


def processor():
    with open("/proc/cpuinfo") as file:
        return parse_cpuinfo(file.read())


def has_amx(flags):
    return all(flag in flags for flag in AMX_SWITCHES.values())


def cmake_switches(flags, amx):
    """How llama.cpp is built for this machine. Without OpenMP it is the faster of the two on few cores."""
    switches = {"GGML_NATIVE": "OFF", "GGML_OPENMP": "OFF", "GGML_LLAMAFILE": "ON", "CMAKE_BUILD_TYPE": "Release"}
    for switch, flag in VECTOR_SWITCHES.items():
        switches[switch] = "ON" if flag in flags else "OFF"
    for switch, flag in AMX_SWITCHES.items():
        switches[switch] = "ON" if amx and flag in flags else "OFF"
    return switches


def newest_clang():
    """(clang, clang++) of the highest version on the path, or None. Old ones know no AMX."""
    versions = []
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        for path in glob.glob(os.path.join(folder, "clang++-*")):
            version = path.rsplit("-", 1)[1]
            if version.isdigit() and shutil.which(f"clang-{version}"):
                versions.append(int(version))
    if versions:
        return f"clang-{max(versions)}", f"clang++-{max(versions)}"
    if shutil.which("clang") and shutil.which("clang++"):
        return "clang", "clang++"
    return None


def usable_cores():
    return len(os.sched_getaffinity(0))


def parse_available_memory(text):
    return int(re.search(r"^MemAvailable:\s*(\d+) kB$", text, re.M)[1]) * 1024


def available_memory_bytes():
    with open("/proc/meminfo") as file:
        return parse_available_memory(file.read())


def free_disk_bytes(folder):
    while not os.path.isdir(folder):
        folder = os.path.dirname(os.path.abspath(folder))
    return shutil.disk_usage(folder).free
