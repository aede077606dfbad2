#include "loadgen/event_stream.h"

#include <gmock/gmock.h>

#include "base/error.h"

namespace ridge::loadgen::event_stream_test {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(EventStream, GivesTheDataOfEachEvent) {
  EventStream stream;
  EXPECT_THAT(stream.feed("data: {\"a\":1}\n\ndata: [DONE]\n\n"),
              ElementsAre("{\"a\":1}", "[DONE]"));
}

TEST(EventStream, ReadsTheSameWhereverTheBytesAreCut) {
  const std::string bytes = "data: one\r\n\r\n: heartbeat\n\nevent: x\rdata:two\rdata: three\r\r";
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    EventStream stream;
    std::vector<std::string> events = stream.feed(bytes.substr(0, cut));
    for (std::string& event : stream.feed(bytes.substr(cut))) events.push_back(event);
    EXPECT_THAT(events, ElementsAre("one", "two\nthree")) << "cut at " << cut;
  }
}

TEST(EventStream, KeepsBackWhatNoBlankLineHasEnded) {
  EventStream stream;
  EXPECT_THAT(stream.feed("data: half"), IsEmpty());
  EXPECT_THAT(stream.feed(" of it\n"), IsEmpty());
  EXPECT_THAT(stream.feed("\n"), ElementsAre("half of it"));
}

TEST(EventStream, CommentsAndOtherFieldsAreNoEvents) {
  EventStream stream;
  EXPECT_THAT(stream.feed(": waiting\n\nid: 7\nretry: 10\n\ndatas: x\n\n"), IsEmpty());
  EXPECT_THAT(stream.feed("data\n\n"), ElementsAre(""));
}

TEST(EventStream, RefusesAnEventWithoutEnd) {
  EventStream stream;
  const std::string piece(1 << 20, 'x');
  EXPECT_THROW(
      {
        for (int i = 0; i < 32; ++i) stream.feed(piece);
      },
      Error);
}

}  // namespace
}  // namespace ridge::loadgen::event_stream_test
