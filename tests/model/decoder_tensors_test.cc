#include "model/decoder_tensors.h"

#include <gtest/gtest.h>

#include "model/tiny_model.h"

namespace ridge::model::decoder_tensors_test {

// What a device may not do to rows of x then (backend/weight.h); in files of both conventions.
TEST(DecoderTensors, LatentsOfHeadsSayThatTheyAre) {
  TinyModel heads;
  heads.set_latent();
  TinyModel of_before = heads;
  for (const char* name : {"attn_k_b", "attn_v_b"}) {
    of_before.tensors.erase(std::string("blk.0.") + name + ".weight");
  }
  of_before.tensors.emplace("blk.0.attn_kv_b.weight", Shape{2 * (3 + 4), 6});
  for (const TinyModel& tiny : {heads, of_before}) {
    const std::vector<std::byte> bytes = tiny.write();
    const auto file = format::GgufFile::parse(bytes);
    const DecoderTensors tensors = find_tensors(file, read_config(file), /*guesses=*/false);
    const LatentTensors& latent = *tensors.layers.front().latent;
    EXPECT_TRUE(latent.key_up.by_heads);
    EXPECT_TRUE(latent.value_up.by_heads);
    EXPECT_FALSE(latent.query.by_heads);
  }
}

}  // namespace ridge::model::decoder_tensors_test
