#include "server/batch_runner.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <deque>
#include <optional>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "server/service.h"

namespace ridge::server {
namespace {

using platform::BatchStatus;
using std::chrono::milliseconds;

constexpr std::size_t most_batches = 256;  // that take turns
constexpr milliseconds claim_interval{1'000};
constexpr milliseconds busy_poll{20};  // while there are lines to begin
constexpr milliseconds failure_pause{5'000};
constexpr milliseconds rights_hold{1'000};
constexpr milliseconds least_wait{200}, spent_wait{2'000}, longest_wait{60'000};
constexpr std::size_t envelope_bytes = 64u << 10;  // of a line, around its body
constexpr int runner_niceness = 10;

constexpr std::string_view window_over =
    "this request was not answered within the batch's completion window";
constexpr std::string_view expired_code = "batch_expired", cancelled_code = "batch_cancelled";

}  // namespace

// A batch that runs here.
struct BatchRunner::Job {
  platform::Batch batch;
  std::optional<InputLines> lines;    // from in_progress on, and what is still to be read
  std::set<int64_t> done;             // lines that had a result when it was taken up
  std::deque<BatchRequest> again;     // that were begun and have no result
  std::map<int64_t, std::weak_ptr<BatchLine>> in_flight;
  std::vector<LineOutcome> unmarked;  // results that the batch does not know of yet
  std::shared_ptr<BatchResults> results;
  std::shared_ptr<const platform::Principal> principal;
  Time::time_point rights_hold_until{}, waits_until{}, failed_until{};
  std::string why_cut_off;  // where its lines begin no more
  bool is_read = false;     // all of its lines were begun
  int64_t marked = 0;       // lines beside `done` that the batch knows of, or will once a spool is read
  bool is_lost = false;     // it is not this server's any more, or has ended
};

BatchRunner::BatchRunner(Service& service, std::size_t most_lines)
    : service_(service),
      batches_(*service.platform.batches),
      files_(*service.platform.files),
      most_lines_(most_lines),
      slot_(files_.path() / "servers") {
  thread_ = std::thread([this] { run(); });
}

BatchRunner::~BatchRunner() { stop(); }

void BatchRunner::stop() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void BatchRunner::wake() {
  {
    const std::lock_guard lock(mutex_);
    is_woken_ = true;
  }
  changed_.notify_all();
}

void BatchRunner::run() {
  // Reading long files must not take the engines' time. (Of this thread, on Linux.)
  const auto thread = static_cast<id_t>(::gettid());
  ::setpriority(PRIO_PROCESS, thread, ::getpriority(PRIO_PROCESS, thread) + runner_niceness);
  while (true) {
    milliseconds pause = jobs_.empty() ? claim_interval : busy_poll;
    try {
      tick();
    } catch (const std::exception& error) {
      log::error("batches wait: {}", error.what());
      pause = failure_pause;
    }
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, pause, [this] { return ends_ || is_woken_ || !outcomes_.empty(); });
    if (ends_) break;
    if (std::exchange(is_woken_, false)) claim_at_ = {};
  }
  try {
    take_outcomes();
    for (auto& [id, job] : jobs_) mark_results(*job);
  } catch (const std::exception& error) {
    log::warning("requests of batches run again at the next start: {}", error.what());
  }
}

void BatchRunner::tick() {
  take_outcomes();
  for (auto& [id, job] : jobs_) for_job(*job, [&] { mark_results(*job); });
  if (service_.draining) return;
  if (Time::now() >= claim_at_) claim();
  for (auto& [id, job] : jobs_) for_job(*job, [&] { advance(*job); });
  std::erase_if(jobs_, [](const auto& entry) {
    return entry.second->is_lost && entry.second->in_flight.empty();
  });
  begin_lines();
  tell_metrics();
}

void BatchRunner::tell_metrics() {
  BatchMetrics::State state{.jobs = {}, .running = in_flight_};
  for (const auto& [id, job] : jobs_) {
    if (job->is_lost) continue;
    state.jobs.push_back(job->batch.status);
    const platform::Batch& batch = job->batch;
    state.waiting += batch.total - batch.completed - batch.failed;
  }
  state.waiting = std::max<int64_t>(state.waiting - static_cast<int64_t>(in_flight_), 0);
  metrics_.set(state);
}

// It is over, and no longer this server's to run.
void BatchRunner::end(Job& job, BatchStatus status) {
  job.is_lost = true;
  metrics_.count_job(status);
}

// What fails for one batch is not to hold up the others. False where it failed.
template <typename Work>
bool BatchRunner::for_job(Job& job, Work work) {
  if (job.is_lost || Time::now() < job.failed_until) return false;
  try {
    work();
    return true;
  } catch (const Error& error) {
    log::error("{}: {}", job.batch.id, error.message());
    job.failed_until = Time::now() + failure_pause;
    if (error.code() != ErrorCode::not_found) return false;
    batches_.fail(job.batch.id,
                  {{.code = "file_not_found", .message = "the bytes of the input file are gone"}});
    end(job, BatchStatus::failed);
    cut_off(job);
    return false;
  }
}

void BatchRunner::claim() {
  std::vector<platform::Batch> held = batches_.claim(slot_.server_id(), most_batches);
  claim_at_ = Time::now() + claim_interval;
  std::set<std::string> ids;
  for (platform::Batch& batch : held) {
    ids.insert(batch.id);
    std::unique_ptr<Job>& job = jobs_[batch.id];
    if (!job) job = std::make_unique<Job>();
    job->batch = std::move(batch);
  }
  for (auto& [id, job] : jobs_) {
    if (ids.contains(id) || job->is_lost) continue;
    job->is_lost = true;
    cut_off(*job);
  }
}

void BatchRunner::take_outcomes() {
  std::vector<std::pair<std::string, LineOutcome>> outcomes;
  {
    const std::lock_guard lock(mutex_);
    outcomes = std::exchange(outcomes_, {});
  }
  for (auto& [id, outcome] : outcomes) {
    --in_flight_;
    Job& job = *jobs_.at(id);
    job.in_flight.erase(outcome.request.line);
    take_outcome(job, outcome);
  }
}

void BatchRunner::take_outcome(Job& job, LineOutcome& outcome) {
  if (job.is_lost || (outcome.may_try_again && !job.why_cut_off.empty())) return;
  if (outcome.may_try_again) {
    wait(job, outcome);
    job.again.push_back(std::move(outcome.request));
    return;
  }
  metrics_.count_request(outcome.status == 200);
  if (outcome.is_marked) ++job.marked;
  if (!outcome.is_marked) job.unmarked.push_back(std::move(outcome));
  if (job.batch.waits_code.empty()) return;
  job.batch.waits_code.clear();
  batches_.set_waiting(job.batch.id, "", "");
}

void BatchRunner::wait(Job& job, const LineOutcome& outcome) {
  milliseconds pause = std::clamp(milliseconds(outcome.retry_after_ms), least_wait, longest_wait);
  if (outcome.status == 402) pause = spent_wait;
  job.waits_until = std::max(job.waits_until, Time::now() + pause);
  if (outcome.code.empty() || outcome.code == job.batch.waits_code) return;
  if (outcome.code == "queue_full") return;  // a moment
  job.batch.waits_code = outcome.code;
  batches_.set_waiting(job.batch.id, outcome.code, outcome.message);
}

InputLines BatchRunner::input_of(const platform::Batch& batch) const {
  return {files_.open_bytes(batch.input_file_id), service_.options.max_body_bytes + envelope_bytes};
}

void BatchRunner::validate(Job& job) {
  const auto goes_on = [this] { return !service_.draining; };
  const CheckedInput input =
      check_batch_input(input_of(job.batch), job.batch.endpoint, goes_on);
  if (service_.draining) return;
  if (!input.errors.empty()) {
    log::info("{} is refused: {} errors in its input", job.batch.id, input.errors.size());
    batches_.fail(job.batch.id, input.errors);
    return end(job, BatchStatus::failed);
  }
  batches_.begin(job.batch.id, input.requests);
  log::info("{} begins: {} requests to {}", job.batch.id, input.requests, job.batch.endpoint);
  claim_at_ = {};
}

void BatchRunner::open(Job& job) {
  for (const platform::BatchMark& mark : batches_.marks(job.batch.id)) job.done.insert(mark.line);
  job.results =
      std::make_shared<BatchResults>(files_.results(), job.batch.id, slot_.server_id());
  job.lines.emplace(input_of(job.batch));
}

void BatchRunner::mark_results(Job& job) {
  while (!job.unmarked.empty()) {
    LineOutcome& outcome = job.unmarked.back();
    if (outcome.mark.batch_id.empty()) {
      outcome.mark = job.results->append(outcome.request.line, outcome.text, outcome.status != 200);
    }
    batches_.mark(outcome.mark);
    ++job.marked;
    job.unmarked.pop_back();
  }
}

void BatchRunner::advance(Job& job) {
  if (job.is_lost) return;
  if (job.batch.status == BatchStatus::validating) return validate(job);
  if (job.batch.status == BatchStatus::cancelling && job.batch.total == 0) {
    // It was cancelled before its lines were counted; each is told of all the same.
    const auto always = [] { return true; };
    const CheckedInput input =
        check_batch_input(input_of(job.batch), job.batch.endpoint, always);
    job.batch.total = input.errors.empty() ? input.requests : 0;
    batches_.begin(job.batch.id, job.batch.total);
    if (job.batch.total == 0) {
      batches_.finish(job.batch, BatchStatus::cancelled, 0, 0);
      return end(job, BatchStatus::cancelled);
    }
  }
  if (!job.lines) open(job);
  if (job.why_cut_off.empty()) {
    if (job.batch.status == BatchStatus::cancelling) {
      job.why_cut_off = "the batch was cancelled before this request was answered";
    } else if (files_.least_now_ms() >= job.batch.expires_at_ms) {
      job.why_cut_off = window_over;
    }
    if (!job.why_cut_off.empty()) cut_off(job);
  }
  const bool is_over = !job.why_cut_off.empty() || (job.is_read && job.again.empty()) ||
                       job.batch.status == BatchStatus::finalizing;
  if (is_over && job.in_flight.empty() && job.unmarked.empty()) finalize(job);
}

void BatchRunner::cut_off(Job& job) {
  for (const auto& [number, weak] : job.in_flight) {
    if (const auto line = weak.lock()) line->abort();
  }
}

// False, and the batch ends, where who made it may ask no more.
bool BatchRunner::check_rights(Job& job) {
  if (job.batch.key_id.empty() || Time::now() < job.rights_hold_until) return true;
  auto found = job.batch.is_person ? service_.platform.sessions->principal_of(
                                         job.batch.key_id, job.batch.project_id)
                                   : service_.platform.identity->principal_of(job.batch.key_id);
  if (found && found->rights.has(platform::Scope::inference)) {
    job.principal = std::make_shared<platform::Principal>(std::move(*found));
    job.rights_hold_until = Time::now() + rights_hold;
    return true;
  }
  job.why_cut_off = job.batch.is_person
                        ? "who made this batch may not ask models any more"
                        : "the API key that made this batch has been revoked, or has expired";
  log::info("{} is cancelled: {}", job.batch.id, job.why_cut_off);
  cut_off(job);
  batches_.cancel(job.batch.project_id, job.batch.id);
  claim_at_ = {};
  return false;
}

bool BatchRunner::is_idle() const {
  const auto models = service_.models.list();
  return std::ranges::none_of(*models, [](const api::ServedModel& model) {
    return !model.is_adapter() && model.engine->stats().foreground > 0;
  });
}

// A server that asks for keys runs what keys have made, and counts it; one that asks for none the
// rest.
bool BatchRunner::is_of_this_kind(const platform::Batch& batch) const {
  return batch.key_id.empty() == (service_.authenticator == nullptr);
}

// One after the other of the batches, so that a long one does not keep the others waiting.
void BatchRunner::begin_lines() {
  std::size_t refused = 0;
  while (in_flight_ < most_lines_ && refused < jobs_.size() && is_idle()) {
    auto next = jobs_.upper_bound(last_job_);
    if (next == jobs_.end()) next = jobs_.begin();
    last_job_ = next->first;
    bool has_begun = false;
    for_job(*next->second, [&] { has_begun = begin_line(*next->second); });
    refused = has_begun ? 0 : refused + 1;
  }
}

bool BatchRunner::begin_line(Job& job) {
  if (job.is_lost || !job.lines || !job.why_cut_off.empty() ||
      job.batch.status != BatchStatus::in_progress || Time::now() < job.waits_until ||
      !is_of_this_kind(job.batch) || !check_rights(job)) {
    return false;
  }
  std::optional<BatchRequest> request;
  if (!job.again.empty()) {
    request = std::move(job.again.front());
    job.again.pop_front();
  }
  while (!request && !job.is_read) {
    const auto line = job.lines->next();
    job.is_read = !line.has_value();
    if (line && !job.done.contains(line->number)) {
      request = read_batch_request(*line, job.batch.endpoint);
    }
  }
  if (!request) return false;
  const std::string id = job.batch.id;
  const int64_t number = request->line;
  const auto line = std::make_shared<BatchLine>(
      service_,
      BatchOrigin{.batch_id = id,
                  .endpoint = job.batch.endpoint,
                  .group = job.principal ? job.principal->project_id : std::string(),
                  .principal = job.principal},
      std::move(*request), job.results);
  job.in_flight[number] = line;
  ++in_flight_;
  const auto answer = [line, this, id]() -> asio::awaitable<void> {
    LineOutcome outcome = co_await line->run();
    {
      const std::lock_guard lock(mutex_);
      outcomes_.emplace_back(id, std::move(outcome));
    }
    changed_.notify_all();
  };
  asio::co_spawn(line->executor(), answer, asio::detached);
  return true;
}

void BatchRunner::finalize(Job& job) {
  if (Time::now() < job.waits_until) return;  // as for lines, where the disk was full
  const std::vector<platform::BatchMark> marks = batches_.marks(job.batch.id);
  const auto known = static_cast<int64_t>(marks.size());
  const bool is_cut_off = !job.why_cut_off.empty();
  if (known < static_cast<int64_t>(job.done.size()) + job.marked ||
      (!is_cut_off && known < job.batch.total)) {
    job.waits_until = Time::now() + claim_interval;  // some wait in the spool of settlements
    return;
  }
  const platform::Batch batch = batches_.begin_finalizing(job.batch.id);
  const bool is_cancelled = batch.cancelling_at_ms != 0;
  const bool is_whole = known >= batch.total;
  const BatchStatus status = is_cancelled ? BatchStatus::cancelled
                             : is_whole   ? BatchStatus::completed
                                          : BatchStatus::expired;
  try {
    platform::FileDraft output = files_.draft(batch.output_file_id);
    platform::FileDraft errors = files_.draft(batch.error_file_id);
    write_files(batch, marks, output, errors, job.why_cut_off);
    if (output.bytes() > 0) files_.keep(output);
    if (errors.bytes() > 0) files_.keep(errors);
    batches_.finish(batch, status, output.bytes(), errors.bytes());
  } catch (const Error& error) {
    if (error.code() != ErrorCode::unavailable) throw;
    log::error("the files of {} cannot be written: {}", batch.id, error.message());
    const Error told = error;  // of the database no more than that it failed
    batches_.set_waiting(batch.id, std::string(ridge::name(told.code())),
                         std::string(told.message()));
    job.waits_until = Time::now() + failure_pause;
    return;
  }
  log::info("{} is {}: {} of {} requests answered, {} failed", batch.id, platform::name(status),
            batch.completed, batch.total, batch.failed);
  end(job, status);
  job.results = nullptr;
  files_.remove_results(batch.id);
}

// Both in the order of lines.
void BatchRunner::write_files(const platform::Batch& batch,
                              const std::vector<platform::BatchMark>& marks,
                              platform::FileDraft& output, platform::FileDraft& errors,
                              const std::string& why) {
  std::map<std::string, FileDescriptor> results;  // by server
  InputLines lines = input_of(batch);
  auto mark = marks.begin();
  std::string text;
  const bool is_cancelled = batch.cancelling_at_ms != 0;
  while (const auto line = lines.next()) {
    if (mark != marks.end() && mark->line == line->number) {
      FileDescriptor& file = results[mark->server];
      if (!file) file = files_.open_results(BatchResults::file_name(batch.id, mark->server));
      text.resize(static_cast<std::size_t>(mark->bytes));
      platform::read_from_disk_at(file.get(), text, mark->start);
      (mark->is_error ? errors : output).write(text);
      ++mark;
    } else {
      errors.write(batch_failure_line(batch.id, read_batch_request(*line, batch.endpoint),
                                      is_cancelled ? cancelled_code : expired_code, why));
    }
  }
}

}  // namespace ridge::server
