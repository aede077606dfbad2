#include "api/request_record.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "api/json_text.h"
#include "base/error.h"
#include "recorded.h"

namespace ridge::api::request_record_test {
namespace {

using engine::TraceEvent;
using Kind = TraceEvent::Kind;

Json body_of(const RequestRecord& record, double now_ms = 100) {
  return Json::parse(request_body(record, at_ms(now_ms)));
}

TEST(RequestRecord, TellsWhatHappenedInOrder) {
  const Json body = body_of(*answered("req_1"));
  EXPECT_EQ(body["id"], "req_1");
  EXPECT_EQ(body["response_id"], "chatcmpl-1");
  EXPECT_EQ(body["endpoint"], "/v1/chat/completions");
  EXPECT_EQ(body["model"], "tiny");
  EXPECT_EQ(body["created_at"], 1'700'000'000.25);
  EXPECT_EQ(body["state"], "finished");
  EXPECT_EQ(body["waits_for"], nullptr);
  EXPECT_EQ(body["status"], 200);
  EXPECT_EQ(body["error"], nullptr);
  EXPECT_EQ(body["finish_reasons"], Json::array({"stop"}));
  EXPECT_EQ(body["usage"], Json({{"prompt_tokens", 50},
                                 {"cached_tokens", 32},
                                 {"completion_tokens", 2},
                                 {"reasoning_tokens", 0},
                                 {"draft_tokens", 2},
                                 {"accepted_draft_tokens", 1}}));
  EXPECT_EQ(body["admitted_ms"], 30.0);
  EXPECT_EQ(body["first_token_ms"], 42.5);
  EXPECT_EQ(body["duration_ms"], 71.0);
  std::vector<std::string> events;
  for (const Json& event : body["events"]) events.push_back(event["event"]);
  EXPECT_EQ(events, (std::vector<std::string>{"queued", "waiting", "admitted", "prefill",
                                              "first_token", "preempted", "resumed", "finished"}));
  EXPECT_EQ(body["events"][1], Json({{"at_ms", 2.0},
                                     {"event", "waiting"},
                                     {"prompt", 0},
                                     {"choice", 0},
                                     {"waits_for", "place"}}));
  EXPECT_EQ(body["events"][3]["tokens"], 18);
  EXPECT_EQ(body["events"][3]["duration_ms"], 12.5);
  EXPECT_EQ(body["events"][6]["restored_blocks"], 2);
}

TEST(RequestRecord, SaysWhereARequestStands) {
  const auto record = arrived("a");
  EXPECT_EQ(body_of(*record)["state"], "preparing");
  EXPECT_EQ(body_of(*record)["model"], nullptr);
  EXPECT_EQ(body_of(*record, 12)["duration_ms"], 12.0);
  record->prepared("tiny", "chatcmpl-1", {});
  const auto trace = record->add_trace();
  trace->add({.kind = Kind::queued, .at = at_ms(1)});
  EXPECT_EQ(body_of(*record)["state"], "waiting");
  EXPECT_EQ(body_of(*record)["waits_for"], nullptr) << "nothing is known yet";
  trace->add({.kind = Kind::waiting, .at = at_ms(2), .wait = engine::Wait::turn});
  EXPECT_EQ(body_of(*record)["waits_for"], "turn");
  trace->add({.kind = Kind::admitted, .at = at_ms(3)});
  trace->count_token(false);
  EXPECT_EQ(body_of(*record)["state"], "running");
  EXPECT_EQ(body_of(*record)["waits_for"], nullptr);
  EXPECT_EQ(body_of(*record)["usage"]["completion_tokens"], 1) << "so far";
  trace->add({.kind = Kind::preempted, .at = at_ms(4), .wait = engine::Wait::blocks});
  EXPECT_EQ(body_of(*record)["state"], "waiting");
  EXPECT_EQ(body_of(*record)["waits_for"], "blocks");
  trace->add({.kind = Kind::resumed, .at = at_ms(5)});
  EXPECT_EQ(body_of(*record)["state"], "running");
  record->ended(499, "cancelled", {}, at_ms(6));
  EXPECT_EQ(body_of(*record)["state"], "finished");
  EXPECT_EQ(body_of(*record)["error"], "cancelled");
}

TEST(RequestRecord, RunsWhileAnyOfItsChoicesDoes) {
  const auto record = arrived("a");
  record->prepared("tiny", "chatcmpl-1", {.choices = 2});
  const auto trace = record->add_trace();
  trace->add({.kind = Kind::admitted, .at = at_ms(1), .choice = 0});
  trace->add({.kind = Kind::admitted, .at = at_ms(2), .choice = 1});
  trace->add({.kind = Kind::preempted, .at = at_ms(3), .choice = 1, .wait = engine::Wait::blocks});
  EXPECT_EQ(body_of(*record)["state"], "running") << "choice 0 goes on";
  EXPECT_EQ(body_of(*record)["waits_for"], nullptr);
  trace->add({.kind = Kind::finished, .at = at_ms(4), .choice = 0});
  EXPECT_EQ(body_of(*record)["state"], "waiting")
      << "of those that have not ended, none has a place";
  EXPECT_EQ(body_of(*record)["waits_for"], "blocks");
  trace->add({.kind = Kind::resumed, .at = at_ms(5), .choice = 1});
  trace->add({.kind = Kind::finished, .at = at_ms(6), .choice = 1});
  EXPECT_EQ(body_of(*record)["state"], "running") << "the answer is being sent";
  EXPECT_EQ(body_of(*record)["waits_for"], nullptr);
}

TEST(RequestRecord, WaitsWhileNoneOfItsPromptsRunsAndOneHasNotEnded) {
  const auto record = arrived("a");
  record->prepared("tiny", "cmpl-1", {.prompts = 2});
  const auto first = record->add_trace();
  const auto second = record->add_trace();
  second->add({.kind = Kind::waiting, .at = at_ms(1), .wait = engine::Wait::turn});
  EXPECT_EQ(body_of(*record)["state"], "waiting");
  first->add({.kind = Kind::admitted, .at = at_ms(2)});
  EXPECT_EQ(body_of(*record)["state"], "running");
  first->add({.kind = Kind::finished, .at = at_ms(3)});
  EXPECT_EQ(body_of(*record)["state"], "waiting");
  EXPECT_EQ(body_of(*record)["waits_for"], "turn");
}

TEST(RequestRecord, KnowsWhereARequestStandsThoughItsEventsWereDropped) {
  const auto record = arrived("a");
  record->prepared("tiny", "chatcmpl-1", {});
  const auto trace = record->add_trace();
  for (size_t i = 0; i < engine::RequestTrace::max_events; ++i) {
    trace->add({.kind = Kind::resumed, .at = at_ms(1)});
    trace->add({.kind = Kind::preempted, .at = at_ms(1), .wait = engine::Wait::blocks});
  }
  EXPECT_EQ(body_of(*record)["state"], "waiting");
  trace->add({.kind = Kind::resumed, .at = at_ms(2)});
  EXPECT_EQ(body_of(*record)["state"], "running");
}

TEST(RequestRecord, FollowsTheFirstPromptsOfMany) {
  const auto record = arrived("a");
  for (std::size_t i = 0; i < RequestRecord::max_traces; ++i) {
    const auto trace = record->add_trace();
    ASSERT_NE(trace, nullptr);
    trace->add({.kind = Kind::queued, .at = at_ms(10.0 - static_cast<double>(i))});
  }
  EXPECT_EQ(record->add_trace(), nullptr);
  const Json body = body_of(*record);
  ASSERT_EQ(body["events"].size(), RequestRecord::max_traces);
  EXPECT_EQ(body["events"][0]["prompt"], 3) << "by their times";
}

struct RecordsTest : testing::Test {
  std::string listed(const std::string& group, std::string_view query = "") {
    const Json list = Json::parse(request_list_body(records.list(group), query, at_ms(100)));
    EXPECT_EQ(list["object"], "list");
    std::string ids;
    for (const Json& record : list["data"]) {
      EXPECT_FALSE(record.contains("events"));
      ids += record["id"].get<std::string>();
    }
    return ids + (list["has_more"].get<bool>() ? "+" : "");
  }
  std::shared_ptr<RequestRecord> add(const std::string& id, const std::string& group = "") {
    auto record = arrived(id, group);
    records.add(record);
    return record;
  }

  RequestRecords records{4};
};

TEST_F(RecordsTest, ListsTheLatestFirst) {
  add("a");
  const auto second = add("b");
  add("c");
  EXPECT_EQ(listed(""), "cba");
  EXPECT_EQ(listed("", "limit=2"), "cb+");
  EXPECT_EQ(listed("", "limit=3"), "cba");
  second->ended(200, "", {}, at_ms(1));
  EXPECT_EQ(listed("", "state=finished"), "b");
  EXPECT_EQ(listed("", "state=preparing&limit=1"), "c+");
  for (const char* query : {"limit=0", "limit=101", "limit=x", "state=gone"}) {
    EXPECT_THROW(listed("", query), Error) << query;
  }
}

TEST_F(RecordsTest, ShowsAGroupNothingOfAnother) {
  add("a", "mine");
  add("b", "theirs");
  EXPECT_EQ(listed("mine"), "a");
  EXPECT_EQ(listed("nobody's"), "");
  EXPECT_NE(records.find("mine", "a"), nullptr);
  EXPECT_EQ(records.find("mine", "b"), nullptr);
}

TEST_F(RecordsTest, FindsTheLatestUnderItsIdAndThatOfItsAnswer) {
  add("a");
  const auto second = add("a");
  EXPECT_EQ(records.find("", "a"), second);
  EXPECT_EQ(records.find("", ""), nullptr);
  second->prepared("tiny", "cmpl-2", {});
  EXPECT_EQ(records.find("", "cmpl-2"), second);
}

TEST_F(RecordsTest, ForgetsTheOldestOfWhoHasMost) {
  add("x", "small");
  add("a", "large");
  add("b", "large");
  add("c", "large");
  const auto fourth = add("d", "large");
  add("e", "large");
  EXPECT_EQ(listed("small"), "x");
  EXPECT_EQ(listed("large"), "edc");
  fourth->ended(200, "", {}, at_ms(1));
  add("f", "large");
  EXPECT_EQ(listed("large"), "fec") << "what has ended goes before what runs";
}

TEST_F(RecordsTest, ForgetsWhatTurnsOutToNeedNoEngine) {
  const auto record = add("a");
  records.remove(record);
  records.remove(record);
  EXPECT_EQ(listed(""), "");
  for (const char* id : {"a", "b", "c", "d"}) add(id);
  EXPECT_EQ(listed(""), "dcba");
}

TEST_F(RecordsTest, TellsAdministratorsWhatTheEngineHasAndWhyItWaits) {
  const auto working = [&] { return working_requests(records.unfinished(), at_ms(50)).at("data"); };
  const auto record =
      std::make_shared<RequestRecord>(RequestRecord::Origin{.id = "b",
                                                            .group = "project_1",
                                                            .project = "search",
                                                            .key = "ci",
                                                            .endpoint = "/v1/chat/completions",
                                                            .operation = "chat",
                                                            .context = trace_context("", ""),
                                                            .arrived = at_ms(10),
                                                            .arrived_at = {}});
  records.add(record);
  add("a", "project_2");  // being read, so that no engine has it
  EXPECT_EQ(working(), Json::array());
  record->prepared("tiny", "cmpl-1", {.prompt_tokens = 7});
  const auto trace = record->add_trace();
  trace->add({.kind = engine::TraceEvent::Kind::queued, .at = at_ms(11)});
  trace->add(
      {.kind = engine::TraceEvent::Kind::waiting, .at = at_ms(12), .wait = engine::Wait::blocks});
  EXPECT_EQ(working(), Json::array({{{"id", "b"},
                                     {"project", "search"},
                                     {"key", "ci"},
                                     {"model", "tiny"},
                                     {"state", "waiting"},
                                     {"reason", "blocks"},
                                     {"waited_ms", 40.0},
                                     {"prompt_tokens", 7},
                                     {"completion_tokens", 0}}}));
  trace->add({.kind = engine::TraceEvent::Kind::admitted, .at = at_ms(30)});
  trace->count_token(false);
  EXPECT_EQ(working()[0]["state"], "running");
  EXPECT_EQ(working()[0]["reason"], nullptr);
  EXPECT_EQ(working()[0]["waited_ms"], 20);
  EXPECT_EQ(working()[0]["completion_tokens"], 1);
  const auto earlier = arrived("c", "project_2");
  earlier->prepared("tiny", "cmpl-2", {});
  records.add(earlier);
  earlier->add_trace();
  EXPECT_EQ(working()[0]["id"], "c") << "the oldest first, whosever it is";
  EXPECT_EQ(working()[0]["project"], nullptr);
  record->ended(200, "", {}, at_ms(40));
  EXPECT_EQ(working().size(), 1u);
}

}  // namespace
}  // namespace ridge::api::request_record_test
