// Vocabularies of model folders (tokenizer.json) against goldens that tools/tokenizer_goldens makes
// with Hugging Face's packages.
#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/read_text.h"
#include "base/temporary_folder.h"
#include "format/folder_tokenizer.h"
#include "text/chat_template.h"
#include "vocabularies.h"

namespace ridge::text::folder_tokenizer_test {
namespace {

using nlohmann::json;

json packed_tokenizer(const std::string& name) {
  return json::parse(
      read_text(std::filesystem::path(RIDGE_FIXTURE_DIR) / (name + ".tokenizer.json")));
}

// A folder of these files.
class TokenizerFolder {
 public:
  explicit TokenizerFolder(const json& tokenizer) { write("tokenizer.json", tokenizer.dump()); }

  void write(const std::string& name, const std::string& text) const { folder_.write(name, text); }

  // As GGUF's metadata, with `vocab_size` embeddings.
  std::vector<std::byte> header(int vocab_size) const {
    format::GgufWriter out;
    out.set_string("general.architecture", "llama");
    format::write_folder_tokenizer(folder_.path(), no_config(), vocab_size, out);
    return out.to_bytes();
  }

  static format::FolderJson no_config() { return format::FolderJson::parse("{}", "config.json"); }

 private:
  TemporaryFolder folder_;
};

constexpr int small_bpe_size = 4009;
constexpr int small_spm_size = 1600;

void compare_ids(const Tokenizer& tokenizer, const std::string& golden_name) {
  const nlohmann::ordered_json cases = golden(golden_name)["cases"];
  ASSERT_GT(cases.size(), 80u);
  for (const auto& c : cases) {
    const std::string name = golden_name + ": " + c["name"].get<std::string>();
    const auto text = c["text"].get<std::string>();
    const auto ids = c["ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(tokenizer.encode(text), ids) << name;
    EXPECT_EQ(tokenizer.decode(ids, /*skip_special=*/false), c.value("decoded", text)) << name;
    EXPECT_EQ(tokenizer.decode(ids, /*skip_special=*/true), c.value("decoded_skipping", text))
        << name;
  }
}

TEST(FolderTokenizer, GivesTheIdsOfEachPreTokenizer) {
  json file = packed_tokenizer("small-bpe");
  const nlohmann::ordered_json kinds = golden("pre-tokenizers");
  EXPECT_EQ(kinds.size(), 11u);
  for (const auto& [kind, parts] : kinds.items()) {
    SCOPED_TRACE(kind);
    file["normalizer"] = parts["normalizer"];
    file["pre_tokenizer"] = parts["pre_tokenizer"];
    file["model"]["ignore_merges"] = parts["ignore_merges"];
    const auto header = TokenizerFolder(file).header(small_bpe_size);
    const auto gguf = format::GgufFile::parse(header);
    EXPECT_EQ(gguf.metadata().string("tokenizer.ggml.pre"), kind);
    compare_ids(*Tokenizer::from_gguf(gguf), "small-" + kind);
  }
}

TEST(FolderTokenizer, GivesTheIdsOfSentencePiece) {
  const auto header = TokenizerFolder(packed_tokenizer("small-spm")).header(small_spm_size);
  compare_ids(*Tokenizer::from_gguf(format::GgufFile::parse(header)), "small-spm");
}

// Other programs know SentencePiece's scores alone.
TEST(FolderTokenizer, WritesScoresThatGiveTheSameMerges) {
  const auto header = TokenizerFolder(packed_tokenizer("small-spm")).header(small_spm_size);
  const auto gguf = format::GgufFile::parse(header);
  const format::GgufMetadata& metadata = gguf.metadata();
  MadeVocabulary made;
  made.model = "llama";
  for (const auto text : metadata.string_array("tokenizer.ggml.tokens")) {
    made.tokens.emplace_back(text);
  }
  for (const int64_t type : metadata.int_array("tokenizer.ggml.token_type")) {
    made.types.push_back(static_cast<int32_t>(type));
  }
  made.scores = metadata.float_array("tokenizer.ggml.scores");
  compare_ids(*made.build(), "small-spm");
}

TEST(FolderTokenizer, ReadsControlTokensTemplateAndEnds) {
  TokenizerFolder folder(packed_tokenizer("small-bpe"));
  folder.write("tokenizer_config.json",
               R"({"bos_token": {"content": "<|begin_of_text|>"}, "eos_token": "<|im_end|>",
                   "chat_template": [{"name": "default", "template": "{{ bos_token }}hello"}]})");
  folder.write("generation_config.json", R"({"eos_token_id": [4005, 4003]})");
  const auto header = folder.header(small_bpe_size + 3);
  const auto gguf = format::GgufFile::parse(header);
  const auto tokenizer = Tokenizer::from_gguf(gguf);
  EXPECT_EQ(tokenizer->vocab_size(), small_bpe_size + 3);
  ASSERT_TRUE(tokenizer->bos() && tokenizer->eos());
  EXPECT_EQ(tokenizer->token_bytes(*tokenizer->bos()), "<|begin_of_text|>");
  EXPECT_EQ(tokenizer->token_bytes(*tokenizer->eos()), "<|im_end|>");
  EXPECT_TRUE(tokenizer->is_end_of_generation(4003));
  EXPECT_TRUE(tokenizer->is_special(*tokenizer->bos()));
  EXPECT_FALSE(tokenizer->is_special(*tokenizer->find("<think>")));
  EXPECT_FALSE(tokenizer->adds_bos());
  EXPECT_EQ(ChatTemplate::from_gguf(gguf, *tokenizer)->source(), "{{ bos_token }}hello");
}

TEST(FolderTokenizer, AddsBosWhereTheProcessorOrTransformersDo) {
  json file = packed_tokenizer("small-bpe");
  const auto adds_bos = [&](const std::string& settings) {
    TokenizerFolder folder(file);
    folder.write("tokenizer_config.json", settings);
    const auto header = folder.header(small_bpe_size);
    return Tokenizer::from_gguf(format::GgufFile::parse(header))->adds_bos();
  };
  const std::string bos = R"("bos_token": "<|begin_of_text|>")";
  EXPECT_FALSE(adds_bos("{" + bos + "}"));
  EXPECT_TRUE(adds_bos("{" + bos + R"(, "tokenizer_class": "LlamaTokenizerFast"})"));
  EXPECT_FALSE(
      adds_bos("{" + bos + R"(, "tokenizer_class": "LlamaTokenizer", "add_bos_token": false})"));
  EXPECT_FALSE(
      adds_bos("{" + bos + R"(, "tokenizer_class": "LlamaTokenizer", "add_bos_token": null})"));
  file["post_processor"] = json::parse(
      R"({"type": "Sequence", "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing",
          "single": [{"SpecialToken": {"id": "<|begin_of_text|>", "type_id": 0}},
                     {"Sequence": {"id": "A", "type_id": 0}}]}]})");
  EXPECT_TRUE(adds_bos("{" + bos + "}"));
}

