#pragma once

#include <soci/soci.h>

#include <cstdint>
#include <memory>
#include <string>

#include "platform/database/database_fixture.h"
#include "platform/identity/authenticator.h"
#include "platform/identity/identity.h"

namespace ridge::platform {

// For a machine that is slow, or stands still for a while.
inline const AuthenticatorOptions patient{.most_wait = std::chrono::minutes(1)};

// An Identity over an empty database, at a time that stands still.
class IdentityFixture : public DatabaseTest {
 protected:
  void SetUp() override {
    DatabaseTest::SetUp();
    if (location().empty()) return;
    database_ = std::make_unique<Database>(location());
    identity_ = std::make_unique<Identity>(*database_, [this] { return now_ms_; });
  }

  // What a query gives that has one row of one number.
  int64_t number(const std::string& query) const {
    int64_t value = -1;
    *raw_session() << query, soci::into(value);
    return value;
  }
  int64_t records() const { return number("SELECT COUNT(*) FROM usage_records"); }

  int64_t now_ms_ = 1'800'000'000'000;
  std::unique_ptr<Database> database_;
  std::unique_ptr<Identity> identity_;
};

}  // namespace ridge::platform
