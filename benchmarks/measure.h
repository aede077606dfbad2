#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <string>

#include "base/error.h"
#include "tensor/dtype.h"

namespace ridge::benchmarks {

// Of a command line. Throws invalid_argument.
inline DType dtype_of(const std::string& name) {
  const auto known = dtype_from_name(name);
  if (!known) throw Error(ErrorCode::invalid_argument, "no dtype is called " + name);
  return *known;
}

// The least of what once() returns, in seconds, called until `budget_s` of them have passed: what
// the machine can do when nobody else uses it.
template <typename Once>
double least_seconds(double budget_s, Once once) {
  double best = 1e9, spent = 0;
  while (spent < budget_s) {
    const double seconds = once();
    best = std::min(best, seconds);
    spent += seconds;
  }
  return best;
}

// The exit code of a program that does this: an Error becomes a line on standard error.
template <typename Run>
int exit_code_of(const char* program, Run run) {
  try {
    run();
    return 0;
  } catch (const Error& error) {
    fmt::print(stderr, "{}: {}\n", program, error.message());
    return 1;
  }
}

}  // namespace ridge::benchmarks
