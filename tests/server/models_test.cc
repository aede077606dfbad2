// Models that are here or could be, and that come while the server runs.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "server_under_test.h"
#include "shelf.h"

namespace ridge::server::models_test {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class Models : public testing::Test {
 protected:
  RawResponse ask(std::string_view method, std::string_view path, std::string_view body = "") {
    if (!under_) {
      under_.emplace([](ScriptedEngine::Part& part) { part.say("I was here"); }, ServerOptions{},
                     nullptr, nullptr, PlatformAccess{.supply = shelf_.supply()});
    }
    RawClient client(under_->port());
    client.send(fmt::format("{} {} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {}\r\n\r\n{}",
                            method, path, body.size(), body));
    return client.read();
  }
  json list(std::string_view path) { return json::parse(ask("GET", path).body).at("data"); }
  json model(const std::string& name) {
    for (const json& each : list("/api/v1/models")) {
      if (each.at("name") == name) return each;
    }
    ADD_FAILURE() << "no " << name;
    return json::object();
  }
  json start(const std::string& model) {
    const RawResponse answer = ask("POST", "/api/v1/downloads", json({{"model", model}}).dump());
    EXPECT_EQ(answer.status, 201) << answer.body;
    return json::parse(answer.body);
  }
  // Until it has ended; a test that hangs is ended by CTest.
  json ended(const std::string& id) {
    while (true) {
      json status = json::parse(ask("GET", "/api/v1/downloads/" + id).body);
      if (!status.at("ended_at_ms").is_null()) return status;
      std::this_thread::yield();
    }
  }
  std::string said(const std::string& model) {
    const json request =
        model.empty() ? json({{"prompt", "a"}}) : json({{"model", model}, {"prompt", "a"}});
    return ask("POST", "/v1/completions", request.dump()).body;
  }

