#include "model/adapter_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/temporary_folder.h"
#include "format/gguf.h"
#include "model/tiny_model.h"
#include "tensor/dequantize.h"

namespace ridge::model::adapter_file_test {

namespace {

using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

const std::string module = "base_model.model.model.layers.0.self_attn.q_proj";

struct Array {
  std::vector<int64_t> shape;
  std::vector<float> values;
};

Array zeros(int64_t rows, int64_t columns) {
  return {{rows, columns}, std::vector<float>(static_cast<size_t>(rows * columns))};
}

// An adapter of TinyModel's Q as peft would save it, to be written with one thing wrong.
struct PeftFolder {
  Json config = {{"peft_type", "LORA"}, {"r", 2}, {"lora_alpha", 4}, {"bias", "none"}};
  std::map<std::string, Array> tensors = {{module + ".lora_A.weight", zeros(2, 8)},
                                          {module + ".lora_B.weight", zeros(8, 2)}};

  void write(const TemporaryFolder& folder) const {
    folder.write("adapter_config.json", config.dump());
    Json header;
    std::string data;
    for (const auto& [name, array] : tensors) {
      const size_t begin = data.size();
      data.append(reinterpret_cast<const char*>(array.values.data()),
                  array.values.size() * sizeof(float));
      header[name] = {
          {"dtype", "F32"}, {"shape", array.shape}, {"data_offsets", {begin, data.size()}}};
    }
    const std::string text = header.dump();
    const uint64_t size = text.size();
    std::string bytes(sizeof(size), '\0');
    std::memcpy(bytes.data(), &size, sizeof(size));
    folder.write("adapter_model.safetensors", bytes + text + data);
  }
};

// The same as a GGUF file.
struct GgufAdapter {
  std::map<std::string, std::string> strings = {
      {"general.architecture", "llama"}, {"general.type", "adapter"}, {"adapter.type", "lora"}};
  std::map<std::string, float> floats = {{"adapter.lora.alpha", 4}};
  std::map<std::string, Shape> tensors = {{"blk.0.attn_q.weight.lora_a", Shape{2, 8}},
                                          {"blk.0.attn_q.weight.lora_b", Shape{8, 2}}};
  DType dtype = DType::f32;

