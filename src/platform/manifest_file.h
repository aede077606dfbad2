#pragma once

#include <string>
#include <string_view>

#include "platform/store.h"

namespace ridge::platform {

// The file name of a model's manifest: its name with '%', '/' and ':' written as %25, %2F, %3A.
// Throws invalid_argument unless 1 to 240 bytes of letters, digits and .
// _ - : / come out as a file name.
std::string manifest_file_name(std::string_view model_name);

std::string manifest_to_json(const Manifest& manifest);
// Throws invalid_file, naming `file_name`, where the text is no manifest,
// or names what is no file name.
Manifest manifest_from_json(std::string_view text, std::string_view file_name);

}  // namespace ridge::platform
