#pragma once

#include <string_view>

namespace ridge::planner {

// The text of the files in data/ that this program was built with.
std::string_view built_in_devices();    // devices.toml
std::string_view built_in_models();     // plan-models.toml
std::string_view built_in_published();  // published.toml

}  // namespace ridge::planner
