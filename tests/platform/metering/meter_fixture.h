#pragma once

#include <soci/soci.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <future>
#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "platform/identity/identity_fixture.h"
#include "platform/metering/meter.h"

namespace ridge::platform {

// A meter on a database with a project and a key, and what the tests want to know of it.
class MeterFixture : public IdentityFixture {
 protected:
  void SetUp() override {
    IdentityFixture::SetUp();
    if (!identity_) return;
    key_ = identity_->create_key({.name = "k"}, "test").key.id;
    project_ = identity_->projects().front().id;
    meter_ = make();
  }

  MeterOptions options(const std::string& spool = "spool") {
    return {.spool = folder_ / spool,
            .most_spool_bytes = 1 << 20,
            .renews_after = std::chrono::milliseconds(10),
            .retries_after = std::chrono::milliseconds(10)};
  }
  std::unique_ptr<Meter> make(std::size_t most_spool_bytes = 1 << 20) {
    MeterOptions wanted = options();
    wanted.most_spool_bytes = most_spool_bytes;
    return std::make_unique<Meter>(Ledger(*database_, "server-1"), wanted);
  }
  Reservation wish(const std::string& id) const {
    return {.id = id,
            .organisation_id = "org",
            .project_id = project_,
            .key_id = key_,
            .request_id = "req_" + id,
            .model = "m",
            .endpoint = "/v1/completions",
            .prompt_tokens = 10,
            .most_completion_tokens = 100};
  }
  Admission reserve(const std::string& id) {
    std::promise<Admission> promise;
    meter_->reserve(wish(id),
                    [&](Admission admission) { promise.set_value(std::move(admission)); });
    return promise.get_future().get();
  }
  std::optional<Error> settle(const std::string& id, int64_t completion_tokens = 5) {
    std::promise<std::optional<Error>> promise;
    meter_->settle({.id = id,
                    .prompt_tokens = 10,
                    .completion_tokens = completion_tokens,
                    .finish_reason = "stop"},
                   [&](std::optional<Error> error) { promise.set_value(std::move(error)); });
    return promise.get_future().get();
  }
  // Makes every write of usage fail.
  void lose_database() { change("ALTER TABLE reservations RENAME TO lost"); }
  void find_database() { change("ALTER TABLE lost RENAME TO reservations"); }
  // In turn with the meter's own writes.
  void change(const std::string& statement) {
    database_->write([&](soci::session& session) { session << statement; });
  }
  int64_t number(const std::string& query) {
    int64_t value = -1;
    *raw_session() << query, soci::into(value);
    return value;
  }
  int64_t records() { return number("SELECT COUNT(*) FROM usage_records"); }
  // Another thread or program does it; a minute is for a slow machine.
  bool comes_true(const std::function<bool()>& what) {
    for (int i = 0; i < 6000; ++i) {
      if (what()) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  std::string key_, project_;
  std::unique_ptr<Meter> meter_;
};

}  // namespace ridge::platform
