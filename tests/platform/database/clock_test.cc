// What becomes of everything that has a time when this machine's clock is put forward or back.
#include <gmock/gmock.h>
#include <time.h>

#include <chrono>
#include <memory>

#include "platform/batch/batches.h"
#include "platform/batch/files.h"
#include "platform/database/database_fixture.h"
#include "platform/identity/authenticator.h"
#include "platform/identity/sessions.h"
#include "platform/throws.h"

namespace ridge::platform::clock_test {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;

constexpr int64_t hour_ms = 3'600'000;

class ClockTest : public DatabaseTest {
 protected:
  void SetUp() override {
    DatabaseTest::SetUp();
    if (IsSkipped()) return;
    open();
  }
  void open() {
    DatabaseOptions options;
    options.read_clock_us = [this](int clock) {
      return clock == CLOCK_REALTIME ? wall_us_ : boot_us_;
    };
    database_ = std::make_unique<Database>(location(), options);
  }
  void put_clock(hours by) { wall_us_ += microseconds(by).count(); }
  void let_pass(hours time) {
    put_clock(time);
    boot_us_ += microseconds(time).count();
  }

  int64_t wall_us_ = Identity::wall_clock_ms() * 1'000;
  int64_t boot_us_ = 1'000'000'000'000;
  std::unique_ptr<Database> database_;
};
INSTANTIATE_ON_BOTH_DATABASES(ClockTest);

TEST_P(ClockTest, GoesOnEvenlyHoweverThisMachinesIsPut) {
  const int64_t now_ms = database_->now_ms(), least_ms = database_->least_now_ms();
  EXPECT_NEAR(static_cast<double>(now_ms), static_cast<double>(wall_us_ / 1'000), 60'000);
  for (const hours by : {hours(24), hours(-72)}) {
    put_clock(by);
    EXPECT_EQ(database_->now_ms(), now_ms) << by.count();
    EXPECT_EQ(database_->least_now_ms(), least_ms) << by.count();
  }
  boot_us_ += 1'500'000;
  EXPECT_EQ(database_->now_ms(), now_ms + 1'500);
}

TEST_P(ClockTest, EndsAndRemovesNothingBecauseItIsPut) {
  Identity identity(*database_);
  Sessions sessions(*database_);
  Files files(*database_, folder_ / "files");
  Batches batches(*database_, files);
  FakeClock steady;
  Authenticator authenticator(identity, steady, {.most_wait = std::chrono::minutes(1)});
  const NewKey wanted{
      .name = "k", .rights = {.scopes = {Scope::inference}}, .lifetime_ms = hour_ms};
  const std::string key = identity.create_key(wanted, "test").text.text();
  identity.create_user("ann", UserKind::person, Role::owner, "", "test");
  sessions.set_password("ann", "correct horse", "", "test");
  const std::string session = sessions.sign_in("ann", "correct horse").token;
  const ClientFile file = files.add({"ours", "a", "batch", 12 * hour_ms}, "x");
  const ClientFile other = files.add({"ours", "b", "user_data", 12 * hour_ms}, "y");
  const Batch batch =
      batches.create({.project_id = "ours", .endpoint = "/v1/x", .input_file_id = file.id});
  for (const hours by : {hours(24), hours(-72), hours(48)}) {  // 0 in the end
    put_clock(by);
    EXPECT_TRUE(authenticator.authenticate(key, "127.0.0.1")) << by.count();
    EXPECT_TRUE(sessions.find(session, "")) << by.count();
    EXPECT_EQ(files.sweep() + batches.sweep(), 0) << by.count();
    EXPECT_EQ(files.find("ours", other.id).name, "b") << by.count();
    EXPECT_LT(files.least_now_ms(), batch.expires_at_ms) << by.count();
    const ClientFile made = files.add({"ours", "c", "user_data", hour_ms}, "z");
    EXPECT_EQ(files.find("ours", made.id).created_at_ms / hour_ms, file.created_at_ms / hour_ms);
    files.remove("ours", made.id);
  }
  if (!is_sqlite()) return;  // its time cannot be let pass
  let_pass(hours(13));
  EXPECT_ERROR(authenticator.authenticate(key, "127.0.0.1"), unauthenticated, "expired");
  EXPECT_FALSE(sessions.find(session, ""));
  EXPECT_EQ(files.sweep(), 1) << "the other is what a batch reads";
  EXPECT_ERROR(files.find("ours", other.id), not_found, other.id);
  let_pass(hours(12));
  EXPECT_GE(files.least_now_ms(), batch.expires_at_ms);
}

// A server of databases whose clock was put a day forward, as seen from here.
TEST_P(ClockTest, RemovesNothingBecauseAServersIsAhead) {
  if (is_sqlite()) return;
  put_clock(hours(-24));
  open();
  const int64_t shared_ms = database_->now_ms(), least_ms = database_->least_now_ms();
  EXPECT_NEAR(static_cast<double>(shared_ms - least_ms), 24.0 * hour_ms, 60'000);
}

}  // namespace
}  // namespace ridge::platform::clock_test
