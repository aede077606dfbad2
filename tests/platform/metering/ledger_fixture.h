#pragma once

#include <soci/soci.h>

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "platform/metering/key_fixture.h"
#include "platform/metering/limits.h"

namespace ridge::platform {

inline constexpr int64_t second_us = 1'000'000;
inline constexpr int64_t noon_us = 1'793'880'000 * second_us;  // 2026-11-05 12:00 UTC

// A ledger, a second key, and a clock that the test moves.
class LedgerFixture : public KeyFixture {
 protected:
  void SetUp() override {
    KeyFixture::SetUp();
    if (!identity_) return;
    limits_ = std::make_unique<Limits>(*database_, [this] { return now_us_ / 1000; });
    second_key_ = identity_->create_key({.name = "second"}, "test").key.id;
    ledger_ = make("server-1");
  }

  std::unique_ptr<Ledger> make(const std::string& server) {
    return std::make_unique<Ledger>(*database_, server, [this](soci::session&) { return now_us_; });
  }

  Admission ask(const Reservation& reservation) {
    return ledger_->commit({}, std::span(&reservation, 1)).front();
  }
  Admission ask(const std::string& id, int64_t prompt, int64_t completion) {
    return ask(wish(id, prompt, completion));
  }
  static Settlement used(const std::string& id, int64_t prompt, int64_t completion) {
    return {.id = id,
            .prompt_tokens = prompt,
            .completion_tokens = completion,
            .finish_reason = "stop"};
  }
  void end(const Settlement& settlement) { ledger_->commit(std::span(&settlement, 1), {}); }
  void limit(LimitKind kind, std::optional<int64_t> most, const LimitSubject& subject = {"default"},
             const std::string& model = "") {
    limits_->set(subject, model, kind, most, "test");
  }
  int64_t open() { return number("SELECT COUNT(*) FROM reservations"); }

  int64_t now_us_ = noon_us;
  std::unique_ptr<Limits> limits_;
  std::unique_ptr<Ledger> ledger_;
  std::string second_key_;
};

using Kind = Refusal::Kind;

inline std::optional<Kind> kind(const Admission& admission) {
  return admission.refusal ? std::optional(admission.refusal->kind) : std::nullopt;
}

}  // namespace ridge::platform
