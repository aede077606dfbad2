#pragma once

#include <string_view>

#include "backend/cpu/kernels.h"

namespace ridge::backend::cpu {

// The kernels of one of available_isas(), or of the best for ""; with `allow_emulation` also of one
// of emulated_isas(). Throws unsupported.
struct Isa {
  std::string_view name;
  const KernelTable* kernels;
};
Isa select_isa(std::string_view name, bool allow_emulation = false);

// How many bytes ahead a stream of weights from memory is asked for where little else is done with
// each line than to read it once: what this processor was found to read fastest with
// (docs/performance.md). 0: it does better by itself, as AMD's up to Zen 4 do.
int64_t few_rows_read_ahead();

}  // namespace ridge::backend::cpu