  Shelf shelf_;
  std::optional<ServerUnderTest> under_;
};

TEST_F(Models, AreListedWhetherTheyAreServedStoredOrCanBePulled) {
  shelf_.put("hf:org/other:Q8_0");
  const json all = list("/api/v1/models");
  ASSERT_EQ(all.size(), 4u) << all;
  const json tiny = model("tiny:1b");
  EXPECT_EQ(tiny.at("state"), "available");
  EXPECT_EQ(tiny.at("quantization"), "Q8_0");
  EXPECT_EQ(tiny.at("bytes"), 100'000'000);
  EXPECT_EQ(tiny.at("context_length"), 2048);
  EXPECT_EQ(tiny.at("capabilities"), nullptr) << "nobody has looked into it";
  EXPECT_EQ(tiny.at("fits"), "yes");
  EXPECT_EQ(tiny.at("needs_bytes"), 115'000'000);
  EXPECT_EQ(tiny.at("why"), nullptr);
  EXPECT_EQ(tiny.at("tokens_per_second"), nullptr);
  const json large = model("tiny:1b-f16");
  EXPECT_EQ(large.at("fits"), "no");
  EXPECT_THAT(large.at("why").get<std::string>(), HasSubstr("of memory"));
  EXPECT_EQ(model("hf:org/other:Q8_0").at("state"), "stored");
  const json served = model("m");
  EXPECT_EQ(served.at("state"), "served");
  EXPECT_EQ(served.at("is_loaded"), true);
  EXPECT_EQ(served.at("is_removable"), false) << "the server was started with it";
  EXPECT_EQ(tiny.at("is_removable"), false);
  EXPECT_EQ(model("hf:org/other:Q8_0").at("is_removable"), true);
  EXPECT_EQ(served.at("capabilities").front(), "completion");
}

TEST_F(Models, FitWhileTheyAreLoadedHoweverFullTheMachineIs) {
  shelf_.room = {};
  EXPECT_EQ(model("m").at("fits"), "yes");
  EXPECT_EQ(model("m").at("why"), nullptr);
  EXPECT_EQ(model("tiny:1b").at("fits"), "no");
}

TEST_F(Models, AreServedOnceTheyHaveComeWithoutARestart) {
  EXPECT_EQ(ask("POST", "/v1/completions", R"({"model":"tiny:1b","prompt":"a"})").status, 404);
  const json done = ended(start("Tiny").at("id"));
  EXPECT_EQ(done.at("state"), "finished");
  EXPECT_EQ(done.at("name"), "tiny:1b") << "in the store; it was asked for as 'tiny'";
  EXPECT_THAT(said("tiny:1b"), HasSubstr("I am new"));
  EXPECT_THAT(ask("GET", "/v1/models").body, HasSubstr("tiny:1b"));
  EXPECT_EQ(model("tiny:1b").at("state"), "served");
  EXPECT_THAT(ask("GET", "/health").body, HasSubstr("tiny:1b"));
  EXPECT_THAT(ask("GET", "/metrics").body, HasSubstr("tiny:1b"));
  // Who named no model means the one that was there.
  EXPECT_THAT(said(""), HasSubstr("I was here"));
  ended(start("tiny:1b").at("id"));
  EXPECT_EQ(list("/v1/models").size(), 2u) << "and not twice";
}

TEST_F(Models, TellHowFarTheyHaveCome) {
  std::promise<void> is_half_way, may_end;
  shelf_.pull = [&](const platform::ModelReference& reference,
                    const platform::DownloadOptions& options) {
    options.on_progress({.file_name = "a", .done_bytes = 3, .total_bytes = 4});
    is_half_way.set_value();
    may_end.get_future().wait();
    return platform::PullResult{shelf_.put(reference.to_string()), false};
  };
  const std::string id = start("tiny:1b").at("id");
  is_half_way.get_future().wait();
  const json now = json::parse(ask("GET", "/api/v1/downloads/" + id).body);
  EXPECT_EQ(now.at("state"), "running");
  EXPECT_EQ(now.at("bytes_done"), 3);
  EXPECT_EQ(now.at("bytes_total"), 4);
  EXPECT_EQ(now.at("ended_at_ms"), nullptr);
  EXPECT_EQ(list("/api/v1/downloads").at(0), now);
  EXPECT_EQ(model("tiny:1b").at("state"), "downloading");
  EXPECT_EQ(model("tiny:1b").at("download"), id);
  EXPECT_EQ(start("tiny:1b").at("id"), id) << "the same model is not fetched twice";
  may_end.set_value();
  EXPECT_EQ(ended(id).at("state"), "finished");
}

TEST_F(Models, StopComingWhenOneSaysSo) {
  shelf_.pull = [](const platform::ModelReference&,
                   const platform::DownloadOptions& options) -> platform::PullResult {
    while (!options.is_cancelled()) std::this_thread::yield();
    throw Error(ErrorCode::cancelled, "stopped");
  };
  const std::string id = start("tiny:1b").at("id");
  EXPECT_EQ(ask("DELETE", "/api/v1/downloads/" + id).status, 204);
  EXPECT_EQ(ended(id).at("state"), "cancelled");
  EXPECT_EQ(ask("DELETE", "/api/v1/downloads/" + id).status, 204) << "once more does nothing";
  EXPECT_EQ(model("tiny:1b").at("state"), "available");
}

TEST_F(Models, SayWhyTheyCannotCome) {
  shelf_.pull = [](const platform::ModelReference&,
                   const platform::DownloadOptions&) -> platform::PullResult {
    throw Error(ErrorCode::unavailable, "the hub is away");
  };
  const json failed = ended(start("tiny:1b").at("id"));
  EXPECT_EQ(failed.at("state"), "failed");
  EXPECT_EQ(failed.at("error"), "the hub is away");
  shelf_.pull = nullptr;
  shelf_.cannot_serve = "the architecture 'strange' is not known";
  const json useless = ended(start("tiny:1b").at("id"));
  EXPECT_EQ(useless.at("state"), "failed");
  EXPECT_EQ(useless.at("error"),
            "tiny:1b is in the store, but cannot be served: the architecture 'strange' is not "
            "known");
  EXPECT_EQ(model("tiny:1b").at("state"), "stored");
}

TEST_F(Models, AreAskedForByNamesOfTheCatalogOrOfAHub) {
  const auto refused = [&](const std::string& body, const std::string& text, int status = 400) {
    const RawResponse answer = ask("POST", "/api/v1/downloads", body);
    EXPECT_EQ(answer.status, status) << body;
    EXPECT_THAT(answer.body, HasSubstr(text)) << body;
  };
  refused("{}", "'model' is missing");
  refused(R"({"model":3})", "model");
  refused(R"({"model":"/etc/passwd"})", "is a path");
  refused(R"({"model":"../tiny.gguf"})", "is a path");
  refused(R"({"model":"tiny one"})", "tiny one");
  refused(R"({"model":"tiny:7b"})", "tiny:7b", 404);
  refused(R"({"model":")" + std::string(400, 'a') + "\"}", "model");
  EXPECT_EQ(ask("GET", "/api/v1/downloads/dl_none").status, 404);
  EXPECT_EQ(ask("DELETE", "/api/v1/downloads/dl_none").status, 404);
  EXPECT_EQ(list("/api/v1/downloads"), json::array());
}

