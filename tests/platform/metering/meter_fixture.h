#pragma once

#include <soci/soci.h>

#include <chrono>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <string>

#include "base/comes_true.h"
#include "platform/metering/key_fixture.h"
#include "platform/metering/meter.h"

namespace ridge::platform {

// A meter, and what the tests want to know of it.
class MeterFixture : public KeyFixture {
 protected:
  void SetUp() override {
    KeyFixture::SetUp();
    if (identity_) meter_ = make();
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

  std::unique_ptr<Meter> meter_;
};

}  // namespace ridge::platform
