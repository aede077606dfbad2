#include "cli/lora_option.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace ridge::cli::lora_option_test {
namespace {

TEST(LoraOption, ReadsNamePathAndSettings) {
  const LoraChoice plain = parse_named_lora("law=/adapters/law");
  EXPECT_EQ(plain.name, "law");
  EXPECT_EQ(plain.path, "/adapters/law");
  EXPECT_EQ(plain.scale, 1);
  EXPECT_EQ(plain.base, "");
  const LoraChoice full = parse_named_lora("law=a=b,c.gguf,base=smollm2:135m,scale=-0.5");
  EXPECT_EQ(full.name, "law");
  EXPECT_EQ(full.path, "a=b,c.gguf");
  EXPECT_EQ(full.scale, -0.5f);
  EXPECT_EQ(full.base, "smollm2:135m");
  const LoraChoice unnamed = parse_lora("a=b.gguf,scale=2");
  EXPECT_EQ(unnamed.path, "a=b.gguf");
  EXPECT_EQ(unnamed.scale, 2);
}

TEST(LoraOption, RefusesWhatIsNoAdapter) {
  for (const char* text : {"", "law", "law=", "=x", "law=x,scale=", "law=x,scale=1x",
                           "law=x,scale=nan", "law=x,scale=inf", "law=x,base=", "a\nb=x"}) {
    try {
      parse_named_lora(text);
      ADD_FAILURE() << "accepted '" << text << "'";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    }
  }
  EXPECT_THROW(parse_lora(",scale=1"), Error);
}

TEST(LoraOption, TakesTheOnlyModelAsBaseAndNamesOnce) {
  std::vector<LoraChoice> adapters = {parse_named_lora("a=x"), parse_named_lora("b=x")};
  settle_bases(adapters, {"m"});
  EXPECT_EQ(adapters[0].base, "m");
  EXPECT_EQ(adapters[1].base, "m");
  EXPECT_THROW(settle_bases(adapters, {"n"}), Error) << "m is not served";
  adapters[1].base = "";
  EXPECT_THROW(settle_bases(adapters, {"m", "n"}), Error) << "either may be meant";
  adapters[1].base = "n";
  settle_bases(adapters, {"m", "n"});
  adapters[1].name = "a";
  EXPECT_THROW(settle_bases(adapters, {"m", "n"}), Error) << "two adapters of one name";
  adapters[1].name = "m";
  EXPECT_THROW(settle_bases(adapters, {"m", "n"}), Error) << "the name of a model";
}

}  // namespace
}  // namespace ridge::cli::lora_option_test
