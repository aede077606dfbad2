#include "backend/cpu/isa.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <vector>

#include "backend/cpu/open.h"
#include "base/error.h"

namespace ridge::backend::cpu {

namespace {

struct Candidate {
  std::string_view name;
  const KernelTable& (*kernels)();
  bool (*runs_here)();
};

#if defined(__x86_64__)
// GCC's check covers the operating system's support for the wide registers as well as the processor.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
bool has_avx512_vnni() { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
#endif

// The plainest first.
constexpr Candidate candidates[] = {
    {"scalar", &scalar_kernels, [] { return true; }},
#if defined(__x86_64__)
    {"avx2", &avx2_kernels, &has_avx2},
    {"avx512", &avx512_kernels, &has_avx512},
    {"avx512_vnni", &avx512_vnni_kernels, &has_avx512_vnni},
#endif
};

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Candidate& c : candidates) {
    if (c.runs_here()) names.emplace_back(c.name);
  }
  return names;
}

Isa select_isa(std::string_view name) {
  const Candidate* best = nullptr;
  for (const Candidate& c : candidates) {
    if (c.runs_here() && (name.empty() || name == c.name)) best = &c;
  }
  if (best == nullptr) {
    throw Error(ErrorCode::unsupported,
                fmt::format("this machine cannot run the instruction set '{}'; it has: {}", name,
                            fmt::join(available_isas(), ", ")));
  }
  return {best->name, &best->kernels()};
}

}  // namespace ridge::backend::cpu
