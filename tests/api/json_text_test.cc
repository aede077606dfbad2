#include "api/json_text.h"

#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "refusal.h"

namespace ridge::api::json_text_test {
namespace {

std::string refusal(const std::string& text, JsonLimits limits = {}) {
  return refusal_of([&] { parse_json(text, limits); });
}

std::string json_string(std::string_view text) {
  std::string out;
  append_json_string(out, text);
  return out;
}

TEST(ParseJson, KeepsTheOrderAndTheValues) {
  const std::string text = R"({"z":[1,-2,3.5,true,null,"\u00e9"],"a":{"b":{}},"m":[]})";
  EXPECT_EQ(parse_json(text), Json::parse(text));
  EXPECT_EQ(to_text(parse_json(text)), R"({"z":[1,-2,3.5,true,null,"é"],"a":{"b":{}},"m":[]})");
}

TEST(ParseJson, RefusesWhatIsNoJson) {
  for (const char* text :
       {"", "{", "{]", "nul", "[1,]", "{\"a\":1}x", "\"\xff\"", "\"\\ud800\"", "1e999", "[1 2]"}) {
    EXPECT_EQ(refusal(text), "invalid_argument ") << text;
  }
}

TEST(ParseJson, BoundsTheDepth) {
  const std::string deep = std::string(64, '[') + std::string(64, ']');
  EXPECT_EQ(refusal(deep), "");
  EXPECT_EQ(refusal("[" + deep + "]"), "invalid_argument ");
  EXPECT_EQ(refusal(std::string(1 << 20, '[')), "invalid_argument ");
  std::string objects;
  for (int i = 0; i < 65; ++i) objects += "{\"a\":";
  EXPECT_EQ(refusal(objects), "invalid_argument ");
}

TEST(ParseJson, BoundsTheNumberOfValues) {
  EXPECT_EQ(refusal("[1,2,3]", {.values = 4}), "");
  EXPECT_EQ(refusal("[1,2,3,4]", {.values = 4}), "invalid_argument ");
}

TEST(ParseJson, RefusesAKeyThatStandsTwice) {
  EXPECT_EQ(refusal(R"({"a":1,"b":2,"a":3})"), "invalid_argument ");
  EXPECT_EQ(refusal(R"({"a":1,"b":{"a":3}})"), "");
}

TEST(ParseJson, ReadsAnObjectOfManyKeysInLinearTime) {
  std::string text = "{";
  for (int i = 0; i < 300000; ++i) text += (i ? ",\"k" : "\"k") + std::to_string(i) + "\":0";
  text += "}";
  // A search for each key would take minutes: CTest's timeout.
  EXPECT_EQ(parse_json(text).size(), 300000u);
}

TEST(AppendJsonString, EscapesWhatJsonAsksFor) {
  EXPECT_EQ(json_string("a\"b\\c\n\r\t\b\f\x01/é😀"), "\"a\\\"b\\\\c\\n\\r\\t\\b\\f\\u0001/é😀\"");
  EXPECT_EQ(json_string(std::string_view("\0", 1)), "\"\\u0000\"");
}

TEST(AppendJsonString, NeverWritesInvalidUtf8) {
  for (int first = 0; first < 256; ++first) {
    for (int second = 0; second < 256; ++second) {
      const std::string bytes = {static_cast<char>(first), static_cast<char>(second), '\xA9',
                                 '\xBF', 'x'};
      // The library's parser refuses invalid UTF-8.
      const std::string text = json_string(bytes);
      ASSERT_TRUE(Json::accept(text)) << first << " " << second;
      // Valid bytes come back as they were.
      const std::string strict = [&] {
        try {
          return Json(bytes).dump();
        } catch (const Json::exception&) {
          return std::string();
        }
      }();
      if (strict.empty()) continue;
      ASSERT_EQ(Json::parse(text), Json::parse(strict)) << first << " " << second;
    }
  }
}

TEST(AppendJsonNumber, IsAlwaysANumber) {
  const auto written = [](double value) {
    std::string out;
    append_json_number(out, value);
    return out;
  };
  EXPECT_EQ(Json::parse(written(-0.1)).get<double>(), -0.1);
  EXPECT_EQ(Json::parse(written(1e-300)).get<double>(), 1e-300);
  EXPECT_EQ(written(-HUGE_VAL), "-9999");
  EXPECT_EQ(written(std::nan("")), "-9999");
}

}  // namespace
}  // namespace ridge::api::json_text_test
