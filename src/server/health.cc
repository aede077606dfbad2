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
constexpr double guessed_answer_s = 10;  // of whose kind none has ended yet

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
  // One that comes again under its name counts anew.
  std::erase_if(watches_, [&](const auto& watch) {
    return std::ranges::find(models, watch.first, &api::ServedModel::name) == models.end();
  });
  observed_at_ = now;
}

void Health::observe(const engine::EngineStats& stats, Watch& watch, double elapsed_s,
                     Clock::TimePoint now) {
  const bool has_work = stats.running + stats.waiting > 0 && !stats.is_loading;
  if (!has_work || stats.steps_total != watch.steps) watch.progressed_at = now;
  if (now - watch.progressed_at > stall_timeout_) alive_ = false;
  const double finished = static_cast<double>(stats.finished_total - watch.finished);
  if (!watch.busy_since && (has_work || finished > 0)) {
    watch.busy_since = observed_at_;
    watch.finished_per_s = 0;
    watch.has_finished = false;
  }
  if (finished > 0) watch.has_finished = true;
  if (elapsed_s > 0) {
    const double weight = 1 - std::exp(-elapsed_s / memory_s);
    watch.finished_per_s += weight * (finished / elapsed_s - watch.finished_per_s);
  }
  const double share =
      finished / static_cast<double>(std::max<std::size_t>(1, watch.promised.size()));
  for (auto& [group, endings] : watch.promised) endings -= share;
  std::erase_if(watch.promised, [](const auto& promise) { return promise.second <= 0; });
  if (!has_work) {
    watch.busy_since.reset();
    watch.promised.clear();  // there is room for all
  }
  watch.steps = stats.steps_total;
  watch.finished = stats.finished_total;
}

double Health::finished_per_s(const Watch& watch, int running, Clock::TimePoint now) const {
  const double busy_s = watch.busy_since ? seconds(now - *watch.busy_since) : 0;
  // The average began with 0, which it has forgotten by so much.
  if (watch.has_finished && busy_s > 0) {
    return watch.finished_per_s / (1 - std::exp(-busy_s / memory_s));
  }
  // What has taken so long already, without an end, is likely to take as long again.
  return std::max(1, running) / std::max(guessed_answer_s, 2 * busy_s);
}

int Health::retry_after_s(const api::ServedModel& model, const std::string& group,
                          Clock::TimePoint now) {
  Watch& watch =
      watches_.try_emplace(model.model_name(), Watch{.progressed_at = now}).first->second;
  auto place = watch.promised.find(group);
  if (place == watch.promised.end()) {
    if (watch.promised.size() >= most_promised) return longest_retry_s;
    place = watch.promised.emplace(group, 0.0).first;
  }
  double& promised = place->second;
  const double per_s = finished_per_s(watch, model.engine->stats().running, now) /
                       static_cast<double>(watch.promised.size());
  // More would be told to come when nothing more is told apart.
  promised = std::min(promised + 1, std::max(1.0, longest_retry_s * per_s));
  const double wait_s = per_s > 0 ? std::ceil(promised / per_s - 0.01) : longest_retry_s;
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
