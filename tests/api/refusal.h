#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "base/error.h"

namespace ridge::api {

// What a call refused: "code param", or "" where it threw nothing.
inline std::string refusal_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    EXPECT_FALSE(error.message().empty());
    return std::string(name(error.code())) + " " + error.param();
  }
  return "";
}

}  // namespace ridge::api
