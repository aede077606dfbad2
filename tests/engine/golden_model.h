#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "base/error.h"
#include "engine/loaded_model.h"

namespace ridge::engine {

// Loads a model of tests/goldens into `to`, computed by two threads. Skips the test where this
// machine does not run the instruction set of `options`.
inline void load_golden(const std::string& name, LoadOptions options,
                        std::unique_ptr<LoadedModel>& to) {
  options.device_options.threads = 2;
  options.device_options.threads_spin = false;
  try {
    to = LoadedModel::load(std::string(RIDGE_SOURCE_DIR) + "/tests/goldens/" + name, options);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unsupported && error.code() != ErrorCode::invalid_argument)
      throw;
    GTEST_SKIP() << "this machine does not run " << options.device_options.isa << ": "
                 << error.message();
  }
}

}  // namespace ridge::engine
