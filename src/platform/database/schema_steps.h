#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace ridge::platform {

struct SchemaStep {
  int64_t version;  // from 1, without gaps
  std::string_view name;
  // Statements that both databases understand, each ended by ";\n". "{counter}" is the type of a
  // key that counts up, "{now_ms}" the time in milliseconds since 1970.
  std::string_view sql;
};

// In order; never empty. Made from schema/ by CMake.
std::span<const SchemaStep> schema_steps();

}  // namespace ridge::platform
