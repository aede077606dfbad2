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

}  // namespace ridge::backend::cpu
