#include "cli/bench_machine.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "backend/registry.h"
#include "base/error.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;
using backend::MachineLimits;
using backend::MultiplyLimit;
using backend::ReadLimit;

// Sizes of caches are powers of two.
std::string format_size(uint64_t bytes) {
  return bytes >= 1 << 20 ? fmt::format("{} MiB", bytes >> 20) : fmt::format("{} KiB", bytes >> 10);
}

Json to_json(const ReadLimit& limit) {
  Json body = {{"level", limit.level},
               {"level_bytes", limit.level_bytes},
               {"working_set_bytes", limit.working_set_bytes},
               {"threads", limit.threads}};
  if (limit.lacking.empty()) {
    body["bytes_per_second"] = limit.bytes_per_second;
  } else {
    body["lacking"] = limit.lacking;
  }
  return body;
}

Json to_json(const MultiplyLimit& limit) {
  Json body = {{"isa", limit.isa},
               {"instruction", limit.instruction},
               {"operands", limit.operands},
               {"threads", limit.threads}};
  if (limit.lacking.empty()) {
    body["flops_per_second"] = limit.flops_per_second;
  } else {
    body["lacking"] = limit.lacking;
  }
  return body;
}

Json to_json(const backend::DeviceInfo& info, const MachineLimits& limits) {
  Json body = {{"device", info.name},
               {"device_description", info.description},
               {"threads", info.threads},
               {"reads", Json::array()},
               {"multiplies", Json::array()}};
  for (const ReadLimit& limit : limits.reads) body["reads"].push_back(to_json(limit));
  for (const MultiplyLimit& limit : limits.multiplies) body["multiplies"].push_back(to_json(limit));
  return body;
}

// One of the limits that differ in nothing but their threads; null where there is none.
template <typename Limit, typename Same>
const Limit* with_threads(const std::vector<Limit>& limits, int threads, Same same) {
  for (const Limit& limit : limits) {
    if (limit.threads == threads && same(limit)) return &limit;
  }
  return nullptr;
}

std::string gigabytes(const ReadLimit* limit) {
  if (limit == nullptr) return "";
  return limit->lacking.empty() ? fmt::format("{:.1f}", limit->bytes_per_second / 1e9) : "-";
}
std::string gigaflops(const MultiplyLimit* limit) {
  if (limit == nullptr) return "";
  return limit->lacking.empty() ? fmt::format("{:.0f}", limit->flops_per_second / 1e9) : "-";
}

std::string size_text(const ReadLimit* limit) {
  return limit == nullptr || limit->working_set_bytes == 0 ? ""
                                                           : format_size(limit->working_set_bytes);
}

Table::Column right(std::string title) { return {std::move(title), Alignment::right}; }

std::string threads_text(int threads) {
  return threads == 1 ? "1 thread" : fmt::format("{} threads", threads);
}

Table reads_table(const MachineLimits& limits, int threads) {
  std::vector<Table::Column> columns = {
      {"READS OF"}, right("SIZE"), right("WORKING SET"), right("1 thread, GB/s")};
  if (threads > 1) {
    columns.push_back(right("WORKING SET"));
    columns.push_back(right(threads_text(threads) + ", GB/s"));
  }
  columns.push_back({""});
  Table table(columns);
  for (const ReadLimit& one : limits.reads) {
    if (one.threads != 1) continue;
    const auto* all = with_threads(limits.reads, threads,
                                   [&](const ReadLimit& l) { return l.level == one.level; });
    std::vector<std::string> row = {one.level,
                                    one.level_bytes == 0 ? "" : format_size(one.level_bytes),
                                    size_text(&one), gigabytes(&one)};
    if (threads > 1) {
      row.push_back(size_text(all));
      row.push_back(gigabytes(all));
    }
    row.push_back(one.lacking.empty() && all != nullptr ? all->lacking : one.lacking);
    table.add_row(row);
  }
  return table;
}

Table multiplies_table(const MachineLimits& limits, int threads) {
  std::vector<Table::Column> columns = {{"MULTIPLIES"}, {"WITH"}, {"OF"}, right("1 thread, Gop/s")};
  if (threads > 1) columns.push_back(right(threads_text(threads) + ", Gop/s"));
  columns.push_back({""});
  Table table(columns);
  for (const MultiplyLimit& one : limits.multiplies) {
    if (one.threads != 1) continue;
    const auto* all = with_threads(limits.multiplies, threads, [&](const MultiplyLimit& l) {
      return l.isa == one.isa && l.instruction == one.instruction;
    });
    std::vector<std::string> row = {one.operands, one.instruction, one.isa, gigaflops(&one)};
    if (threads > 1) row.push_back(gigaflops(all));
    row.push_back(one.lacking);
    table.add_row(row);
  }
  return table;
}

}  // namespace

void bench_machine(Context& context, const DeviceChoice& choice) {
  const auto device = backend::open_device(choice.device, to_device_options(choice));
  context.note("measuring the machine ...");
  const MachineLimits limits = device->measure_machine();
  const backend::DeviceInfo& info = device->info();
  if (limits.reads.empty() && limits.multiplies.empty()) {
    throw Error(ErrorCode::unsupported,
                fmt::format("device {} does not measure its machine", info.name));
  }
  if (context.json) return context.print(to_json(info, limits).dump());
  context.print(
      fmt::format("{}, {} ({})", info.description, threads_text(info.threads), info.name));
  for (const Table& table :
       {reads_table(limits, info.threads), multiplies_table(limits, info.threads)}) {
    fmt::print("\n{}", table.to_string(context.terminal(), Stream::output));
  }
}

}  // namespace ridge::cli
