#include "platform/quantization.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "base/error.h"

namespace ridge::platform {
namespace {

constexpr std::array<std::string_view, 14> preferred_names = {
    "Q4_K_M", "Q4_K_S", "Q5_K_M", "Q4_1",      "Q4_0", "IQ4_XS", "Q8_0",
    "Q6_K",   "Q5_K_S", "MXFP4",  "MXFP4_MOE", "BF16", "F16",    "F32"};
constexpr std::array<std::string_view, 33> known_names = {
    "F32",     "F16",    "BF16",   "Q4_0",   "Q4_1",   "Q5_0",     "Q5_1",   "Q8_0",   "Q2_K",
    "Q2_K_S",  "Q2_K_L", "Q3_K",   "Q3_K_S", "Q3_K_M", "Q3_K_L",   "Q4_K",   "Q4_K_S", "Q4_K_M",
    "Q4_K_L",  "Q5_K",   "Q5_K_S", "Q5_K_M", "Q5_K_L", "Q6_K",     "Q6_K_L", "IQ4_NL", "IQ4_XS",
    "IQ3_XXS", "IQ3_S",  "IQ3_M",  "IQ2_M",  "MXFP4",  "MXFP4_MOE"};

char upper(char letter) {
  return static_cast<char>(std::toupper(static_cast<unsigned char>(letter)));
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return upper(x) == upper(y); });
}

std::string_view without_extension(std::string_view file_name) {
  constexpr std::string_view extension = ".gguf";
  if (file_name.size() > extension.size() &&
      equal_ignoring_case(file_name.substr(file_name.size() - extension.size()), extension)) {
    file_name.remove_suffix(extension.size());
  }
  return file_name;
}

// Five digits, 1 to 99999; 0 for anything else.
int part_number(std::string_view text) {
  int value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool digits =
      std::all_of(text.begin(), text.end(), [](char c) { return c >= '0' && c <= '9'; });
  return text.size() == 5 && digits && failure == std::errc() ? value : 0;
}

}  // namespace

std::string canonical_quantization(std::string_view text) {
  std::string result;
  for (const char letter : text) result += upper(letter);
  const bool valid =
      result.size() >= 2 && result.size() <= 32 &&
      std::all_of(result.begin(), result.end(), [](char c) {
        return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
      });
  if (!valid) {
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format("'{}' is no quantisation (such as Q4_K_M or Q8_0)", text.substr(0, 80)));
  }
  return result;
}

PartName part_name(std::string_view file_name) {
  const std::string_view stem = without_extension(file_name);
  constexpr size_t suffix_size = std::string_view("-00001-of-00002").size();
  if (stem.size() > suffix_size) {
    const std::string_view suffix = stem.substr(stem.size() - suffix_size);
    const int part = part_number(suffix.substr(1, 5));
    const int parts = part_number(suffix.substr(10, 5));
    if (suffix[0] == '-' && suffix.substr(6, 4) == "-of-" && part >= 1 && part <= parts) {
      return {stem.substr(0, stem.size() - suffix_size), part, parts};
    }
  }
  return {stem, 1, 1};
}

bool has_quantization(std::string_view file_name, std::string_view quantization) {
  const std::string_view stem = part_name(file_name).stem;
  if (quantization.empty() || stem.size() < quantization.size()) return false;
  const size_t start = stem.size() - quantization.size();
  if (!equal_ignoring_case(stem.substr(start), quantization)) return false;
  return start == 0 || stem[start - 1] == '-' || stem[start - 1] == '.' || stem[start - 1] == '_';
}

std::string quantization_of(std::string_view file_name) {
  std::string_view longest;
  for (const std::string_view known : known_names) {
    if (known.size() > longest.size() && has_quantization(file_name, known)) longest = known;
  }
  return std::string(longest);
}

std::span<const std::string_view> preferred_quantizations() { return preferred_names; }

}  // namespace ridge::platform