TEST_F(Models, GoWithTheirFilesAndComeAgain) {
  shelf_.put("hf:org/other:Q8_0");
  ended(start("tiny:1b").at("id"));
  const auto bytes = shelf_.store().get("tiny:1b").size_bytes();
  const RawResponse gone = ask("DELETE", "/api/v1/models/tiny%3A1b");
  EXPECT_EQ(gone.status, 200) << gone.body;
  EXPECT_EQ(json::parse(gone.body), json({{"name", "tiny:1b"}, {"freed_bytes", bytes}}));
  EXPECT_EQ(ask("POST", "/v1/completions", R"({"model":"tiny:1b","prompt":"a"})").status, 404);
  EXPECT_EQ(model("tiny:1b").at("state"), "available");
  EXPECT_FALSE(shelf_.store().find("tiny:1b").has_value());
  EXPECT_EQ(ask("DELETE", "/api/v1/models/tiny%3A1b").status, 404);
  EXPECT_EQ(ask("DELETE", "/api/v1/models/hf%3Aorg%2Fother%3AQ8_0").status, 200)
      << "one that nobody serves";
  EXPECT_TRUE(shelf_.store().list().empty());
  ended(start("tiny:1b").at("id"));
  EXPECT_THAT(said("tiny:1b"), HasSubstr("I am new"));
}

TEST_F(Models, StayWhereSomebodyNeedsThem) {
  const auto refused = [&](const std::string& name, int status, const std::string& why) {
    const RawResponse answer = ask("DELETE", "/api/v1/models/" + name);
    EXPECT_EQ(answer.status, status) << name;
    EXPECT_THAT(answer.body, HasSubstr(why)) << name;
  };
  refused("m", 400, "was started with it");
  EXPECT_THAT(said("m"), HasSubstr("I was here"));
  refused("none", 404, "no model 'none'");
  refused("..%2F..%2Fetc%2Fpasswd", 400, "is no name for a model");
  // While it is on its way.
  shelf_.pull = [](const platform::ModelReference&,
                   const platform::DownloadOptions& options) -> platform::PullResult {
    while (!options.is_cancelled()) std::this_thread::yield();
    throw Error(ErrorCode::cancelled, "stopped");
  };
  shelf_.put("tiny:1b");
  const std::string id = start("tiny:1b").at("id");
  refused("tiny:1b", 400, "being pulled");
  ask("DELETE", "/api/v1/downloads/" + id);
  ended(id);
  // While it answers.
  shelf_.pull = nullptr;
  shelf_.waits = true;
  ended(start("tiny:1b").at("id"));
  RawClient running(under_->port());
  running.send(post("/v1/completions", R"({"model":"tiny:1b","prompt":"a","stream":true})"));
  ASSERT_TRUE(running.wait_for("200 OK"));
  refused("tiny:1b", 400, "requests are being answered");
  EXPECT_TRUE(shelf_.store().find("tiny:1b").has_value());
  shelf_.engine->go();
  EXPECT_EQ(running.read().status, 200);
  // The client has its last byte a moment before the server has let go of the answer.
  int status = 400;
  for (int tries = 0; status == 400 && tries < 500; ++tries) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    status = ask("DELETE", "/api/v1/models/tiny:1b").status;
  }
  EXPECT_EQ(status, 200);
}

