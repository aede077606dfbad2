#pragma once

#include <cstdint>
#include <string_view>

namespace ridge::backend::ascend {

// What one Ascend device is made of. Tiling on the host and the twin take their figures from here.
// Source of the table: the platform_config files of CANN 8.1 (figures only).
struct Soc {
  std::string_view name;        // "Ascend910B2", as aclrtGetSocName says
  std::string_view short_name;  // "910B2", as people and options say
  uint32_t cube_cores;          // AIC
  uint32_t vector_cores;        // AIV, two for each AIC
  uint32_t clock_mhz;
  uint64_t memory_bytes;        // HBM
  uint64_t l2_bytes;
};

// Local memories of one core; the same in all devices of the table (architecture 2201).
inline constexpr uint32_t unified_buffer_bytes = 192 * 1024;  // UB, of an AIV
inline constexpr uint32_t l1_bytes = 512 * 1024;              // of an AIC, as are those below
inline constexpr uint32_t l0a_bytes = 64 * 1024;
inline constexpr uint32_t l0b_bytes = 64 * 1024;
inline constexpr uint32_t l0c_bytes = 128 * 1024;
inline constexpr uint32_t bias_table_bytes = 1024;
inline constexpr uint32_t fixpipe_buffer_bytes = 7 * 1024;
// The last bytes of UB and of L1 belong to the system.
inline constexpr uint32_t reserved_bytes = 256;
inline constexpr uint32_t usable_unified_buffer_bytes = unified_buffer_bytes - reserved_bytes;
inline constexpr uint32_t usable_l1_bytes = l1_bytes - reserved_bytes;

// By name or short name; throws not_found with the names that there are.
const Soc& find_soc(std::string_view name);
// Of a name that aclrtGetSocName says: variants of a chip ("Ascend910_9382") count as the one of the
// table that their name begins like. Throws not_found.
const Soc& soc_of_chip(std::string_view name);

}  // namespace ridge::backend::ascend
