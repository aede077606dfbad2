#pragma once

#include <string_view>
#include <vector>

#include "backend/device_options.h"

namespace ridge::backend::cpu {

// The processor of each of `threads` members of a team, each core's first hardware thread before
// any second one; empty where they shall not be pinned. Throws unsupported where pin_threads is on
// and there are more threads than processors.
std::vector<int> choose_processors(int threads, Toggle pin_threads);

// Whether the kernel gives huge pages to who asks for them. Source: Linux
// Documentation/admin-guide/mm/transhuge.rst.
bool huge_pages_available();
// From the text of /sys/kernel/mm/transparent_hugepage/enabled: "always [madvise] never".
bool huge_pages_allowed_by(std::string_view enabled);

}  // namespace ridge::backend::cpu
