#include "api/request_record.h"

#include <algorithm>
#include <iterator>
#include <ranges>
#include <utility>

namespace ridge::api {

void RequestRecord::prepared(std::string model, std::string answer_id,
                             const AskedParameters& asked) {
  std::lock_guard lock(mutex_);
  now_.model = std::move(model);
  now_.answer_id = std::move(answer_id);
  now_.asked = asked;
}

std::shared_ptr<engine::RequestTrace> RequestRecord::add_trace() {
  std::lock_guard lock(mutex_);
  if (traces_.size() >= max_traces) return nullptr;
  return traces_.emplace_back(std::make_shared<engine::RequestTrace>());
}

void RequestRecord::ended(int status, std::string_view error, const engine::Usage& usage,
                          Clock::TimePoint now) {
  std::lock_guard lock(mutex_);
  now_.status = status;
  now_.error = error;
  now_.usage = usage;
  now_.ended = now;
}

const engine::TraceEvent* RequestRecord::Snapshot::first(engine::TraceEvent::Kind kind) const {
  const engine::TraceEvent* first = nullptr;
  for (const engine::RequestTrace::Snapshot& trace : traces) {
    const engine::TraceEvent* const event = trace.first(kind);
    if (event != nullptr && (first == nullptr || event->at < first->at)) first = event;
  }
  return first;
}

RequestRecord::Snapshot RequestRecord::snapshot() const {
  std::lock_guard lock(mutex_);
  Snapshot snapshot = now_;
  for (const auto& trace : traces_) snapshot.traces.push_back(trace->snapshot());
  return snapshot;
}

std::string RequestRecord::model() const {
  std::lock_guard lock(mutex_);
  return now_.model;
}

bool RequestRecord::has_ended() const {
  std::lock_guard lock(mutex_);
  return now_.ended.has_value();
}

bool RequestRecord::is_called(std::string_view id) const {
  if (origin.id == id) return true;
  std::lock_guard lock(mutex_);
  return !now_.answer_id.empty() && now_.answer_id == id;
}

void RequestRecords::add(std::shared_ptr<RequestRecord> record) {
  std::lock_guard lock(mutex_);
  groups_[record->origin.group].push_back(std::move(record));
  if (++size_ <= most_) return;
  const auto largest =
      std::ranges::max_element(groups_, {}, [](const auto& group) { return group.second.size(); });
  auto& records = largest->second;
  // What still runs is what somebody asks for most.
  const auto ended =
      std::ranges::find_if(records, [](const auto& each) { return each->has_ended(); });
  records.erase(ended == records.end() ? records.begin() : ended);
  if (records.empty()) groups_.erase(largest);
  --size_;
}

void RequestRecords::remove(const std::shared_ptr<RequestRecord>& record) {
  std::lock_guard lock(mutex_);
  const auto group = groups_.find(record->origin.group);
  if (group == groups_.end()) return;
  size_ -= std::erase(group->second, record);
  if (group->second.empty()) groups_.erase(group);
}

std::shared_ptr<const RequestRecord> RequestRecords::find(const std::string& group,
                                                          std::string_view id) const {
  std::lock_guard lock(mutex_);
  const auto found = groups_.find(group);
  if (found == groups_.end()) return nullptr;
  for (const auto& record : std::views::reverse(found->second)) {
    if (record->is_called(id)) return record;
  }
  return nullptr;
}

std::vector<std::shared_ptr<const RequestRecord>> RequestRecords::list(
    const std::string& group) const {
  std::lock_guard lock(mutex_);
  const auto found = groups_.find(group);
  if (found == groups_.end()) return {};
  return {found->second.rbegin(), found->second.rend()};
}

std::vector<std::shared_ptr<const RequestRecord>> RequestRecords::unfinished() const {
  std::vector<std::shared_ptr<const RequestRecord>> all;
  {
    std::lock_guard lock(mutex_);
    for (const auto& [group, records] : groups_) {
      std::ranges::copy_if(records, std::back_inserter(all),
                           [](const auto& record) { return !record->has_ended(); });
    }
  }
  std::ranges::stable_sort(all, {}, [](const auto& record) { return record->origin.arrived; });
  return all;
}

}  // namespace ridge::api
