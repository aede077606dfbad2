#include "server/health.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "api/json_text.h"

namespace ridge::server {
namespace {

constexpr int longest_retry_s = 60;
constexpr double memory_s = 10;

void append_model(std::string& out, const api::ServedModel& model) {
  const engine::EngineStats stats = model.engine->stats();
  out += "{\"name\":";
  api::append_json_string(out, model.name);
  fmt::format_to(
      std::back_inserter(out),
      ",\"context_length\":{},\"running\":{},\"waiting\":{},\"blocks_total\":{},\"blocks_free\":{},"
      "\"blocks_cached\":{},\"blocks_spilled\":{},\"prompt_tokens_total\":{},"
      "\"cached_tokens_total\":{},\"generated_tokens_total\":{},\"draft_tokens_total\":{},"
      "\"accepted_tokens_total\":{},\"preemptions_total\":{},\"steps_total\":{},"
      "\"finished_total\":{}}}",
      model.engine->model_info().context_tokens, stats.running, stats.waiting, stats.blocks_total,
      stats.blocks_free, stats.blocks_cached, stats.blocks_spilled, stats.prompt_tokens_total,
      stats.cached_tokens_total, stats.generated_tokens_total, stats.draft_tokens_total,
      stats.accepted_tokens_total, stats.preemptions_total, stats.steps_total,
      stats.finished_total);
}

}  // namespace

Health::Health(Clock::Duration stall_timeout, Clock::TimePoint now)
    : stall_timeout_(stall_timeout), started_at_(now), observed_at_(now) {}

void Health::observe(std::span<const api::ServedModel> models, Clock::TimePoint now) {
  const double elapsed_s = seconds(now - observed_at_);
  alive_ = true;
  for (const api::ServedModel& model : models) {
    Watch& watch =
        watches_.try_emplace(model.name, Watch{.progressed_at = observed_at_}).first->second;
    observe(model.engine->stats(), watch, elapsed_s, now);
  }
  observed_at_ = now;
}

void Health::observe(const engine::EngineStats& stats, Watch& watch, double elapsed_s,
                     Clock::TimePoint now) {
  const bool has_work = stats.running + stats.waiting > 0 && !stats.is_loading;
  if (!has_work || stats.steps_total != watch.steps) watch.progressed_at = now;
  if (now - watch.progressed_at > stall_timeout_) alive_ = false;
  if (elapsed_s > 0) {
    const double rate = static_cast<double>(stats.finished_total - watch.finished) / elapsed_s;
    const double weight = 1 - std::exp(-elapsed_s / memory_s);
    watch.finished_per_s += weight * (rate - watch.finished_per_s);
  }
  watch.steps = stats.steps_total;
  watch.finished = stats.finished_total;
}

int Health::retry_after_s(const api::ServedModel& model) const {
  const auto watch = watches_.find(model.model_name());
  if (watch == watches_.end() || watch->second.finished_per_s <= 0) return 1;
  const double wait_s = std::ceil(1 / watch->second.finished_per_s);
  return static_cast<int>(std::clamp(wait_s, 1.0, static_cast<double>(longest_retry_s)));
}

std::string_view Health::status(bool draining) const {
  if (draining) return "draining";
  return alive_ ? "ok" : "stalled";
}

std::string Health::status_body(bool draining) const {
  return fmt::format("{{\"status\":\"{}\"}}", status(draining));
}

double Health::uptime_s(Clock::TimePoint now) const { return seconds(now - started_at_); }

std::string Health::body(std::span<const api::ServedModel> models, Clock::TimePoint now,
                         bool draining, int connections) const {
  std::string out =
      fmt::format("{{\"status\":\"{}\",\"uptime_s\":{:.1f},\"connections\":{},\"models\":[",
                  status(draining), uptime_s(now), connections);
  bool is_first = true;
  for (const api::ServedModel& model : models) {
    if (model.is_adapter()) continue;  // its engine is the model's
    if (!std::exchange(is_first, false)) out += ',';
    append_model(out, model);
  }
  out += "]}";
  return out;
}

}  // namespace ridge::server
