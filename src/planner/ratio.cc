#include "planner/ratio.h"

#include <fmt/format.h>

#include "base/error.h"

namespace ridge::planner {
namespace {

struct Side {
  const ModelShape& shape;
  const Device& device;
  Formats formats;
  Layout layout;
};

Side side_of(const ModelShape& shape, const Device& device, std::string_view weights, int devices) {
  const int ranks = devices * device.ranks;
  const Layout layout{.replicas = ranks, .spreads_experts = shape.experts.has_value() && ranks > 1};
  if (!can_send(layout, device)) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("nothing links {} of {}, as experts on all of them need", devices,
                            device.name));
  }
  return {shape, device, {find_weight_format(weights), find_kv_format("bf16")}, layout};
}

}  // namespace

std::vector<RatioRow> ratios(const ModelShape& shape, const Device& first, const Device& second,
                             int devices, double prompt_tokens) {
  const int count = shape.experts ? devices : 1;
  std::vector<RatioRow> rows;
  const auto add = [&](const std::string& regime, const std::string& weights, const auto& bound,
                       const Side& a, const Side& b) {
    const auto of_first = bound(a);
    const auto of_second = bound(b);
    rows.push_back({regime, weights, of_first.tokens_per_second, of_second.tokens_per_second,
                    of_first.step.limit, of_second.step.limit});
  };
  // A device without 8-bit floats holds such weights as integers (fp8 falls back to i8).
  constexpr std::pair<const char*, const char*> formats[] = {
      {"fp8", "fp8"}, {"bf16", "bf16"}, {"bf16", "fp8"}};
  for (const auto& [of_first, of_second] : formats) {
    const Side a = side_of(shape, first, of_first, count);
    const Side b = side_of(shape, second, of_second, count);
    const auto label = [](const char* format, const Device& device) {
      return std::string_view(format) == "fp8" && device.f8_tflops.value == 0 ? "int8" : format;
    };
    const std::string weights =
        fmt::format("{} / {}", label(of_first, first), label(of_second, second));
    add(
        fmt::format("prompts of {:g}", prompt_tokens), weights,
        [&](const Side& side) {
          return prefill_bound(side.shape, side.formats, side.layout, side.device, prompt_tokens, 0,
                               /*batch_tokens=*/16384);
        },
        a, b);
    for (const double batch : {1.0, 8.0, 32.0, 128.0}) {
      add(
          fmt::format("decode, {:g} a device", batch), weights,
          [&](const Side& side) {
            return decode_bound(side.shape, side.formats, side.layout, side.device,
                                batch / side.device.ranks, prompt_tokens, {});
          },
          a, b);
    }
  }
  return rows;
}

}  // namespace ridge::planner
