#include "conformance/lacks.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>

namespace ridge::conformance {

std::string contradiction(const std::string& device, const std::string& case_name,
                          bool is_unsupported, std::span<const Lack> declared) {
  const auto lack = std::ranges::find_if(declared, [&](const Lack& each) {
    return fnmatch(each.device, device.c_str(), 0) == 0 &&
           fnmatch(each.cases, case_name.c_str(), 0) == 0;
  });
  const bool is_declared = lack != declared.end();
  if (is_declared == is_unsupported) return "";
  if (is_unsupported) return "lacks.h does not say that the device lacks this";
  return fmt::format("it works, though lacks.h says that {} lacks '{}'", lack->device, lack->cases);
}

}  // namespace ridge::conformance
