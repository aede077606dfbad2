#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "cli/context.h"
#include "format/quantize_file.h"

namespace ridge::cli {

// What a command that writes a GGUF file of another model has done.
struct WrittenModel {
  std::string path;
  format::QuantizeReport report;
  double elapsed_s = 0;

  // "path", "parameters", "input_bytes", "size_bytes", "tensors_by_type", "replaced", "elapsed_s".
  nlohmann::ordered_json to_json() const;
};

// Runs `write`, which writes to `path`, with a progress bar that says `doing` and with threads
// (0: as many as this process may use); Ctrl-C stops it. Notes which matrices got another type than
// was asked for. Throws as `write`.
WrittenModel write_model(
    Context& context, const std::string& path, std::string_view doing,
    format::QuantizeOptions options,
    const std::function<format::QuantizeReport(const format::QuantizeOptions&)>& write);

}  // namespace ridge::cli
