// Endpoints of the operator's own, over all APIs.
#include <gmock/gmock.h>

#include <cmath>

#include "endpoints_fixture.h"
#include "platform/metering/limits.h"
#include "platform/metering/usage.h"

namespace ridge::server::endpoints_test {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

constexpr const char* helper = R"({"name":"helper","model":"m","system_prompt":"Be brief.",
    "temperature":0.25,"top_p":0.5,"top_k":7,"min_p":0.125,"max_tokens":33})";

TEST_F(EndpointsServed, AnswerInEachFormatUnderTheirOwnName) {
  administer("POST", "", helper, 201);
  const json messages = {{{"role", "system"}, {"content", "In rhymes."}},
                         {{"role", "user"}, {"content", "hi"}}};
  struct Case {
    std::string path;
    json body;
    bool has_system = true;
    std::string named = "model";
    int max_tokens = 33;
  };
  const std::vector<Case> cases = {
      {"/v1/chat/completions", {{"messages", messages}}},
      {"/v1/completions", {{"prompt", "In rhymes. hi"}}, false},
      {"/v1/responses", {{"instructions", "In rhymes."}, {"input", "hi"}}},
      {"/v1/messages",
       {{"system", "In rhymes."},
        {"max_tokens", 9},
        {"messages", {{{"role", "user"}, {"content", "hi"}}}}},
       true,
       "model",
       9},
      {"/api/chat", {{"messages", messages}, {"stream", false}}},
      {"/api/generate", {{"prompt", "hi"}, {"system", "In rhymes."}, {"stream", false}}},
      {"/api/generate", {{"prompt", "In rhymes. hi"}, {"raw", true}, {"stream", false}}, false},
  };
  for (const Case& each : cases) {
    json body = each.body;
    body["model"] = "helper";
    const RawResponse response = ask(each.path, body);
    ASSERT_EQ(response.status, 200) << each.path << response.body;
    EXPECT_EQ(json::parse(response.body).at(each.named), "helper") << each.path;
    const engine::Request request = last();
    EXPECT_FLOAT_EQ(request.sampling.temperature, 0.25f) << each.path;
    EXPECT_FLOAT_EQ(request.sampling.top_p, 0.5f) << each.path;
    EXPECT_EQ(request.sampling.top_k, 7) << each.path;
    EXPECT_FLOAT_EQ(request.sampling.min_p, 0.125f) << each.path;
    EXPECT_EQ(request.max_tokens, each.max_tokens) << each.path;
    const std::string prompt = prompt_of(request);
    EXPECT_THAT(prompt, HasSubstr(each.has_system ? "Be brief.\n\nIn rhymes." : "In rhymes. hi"))
        << each.path;
    EXPECT_EQ(prompt.find("Be brief.") != std::string::npos, each.has_system) << each.path;
  }
}

TEST_F(EndpointsServed, WhatTheClientSaysGoesBeforeTheirDefaults) {
  administer("POST", "", helper, 201);
  json body = chat("helper");
  body.update({{"temperature", 1.5}, {"top_p", 0.75}, {"top_k", 2}, {"max_tokens", 5}});
  EXPECT_EQ(ask("/v1/chat/completions", body).status, 200);
  EXPECT_FLOAT_EQ(last().sampling.temperature, 1.5f);
  EXPECT_FLOAT_EQ(last().sampling.top_p, 0.75f);
  EXPECT_EQ(last().sampling.top_k, 2);
  EXPECT_FLOAT_EQ(last().sampling.min_p, 0.125f);
  EXPECT_EQ(last().max_tokens, 5);
  EXPECT_THAT(last_prompt(), HasSubstr("Be brief."));
}

TEST_F(EndpointsServed, AnswerStreamsVectorsAndCountsToo) {
  administer("POST", "", helper, 201);
  json body = chat("helper");
  body["stream"] = true;
  EXPECT_THAT(ask("/v1/chat/completions", body).body,
              AllOf(HasSubstr("\"model\":\"helper\""), Not(HasSubstr("\"model\":\"m\""))));
  EXPECT_EQ(json::parse(ask("/v1/embeddings", {{"model", "helper"}, {"input", "a"}}).body)["model"],
            "helper");
  EXPECT_EQ(ask("/v1/rerank", {{"model", "helper"}, {"query", "a"}, {"documents", {"b"}}}).status,
            200);
  EXPECT_EQ(ask("/v1/score", {{"model", "helper"}, {"text_1", "a"}, {"text_2", "b"}}).status, 200);
  EXPECT_EQ(ask("/api/show", {{"model", "helper:latest"}}).status, 200);
  EXPECT_EQ(json::parse(ask("/api/chat", {{"model", "helper:latest"},
                                          {"messages", chat("")["messages"]},
                                          {"stream", false}})
                            .body)["model"],
            "helper");
  const json counted = json::parse(ask("/tokenize", chat("helper")).body);
  EXPECT_EQ(counted["count"],
            json::parse(ask("/v1/messages/count_tokens", chat("helper")).body)["input_tokens"]);
  ask("/v1/chat/completions", chat("helper"));
  EXPECT_EQ(counted["count"], last().prompt_tokens.size());
  EXPECT_EQ(ask("/detokenize", {{"model", "helper"}, {"tokens", counted["tokens"]}}).status, 200);
}

