#pragma once

#include <string>

#include "platform/identity/identity_fixture.h"
#include "platform/metering/ledger.h"

namespace ridge::platform {

// A database with a project and a key of it, and what a request with that key asks for.
class KeyFixture : public IdentityFixture {
 protected:
  void SetUp() override {
    IdentityFixture::SetUp();
    if (!identity_) return;
    key_ = identity_->create_key({.name = "k"}, "test").key.id;
    project_ = identity_->projects().front().id;
  }

  Reservation wish(const std::string& id, int64_t prompt = 10, int64_t completion = 100) const {
    return {.id = id,
            .organisation_id = "org",
            .project_id = project_,
            .key_id = key_,
            .allowance_id = key_,
            .request_id = "req_" + id,
            .model = "m",
            .endpoint = "/v1/chat/completions",
            .prompt_tokens = prompt,
            .most_completion_tokens = completion};
  }

  std::string key_, project_;
};

}  // namespace ridge::platform
