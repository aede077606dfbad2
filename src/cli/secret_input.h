#pragma once

#include <string>

#include "cli/context.h"

namespace ridge::cli {

// A password from the terminal, where it is asked for twice and not shown; else the first line of
// standard input. Throws invalid_argument where there is none, or the two differ.
std::string read_new_password(const Context& context, const std::string& whose);

}  // namespace ridge::cli