TEST_F(EndpointsServed, AreListedAndUsedByTheKeysOwnListOfModels) {
  administer("POST", "", helper, 201);
  administer("POST", "", R"({"name":"other","model":"m"})", 201);
  const auto names = [&](const std::string& key) {
    std::vector<std::string> names;
    const json list = json::parse(send("GET", "/v1/models", key).body);
    for (const json& model : list["data"]) names.push_back(model["id"]);
    return names;
  };
  const std::string bound = create_key({.name = "bound", .rights = {.models = {"helper"}}});
  const std::string model_only = create_key({.name = "model", .rights = {.models = {"m"}}});
  EXPECT_THAT(names(key_), ElementsAre("m", "helper", "other"));
  EXPECT_THAT(names(bound), ElementsAre("helper"));
  EXPECT_THAT(names(model_only), ElementsAre("m"));
  EXPECT_THAT(send("GET", "/api/tags", bound).body,
              AllOf(HasSubstr("helper"), Not(HasSubstr("other")), Not(HasSubstr("\"m\""))));
  EXPECT_EQ(send("GET", "/v1/models/helper", bound).status, 200);
  EXPECT_EQ(send("GET", "/v1/models/other", bound).status, 404);
  EXPECT_EQ(ask("/v1/chat/completions", chat("helper"), bound).status, 200);
  EXPECT_EQ(ask("/v1/chat/completions", chat(""), bound).status, 200);  // there is no other
  EXPECT_EQ(ask("/v1/chat/completions", chat("m"), bound).status, 404);
  EXPECT_EQ(ask("/v1/chat/completions", chat("other"), bound).status, 404);
  EXPECT_EQ(ask("/v1/chat/completions", chat("helper"), model_only).status, 404);
  EXPECT_EQ(json::parse(ask("/v1/chat/completions", chat("")).body)["model"], "m");
  const json model = json::parse(send("GET", "/v1/models/helper", bound).body);
  EXPECT_EQ(model["root"], "helper");
  EXPECT_TRUE(model["parent"].is_null());
  EXPECT_GT(model["context_length"], 0);
}

TEST_F(EndpointsServed, ThatAreDisabledAreRefusedAndNotListed) {
  administer("POST", "", helper, 201);
  administer("PATCH", "/helper", R"({"is_enabled":false})");
  const RawResponse refused = ask("/v1/chat/completions", chat("helper"));
  EXPECT_EQ(refused.status, 403);
  EXPECT_THAT(refused.body, HasSubstr("The endpoint 'helper' is disabled."));
  EXPECT_EQ(ask("/api/chat", chat("helper:latest")).status, 403);
  EXPECT_EQ(json::parse(send("GET", "/v1/models", key_).body)["data"].size(), 1u);
  administer("PATCH", "/helper", R"({"is_enabled":true})");
  EXPECT_EQ(ask("/v1/chat/completions", chat("helper")).status, 200);
  administer("DELETE", "/helper", "", 204);
  EXPECT_EQ(ask("/v1/chat/completions", chat("helper")).status, 404);
  EXPECT_EQ(send("GET", "/api/v1/endpoints/helper", admin_).status, 404);
}

