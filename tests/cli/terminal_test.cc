#include "cli/terminal.h"

#include <gtest/gtest.h>

namespace ridge::cli::terminal_test {
namespace {

TEST(Printable, LeavesNoByteThatDrivesATerminal) {
  EXPECT_EQ(printable("a\033[31mb\r\n\x7f"), "a?[31mb???");
  EXPECT_EQ(printable("a\xc2\x9b"
                      "31m"),
            "a??31m");
  EXPECT_EQ(printable("模型 é"), "模型 é");
}

TEST(FormatBytes, UsesDecimalUnits) {
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_bytes(999), "999 B");
  EXPECT_EQ(format_bytes(1500), "1.5 kB");
  EXPECT_EQ(format_bytes(98'362'432), "98 MB");
  EXPECT_EQ(format_bytes(999'900'000), "1.0 GB");
  EXPECT_EQ(format_bytes(4'680'000'000), "4.7 GB");
  EXPECT_EQ(format_bytes(2'500'000'000'000), "2.5 TB");
}

TEST(FormatDuration, UsesTwoUnitsAtMost) {
  EXPECT_EQ(format_duration(0), "0s");
  EXPECT_EQ(format_duration(75), "1m15s");
  EXPECT_EQ(format_duration(3660), "1h01m");
}

TEST(Table, AlignsColumnsByWhatIsSeen) {
  Table table({{"NAME"}, {"SIZE", Alignment::right}});
  table.add_row({"é", "1 B"});
  table.add_row({"long name", "10 B"});
  EXPECT_EQ(table.to_string(Terminal(), Stream::output),
            "NAME       SIZE\n"
            "é           1 B\n"
            "long name  10 B\n");
}

}  // namespace
}  // namespace ridge::cli::terminal_test
