#pragma once

#include <compare>
#include <cstdint>
#include <functional>

namespace ridge {

// An integer that cannot be mistaken for another kind of id: `using BlockId = StrongId<struct BlockTag>`.
template <typename Tag, typename Value = int32_t>
struct StrongId {
  Value value{};
  auto operator<=>(const StrongId&) const = default;
};

}  // namespace ridge

template <typename Tag, typename Value>
struct std::hash<ridge::StrongId<Tag, Value>> {
  size_t operator()(ridge::StrongId<Tag, Value> id) const noexcept {
    return std::hash<Value>{}(id.value);
  }
};
