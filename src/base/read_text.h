#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace ridge {

// The whole of a file. Throws not_found or io: "cannot read WHAT PATH: why"; `what` ends with a blank.
std::string read_text(const std::filesystem::path& file, std::string_view what = "");

}  // namespace ridge
