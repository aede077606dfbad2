#pragma once

namespace ridge {

// Whether this program is instrumented. The same cases run without sanitizers in the same `make
// test`, where they say whether results are right; with them a part is enough that reaches every
// branch, and the whole takes ten times as long.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool is_sanitized = true;
#else
inline constexpr bool is_sanitized = false;
#endif

}  // namespace ridge