TEST_F(EndpointsServed, ReleaseAVersionToAShareOfTheConversationsAndTakeItBack) {
  administer("POST", "", R"({"name":"helper","model":"m","system_prompt":"Old."})", 201);
  const json two =
      administer("POST", "/helper/versions", R"({"model":"m","system_prompt":"New."})", 201);
  EXPECT_EQ(two["versions"][1]["number"], 2);
  EXPECT_EQ(two["shares"], json::parse(R"([{"version":1,"percent":100}])"));
  administer("PUT", "/helper/shares",
             R"({"shares":[{"version":1,"percent":70},{"version":2,"percent":30}]})");
  constexpr int conversations = 400;
  int newer = 0;
  for (int i = 0; i < conversations; ++i) {
    json body = chat("helper", fmt::format("question {}", i));
    ASSERT_EQ(ask("/v1/chat/completions", body).status, 200);
    const bool is_new = last_prompt().find("New.") != std::string::npos;
    newer += is_new;
    if (i % 10 != 0) continue;
    // The next turn, in this format and in others.
    body["messages"].push_back({{"role", "assistant"}, {"content", "so"}});
    body["messages"].push_back({{"role", "user"}, {"content", "and?"}});
    body["max_tokens"] = 9;
    for (const char* path : {"/v1/chat/completions", "/v1/messages", "/api/chat"}) {
      ASSERT_EQ(ask(path, body).status, 200);
      EXPECT_EQ(last_prompt().find("New.") != std::string::npos, is_new) << path << i;
    }
  }
  EXPECT_NEAR(newer, 0.3 * conversations, 4 * std::sqrt(conversations * 0.3 * 0.7));
  administer("PUT", "/helper/shares", R"({"shares":[{"version":2,"percent":100}]})");
  ask("/v1/chat/completions", chat("helper"));
  EXPECT_THAT(last_prompt(), HasSubstr("New."));
  administer("POST", "/helper/rollback");
  const json back = administer("POST", "/helper/rollback");
  EXPECT_EQ(back["shares"], json::parse(R"([{"version":1,"percent":100}])"));
  ask("/v1/chat/completions", chat("helper"));
  EXPECT_THAT(last_prompt(), HasSubstr("Old."));
  administer("POST", "/helper/rollback", "", 400);
}

TEST_F(EndpointsServed, AResponseGoesOnWithTheVersionThatItBeganWith) {
  administer("POST", "", R"({"name":"helper","model":"m","system_prompt":"Old."})", 201);
  administer("POST", "/helper/versions", R"({"model":"m","system_prompt":"New."})", 201);
  administer("PUT", "/helper/shares",
             R"({"shares":[{"version":1,"percent":50},{"version":2,"percent":50}]})");
  int newer = 0;
  for (int i = 0; i < 20; ++i) {
    json body = {{"model", "helper"}, {"input", fmt::format("question {}", i)}};
    const json first = json::parse(ask("/v1/responses", body).body);
    const bool is_new = last_prompt().find("New.") != std::string::npos;
    newer += is_new;
    body = {{"model", "helper"}, {"input", "and?"}, {"previous_response_id", first.at("id")}};
    ASSERT_EQ(ask("/v1/responses", body).status, 200);
    EXPECT_EQ(last_prompt().find("New.") != std::string::npos, is_new) << i;
    EXPECT_EQ(send("GET", "/v1/responses/" + first["id"].get<std::string>(), key_).status, 200);
  }
  EXPECT_GT(newer, 0);
  EXPECT_LT(newer, 20);
}

TEST_F(EndpointsServed, VectorsOfAKeyAreAlwaysOfOneVersion) {
  administer("POST", "", R"({"name":"helper","model":"m","system_prompt":"Old."})", 201);
  administer("POST", "/helper/versions", R"({"model":"m"})", 201);
  administer("PUT", "/helper/shares",
             R"({"shares":[{"version":1,"percent":50},{"version":2,"percent":50}]})");
  for (int i = 0; i < 20; ++i) {
    ask("/v1/embeddings", {{"model", "helper"}, {"input", std::to_string(i)}});
  }
  meter_->wait_idle();
  const auto rows = platform::usage(database_, {.by = {platform::UsageBy::endpoint_version}});
  ASSERT_EQ(rows.size(), 1u);
  EXPECT_EQ(rows.front().requests, 20);
}

