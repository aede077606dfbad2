#include "api/otlp_spans.h"

#include <gtest/gtest.h>

#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "api/json_text.h"
#include "recorded.h"

namespace ridge::api::otlp_spans_test {
namespace {

using engine::TraceEvent;
using Kind = TraceEvent::Kind;

std::vector<Json> spans_of(const std::vector<std::shared_ptr<const RequestRecord>>& records) {
  const Json body = Json::parse(otlp_body(records));
  EXPECT_EQ(body["resourceSpans"].size(), 1u);
  const Json& scopes = body["resourceSpans"][0]["scopeSpans"];
  EXPECT_EQ(scopes.size(), 1u);
  return scopes[0]["spans"].get<std::vector<Json>>();
}

// Each attribute's value without its type, 64-bit numbers as the text that the protocol has.
std::map<std::string, Json> attributes_of(const Json& span) {
  std::map<std::string, Json> all;
  for (const Json& attribute : span["attributes"]) {
    EXPECT_EQ(attribute["value"].size(), 1u);
    const bool is_new = all.emplace(attribute["key"], attribute["value"].front()).second;
    EXPECT_TRUE(is_new) << attribute["key"];
  }
  return all;
}

std::string names_of(const Json& events) {
  std::string names;
  for (const Json& event : events) names += event["name"].get<std::string>() + " ";
  return names;
}

TEST(OtlpSpans, ARequestIsAServerSpanOfTheCallersTrace) {
  const auto record = answered("req_1", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
  const Json root = spans_of({record}).at(0);
  EXPECT_EQ(root["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(root["parentSpanId"], "00f067aa0ba902b7");
  EXPECT_EQ(root["spanId"], record->origin.context.span_id);
  EXPECT_EQ(root["name"], "chat tiny");
  EXPECT_EQ(root["kind"], 2);
  EXPECT_EQ(root["startTimeUnixNano"], "1700000000250000000");
  EXPECT_EQ(root["endTimeUnixNano"], "1700000000321000000");
  EXPECT_FALSE(root.contains("status"));
  const auto attributes = attributes_of(root);
  EXPECT_EQ(attributes.at("gen_ai.operation.name"), "chat");
  EXPECT_EQ(attributes.at("gen_ai.provider.name"), "ridgeline");
  EXPECT_EQ(attributes.at("gen_ai.request.model"), "tiny");
  EXPECT_EQ(attributes.at("gen_ai.response.id"), "chatcmpl-1");
  EXPECT_EQ(attributes.at("gen_ai.usage.input_tokens"), "50");
  EXPECT_EQ(attributes.at("gen_ai.usage.cache_read.input_tokens"), "32");
  EXPECT_EQ(attributes.at("gen_ai.usage.output_tokens"), "2");
  EXPECT_EQ(attributes.at("gen_ai.request.max_tokens"), "100");
  EXPECT_EQ(attributes.at("gen_ai.request.temperature"), 0.5);
  EXPECT_EQ(attributes.at("gen_ai.request.seed"), "7");
  EXPECT_EQ(attributes.at("gen_ai.response.finish_reasons")["values"][0]["stringValue"], "stop");
  EXPECT_EQ(attributes.at("http.route"), "/v1/chat/completions");
  EXPECT_EQ(attributes.at("http.response.status_code"), "200");
  EXPECT_EQ(attributes.at("ridge.draft_tokens"), "2");
  EXPECT_FALSE(attributes.contains("error.type"));
}

TEST(OtlpSpans, ItsPhasesFollowOneAnother) {
  const auto spans = spans_of({answered("req_1")});
  ASSERT_EQ(spans.size(), 4u);
  std::set<std::string> ids;
  for (const Json& span : spans) {
    EXPECT_EQ(span["traceId"], spans[0]["traceId"]);
    EXPECT_TRUE(ids.insert(span["spanId"]).second);
  }
  const char* const names[] = {"queue", "prefill", "decode"};
  const char* const events[] = {"queued waiting ", "admitted prefill ",
                                "first_token preempted resumed finished "};
  for (std::size_t i = 0; i < 3; ++i) {
    const Json& span = spans[i + 1];
    EXPECT_EQ(span["name"], names[i]);
    EXPECT_EQ(span["kind"], 1);
    EXPECT_EQ(span["parentSpanId"], spans[0]["spanId"]);
    EXPECT_EQ(names_of(span["events"]), events[i]);
    if (i > 0) {
      EXPECT_EQ(span["startTimeUnixNano"], spans[i]["endTimeUnixNano"]);
    }
  }
  EXPECT_EQ(spans[1]["startTimeUnixNano"], "1700000000251000000");
  EXPECT_EQ(spans[2]["startTimeUnixNano"], "1700000000280000000");
  EXPECT_EQ(spans[3]["endTimeUnixNano"], "1700000000320000000");
}

TEST(OtlpSpans, WhatNeverRanHasOnlyAQueue) {
  const auto record = arrived("a");
  record->prepared("tiny", "chatcmpl-1", {});
  const auto trace = record->add_trace();
  trace->add({.kind = Kind::queued, .at = at_ms(1)});
  trace->add({.kind = Kind::finished, .at = at_ms(9), .reason = engine::FinishReason::cancelled});
  record->ended(499, "cancelled", {}, at_ms(9));
  const auto spans = spans_of({record});
  ASSERT_EQ(spans.size(), 2u);
  EXPECT_EQ(names_of(spans[1]["events"]), "queued finished ");
  EXPECT_EQ(attributes_of(spans[0]).at("error.type"), "cancelled");
  EXPECT_FALSE(attributes_of(spans[0]).contains("gen_ai.response.finish_reasons"));
}

TEST(OtlpSpans, AFaultOfTheServersOwnIsAnError) {
  const auto refused = arrived("a"), failed = arrived("b"), failed_late = arrived("c");
  refused->ended(400, "invalid_argument", {}, at_ms(1));
  failed->ended(500, "internal", {}, at_ms(1));
  failed_late->ended(200, "internal", {}, at_ms(1));  // in the middle of a stream
  const auto spans = spans_of({refused, failed, failed_late});
  ASSERT_EQ(spans.size(), 3u);
  EXPECT_EQ(spans[0]["name"], "chat");
  EXPECT_FALSE(spans[0].contains("status"));
  EXPECT_EQ(spans[1]["status"]["code"], 2);
  EXPECT_EQ(spans[2]["status"]["code"], 2);
}

TEST(OtlpRejection, ReadsWhatACollectorDidNotKeep) {
  const auto strings =
      otlp_rejection(R"({"partialSuccess": {"rejectedSpans": "12", "errorMessage": "too\nold"}})");
  EXPECT_EQ(strings.spans, 12);
  EXPECT_EQ(strings.message, "too old") << "in one line";
  EXPECT_EQ(otlp_rejection(R"({"partialSuccess": {"rejectedSpans": 2}})").spans, 2);
  const auto warning = otlp_rejection(R"({"partialSuccess": {"errorMessage": "old names"}})");
  EXPECT_EQ(warning.spans, 0);
  EXPECT_FALSE(warning.is_empty());
  const std::string chatter =
      R"({"partialSuccess": {"errorMessage": ")" + std::string(5000, 'x') + R"("}})";
  EXPECT_EQ(otlp_rejection(chatter).message.size(), 300u);
}

TEST(OtlpRejection, IsEmptyWhereAllWasKept) {
  for (const char* answer :
       {"", "{}", "[]", "null", "OK", R"({"partialSuccess": {}})", R"({"partialSuccess": 1})",
        R"({"partialSuccess": {"rejectedSpans": "many", "errorMessage": 7}})",
        R"({"partialSuccess": {"rejectedSpans": -4}})", R"({"partialSuccess": null})"}) {
    EXPECT_TRUE(otlp_rejection(answer).is_empty()) << answer;
  }
}

}  // namespace
}  // namespace ridge::api::otlp_spans_test
