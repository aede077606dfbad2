#include "cli/model_writing.h"

#include <fmt/format.h>

#include <chrono>

#include "base/cpu_count.h"
#include "cli/interrupt.h"
#include "cli/progress.h"

namespace ridge::cli {
namespace {

void note_replaced(const Context& context, const std::vector<format::ReplacedType>& replaced) {
  if (replaced.empty()) return;
  const format::ReplacedType& first = replaced.front();
  context.note(fmt::format(
      "{} of the matrices have rows that are no whole blocks of their type and got another one "
      "({} is {} instead of {})",
      replaced.size(), printable(first.tensor), name(first.used), name(first.asked)));
}

}  // namespace

nlohmann::ordered_json WrittenModel::to_json() const {
  using Json = nlohmann::ordered_json;
  Json types = Json::object();
  for (const auto& [dtype, count] : report.tensors_by_type) types[std::string(name(dtype))] = count;
  Json replaced = Json::array();
  for (const format::ReplacedType& each : report.replaced) {
    replaced.push_back(
        {{"tensor", each.tensor}, {"asked", name(each.asked)}, {"used", name(each.used)}});
  }
  return {{"path", path},
          {"parameters", report.parameters},
          {"input_bytes", report.input_bytes},
          {"size_bytes", report.output_bytes},
          {"tensors_by_type", types},
          {"replaced", replaced},
          {"elapsed_s", elapsed_s}};
}

WrittenModel write_model(
    Context& context, const std::string& path, std::string_view doing,
    format::QuantizeOptions options,
    const std::function<format::QuantizeReport(const format::QuantizeOptions&)>& write) {
  const InterruptScope interrupt;
  ProgressBar progress(context.terminal(), !context.quiet && !context.json);
  if (options.threads == 0) options.threads = available_cpus();
  options.progress = [&](int64_t done_bytes, int64_t total_bytes) {
    progress.update(std::string(doing), done_bytes, total_bytes);
    return !InterruptScope::requested();
  };
  const auto start = std::chrono::steady_clock::now();
  WrittenModel written{.path = path, .report = write(options)};
  written.elapsed_s =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  progress.clear();
  if (!context.json) note_replaced(context, written.report.replaced);
  return written;
}

}  // namespace ridge::cli
