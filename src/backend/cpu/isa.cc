#include "backend/cpu/isa.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "backend/cpu/open.h"
#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

struct Candidate {
  std::string_view name;
  const KernelTable& (*kernels)();
  bool (*runs_here)();
  bool emulated = false;    // for tests: never chosen or listed without being asked for
};

#if defined(__x86_64__)
// Debian's Clang knows no names for these. Source: Intel's manual, volume 2, CPUID.
bool has_f16c() {
  unsigned eax, ebx, ecx, edx;
  return __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx >> 29 & 1) != 0;
}
bool has_amx_units() {
  unsigned eax, ebx, ecx, edx;
  constexpr unsigned wanted = 1u << 22 | 1u << 24 | 1u << 25;  // bf16, tiles, int8
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && (edx & wanted) == wanted;
}

// The compiler's check covers the operating system's support for the wide registers as well as the
// processor.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_avx512_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
bool has_avx512_bf16() { return has_avx512_vnni() && __builtin_cpu_supports("avx512bf16"); }

// Linux gives a process its tiles only when asked, and refuses where a thread's signal stack is too
// small for them. Source: Documentation/arch/x86/xstate.rst of the kernel.
bool tiles_permitted() {
#if defined(__linux__)
  constexpr int request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr int tile_data = 18;               // XFEATURE_XTILE_DATA
  static const bool permitted = syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
  return permitted;
#else
  return false;
#endif
}
bool has_amx() { return has_avx512_bf16() && has_amx_units() && tiles_permitted(); }
#endif

// The plainest first.
constexpr Candidate candidates[] = {
    {"scalar", &scalar_kernels, [] { return true; }},
    {"amx_emulated", &amx_emulated_kernels, [] { return true; }, /*emulated=*/true},
#if defined(__x86_64__)
    {"avx2", &avx2_kernels, &has_avx2},
    {"avx512", &avx512_kernels, &has_avx512},
    {"avx512_vnni", &avx512_vnni_kernels, &has_avx512_vnni},
    {"avx512_bf16", &avx512_bf16_kernels, &has_avx512_bf16},
    {"amx", &amx_kernels, &has_amx},
    {"amx_emulated_avx512", &amx_emulated_avx512_kernels, &has_avx512_bf16, /*emulated=*/true},
#endif
};

std::vector<std::string> names_of(bool emulated) {
  std::vector<std::string> names;
  for (const Candidate& c : candidates) {
    if (c.emulated == emulated && c.runs_here()) names.emplace_back(c.name);
  }
  return names;
}

}  // namespace

std::vector<std::string> available_isas() { return names_of(/*emulated=*/false); }
std::vector<std::string> emulated_isas() { return names_of(/*emulated=*/true); }

Isa select_isa(std::string_view name, bool allow_emulation) {
  const Candidate* best = nullptr;
  for (const Candidate& c : candidates) {
    if (c.emulated && (!allow_emulation || name.empty())) continue;
    if ((name.empty() || name == c.name) && c.runs_here()) best = &c;
  }
  if (best == nullptr) {
    throw Error(ErrorCode::unsupported,
                fmt::format("this machine cannot run the instruction set '{}'; it has: {}", name,
                            fmt::join(available_isas(), ", ")));
  }
  return {best->name, &best->kernels()};
}

int64_t few_rows_read_ahead() {
#if defined(__x86_64__)
  static const int64_t bytes = [] {
    if (__builtin_cpu_is("intel")) return 3072;
    const bool is_up_to_zen_4 = __builtin_cpu_is("amdfam17h") || __builtin_cpu_is("amdfam19h");
    return __builtin_cpu_is("amd") && !is_up_to_zen_4 ? 4096 : 0;
  }();
  return bytes;
#else
  return 0;
#endif
}

}  // namespace ridge::backend::cpu
