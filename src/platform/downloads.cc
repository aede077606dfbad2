#include "platform/downloads.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <random>

#include "base/error.h"
#include "base/log.h"

namespace ridge::platform {
namespace {

int64_t now_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

std::string new_download_id() {
  std::random_device random;
  return fmt::format("dl_{:08x}{:08x}", random(), random());
}

}  // namespace

std::string_view name(DownloadState state) {
  switch (state) {
    case DownloadState::waiting:
      return "waiting";
    case DownloadState::running:
      return "running";
    case DownloadState::finished:
      return "finished";
    case DownloadState::failed:
      return "failed";
    case DownloadState::cancelled:
      break;
  }
  return "cancelled";
}

Downloads::Downloads(Pull pull, OnPulled on_pulled)
    : pull_(std::move(pull)), on_pulled_(std::move(on_pulled)), thread_([this] { run(); }) {}

Downloads::~Downloads() {
  {
    std::lock_guard lock(mutex_);
    ends_ = true;
    if (running_) running_->is_cancelled = true;
  }
  changed_.notify_all();
  thread_.join();
}

ModelReference Downloads::check(const std::string& model) {
  ModelReference reference = ModelReference::parse(model);
  if (reference.kind == ReferenceKind::path) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("'{}' is a path; give a name of the catalog, or "
                            "hf:organisation/repository[:quantisation]",
                            model),
                "model");
  }
  return reference;
}

DownloadStatus Downloads::start(const std::string& model) {
  const std::string name = check(model).to_string();
  std::lock_guard lock(mutex_);
  std::size_t waiting = 0;
  for (const JobPtr& job : jobs_) {
    if (job->status.has_ended()) continue;
    if (job->status.model == name) return job->status;
    ++waiting;
  }
  if (waiting >= most_waiting) {
    throw Error(ErrorCode::queue_full,
                fmt::format("{} downloads wait already; try again when some have ended", waiting));
  }
  auto job = std::make_shared<Job>();
  job->status = {.id = new_download_id(), .model = name, .started_at_ms = now_ms()};
  jobs_.push_back(job);
  drop_old_locked();
  changed_.notify_all();
  return job->status;
}

std::vector<DownloadStatus> Downloads::list() const {
  std::lock_guard lock(mutex_);
  std::vector<DownloadStatus> all;
  for (auto job = jobs_.rbegin(); job != jobs_.rend(); ++job) all.push_back((*job)->status);
  return all;
}

Downloads::JobPtr Downloads::job_locked(std::string_view id) const {
  const auto found =
      std::ranges::find_if(jobs_, [&](const JobPtr& job) { return job->status.id == id; });
  if (found == jobs_.end()) {
    throw Error(ErrorCode::not_found,
                fmt::format("there is no download '{}'; the latest {} are kept until the server "
                            "stops",
                            id.substr(0, 100), most_kept));
  }
  return *found;
}

DownloadStatus Downloads::find(std::string_view id) const {
  std::lock_guard lock(mutex_);
  return job_locked(id)->status;
}

DownloadStatus Downloads::cancel(std::string_view id) {
  std::lock_guard lock(mutex_);
  const JobPtr job = job_locked(id);
  if (!job->status.has_ended()) {
    job->is_cancelled = true;
    job->status.state = DownloadState::cancelled;
    job->status.note.clear();
    job->status.ended_at_ms = now_ms();
  }
  return job->status;
}

void Downloads::drop_old_locked() {
  auto ended = static_cast<std::size_t>(std::ranges::count_if(
      jobs_, [](const JobPtr& job) { return job->status.has_ended(); }));
  while (ended > most_kept) {
    jobs_.erase(std::ranges::find_if(
        jobs_, [](const JobPtr& job) { return job->status.has_ended(); }));
    --ended;
  }
}

void Downloads::run() {
  std::unique_lock lock(mutex_);
  while (true) {
    JobPtr next;
    changed_.wait(lock, [&] {
      const auto found = std::ranges::find_if(jobs_, [](const JobPtr& job) {
        return job->status.state == DownloadState::waiting;
      });
      next = found == jobs_.end() ? nullptr : *found;
      return ends_ || next;
    });
    if (ends_) return;
    next->status.state = DownloadState::running;
    running_ = next;
    lock.unlock();
    fetch(next);
    lock.lock();
    running_ = nullptr;
  }
}

void Downloads::fetch(const JobPtr& job) {
  DownloadOptions options;
  options.is_cancelled = [&job] { return job->is_cancelled.load(); };
  options.on_progress = [this, &job](const DownloadProgress& now) {
    std::lock_guard lock(mutex_);
    job->files[std::string(now.file_name)] = {now.done_bytes, now.total_bytes};
    int64_t done = 0, total = 0;
    for (const auto& [file, bytes] : job->files) {
      done += bytes.first;
      total += bytes.second;
    }
    job->status.bytes_done = done;
    job->status.bytes_total = total;
    job->status.note.clear();
  };
  options.on_note = [this, &job](std::string_view note) {
    std::lock_guard lock(mutex_);
    if (!job->status.has_ended()) job->status.note = note;
  };
  try {
    const PullResult result = pull_(ModelReference::parse(job->status.model), options);
    log::info("pulled {} from {}", result.manifest.name, result.manifest.source);
    if (on_pulled_) on_pulled_(result.manifest);
    {
      std::lock_guard lock(mutex_);
      job->status.name = result.manifest.name;
      job->status.bytes_done = job->status.bytes_total = result.manifest.size_bytes();
      job->status.state = DownloadState::running;  // a late cancel came to nothing
    }
    end(*job, DownloadState::finished, "");
  } catch (const Error& error) {
    const bool is_cancelled = error.code() == ErrorCode::cancelled;
    if (!is_cancelled) log::warning("cannot pull {}: {}", job->status.model, error.message());
    end(*job, is_cancelled ? DownloadState::cancelled : DownloadState::failed,
        is_cancelled ? "" : error.what());
  } catch (const std::exception& error) {
    log::error("cannot pull {}: {}", job->status.model, error.what());
    end(*job, DownloadState::failed, error.what());
  }
}

void Downloads::end(Job& job, DownloadState state, const std::string& error) {
  std::lock_guard lock(mutex_);
  if (job.status.has_ended()) return;  // cancelled before it noticed
  job.status.state = state;
  job.status.error = error;
  job.status.note.clear();
  job.status.ended_at_ms = now_ms();
}

}  // namespace ridge::platform
