#pragma once

#include <cstdint>
#include <string_view>

namespace ridge::engine {

// What a sequence waits for.
enum class Wait : uint8_t {
  model,   // its weights are being loaded
  place,   // as many sequences run as may
  blocks,  // the KV cache has no room for it beside those that run
  turn,    // the tokens of the steps go to others' prompts first
};
std::string_view name(Wait wait);

}  // namespace ridge::engine
