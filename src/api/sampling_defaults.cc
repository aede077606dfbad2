#include "api/sampling_defaults.h"

#include <algorithm>
#include <cctype>
#include <string>

namespace ridge::api {
namespace {

bool names_r1(std::string_view name) {
  std::string lower(name);
  std::replace_if(
      lower.begin(), lower.end(), [](char c) { return c == ' ' || c == '_'; }, '-');
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return lower.find("deepseek-r1") != std::string::npos;
}

}  // namespace

SamplingDefaults default_sampling(std::string_view served_name, const engine::ModelInfo& info) {
  SamplingDefaults defaults;
  if (names_r1(served_name) || names_r1(info.name)) {
    defaults.temperature = 0.6f;
    defaults.top_p = 0.95f;
  }
  return defaults;
}

}  // namespace ridge::api
