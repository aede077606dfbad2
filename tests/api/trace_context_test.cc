#include "api/trace_context.h"

#include <gtest/gtest.h>

#include <set>

namespace ridge::api::trace_context_test {
namespace {

// The examples and rules of https://www.w3.org/TR/trace-context/#traceparent-header.
const std::string trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
const std::string parent_id = "00f067aa0ba902b7";

bool is_taken(const std::string& traceparent) {
  const TraceContext context = trace_context(traceparent, "");
  EXPECT_EQ(context.trace_id.size(), 32u);
  EXPECT_EQ(context.span_id.size(), 16u);
  EXPECT_EQ(context.parent_id.empty(), context.trace_id != trace_id) << traceparent;
  return context.trace_id == trace_id;
}

TEST(TraceContext, GoesOnWithTheCallersTrace) {
  const TraceContext context =
      trace_context("00-" + trace_id + "-" + parent_id + "-01", "rojo=00f067aa0ba902b7");
  EXPECT_EQ(context.trace_id, trace_id);
  EXPECT_EQ(context.parent_id, parent_id);
  EXPECT_NE(context.span_id, parent_id);
  EXPECT_TRUE(context.sampled);
  EXPECT_EQ(context.tracestate, "rojo=00f067aa0ba902b7");
  EXPECT_EQ(traceparent(context), "00-" + trace_id + "-" + context.span_id + "-01");
}

TEST(TraceContext, KeepsThatTheCallerRecordsNothing) {
  const TraceContext context = trace_context("00-" + trace_id + "-" + parent_id + "-00", "");
  EXPECT_FALSE(context.sampled);
  EXPECT_TRUE(traceparent(context).ends_with("-00"));
  // Of the flags only the lowest bit counts.
  EXPECT_FALSE(trace_context("00-" + trace_id + "-" + parent_id + "-fe", "").sampled);
  EXPECT_TRUE(trace_context("00-" + trace_id + "-" + parent_id + "-0b", "").sampled);
}

TEST(TraceContext, TakesLaterVersionsAsFarAsItKnowsThem) {
  EXPECT_TRUE(is_taken("cc-" + trace_id + "-" + parent_id + "-01-what-the-future-will-be-like"));
  EXPECT_TRUE(is_taken("cc-" + trace_id + "-" + parent_id + "-01"));
  EXPECT_FALSE(is_taken("cc-" + trace_id + "-" + parent_id + "-01.what"));
}

TEST(TraceContext, BeginsATraceOfItsOwnForWhatIsNotWellFormed) {
  EXPECT_FALSE(is_taken(""));
  EXPECT_FALSE(is_taken("00-" + trace_id + "-" + parent_id));
  EXPECT_FALSE(is_taken("00-" + trace_id + "-" + parent_id + "-1"));
  EXPECT_FALSE(is_taken("00-" + trace_id + "-" + parent_id + "-01-more"));
  EXPECT_FALSE(is_taken("ff-" + trace_id + "-" + parent_id + "-01"));
  EXPECT_FALSE(is_taken("0-" + trace_id + "-" + parent_id + "-011"));
  EXPECT_FALSE(is_taken("00-" + std::string(32, '0') + "-" + parent_id + "-01"));
  EXPECT_FALSE(is_taken("00-" + trace_id + "-" + std::string(16, '0') + "-01"));
  EXPECT_FALSE(is_taken("00-" + trace_id.substr(1) + "g-" + parent_id + "-01"));
  EXPECT_FALSE(is_taken("00-4BF92F3577B34DA6A3CE929D0E0E4736-" + parent_id + "-01"));
  EXPECT_FALSE(is_taken("00-" + trace_id + "_" + parent_id + "-01"));
}

TEST(TraceContext, DropsAStateThatIsTooLongOrHasControlCharacters) {
  const std::string parent = "00-" + trace_id + "-" + parent_id + "-01";
  EXPECT_EQ(trace_context(parent, "a=" + std::string(510, 'b')).tracestate.size(), 512u);
  EXPECT_EQ(trace_context(parent, "a=" + std::string(511, 'b')).tracestate, "");
  EXPECT_EQ(trace_context(parent, "a=\x01").tracestate, "");
  EXPECT_EQ(trace_context("", "a=b").tracestate, "") << "it belongs to a trace that was not taken";
}

TEST(TraceContext, NeverGivesAnIdTwice) {
  std::set<std::string> ids;
  for (int i = 0; i < 1000; ++i) ids.insert(trace_context("", "").trace_id);
  EXPECT_EQ(ids.size(), 1000u);
}

}  // namespace
}  // namespace ridge::api::trace_context_test