TEST(FolderTokenizer, RefusesWhatItCannotGiveTheIdsOf) {
  const auto refusal = [](const std::function<void(json&)>& change) {
    json file = packed_tokenizer("small-bpe");
    change(file);
    try {
      TokenizerFolder(file).header(small_bpe_size);
    } catch (const Error& error) {
      return std::string(error.message());
    }
    return std::string("nothing is refused");
  };
  const auto expect = [&](const std::string& part, const std::function<void(json&)>& change) {
    const std::string message = refusal(change);
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect("'type' is 'WordPiece'", [](json& f) { f["model"]["type"] = "WordPiece"; });
  expect("normalizer and pre_tokenizer", [](json& f) { f["normalizer"] = {{"type", "NFKC"}}; });
  expect("normalizer and pre_tokenizer",
         [](json& f) { f["pre_tokenizer"]["pretokenizers"][0]["add_prefix_space"] = true; });
  expect("'lstrip'", [](json& f) { f["added_tokens"][0]["lstrip"] = true; });
  expect("4009 embeddings", [](json& f) { f["model"]["vocab"]["new"] = 4009; });
  expect("both have the id 5", [](json& f) { f["model"]["vocab"]["new"] = 5; });
  expect("must be a whole number", [](json& f) { f["model"]["vocab"]["new"] = -1; });
  expect("must be a whole number", [](json& f) { f["added_tokens"][0]["id"] = 1ull << 40; });
  expect("merge 0 is not two tokens", [](json& f) { f["model"]["merges"][0] = "one"; });
  expect("'vocab' must be an object", [](json& f) { f["model"]["vocab"] = json::array(); });
  expect("other tokens", [](json& f) {
    f["post_processor"] = {{"type", "TemplateProcessing"},
                           {"single", {{{"SpecialToken", {{"id", "<think>"}}}}}}};
  });
  expect("'SpecialToken' of its post_processor must be an object", [](json& f) {
    f["post_processor"] = {{"type", "TemplateProcessing"}, {"single", {{{"SpecialToken", "x"}}}}};
  });
}

TEST(FolderTokenizer, SaysWhatIsMissing) {
  format::GgufWriter out;
  try {
    format::write_folder_tokenizer(RIDGE_SOURCE_DIR "/tests/text", TokenizerFolder::no_config(), 10,
                                   out);
    FAIL() << "nothing is refused";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::not_found);
    EXPECT_NE(error.message().find("tokenizer.json"), std::string::npos);
  }
}

}  // namespace
}  // namespace ridge::text::folder_tokenizer_test