TEST_F(Models, StayWhereAnEndpointSendsRequestsToThemAndTheLogHasWhoRemovesThem) {
  TemporaryFolder folder;
  platform::Database database((folder / "platform.db").string());
  platform::Identity identity(database);
  platform::Endpoints endpoints(database);
  platform::EndpointDirectory directory(endpoints);
  const auto unowned = [](auto& it) {
    return std::shared_ptr<std::remove_reference_t<decltype(it)>>(std::shared_ptr<void>(), &it);
  };
  under_.emplace([](ScriptedEngine::Part& part) { part.say("a"); }, ServerOptions{}, nullptr,
                 nullptr,
                 PlatformAccess{.database = unowned(database),
                                .identity = unowned(identity),
                                .supply = shelf_.supply(),
                                .endpoint_directory = unowned(directory)});
  ended(start("tiny:1b").at("id"));
  ask("POST", "/api/v1/endpoints", R"({"name":"helper","model":"tiny:1b"})");
  const RawResponse refused = ask("DELETE", "/api/v1/models/tiny:1b");
  EXPECT_EQ(refused.status, 400);
  EXPECT_THAT(refused.body, HasSubstr("the endpoint 'helper'"));
  ask("DELETE", "/api/v1/endpoints/helper");
  EXPECT_EQ(ask("DELETE", "/api/v1/models/tiny:1b").status, 200);
  const platform::AuditEvent event = identity.audit_events(1).at(0);
  EXPECT_EQ(event.action, "model.remove");
  EXPECT_EQ(event.subject, "tiny:1b");
  EXPECT_EQ(event.actor, "local");
  under_.reset();  // before what it uses
}

TEST_F(Models, ThatAreGoneEndTheirAnswersInOrderWhenTheServerStops) {
  ServerOptions options;
  options.drain_timeout = std::chrono::milliseconds(100);
  under_.emplace([](ScriptedEngine::Part& part) { part.say("a"); }, options, nullptr, nullptr,
                 PlatformAccess{.supply = shelf_.supply()});
  shelf_.waits = true;
  ended(start("tiny:1b").at("id"));
  shelf_.engine->hold_text_work(true);
  RawClient running(under_->port());
  running.send(post("/v1/completions", R"({"model":"tiny:1b","prompt":"a","stream":true})"));
  ASSERT_TRUE(shelf_.engine->wait_until_held());
  EXPECT_EQ(ask("DELETE", "/api/v1/models/tiny:1b").status, 200) << "no engine works on it yet";
  shelf_.engine->hold_text_work(false);
  ASSERT_TRUE(running.wait_for("Wait."));
  under_->stop();
  const RawResponse cut = running.read();
  EXPECT_TRUE(cut.is_whole);
  EXPECT_THAT(cut.body, HasSubstr("the server is shutting down"));
}

TEST_F(Models, AreServedByARestartAloneWhereThereIsNoStore) {
  ServerUnderTest under([](ScriptedEngine::Part& part) { part.say("a"); });
  RawClient client(under.port());
  client.send("GET /api/v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
  const RawResponse answer = client.read();
  EXPECT_EQ(answer.status, 503);
  EXPECT_THAT(answer.body, HasSubstr("no store of models"));
}

}  // namespace
}  // namespace ridge::server::models_test
