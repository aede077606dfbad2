#pragma once

namespace ridge::engine {

// Of work that is done only while there is no other; every other priority is above it.
inline constexpr int background_priority = -1'000'000;

}  // namespace ridge::engine
