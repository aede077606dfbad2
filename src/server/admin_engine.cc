// What the engines do now.
#include <unistd.h>

#include <charconv>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "base/cpu_count.h"
#include "base/machine_memory.h"
#include "server/handler_route.h"
#include "server/measured_speed.h"
#include "server/service.h"

namespace ridge::server {
namespace {

using api::Json;

double share(double part, double whole) { return whole > 0 ? part / whole : 0; }

Json json_of(const api::ServedModel& model) {
  const engine::EngineStats stats = model.engine->stats();
  const double queried = static_cast<double>(stats.queried_tokens_total);
  return {{"name", model.name},
          {"loaded", stats.is_loaded},
          {"loading", stats.is_loading},
          {"running", stats.running},
          {"waiting", stats.waiting},
          {"kv_usage", share(stats.blocks_total - stats.blocks_free, stats.blocks_total)},
          {"prompt_tokens_total", stats.prompt_tokens_total},
          {"generation_tokens_total", stats.generated_tokens_total},
          {"prefix_hit_rate", queried > 0
                                  ? Json(static_cast<double>(stats.cached_tokens_total) / queried)
                                  : Json(nullptr)},
          {"tokens_per_second", measured_tokens_per_second(model)}};
}

// Of this process, by its name in /proc/self/status; null where the kernel does not tell.
Json status_of_process(const std::string& name, int64_t unit) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (!line.starts_with(name + ":")) continue;
    const std::size_t begin = line.find_first_of("0123456789");
    int64_t value = 0;
    if (begin == std::string::npos ||
        std::from_chars(line.data() + begin, line.data() + line.size(), value).ec != std::errc()) {
      return nullptr;
    }
    return value * unit;
  }
  return nullptr;
}

HandlerAnswer show_engine(HandlerRequest& request) {
  Json models = Json::array();
  const auto served = request.service.models.list();
  for (const api::ServedModel& model : *served) {
    if (!model.is_adapter()) models.push_back(json_of(model));  // its engine is the model's
  }
  return json_answer(
      {{"data", std::move(models)},
       {"memory",
        {{"total_bytes", total_memory_bytes()},
         {"available_bytes", available_memory_bytes()},
         {"process_bytes", status_of_process("VmRSS", 1024)}}},
       {"threads", {{"cpus", available_cpus()}, {"process", status_of_process("Threads", 1)}}}});
}

// Others' projects are for admins to see.
HandlerAnswer list_requests(HandlerRequest& request) {
  auto records = request.service.records.unfinished();
  if (!request.caller.is_at_least(platform::Role::admin)) {
    std::erase_if(records, [&](const auto& record) {
      return record->origin.group != request.caller.project_id;
    });
  }
  return json_answer(api::working_requests(records, request.service.clock.now()));
}

constexpr HandlerRoute engine_table[] = {
    {"GET", "/api/v1/engine", viewer_access, show_engine},
    {"GET", "/api/v1/requests", viewer_access, list_requests},
};

}  // namespace

std::span<const HandlerRoute> engine_routes() { return engine_table; }

}  // namespace ridge::server
