#include "platform/identity/authenticator.h"

#include <soci/soci.h>

#include <atomic>
#include <memory>
#include <thread>

#include "platform/identity/identity_fixture.h"
#include "platform/throws.h"

namespace ridge::platform::authenticator_test {
namespace {

using std::chrono::milliseconds;

class AuthenticatorTest : public IdentityFixture {
 protected:
  void SetUp() override {
    IdentityFixture::SetUp();
    if (identity_) authenticator_ = make();
  }

  // Another one of the same database, as another server has it.
  std::unique_ptr<Authenticator> make() {
    return std::make_unique<Authenticator>(*identity_, clock_, patient, [this] { return now_ms_; });
  }
  std::string create(const NewKey& wanted) {
    return identity_->create_key(wanted, "cli:test").text.text();
  }
  std::shared_ptr<const Principal> check(const std::string& key,
                                         const std::string& address = "127.0.0.1") {
    return authenticator_->authenticate(key, address);
  }
  // Makes every question to the database fail.
  void lose_database() { *raw_session() << "ALTER TABLE identity_revision RENAME TO lost"; }
  void find_database() { *raw_session() << "ALTER TABLE lost RENAME TO identity_revision"; }

  FakeClock clock_;
  std::unique_ptr<Authenticator> authenticator_;
};
INSTANTIATE_ON_BOTH_DATABASES(AuthenticatorTest);

TEST_P(AuthenticatorTest, KnowsKeysAndNothingElse) {
  const std::string key = create({.name = "k"});
  EXPECT_TRUE(check(key)->rights.has(Scope::inference));
  EXPECT_ERROR(check(""), unauthenticated, "no API key");
  EXPECT_ERROR(check("none"), unauthenticated, "malformed");
  EXPECT_ERROR(check(key.substr(0, 52)), unauthenticated, "malformed");
  EXPECT_ERROR(check(ApiKeyText::generate().text()), unauthenticated, "unknown");
}

TEST_P(AuthenticatorTest, RefusesARevokedKeyWithinTheDelayOnEveryServer) {
  const std::string key = create({.name = "k"});
  const auto other = make();
  EXPECT_TRUE(check(key));
  EXPECT_TRUE(other->authenticate(key, "127.0.0.1"));
  identity_->revoke_keys({"k"}, "cli:test");
  clock_.advance(AuthenticatorOptions{}.revocation_delay);
  EXPECT_ERROR(check(key), unauthenticated, "revoked");
  EXPECT_ERROR(other->authenticate(key, "127.0.0.1"), unauthenticated, "revoked");
}

TEST_P(AuthenticatorTest, RefusesARevokedKeyAtOnceWhereItIsToldOfTheChange) {
  const std::string key = create({.name = "k"});
  EXPECT_TRUE(check(key));
  identity_->revoke_keys({"k"}, "cli:test");
  EXPECT_TRUE(check(key)) << "or this test would show nothing";
  authenticator_->look_again();
  EXPECT_EQ(authenticator_->authenticate_from_cache(key, "127.0.0.1"), nullptr);
  EXPECT_ERROR(check(key), unauthenticated, "revoked");
}

TEST_P(AuthenticatorTest, KnowsANewKeyAtOnceAndAnUnknownOneWithinTheDelay) {
  EXPECT_ERROR(check(ApiKeyText::generate().text()), unauthenticated, "unknown");
  EXPECT_TRUE(check(create({.name = "k"})));
}

TEST_P(AuthenticatorTest, AsksTheDatabaseOnceForManyRequests) {
  const std::string key = create({.name = "k"});
  EXPECT_EQ(authenticator_->authenticate_from_cache(key, "127.0.0.1"), nullptr);
  EXPECT_TRUE(check(key));
  EXPECT_TRUE(authenticator_->authenticate_from_cache(key, "127.0.0.1"));
  clock_.advance(milliseconds(999));
  EXPECT_TRUE(authenticator_->authenticate_from_cache(key, "127.0.0.1"));
  clock_.advance(milliseconds(1));
  EXPECT_EQ(authenticator_->authenticate_from_cache(key, "127.0.0.1"), nullptr);
  const std::string unknown = ApiKeyText::generate().text();
  EXPECT_ERROR(check(unknown), unauthenticated, "unknown");
  EXPECT_ERROR(authenticator_->authenticate_from_cache(unknown, "127.0.0.1"), unauthenticated,
               "unknown");
}

TEST_P(AuthenticatorTest, EndsAKeyAtItsTime) {
  const std::string key = create({.name = "k", .lifetime_ms = 1000});
  EXPECT_TRUE(check(key));
  now_ms_ += 999;
  EXPECT_TRUE(check(key));
  now_ms_ += 1;
  EXPECT_ERROR(check(key), unauthenticated, "expired");
  EXPECT_ERROR(authenticator_->authenticate_from_cache(key, "127.0.0.1"), unauthenticated,
               "expired");
}

TEST_P(AuthenticatorTest, TakesAKeyOnlyFromItsAddresses) {
  const std::string key =
      create({.name = "k", .rights = {.addresses = {AddressRange::parse_or_throw("10.0.0.0/8")}}});
  EXPECT_TRUE(check(key, "10.1.2.3"));
  EXPECT_ERROR(check(key, "127.0.0.1"), permission_denied, "address");
  EXPECT_ERROR(check(key, ""), permission_denied, "address");
}

TEST_P(AuthenticatorTest, LivesForAWhileWithoutTheDatabase) {
  const std::string key = create({.name = "k"}), stranger = create({.name = "s"});
  EXPECT_TRUE(check(key));
  lose_database();
  clock_.advance(milliseconds(29'999));
  EXPECT_TRUE(check(key));
  EXPECT_ERROR(check(stranger), unavailable, "cannot be checked");  // nobody can tell
  clock_.advance(milliseconds(1'000));
  EXPECT_ERROR(check(key), unavailable, "cannot be checked");
  find_database();
  EXPECT_TRUE(check(key));
  EXPECT_TRUE(check(stranger));
}

TEST_P(AuthenticatorTest, MadeUpKeysDisplaceNoOthers) {
  AuthenticatorOptions options = patient;
  options.most_cached = 1;
  options.most_strangers_cached = 2;
  Authenticator authenticator(*identity_, clock_, options, [this] { return now_ms_; });
  const std::string key = create({.name = "k"});
  EXPECT_FALSE(authenticator.knows(key));
  EXPECT_TRUE(authenticator.authenticate(key, "127.0.0.1"));
  for (int i = 0; i < 5; ++i) {
    const std::string unknown = ApiKeyText::generate().text();
    EXPECT_ERROR(authenticator.authenticate(unknown, "127.0.0.1"), unauthenticated, "unknown");
    EXPECT_FALSE(authenticator.knows(unknown));
  }
  EXPECT_TRUE(authenticator.knows(key));
  EXPECT_TRUE(authenticator.authenticate_from_cache(key, "127.0.0.1"));
}

TEST_P(AuthenticatorTest, KnownKeysWaitForNoDatabaseThatHangs) {
  if (is_sqlite()) GTEST_SKIP() << "whoever reads a file is not held up";
  const std::string key = create({.name = "k"}), stranger = create({.name = "s"});
  Database database(location(), {.wait = std::chrono::hours(1)});
  Identity identity(database);
  AuthenticatorOptions options{.most_wait = milliseconds(10)};
  Authenticator authenticator(identity, clock_, options, [this] { return now_ms_; });
  // On a slow machine the database may seem to hang before it does, and for a while after.
  const auto is_known_in_the_end = [&](const std::string& which) {
    for (int i = 0; i < 6000; ++i) {
      try {
        return authenticator.authenticate(which, "127.0.0.1") != nullptr;
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::unavailable);
        std::this_thread::sleep_for(milliseconds(10));
      }
      clock_.advance(milliseconds(1));
    }
    return false;
  };
  EXPECT_TRUE(is_known_in_the_end(key));
  const auto other = raw_session();
  *other << "BEGIN";
  *other << "LOCK TABLE identity_revision IN ACCESS EXCLUSIVE MODE";
  clock_.advance(options.revocation_delay);
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(authenticator.authenticate(key, "127.0.0.1"));
    EXPECT_TRUE(authenticator.authenticate_from_cache(key, "127.0.0.1"));
    EXPECT_ERROR(authenticator.authenticate(stranger, "127.0.0.1"), unavailable, "be checked");
    clock_.advance(options.revocation_delay);
  }
  *other << "ROLLBACK";
  EXPECT_TRUE(is_known_in_the_end(stranger));
}

TEST_P(AuthenticatorTest, LosesNoRevocationAmongManyThreads) {
  AuthenticatorOptions options = patient;
  options.revocation_delay = milliseconds(0);  // asks each time
  Authenticator authenticator(*identity_, clock_, options, [this] { return now_ms_; });
  const std::string key = create({.name = "k"});
  std::atomic<bool> is_revoked = false;
  std::atomic<int> wrong = 0;
  std::vector<std::thread> callers;
  for (int i = 0; i < 3; ++i) {
    callers.emplace_back([&] {
      for (int round = 0; round < 40; ++round) {
        const bool was_revoked = is_revoked;
        try {
          authenticator.authenticate(key, "127.0.0.1");
          if (was_revoked) ++wrong;
        } catch (const Error& error) {
          if (error.code() != ErrorCode::unauthenticated) ++wrong;
        }
      }
    });
  }
  identity_->revoke_keys({"k"}, "cli:test");
  is_revoked = true;
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_ERROR(authenticator.authenticate(key, "127.0.0.1"), unauthenticated, "revoked");
}

}  // namespace
}  // namespace ridge::platform::authenticator_test