  std::filesystem::path write(const TemporaryFolder& folder) const {
    format::GgufWriter writer;
    for (const auto& [key, value] : strings) writer.set_string(key, value);
    for (const auto& [key, value] : floats) writer.set_float32(key, value);
    for (const auto& [name, shape] : tensors) {
      const size_t bytes = row_bytes(dtype, shape.columns()) * static_cast<size_t>(shape.rows());
      writer.add_tensor(name, dtype, shape, [bytes] { return std::vector<std::byte>(bytes); });
    }
    const std::vector<std::byte> bytes = writer.to_bytes();
    return folder.write("x.gguf",
                        std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }
};

ModelConfig tiny_config(const std::string& architecture = "llama") {
  TinyModel tiny;
  tiny.architecture = architecture;
  const std::vector<std::byte> bytes = tiny.write();
  return read_config(format::GgufFile::parse(bytes));
}

void expect_error(const std::function<void()>& action, ErrorCode code, const char* message) {
  try {
    action();
    ADD_FAILURE() << "it was accepted; expected: " << message;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.message();
    EXPECT_THAT(error.message(), HasSubstr(message));
  }
}

void expect_refused(const PeftFolder& peft, ErrorCode code, const char* message) {
  const TemporaryFolder folder;
  peft.write(folder);
  expect_error(
      [&] {
        AdapterFile file = read_adapter(folder.path());
        fit_adapter(file, tiny_config());
      },
      code, message);
}

void expect_refused(const GgufAdapter& adapter, ErrorCode code, const char* message) {
  const TemporaryFolder folder;
  const auto path = adapter.write(folder);
  expect_error(
      [&] {
        AdapterFile file = read_adapter(path);
        fit_adapter(file, tiny_config());
      },
      code, message);
}

float scale_of(const PeftFolder& peft) {
  const TemporaryFolder folder;
  peft.write(folder);
  return read_adapter(folder.path()).pairs.at(0).scale;
}

TEST(AdapterFile, ReadsAPeftFolder) {
  const TemporaryFolder folder;
  PeftFolder peft;
  peft.config["base_model_name_or_path"] = "org/base";
  peft.write(folder);
  const AdapterFile file = read_adapter(folder.path() / "");
  EXPECT_EQ(file.format, "PEFT");
  EXPECT_EQ(file.base_model, "org/base");
  ASSERT_EQ(file.pairs.size(), 1u);
  EXPECT_EQ(file.pairs[0].layer, 0);
  EXPECT_EQ(file.pairs[0].linear, AdaptedLinear::query);
  EXPECT_EQ(file.pairs[0].down.shape, (Shape{2, 8}));
  EXPECT_EQ(file.pairs[0].up.shape, (Shape{8, 2}));
  EXPECT_EQ(file.bytes(), 2u * 16 * sizeof(float));
}

TEST(AdapterFile, ScalesAsPeftDoes) {
  PeftFolder peft;
  EXPECT_FLOAT_EQ(scale_of(peft), 2);
  peft.config["use_rslora"] = true;
  EXPECT_FLOAT_EQ(scale_of(peft), 4 / std::sqrt(2.0f));
  peft.config["use_rslora"] = false;
  peft.config["alpha_pattern"] = {{"k_proj", 100}, {"self_attn.q_proj", 5}, {"q_proj", 200}};
  EXPECT_FLOAT_EQ(scale_of(peft), 2.5);
  // No more than the end of a name from a dot on, or with '^' the whole of it.
  peft.config["alpha_pattern"] = {{"attn.q_proj", 100}, {"^q_proj", 100}};
  EXPECT_FLOAT_EQ(scale_of(peft), 2);
  peft.config["alpha_pattern"] = {{"^model.layers.0.self_attn.q_proj", 7}};
  EXPECT_FLOAT_EQ(scale_of(peft), 3.5);
  peft.config["r"] = 64;
  peft.config["rank_pattern"] = {{"q_proj", 2}};
  EXPECT_FLOAT_EQ(scale_of(peft), 3.5);
}

// transformers rotates (i, i + d/2) of a head, GGUF's llama files (2i, 2i + 1).
TEST(AdapterFile, TurnsTheRowsOfQueriesForLlamaAlone) {
  const TemporaryFolder folder;
  PeftFolder peft;
  for (size_t i = 0; i < 16; ++i) {
    peft.tensors.at(module + ".lora_B.weight").values[i] = static_cast<float>(i / 2);
  }
  peft.write(folder);
  const auto first_column = [](const AdapterFile& file) {
    std::vector<float> column, row(2);
    for (int64_t r = 0; r < 8; ++r) {
      dequantize_row(DType::f32, file.pairs[0].up.row(r), row);
      column.push_back(row[0]);
    }
    return column;
  };
  AdapterFile llama = read_adapter(folder.path());
  fit_adapter(llama, tiny_config("llama"));
  EXPECT_EQ(first_column(llama), (std::vector<float>{0, 2, 1, 3, 4, 6, 5, 7}));
  ModelConfig neox = tiny_config("llama");
  neox.rope.pairs = backend::RopePairs::neox;
  AdapterFile qwen2 = read_adapter(folder.path());
  fit_adapter(qwen2, neox);
  EXPECT_EQ(first_column(qwen2), (std::vector<float>{0, 1, 2, 3, 4, 5, 6, 7}));
}

TEST(AdapterFile, NamesWhatItDoesNotSupportOfPeft) {
  const std::pair<Json, const char*> settings[] = {
      {{{"peft_type", "IA3"}}, "peft_type is \"IA3\""},
      {{{"use_dora", true}}, "DoRA"},
      {{{"use_qalora", true}}, "use_qalora"},
      {{{"modules_to_save", {"lm_head"}}}, "modules_to_save"},
      {{{"trainable_token_indices", {1}}}, "trained embeddings"},
      {{{"bias", "all"}}, "trained biases"},
      {{{"lora_bias", true}}, "lora_bias"},
      {{{"fan_in_fan_out", true}}, "fan_in_fan_out"},
      {{{"layer_replication", Json::array({Json::array({0, 1})})}}, "layer_replication"},
      {{{"init_lora_weights", "pissa"}}, "changes the base model's weights"},
      {{{"alpha_pattern", {{".*q_proj", 1}}}}, "regular expressions are not"},
  };
  for (const auto& [setting, message] : settings) {
    PeftFolder peft;
    peft.config.update(setting);
    expect_refused(peft, ErrorCode::unsupported, message);
  }
  const std::pair<std::string, const char*> tensors[] = {
      {module + ".lora_magnitude_vector", "DoRA are not supported"},
      {"base_model.model.model.embed_tokens.lora_embedding_A", "adapters of embeddings"},
      {module + ".lora_B.bias", "trained biases"},
      {"base_model.model.lm_head.weight", "modules that were trained whole"},
      {"base_model.model.lm_head.lora_A.weight", "another weight than the linears"},
      {"base_model.model.model.layers.0.mlp.experts.0.up_proj.lora_A.weight", "another weight"},
      {"base_model.model.model.layers.-1.mlp.up_proj.lora_A.weight", "another weight"},
  };
  for (const auto& [name, message] : tensors) {
    PeftFolder peft;
    peft.tensors[name] = zeros(2, 8);
    expect_refused(peft, ErrorCode::unsupported, message);
  }
}

TEST(AdapterFile, SaysWhatIsWrongWithAPeftFolder) {
  const std::pair<Json, const char*> settings[] = {
      {{{"r", 0}}, "r has no whole number from 1 to 4096"},
      {{{"r", 2.5}}, "r has no whole number from 1 to 4096"},
      {{{"r", 3}}, "A has 2 rows, but adapter_config.json says a rank of 3"},
      {{{"lora_alpha", "8"}}, "lora_alpha has no number"},
      {{{"rank_pattern", {{"q_proj", -1}}}}, "rank_pattern has no whole number"},
      {{{"rank_pattern", 1}}, "rank_pattern is no object"},
  };
  for (const auto& [setting, message] : settings) {
    PeftFolder peft;
    peft.config.update(setting);
    expect_refused(peft, ErrorCode::invalid_file, message);
  }
  PeftFolder no_up;
  no_up.tensors.erase(module + ".lora_B.weight");
  expect_refused(no_up, ErrorCode::invalid_file, "its B is missing");
  PeftFolder no_down;
  no_down.tensors.erase(module + ".lora_A.weight");
  expect_refused(no_down, ErrorCode::invalid_file, "its A is missing");
  PeftFolder twice;  // also without "model.", as of a base without an output head
  twice.tensors["base_model.model.layers.0.self_attn.q_proj.lora_A.weight"] = zeros(2, 8);
  expect_refused(twice, ErrorCode::invalid_file, "the same linear has another A");
  PeftFolder ranks;
  ranks.tensors[module + ".lora_B.weight"] = zeros(8, 3);
  expect_refused(ranks, ErrorCode::invalid_file, "both must be the rank");
  PeftFolder flat;
  flat.tensors[module + ".lora_B.weight"].shape = {16};
  expect_refused(flat, ErrorCode::invalid_file, "has shape [16]; [outputs, rank] is expected");
  PeftFolder wide;
  wide.tensors[module + ".lora_A.weight"] = zeros(2, 16);
  expect_refused(wide, ErrorCode::invalid_file, "the model's attn_q takes 8 columns");
  PeftFolder tall;
  tall.tensors[module + ".lora_B.weight"] = zeros(16, 2);
  expect_refused(tall, ErrorCode::invalid_file, "the model's attn_q wants [8, 2]");
  PeftFolder deep;
  deep.tensors.clear();
  deep.tensors["base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"] = zeros(2, 8);
  deep.tensors["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"] = zeros(12, 2);
  expect_refused(deep, ErrorCode::invalid_file, "the model has 1 layers");
  PeftFolder none;
  none.tensors.clear();
  none.tensors[module + ".lora_A.weight"] = zeros(0, 8);
  expect_refused(none, ErrorCode::invalid_file, "has shape [0, 8]");
}

TEST(AdapterFile, SaysWhichFileOfAPeftFolderIsMissingOrNoJson) {
  const TemporaryFolder folder;
  const auto read = [&] { read_adapter(folder.path()); };
  expect_error(read, ErrorCode::not_found, "adapter_config.json");
  folder.write("adapter_config.json", "{\"peft_type\": ");
  expect_error(read, ErrorCode::invalid_file, "it is no JSON object");
  folder.write("adapter_config.json", std::string(2 << 20, ' '));
  expect_error(read, ErrorCode::invalid_file, "at most 1048576 are read");
  folder.write("adapter_config.json", PeftFolder().config.dump());
  expect_error(read, ErrorCode::not_found, "adapter_model.safetensors");
  folder.write("adapter_model.bin", "x");
  expect_error(read, ErrorCode::unsupported, "is a pickle");
  expect_error([&] { read_adapter(folder / "adapter_config.json"); }, ErrorCode::invalid_argument,
               "is named by its folder");
}

TEST(AdapterFile, ScalesAGgufAdapterByItsAlphaAndRank) {
  const TemporaryFolder folder;
  GgufAdapter adapter;
  EXPECT_FLOAT_EQ(read_adapter(adapter.write(folder)).pairs.at(0).scale, 2);
  adapter.floats["adapter.lora.alpha"] = 0;
  EXPECT_FLOAT_EQ(read_adapter(adapter.write(folder)).pairs.at(0).scale, 1);
}

TEST(AdapterFile, DequantisesAGgufAdapter) {
  const TemporaryFolder folder;
  GgufAdapter adapter;
  adapter.tensors = {{"blk.1.ffn_down.weight.lora_a", Shape{32, 64}},
                     {"blk.1.ffn_down.weight.lora_b", Shape{8, 32}}};
  adapter.dtype = DType::q8_0;
  const AdapterFile file = read_adapter(adapter.write(folder));
  ASSERT_EQ(file.pairs.size(), 1u);
  EXPECT_EQ(file.pairs[0].linear, AdaptedLinear::down);
  EXPECT_EQ(file.pairs[0].down.dtype, DType::f32);
  EXPECT_EQ(file.bytes(), (32u * 64 + 8 * 32) * sizeof(float));
}

TEST(AdapterFile, SaysWhatIsWrongWithAGgufAdapter) {
  GgufAdapter model;
  model.strings["general.type"] = "model";
  expect_refused(model, ErrorCode::invalid_file,
                 "general.type is \"model\"; 'adapter' is expected");
  GgufAdapter control;
  control.strings["adapter.type"] = "control_vector";
  expect_refused(control, ErrorCode::unsupported, "this build knows 'lora'");
  GgufAdapter other;
  other.strings["general.architecture"] = "qwen2";
  expect_refused(other, ErrorCode::invalid_file, "is for the architecture 'qwen2'");
  GgufAdapter infinite;
  infinite.floats["adapter.lora.alpha"] = std::numeric_limits<float>::infinity();
  expect_refused(infinite, ErrorCode::invalid_file, "no finite number");
  GgufAdapter integers;
  integers.dtype = DType::i32;
  expect_refused(integers, ErrorCode::unsupported, "is I32; F32, F16, BF16");
  GgufAdapter norm;
  norm.tensors["blk.0.attn_norm.weight"] = Shape{8};
  expect_refused(norm, ErrorCode::unsupported, "\"blk.0.attn_norm.weight\" is no A or B");
  for (const char* name :
       {"token_embd", "output", "blk.0.attn_norm", "blk.x.attn_q", "blk.0attn_q"}) {
    GgufAdapter strange;
    strange.tensors[std::string(name) + ".weight.lora_a"] = Shape{2, 8};
    expect_refused(strange, ErrorCode::unsupported, "changes another weight than the linears");
  }
  GgufAdapter half;
  half.tensors.erase("blk.0.attn_q.weight.lora_b");
  expect_refused(half, ErrorCode::invalid_file, "its B is missing");
  GgufAdapter empty;
  empty.tensors.clear();
  expect_refused(empty, ErrorCode::invalid_file, "it holds no tensor of a LoRA adapter");
}

TEST(AdapterFile, IsNoModel) {
  format::GgufWriter writer;
  writer.set_string("general.architecture", "llama");
  writer.set_string("general.type", "adapter");
  const std::vector<std::byte> bytes = writer.to_bytes();
  expect_error([&] { read_config(format::GgufFile::parse(bytes)); }, ErrorCode::invalid_file,
               "name that model, and the adapter with --lora");
}

}  // namespace

}  // namespace ridge::model::adapter_file_test