TEST_F(EndpointsServed, AreCountedAndLimitedBesideTheirModel) {
  administer("POST", "", helper, 201);
  ask("/v1/chat/completions", chat("helper"));
  ask("/v1/chat/completions", chat("m"));
  meter_->wait_idle();
  using platform::UsageBy;
  const auto rows =
      platform::usage(database_, {.by = {UsageBy::model, UsageBy::endpoint,
                                         UsageBy::custom_endpoint, UsageBy::endpoint_version}});
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].model + rows[0].custom_endpoint + rows[0].endpoint_version, "m0");
  EXPECT_EQ(rows[1].model + rows[1].custom_endpoint + rows[1].endpoint_version, "mhelper1");
  EXPECT_EQ(rows[1].endpoint, "/v1/chat/completions");
  platform::Limits limits(database_);
  limits.set({"default"}, "helper", platform::LimitKind::tokens_per_day, 0, "test");
  const RawResponse refused = ask("/v1/chat/completions", chat("helper"));
  EXPECT_EQ(refused.status, 402);
  EXPECT_THAT(refused.body, HasSubstr("for the endpoint 'helper'"));
  EXPECT_EQ(ask("/v1/chat/completions", chat("m")).status, 200);
  limits.set({"default"}, "helper", platform::LimitKind::tokens_per_day, std::nullopt, "test");
  limits.set({"default"}, "m", platform::LimitKind::tokens_per_day, 0, "test");
  EXPECT_EQ(ask("/v1/chat/completions", chat("helper")).status, 402);
}

TEST_F(EndpointsServed, WithoutAModelHereAreUnavailable) {
  endpoints_.create("lost", {.model = "elsewhere"}, "", "test");
  directory_->refresh();
  const RawResponse refused = ask("/v1/chat/completions", chat("lost"));
  EXPECT_EQ(refused.status, 503);
  EXPECT_THAT(refused.body, AllOf(HasSubstr("'lost'"), Not(HasSubstr("elsewhere"))));
  EXPECT_EQ(json::parse(send("GET", "/v1/models", key_).body)["data"].size(), 1u);
}

TEST_F(EndpointsServed, AreTwoTenantsOwnInWhatTheyKeep) {
  administer("POST", "", helper, 201);
  identity_.create_project("theirs", 1, "test");
  const std::string theirs = create_key({.name = "t", .project = "theirs"});
  const json ours =
      json::parse(ask("/v1/responses", {{"model", "helper"}, {"input", "secret"}}).body);
  const std::string id = ours.at("id");
  EXPECT_EQ(send("GET", "/v1/responses/" + id, theirs).status, 404);
  EXPECT_EQ(ask("/v1/responses",
                {{"model", "helper"}, {"input", "and?"}, {"previous_response_id", id}}, theirs)
                .status,
            400);
  EXPECT_THAT(send("GET", "/v1/requests", theirs).body, Not(HasSubstr("helper")));
  EXPECT_THAT(send("GET", "/v1/requests", key_).body, HasSubstr("helper"));
}

TEST_F(EndpointsServed, TheirRoutesRefuseWhatIsWrong) {
  administer("POST", "", helper, 201);
  const auto refuse = [&](std::string_view method, const std::string& path, const std::string& body,
                          int status, const std::string& text) {
    EXPECT_THAT(administer(method, path, body, status).dump(), HasSubstr(text)) << body;
  };
  refuse("POST", "", helper, 409, "'helper' already");
  refuse("POST", "", R"({"name":"m","model":"m"})", 409, "a model that is served here");
  refuse("POST", "", R"({"name":"smollm2","model":"m"})", 409, "a model in the catalog");
  refuse("POST", "", R"({"name":"a:b","model":"m"})", 400, "letters, digits");
  refuse("POST", "", R"({"name":"a"})", 400, "'model' is missing");
  refuse("POST", "", R"({"name":"a","model":"helper"})", 400, "this server has m");
  refuse("POST", "", R"({"name":"a","model":"m","temperature":3})", 400, "temperature");
  refuse("POST", "", R"({"name":"a","model":"m","moderation_url":"http://a.example"})", 400,
         "must be https");
  refuse("POST", "/none/versions", R"({"model":"m"})", 404, "no endpoint 'none'");
  refuse("PUT", "/helper/shares", "{}", 400, "'shares' is missing");
  refuse("PUT", "/helper/shares", R"({"shares":[{"version":1}]})", 400, "shares[0].percent");
  refuse("PUT", "/helper/shares", R"({"shares":[{"version":2,"percent":100}]})", 400,
         "no version 2");
  refuse("PATCH", "/helper", R"({"is_enabled":1})", 400, "is_enabled");
  EXPECT_EQ(administer("GET", "")["data"].size(), 1u);
  const json shown = administer("GET", "/helper");
  EXPECT_EQ(shown["versions"][0]["temperature"], 0.25);
  EXPECT_EQ(shown["moderation_url"], nullptr);
  const auto event = identity_.audit_events(1).front();
  EXPECT_EQ(event.actor + " " + event.action, "key:admin endpoint.create");
}

}  // namespace
}  // namespace ridge::server::endpoints_test
