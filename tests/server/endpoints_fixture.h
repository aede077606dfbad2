#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/temporary_folder.h"
#include "platform/endpoints/endpoint_directory.h"
#include "platform/identity/authenticator.h"
#include "platform/metering/meter.h"
#include "server_under_test.h"
#include "text/tokenizer.h"

namespace ridge::server {

// A server that counts what keys use, with an administrator's key, and what its engine was asked.
class EndpointsServed : public testing::Test {
 protected:
  using json = nlohmann::json;

  EndpointsServed() {
    under_ = std::make_unique<ServerUnderTest>(
        [this](ScriptedEngine::Part& part) {
          {
            const std::lock_guard lock(mutex_);
            asked_.push_back(part.request());
          }
          if (part.request().embedding) {
            part.embed({1, 2});
          } else {
            part.say("so");
          }
        },
        ServerOptions{}, authenticator_, meter_,
        PlatformAccess{.database = {std::shared_ptr<void>(), &database_},
                       .identity = {std::shared_ptr<void>(), &identity_},
                       .endpoint_directory = directory_});
  }

  std::string create_key(const platform::NewKey& wanted) {
    return identity_.create_key(wanted, "test").text.text();
  }
  RawResponse send(std::string_view method, const std::string& path, const std::string& key,
                   const std::string& body = "") const {
    RawClient client(under_->port());
    client.send(fmt::format(
        "{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\nx-api-key: {}\r\nContent-Length: {}\r\n\r\n{}",
        method, path, key, body.size(), body));
    return client.read();
  }
  json administer(std::string_view method, const std::string& path, const std::string& body = "",
                  int status = 200) const {
    const RawResponse response = send(method, "/api/v1/endpoints" + path, admin_, body);
    EXPECT_EQ(response.status, status) << method << " " << path << " " << response.body;
    return response.body.empty() ? json() : json::parse(response.body);
  }
  RawResponse ask(const std::string& path, const json& body, const std::string& key = "") const {
    return send("POST", path, key.empty() ? key_ : key, body.dump());
  }
  static json chat(const std::string& model, const std::string& text = "hi") {
    return {{"model", model}, {"messages", {{{"role", "user"}, {"content", text}}}}};
  }
  engine::Request last() {
    const std::lock_guard lock(mutex_);
    return asked_.empty() ? engine::Request{} : asked_.back();
  }
  std::string prompt_of(const engine::Request& request) const {
    return under_->engine->tokenizer().decode(request.prompt_tokens, /*skip_special=*/false);
  }
  std::string last_prompt() { return prompt_of(last()); }

  TemporaryFolder folder_;
  platform::Database database_{(folder_ / "platform.db").string()};
  platform::Identity identity_{database_};
  platform::Endpoints endpoints_{database_};
  std::shared_ptr<platform::EndpointDirectory> directory_ =
      std::make_shared<platform::EndpointDirectory>(endpoints_);
  SteadyClock clock_;
  std::shared_ptr<platform::Authenticator> authenticator_ =
      std::make_shared<platform::Authenticator>(identity_, clock_, patient);
  std::shared_ptr<platform::Meter> meter_ = std::make_shared<platform::Meter>(
      platform::Ledger(database_, "server-1"), platform::MeterOptions{.spool = folder_ / "spool"});
  const std::string admin_ =
      create_key({.name = "admin", .rights = {.scopes = {platform::Scope::admin}}});
  const std::string key_ = create_key({.name = "k"});
  std::mutex mutex_;
  std::vector<engine::Request> asked_;
  std::unique_ptr<ServerUnderTest> under_;
};

}  // namespace ridge::server
