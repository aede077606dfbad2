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

// Whether this processor reads a stream from memory faster when the next kilobytes are asked for,
// though nothing else is done with each line than to read it once: Intel's do, AMD's do not.
bool fetches_few_rows_ahead();

}  // namespace ridge::backend::cpu
