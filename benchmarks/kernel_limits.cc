#include "kernel_limits.h"

#include <fmt/format.h>

#include "backend/cpu/linear_path.h"
#include "backend/cpu/machine_probe.h"

namespace ridge::benchmarks {

using backend::cpu::LinearPath;

Limits measure_limits(const backend::cpu::KernelTable& kernels, int threads) {
  ThreadTeam team(threads);
  const auto peak = [&](int64_t (*run)(int64_t)) {
    return run == nullptr ? 0.0 : backend::cpu::peak_flops_per_second(team, run);
  };
  const auto& peaks = kernels.peaks;
  return {backend::cpu::read_bytes_per_second(team, kernels, backend::cpu::uncached_bytes()),
          peak(peaks.f32), peak(peaks.i8), peak(peaks.tile_i8), peak(peaks.tile_bf16)};
}

std::string to_string(const Limits& limits) {
  std::string text = fmt::format("memory {:.1f} GB/s; f32 {:.0f}, i8 {:.0f} Gop/s",
                                 limits.bytes_per_second / 1e9, limits.f32 / 1e9, limits.i8 / 1e9);
  if (limits.tile_i8 > 0) {
    text += fmt::format("; tiles of i8 {:.0f}, of bf16 {:.0f} Gop/s", limits.tile_i8 / 1e9,
                        limits.tile_bf16 / 1e9);
  }
  return text;
}

double peak_of(const Limits& limits, const backend::cpu::KernelTable& kernels, DType dtype,
               backend::Precision precision, int rows) {
  const bool quantized = is_quantized(dtype);
  const int planes = backend::cpu::activation_planes(precision);
  const auto index = static_cast<int>(dtype);
  const backend::cpu::PanelFits fits{kernels.byte_panel.multiply[index] != nullptr,
                                     kernels.word_panel.multiply[index] != nullptr};
  switch (backend::cpu::choose_linear_path(rows, precision, quantized, fits, kernels)) {
    case LinearPath::panel:
      // Three products of parts of four.
      return limits.tile_bf16 / (backend::cpu::panel_parts(precision) == 2 ? 3 : 1);
    case LinearPath::tile_dot:
      return limits.tile_i8 / planes;
    case LinearPath::byte_panel:
    case LinearPath::word_panel:  // which may multiply less often than its products are
    case LinearPath::dot:
      break;
  }
  return quantized ? limits.i8 / planes : limits.f32;
}

}  // namespace ridge::benchmarks
