#include "tensor/dtype.h"

#include <strings.h>

#include <array>
#include <string>

#include "base/error.h"

namespace ridge {

namespace {

// Block sizes: GGUF specification and the layouts in blocks.h.
constexpr std::array<DTypeTraits, dtype_count> table = {{
    {"F32", 1, 4},       {"F16", 1, 2},       {"BF16", 1, 2},      {"I8", 1, 1},
    {"I32", 1, 4},       {"Q4_0", 32, 18},    {"Q4_1", 32, 20},    {"Q5_0", 32, 22},
    {"Q5_1", 32, 24},    {"Q8_0", 32, 34},    {"Q2_K", 256, 84},   {"Q3_K", 256, 110},
    {"Q4_K", 256, 144},  {"Q5_K", 256, 176},  {"Q6_K", 256, 210},  {"IQ4_NL", 32, 18},
    {"IQ4_XS", 256, 136}, {"MXFP4", 32, 17},
}};

}  // namespace

const DTypeTraits& traits(DType dtype) { return table[static_cast<size_t>(dtype)]; }

std::string_view name(DType dtype) { return traits(dtype).name; }

std::optional<DType> dtype_from_name(std::string_view name) {
  for (int i = 0; i < dtype_count; ++i) {
    if (name.size() == table[i].name.size() &&
        strncasecmp(name.data(), table[i].name.data(), name.size()) == 0) {
      return static_cast<DType>(i);
    }
  }
  return std::nullopt;
}

bool is_quantized(DType dtype) { return traits(dtype).block_elements > 1; }

size_t row_bytes(DType dtype, int64_t elements) {
  const DTypeTraits& t = traits(dtype);
  RIDGE_ASSERT(elements >= 0 && elements % t.block_elements == 0);
  return static_cast<size_t>(elements / t.block_elements) * t.block_bytes;
}

}  // namespace ridge
