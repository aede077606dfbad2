#include "format/model_folder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "format/gguf_writer.h"
#include "format/tiny_folder.h"

namespace ridge::format::model_folder_test {

namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

std::vector<float> ready_floats(const GgufFile& file, std::string_view name) {
  const TensorView& view = file.tensor(name).view;
  EXPECT_EQ(view.dtype, DType::f32) << name;
  file.ready(view);
  std::vector<float> values(static_cast<size_t>(view.shape.elements()));
  std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
  return values;
}

Error refusal(const std::function<void(TinyFolder&)>& change) {
  const TemporaryFolder parent;
  TinyFolder folder;
  change(folder);
  try {
    open_model(folder.write(parent));
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorCode::internal, "nothing is refused");
}

TEST(ModelFolder, IsReadUnderTheNamesOfGguf) {
  const TemporaryFolder parent;
  TinyFolder folder;
  std::vector<float> rows;
  for (int i = 0; i < 64; ++i) rows.push_back(static_cast<float>(i));
  folder.tensors[TinyFolder::layer("self_attn.q_proj.weight")] = tiny_floats({8, 8}, rows);
  folder.tensors[TinyFolder::layer("self_attn.v_proj.weight")] =
      tiny_floats({4, 8}, {rows.begin(), rows.begin() + 32});
  // 1 and -2 in bfloat16, again and again.
  std::string halves;
  for (int i = 0; i < 4; ++i) halves += std::string("\x80\x3f\x00\xc0", 4);
  folder.tensors["model.norm.weight"] = {"BF16", {8}, halves};
  const GgufFile file = open_model(folder.write(parent));
  EXPECT_EQ(file.architecture(), "llama");
  EXPECT_EQ(file.metadata().string("general.name"), "tiny");
  EXPECT_EQ(file.metadata().uint32("llama.attention.head_count_kv"), 1u);
  EXPECT_EQ(file.tensors().size(), 11u);
  EXPECT_EQ(file.tensors().front().name, "token_embd.weight");
  EXPECT_EQ(file.parameters(), 8u * 3 + 3 * 8 + 2 * 64 + 2 * 32 + 3 * 96);
  EXPECT_EQ(ready_floats(file, "output_norm.weight"),
            (std::vector<float>{1, -2, 1, -2, 1, -2, 1, -2}));
  // Rows 0 and 2 of a head stand side by side, and rows 1 and 3.
  const std::vector<float> q = ready_floats(file, "blk.0.attn_q.weight");
  std::vector<float> firsts;
  for (size_t row = 0; row < 8; ++row) firsts.push_back(q[row * 8] / 8);
  EXPECT_EQ(firsts, (std::vector<float>{0, 2, 1, 3, 4, 6, 5, 7}));
  EXPECT_EQ(ready_floats(file, "blk.0.attn_v.weight"),
            std::vector<float>(rows.begin(), rows.begin() + 32));
}

TEST(ModelFolder, MakesSomeRowsAndForgetsThem) {
  const TemporaryFolder parent;
  TinyFolder folder;
  folder.tensors[TinyFolder::layer("self_attn.q_proj.weight")] =
      tiny_floats({8, 8}, std::vector<float>(64, 2.5f));
  const GgufFile file = open_model(folder.write(parent));
  const TensorView& whole = file.tensor("blk.0.attn_q.weight").view;
  const TensorView row{DType::f32, Shape{1, 8}, whole.row(3)};
  file.ready(row);
  float first[2];
  std::memcpy(&first[1], whole.row(3).data(), 4);
  std::memcpy(&first[0], whole.row(2).data(), 4);
  EXPECT_EQ(first[0], 0.0f);  // was not asked for
  EXPECT_EQ(first[1], 2.5f);
  file.advise(whole, Access::done);
  std::memcpy(&first[1], whole.row(3).data(), 4);
  EXPECT_EQ(first[1], 0.0f);
}

TEST(ModelFolder, MakesTensorsWithNoMoreThreadsThanItMayUse) {
  GgufWriter out;
  out.set_string("general.architecture", "llama");
  std::mutex guard;
  std::set<std::thread::id> makers;
  GgufParts parts{.source = "made", .header = out.to_bytes(), .threads = 1};
  parts.tensors.push_back({.name = "w",
                           .dtype = DType::f32,
                           .shape = Shape{64, 1 << 16},  // 16 MB
                           .make = [&](int64_t, int64_t, std::span<std::byte>) {
                             const std::lock_guard lock(guard);
                             makers.insert(std::this_thread::get_id());
                           }});
  const GgufFile file = GgufFile::of_parts(std::move(parts));
  file.ready(file.tensor("w").view);
  EXPECT_EQ(makers, (std::set{std::this_thread::get_id()}));
}

TEST(ModelFolder, NamesTheFirstTensorThatDoesNotFit) {
  const std::string q = TinyFolder::layer("self_attn.q_proj.weight");
  EXPECT_THAT(
      refusal([&](TinyFolder& f) {
        f.tensors[q] = tiny_zeros({8, 6});
      }).message(),
      AllOf(HasSubstr("model.safetensors"), HasSubstr(q), HasSubstr("is F32 of shape [8, 6]"),
            HasSubstr("F32, F16 or BF16 of shape [8, 8] is expected")));
  EXPECT_THAT(refusal([&](TinyFolder& f) {
                f.tensors[q] = {"I32", {8, 8}, std::string(256, '\0')};
              }).message(),
              AllOf(HasSubstr(q), HasSubstr("is I32 of shape [8, 8]")));
  EXPECT_THAT(refusal([&](TinyFolder& f) { f.tensors.erase(q); }).message(),
              AllOf(HasSubstr(q), HasSubstr("is missing"), HasSubstr("[8, 8]")));
  EXPECT_THAT(
      refusal([](TinyFolder& f) { f.tensors["model.norm.weight"] = tiny_zeros({9}); }).message(),
      AllOf(HasSubstr("model.norm.weight"), HasSubstr("[9]"), HasSubstr("[8] is expected")));
  const Error unused = refusal([](TinyFolder& f) {
    f.tensors["model.layers.1.x"] = tiny_zeros({8, 6});
  });
  EXPECT_EQ(unused.code(), ErrorCode::unsupported);
  EXPECT_THAT(unused.message(), AllOf(HasSubstr("model.layers.1.x"), HasSubstr("no use")));
  // Untied, it needs a head.
  EXPECT_THAT(refusal([](TinyFolder& f) { f.config["tie_word_embeddings"] = false; }).message(),
              HasSubstr("lm_head.weight"));
}

TEST(ModelFolder, RefusesConfigurationsOutOfRange) {
  const auto message = [](const char* key, json value) {
    return std::string(refusal([&](TinyFolder& f) { f.config[key] = value; }).message());
  };
  EXPECT_THAT(message("hidden_size", -8),
              AllOf(HasSubstr("config.json"), HasSubstr("'hidden_size'")));
  EXPECT_THAT(message("hidden_size", 1ull << 63), HasSubstr("'hidden_size'"));
  EXPECT_THAT(message("hidden_size", 8.5), HasSubstr("'hidden_size'"));
  EXPECT_THAT(message("hidden_size", "8"), HasSubstr("'hidden_size'"));
  EXPECT_THAT(message("num_hidden_layers", 1 << 20), HasSubstr("'num_hidden_layers'"));
  EXPECT_THAT(message("num_attention_heads", 0), HasSubstr("'num_attention_heads'"));
  EXPECT_THAT(message("num_attention_heads", 8), HasSubstr("a head has 1 values"));
  EXPECT_THAT(message("num_key_value_heads", 3), HasSubstr("'num_key_value_heads'"));
  EXPECT_THAT(message("rms_norm_eps", 0), HasSubstr("'rms_norm_eps'"));
  EXPECT_THAT(message("rope_scaling", 3), HasSubstr("'rope_scaling' must be an object"));
  EXPECT_THAT(message("rope_scaling", {{"rope_type", "linear"}}), HasSubstr("'factor' is missing"));
  EXPECT_THAT(message("vocab_size", nullptr), HasSubstr("'vocab_size' is missing"));
}

TEST(ModelFolder, RefusesWhatThisBuildDoesNotRun) {
  const auto expect = [](const char* part, const char* key, const json& value) {
    const Error error = refusal([&](TinyFolder& f) { f.config[key] = value; });
    EXPECT_EQ(error.code(), ErrorCode::unsupported) << key;
    EXPECT_THAT(error.message(), HasSubstr(part));
  };
  expect("folders of llama", "model_type", "mamba");
  expect("images or sound", "vision_config", json::object());
  expect("'hidden_act'", "hidden_act", "gelu");
  expect("'mlp_bias'", "mlp_bias", true);
  expect("'longrope'", "rope_scaling", {{"rope_type", "longrope"}});
  expect("'partial_rotary_factor'", "partial_rotary_factor", 0.5);
  expect("'quant_method' is 'bitsandbytes'", "quantization_config",
         {{"quant_method", "bitsandbytes"}});
}

TEST(ModelFolder, RefusesLlamasScalingOfALatentsPositions) {
  const Error error = refusal([](TinyFolder& f) {
    f.config.update(
        {{"model_type", "deepseek_v2"},
         {"kv_lora_rank", 4},
         {"qk_nope_head_dim", 4},
         {"qk_rope_head_dim", 2},
         {"v_head_dim", 4},
         {"rope_scaling",
          {{"rope_type", "llama3"}, {"factor", 8}, {"original_max_position_embeddings", 32}}}});
  });
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_THAT(error.message(), HasSubstr("positions is 'llama3'"));
}

TEST(ModelFolder, TakesAWindowAsTheContext) {
  const TemporaryFolder parent;
  TinyFolder folder;
  folder.config["model_type"] = "mistral";
  folder.config["sliding_window"] = 16;
  EXPECT_EQ(open_model(folder.write(parent)).metadata().uint32("llama.context_length"), 16u);
}

TEST(ModelFolder, ReadsTheFilesThatAnIndexLists) {
  const TemporaryFolder parent;
  TinyFolder folder;
  const auto split = [](TinyFolder& f) {
    std::map<std::string, TinyTensor> first = {*f.tensors.begin()};
    json map;
    map[first.begin()->first] = "a.safetensors";
    f.tensors.erase(f.tensors.begin());
    for (const auto& [name, tensor] : f.tensors) map[name] = "b.safetensors";
    f.files["a.safetensors"] = safetensors_of(first);
    f.files["b.safetensors"] = safetensors_of(f.tensors);
    f.files["model.safetensors.index.json"] = json{{"weight_map", map}}.dump();
    return map;
  };
  split(folder);
  EXPECT_EQ(open_model(folder.write(parent)).tensors().size(), 11u);
  const auto with_map = [&](const std::function<void(json & map, TinyFolder&)>& change) {
    return std::string(refusal([&](TinyFolder& f) {
                         json map = split(f);
                         change(map, f);
                         f.files["model.safetensors.index.json"] = json{{"weight_map", map}}.dump();
                       }).message());
  };
  for (const char* name : {"../b.safetensors", "/etc/b.safetensors", "x/b.safetensors", "..",
                           ".b.safetensors", "b.bin", ""}) {
    EXPECT_THAT(with_map([&](json& map, TinyFolder&) { map["model.norm.weight"] = name; }),
                HasSubstr("a .safetensors file in this folder is expected"))
        << name;
  }
  EXPECT_THAT(with_map([](json& map, TinyFolder&) { map["model.norm.weight"] = "c.safetensors"; }),
              AllOf(HasSubstr("c.safetensors"), HasSubstr("missing")));
  EXPECT_THAT(with_map([](json& map, TinyFolder&) { map["model.norm.weight"] = "a.safetensors"; }),
              HasSubstr("does not hold it"));
  EXPECT_THAT(with_map([](json& map, TinyFolder&) { map["absent"] = "a.safetensors"; }),
              HasSubstr("does not hold it"));
  EXPECT_THAT(
      with_map([](json&, TinyFolder& f) { f.files["a.safetensors"] = f.files["b.safetensors"]; }),
      HasSubstr("is both in"));
  EXPECT_THAT(with_map([](json& map, TinyFolder&) { map = json::object(); }),
              HasSubstr("it lists no tensor"));
}

TEST(ModelFolder, RefusesFilesThatAreNoJsonOrTooLarge) {
  const auto with_config = [](const std::string& text) {
    return std::string(refusal([&](TinyFolder& f) { f.files["config.json"] = text; }).message());
  };
  EXPECT_THAT(with_config("[]"), HasSubstr("config.json: it is no JSON object"));
  EXPECT_THAT(with_config("{\"a\":"), HasSubstr("config.json: it is no JSON object"));
  EXPECT_THAT(with_config(std::string(5 << 20, ' ')), HasSubstr("at most"));
  EXPECT_THAT(with_config("{\"a\":" + std::string(100'000, '[') + std::string(100'000, ']') + "}"),
              HasSubstr("nests deeper"));
}

TEST(ModelFolder, SaysWhatAFolderLacks) {
  const TemporaryFolder parent;
  const auto message = [](const std::filesystem::path& path) {
    try {
      open_model(path);
    } catch (const Error& error) {
      return std::string(error.message());
    }
    return std::string();
  };
  EXPECT_THAT(message(parent.path()), HasSubstr("a folder without a config.json"));
  const std::filesystem::path path = TinyFolder().write(parent);
  std::filesystem::remove(path / "model.safetensors");
  EXPECT_THAT(message(path), HasSubstr("neither model.safetensors nor"));
  parent.write("tiny/pytorch_model.bin", "x");
  EXPECT_THAT(message(path), HasSubstr("runs code"));
}

TEST(OpenModel, SaysWhichFilesOfGgufAreNoModel) {
  const TemporaryFolder parent;
  const auto message = [&](std::initializer_list<std::pair<const char*, const char*>> metadata) {
    GgufWriter writer;
    for (const auto& [key, value] : metadata) writer.set_string(key, value);
    const std::vector<std::byte> bytes = writer.to_bytes();
    parent.write("other.gguf", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    try {
      open_model(parent.path() / "other.gguf");
    } catch (const Error& error) {
      return std::string(name(error.code())) + ": " + std::string(error.message());
    }
    return std::string();
  };
  const auto of_images =
      AllOf(HasSubstr("unsupported: "), HasSubstr("other.gguf: "), HasSubstr("images or sound"));
  EXPECT_THAT(message({{"general.type", "mmproj"}, {"general.architecture", "clip"}}), of_images);
  EXPECT_THAT(message({{"general.architecture", "clip"}}), of_images);
  EXPECT_THAT(message({{"general.type", "imatrix"}}),
              AllOf(HasSubstr("invalid_file: "), HasSubstr("quantize --imatrix")));
  EXPECT_EQ(message({{"general.type", "model"}, {"general.architecture", "llama"}}), "");
}

}  // namespace

}  // namespace ridge::format::model_folder_test
