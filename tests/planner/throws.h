#pragma once

#include <string>

#include "base/error.h"

namespace ridge::planner {

// The message of what `call` throws, with the error's code in front: "invalid_file: ...".
template <typename Call>
std::string thrown(Call call) {
  try {
    call();
  } catch (const Error& error) {
    return std::string(name(error.code())) + ": " + std::string(error.message());
  }
  return "nothing";
}

}  // namespace ridge::planner
