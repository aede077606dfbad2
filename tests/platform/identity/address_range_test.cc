#include "platform/identity/address_range.h"

#include "platform/throws.h"

namespace ridge::platform::address_range_test {
namespace {

TEST(AddressRange, HoldsWhatBeginsAlike) {
  const AddressRange ten = AddressRange::parse_or_throw("10.0.0.0/9");
  EXPECT_TRUE(ten.contains("10.0.0.0"));
  EXPECT_TRUE(ten.contains("10.127.255.255"));
  EXPECT_FALSE(ten.contains("10.128.0.0"));
  EXPECT_TRUE(ten.contains("::ffff:10.1.2.3"));
  EXPECT_FALSE(ten.contains("::10.1.2.3"));
  const AddressRange six = AddressRange::parse_or_throw("2001:db8::/33");
  EXPECT_TRUE(six.contains("2001:db8:7fff::1"));
  EXPECT_FALSE(six.contains("2001:db8:8000::1"));
  EXPECT_FALSE(six.contains("10.0.0.1"));
  EXPECT_TRUE(AddressRange::parse_or_throw("fe80::1").contains("fe80::1%eth0"));
  EXPECT_TRUE(AddressRange::parse_or_throw("0.0.0.0/0").contains("203.0.113.9"));
  EXPECT_FALSE(AddressRange::parse_or_throw("0.0.0.0/0").contains("::1"));
  EXPECT_TRUE(AddressRange::parse_or_throw("::/0").contains("::1"));
}

TEST(AddressRange, HoldsNothingThatIsNoAddress) {
  const AddressRange all = AddressRange::parse_or_throw("::/0");
  for (const char* text : {"", "x", "10.0.0", "10.0.0.1.2", "10.0.0.1 ", "unix:/tmp/x"}) {
    EXPECT_FALSE(all.contains(text)) << text;
  }
}

TEST(AddressRange, RefusesWhatIsNone) {
  for (const char* text : {"", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/8x",
                           "10.0.0.1/8", "::1/64", "::/129", "example.org", "010.0.0.1"}) {
    EXPECT_ERROR(AddressRange::parse_or_throw(text), invalid_argument, "no address");
  }
}

}  // namespace
}  // namespace ridge::platform::address_range_test
