#pragma once

#include "engine/request.h"

namespace ridge::engine {

inline constexpr int max_choices = 32;
inline constexpr int max_stop_sequences = 16;
inline constexpr int max_stop_bytes = 1024;  // of one

// Throws invalid_argument, or context_length for a prompt that leaves no room for one token, naming
// the field at fault.
void check_request(const Request& request, int vocab_size, int context_tokens, size_t adapters);

}  // namespace ridge::engine
