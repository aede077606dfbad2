#pragma once

#include <span>
#include <string>
#include <string_view>

// What the back ends cannot do yet. A case that a device finds unsupported without standing here
// fails, and so does one that stands here and works: whoever adds an op takes its line out.
namespace ridge::conformance {

// Both are patterns of the shell, in which * is any text and ? any character.
struct Lack {
  const char* device;  // as test_name(DeviceChoice): "cpu_*", "cpu_avx2"
  const char* cases;   // as Case::name
};

inline constexpr Lack declared_lacks[] = {
    {"cpu_*", "attention blocks of [48]"},  // blocks must hold a multiple of 16 tokens
    {"cpu_*", "linear-* columns ?/?"},  // shards
};

// What is wrong with a case that a device ran, or found unsupported;
// empty where that is as it is declared.
std::string contradiction(const std::string& device, const std::string& case_name,
                          bool is_unsupported, std::span<const Lack> declared = declared_lacks);

}  // namespace ridge::conformance
