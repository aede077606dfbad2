#include "platform/endpoints/endpoint_directory.h"

#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace ridge::platform {

EndpointDirectory::EndpointDirectory(Endpoints& endpoints)
    : endpoints_(endpoints),
      table_(std::make_shared<EndpointTable>(EndpointTable{.revision = -1, .endpoints = {}})) {
  look();
  thread_ = std::thread([this] { run(); });
}

EndpointDirectory::~EndpointDirectory() {
  {
    const std::lock_guard lock(mutex_);
    ends_ = true;
  }
  changed_.notify_one();
  thread_.join();
}

std::shared_ptr<const EndpointTable> EndpointDirectory::table() const {
  const std::lock_guard lock(mutex_);
  return table_;
}

void EndpointDirectory::refresh() {
  const std::lock_guard in_turn(looks_mutex_);  // or an older view might come second
  if (endpoints_.revision() == table()->revision) return;
  auto read = std::make_shared<const EndpointTable>(endpoints_.table());
  const std::lock_guard lock(mutex_);
  table_.swap(read);
}

void EndpointDirectory::look() {
  try {
    refresh();
    if (std::exchange(is_away_, false)) log::info("endpoints are looked up again");
  } catch (const Error& error) {
    if (std::exchange(is_away_, true)) return;
    log::warning("endpoints stay as they were known: {}", error.message());
  }
}

void EndpointDirectory::run() {
  std::unique_lock lock(mutex_);
  while (!changed_.wait_for(lock, looks_each, [this] { return ends_; })) {
    lock.unlock();
    look();
    lock.lock();
  }
}

}  // namespace ridge::platform
