#include "format/folder_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "format/folder_json.h"
#include "format/gguf_types.h"
#include "format/mapped_file.h"
#include "format/pre_tokenizer_kinds.h"
#include "format/tokenizer_json.h"

namespace ridge::format {

namespace {

using nlohmann::json;

constexpr uint64_t tokenizer_bytes_max = 64 << 20;  // Gemma 3's has 33 MB
constexpr uint64_t settings_bytes_max = 8 << 20;
constexpr uint64_t template_bytes_max = 1 << 20;

// tokenizer.ggml.token_type.
enum TokenKind : int32_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

constexpr std::string_view visible_space = "▁";

// Of a token that no merge makes: below all that one does.
constexpr float score_of_unmerged = -1e9f;

struct Words {
  std::vector<std::string> texts;  // by id
  std::vector<int32_t> kinds;
  std::unordered_map<std::string, int32_t> ids;  // of added tokens where both have a text

  std::optional<int32_t> find(const std::string& text) const {
    const auto at = ids.find(text);
    return at == ids.end() ? std::nullopt : std::optional(at->second);
  }
};

const json& member(const FolderJson& file, std::string_view key) {
  static const json none;
  const json* value = file.find(key);
  return value == nullptr ? none : *value;
}

int32_t checked_token_id(const FolderJson& file, const std::string& text, const json& id) {
  constexpr int64_t most = 1 << 24;
  if (!id.is_number_unsigned() || id.get<uint64_t>() >= most) {
    file.refuse(
        fmt::format("the id of token {} must be a whole number below {}", quoted_name(text), most));
  }
  return static_cast<int32_t>(id.get<uint64_t>());
}

void place(const FolderJson& file, Words& words, const std::string& text, int32_t id,
           TokenKind kind) {
  const auto at = static_cast<size_t>(id);
  if (words.kinds[at] != unused && words.texts[at] != text) {
    file.refuse(fmt::format("tokens {} and {} both have the id {}", quoted_name(words.texts[at]),
                            quoted_name(text), id));
  }
  words.texts[at] = text;
  words.kinds[at] = kind;
  words.ids[text] = id;
}

void add_vocabulary(const FolderJson& file, const FolderJson& model, Words& words) {
  const auto vocab = model.object("vocab");
  if (!vocab) model.refuse("'vocab' is missing");
  for (const auto& [text, id] : vocab->body().items()) {
    const int32_t number = checked_token_id(*vocab, text, id);
    if (static_cast<size_t>(number) >= words.texts.size()) {
      file.refuse(fmt::format("token {} has the id {}, but the model has {} embeddings",
                              quoted_name(text), number, words.texts.size()));
    }
    place(*vocab, words, text, number, normal);
  }
}

void add_added_tokens(const FolderJson& file, Words& words) {
  const json& list = member(file, "added_tokens");
  if (list.is_null()) return;
  if (!list.is_array()) file.refuse("'added_tokens' must be a list");
  for (const json& token : list) {
    const auto text = token.is_object() ? token.find("content") : token.end();
    if (!token.is_object() || text == token.end() || !text->is_string() || !token.contains("id")) {
      file.refuse("'added_tokens' has an entry without 'id' and 'content'");
    }
    const auto spelled = text->get<std::string>();
    const int32_t id = checked_token_id(file, spelled, token.at("id"));
    for (const char* key : {"single_word", "lstrip", "rstrip"}) {
      if (part_flag(token, key, false)) {
        file.unsupported(fmt::format("the added token {} has '{}', which GGUF does not know",
                                     quoted_name(spelled), key));
      }
    }
    // Gemma's text models list a token of images behind their last embedding.
    if (static_cast<size_t>(id) >= words.texts.size()) continue;
    place(file, words, spelled, id, part_flag(token, "special", false) ? control : user_defined);
  }
}

using Merges = std::vector<std::pair<std::string, std::string>>;

// Left and right of each merge, which files write as "left right" or as a list of two.
Merges merges_of(const FolderJson& model) {
  const json& list = member(model, "merges");
  if (!list.is_array()) model.refuse("'merges' must be a list");
  Merges merges;
  merges.reserve(list.size());
  for (const json& merge : list) {
    if (merge.is_string()) {
      const auto& text = merge.get_ref<const std::string&>();
      const size_t space = text.find(' ');
      if (space != std::string::npos) {
        merges.emplace_back(text.substr(0, space), text.substr(space + 1));
        continue;
      }
    } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
               merge[1].is_string()) {
      merges.emplace_back(merge[0].get<std::string>(), merge[1].get<std::string>());
      continue;
    }
    model.refuse(fmt::format("merge {} is not two tokens", merges.size()));
  }
  return merges;
}

// Whether a tokenizer of SentencePiece's kind puts a space before a text.
bool adds_space(const FolderJson& file) {
  const json& normalizer = member(file, "normalizer");
  const json& pre_tokenizer = member(file, "pre_tokenizer");
  const std::vector<const json*> parts = parts_in(normalizer, "normalizers");
  const auto is_prepend = [](const json& part) {
    return part_type(part) == "Prepend" && part.value("prepend", json()) == visible_space;
  };
  const auto is_replace = [](const json& part) {
    return part_type(part) == "Replace" && part.value("content", json()) == visible_space &&
           part.value("pattern", json()) == json{{"String", " "}};
  };
  // Gemma's cuts behind spaces, of which the normalizer has left none.
  const bool cuts_nothing =
      pre_tokenizer.is_null() || (part_type(pre_tokenizer) == "Split" &&
                                  pre_tokenizer.value("pattern", json()) == json{{"String", " "}});
  if (cuts_nothing && parts.size() == 2 && is_prepend(*parts[0]) && is_replace(*parts[1])) {
    return true;
  }
  if (cuts_nothing && parts.size() == 1 && is_replace(*parts[0])) return false;
  if (parts.empty() && part_type(pre_tokenizer) == "Metaspace" &&
      pre_tokenizer.value("replacement", json()) == visible_space &&
      pre_tokenizer.value("split", json(true)) == false) {
    const json scheme = pre_tokenizer.value("prepend_scheme", json("always"));
    if (scheme == "always") return true;
    if (scheme == "never") return false;
  }
  file.unsupported(
      "its normalizer and pre_tokenizer are of no kind that GGUF has a name for: a "
      "SentencePiece vocabulary has Prepend and Replace, Replace alone, or Metaspace "
      "of the scheme always or never without split");
}

// SentencePiece's scores, for readers that derive the merges from them again: every way to cut a
// token into two, the best score first. So a token's score is the rank of its first merge, and
// tokens whose merges lie between each other's have one score.
std::vector<float> scores_of(const FolderJson& model, const Merges& merges, const Words& words) {
  constexpr int64_t none = -1;
  std::vector<int64_t> last(words.texts.size(), none);
  std::vector<size_t> made;  // by rank
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const auto& [left, right] = merges[rank];
    const auto id = words.find(left + right);
    if (!id) {
      model.refuse(fmt::format("merge {} makes the token {}, which is missing", rank,
                               quoted_name(left + right)));
    }
    made.push_back(static_cast<size_t>(*id));
    last[made.back()] = static_cast<int64_t>(rank);
  }
  std::vector<float> scores(words.texts.size(), score_of_unmerged);
  int64_t group = 0;
  int64_t group_end = none;  // the last rank of a token of the group
  for (size_t rank = 0; rank < made.size(); ++rank) {
    const auto number = static_cast<int64_t>(rank);
    if (number > group_end) group = number;
    group_end = std::max(group_end, last[made[rank]]);
    float& score = scores[made[rank]];
    if (score == score_of_unmerged) score = -static_cast<float>(group);
  }
  return scores;
}

bool is_byte_token(const std::string& text) {
  const auto is_digit = [](char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'F'); };
  return text.size() == 6 && text.starts_with("<0x") && text[5] == '>' && is_digit(text[3]) &&
         is_digit(text[4]);
}

// The model itself: vocabulary, merges and how texts are cut.
Words write_words(const FolderJson& file, int vocab_size, GgufWriter& out) {
  const auto model = file.object("model");
  if (!model) file.refuse("'model' is missing");
  if (model->text_or("type", "BPE") != "BPE") {
    model->unsupported(
        fmt::format("'type' is '{}'; this build reads BPE", model->text("type").substr(0, 40)));
  }
  Words words;
  words.texts.resize(static_cast<size_t>(vocab_size));
  words.kinds.assign(static_cast<size_t>(vocab_size), unused);
  add_vocabulary(file, *model, words);
  add_added_tokens(file, words);
  for (size_t id = 0; id < words.texts.size(); ++id) {
    if (words.kinds[id] == unused) words.texts[id] = fmt::format("[PAD{}]", id);
  }
  const Merges merges = merges_of(*model);
  const bool is_sentencepiece = model->flag_or("byte_fallback", false);
  if (is_sentencepiece) {
    const auto unknown_id = words.find(model->text_or("unk_token", "<unk>"));
    if (!unknown_id) model->refuse("'unk_token' is missing, or no token");
    words.kinds[static_cast<size_t>(*unknown_id)] = unknown;
    for (size_t id = 0; id < words.texts.size(); ++id) {
      if (words.kinds[id] == normal && is_byte_token(words.texts[id])) words.kinds[id] = byte;
    }
    out.set_string("tokenizer.ggml.model", "llama");
    out.set_string("tokenizer.ggml.pre", "default");
    out.set_string_array("tokenizer.ggml.tokens", words.texts);
    out.set_float_array("tokenizer.ggml.scores", scores_of(*model, merges, words));
    out.set_uint32("tokenizer.ggml.unknown_token_id", static_cast<uint32_t>(*unknown_id));
    out.set_boolean("tokenizer.ggml.add_space_prefix", adds_space(file));
  } else {
    const auto kind = pre_tokenizer_kind(member(file, "normalizer"), member(file, "pre_tokenizer"),
                                         model->flag_or("ignore_merges", false));
    if (!kind) {
      file.unsupported(
          "its normalizer and pre_tokenizer cut texts as no kind of GGUF vocabulary "
          "that this build knows does");
    }
    out.set_string("tokenizer.ggml.model", "gpt2");
    out.set_string("tokenizer.ggml.pre", *kind);
    out.set_string_array("tokenizer.ggml.tokens", words.texts);
  }
  out.set_int_array("tokenizer.ggml.token_type", words.kinds);
  // Of SentencePiece's too, whose scores do not always give them.
  std::vector<std::string> joined;
  joined.reserve(merges.size());
  for (const auto& [left, right] : merges) joined.push_back(left + " " + right);
  out.set_string_array("tokenizer.ggml.merges", joined);
  return words;
}

std::optional<FolderJson> read_if_there(const std::filesystem::path& path) {
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored)) return std::nullopt;
  return FolderJson::read(path, settings_bytes_max);
}

// A token that the settings name by its text: "<s>" or {"content": "<s>"}.
std::optional<int32_t> named_token(const std::optional<FolderJson>& settings, const char* key,
                                   const Words& words) {
  if (!settings) return std::nullopt;
  const json& value = member(*settings, key);
  if (value.is_string()) return words.find(value.get<std::string>());
  if (!value.is_object()) return std::nullopt;
  const auto content = value.find("content");
  return content != value.end() && content->is_string() ? words.find(content->get<std::string>())
                                                        : std::nullopt;
}

// Ids that a field has as a number or as a list of some; those outside the vocabulary are left out.
// file: nullptr where there is none
std::vector<int32_t> ids_in(const FolderJson* file, const char* key, const Words& words) {
  std::vector<int32_t> ids;
  if (file == nullptr) return ids;
  const auto add = [&](const json& value) {
    if (value.is_number_unsigned() && value.get<uint64_t>() < words.texts.size()) {
      ids.push_back(static_cast<int32_t>(value.get<uint64_t>()));
    }
  };
  const json& value = member(*file, key);
  if (value.is_array()) {
    for (const json& each : value) add(each);
  } else {
    add(value);
  }
  return ids;
}

struct AddedEnds {
  bool bos = false;
  bool eos = false;
};

// What a TemplateProcessing puts around a text.
AddedEnds ends_of_template(const FolderJson& file, const json& processor, const Words& words,
                           std::optional<int32_t> bos, std::optional<int32_t> eos) {
  AddedEnds ends;
  bool is_behind = false;
  const json single = processor.value("single", json::array());
  if (!single.is_array()) file.refuse("the 'single' of its post_processor must be a list");
  for (const json& part : single) {
    if (part.is_object() && part.contains("Sequence")) {
      is_behind = true;
      continue;
    }
    std::optional<int32_t> id;
    if (part.is_object() && part.contains("SpecialToken")) {
      const json& named = part["SpecialToken"];
      if (!named.is_object()) {
        file.refuse("a 'SpecialToken' of its post_processor must be an object");
      }
      const json text = named.value("id", json());
      if (text.is_string()) id = words.find(text.get<std::string>());
    }
    if (!is_behind && id && id == bos && !ends.bos) {
      ends.bos = true;
    } else if (is_behind && id && id == eos && !ends.eos) {
      ends.eos = true;
    } else {
      file.unsupported(
          "its post_processor adds other tokens to a text than BOS before and EOS "
          "behind it");
    }
  }
  return ends;
}

// transformers' own classes for Llama and Gemma build the processor anew from their settings; for
// all others it stands in tokenizer.json.
AddedEnds read_ends(const FolderJson& file, const std::optional<FolderJson>& settings,
                    const Words& words, std::optional<int32_t> bos, std::optional<int32_t> eos) {
  const std::string kind = settings ? settings->text_or("tokenizer_class", "") : std::string();
  if (kind.starts_with("LlamaTokenizer") || kind.starts_with("GemmaTokenizer") ||
      kind.starts_with("CodeLlamaTokenizer")) {
    // A null is none, unlike a field that is missing.
    const bool is_null =
        settings->body().contains("add_bos_token") && !settings->has("add_bos_token");
    return {.bos = settings->flag_or("add_bos_token", !is_null),
            .eos = settings->flag_or("add_eos_token", false)};
  }
  const json& processor = member(file, "post_processor");
  for (const json* part : parts_in(processor, "processors")) {
    if (part_type(*part) == "TemplateProcessing") {
      return ends_of_template(file, *part, words, bos, eos);
    }
  }
  return {};
}

// The folder's template for chats: a file of its own, or a field of the settings, which may list
// several by name.
std::string read_chat_template(const std::filesystem::path& folder,
                               const std::optional<FolderJson>& settings) {
  const std::filesystem::path path = folder / "chat_template.jinja";
  std::error_code ignored;
  if (std::filesystem::exists(path, ignored)) {
    const MappedFile file = MappedFile::open(path);
    if (file.bytes().size() > template_bytes_max) {
      throw Error(ErrorCode::invalid_file,
                  fmt::format("chat_template.jinja: it has {} bytes; at most {} are read",
                              file.bytes().size(), template_bytes_max));
    }
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
  }
  if (!settings) return {};
  const json& value = member(*settings, "chat_template");
  if (value.is_string()) return value.get<std::string>();
  if (!value.is_array()) return {};
  for (const json& each : value) {
    if (each.is_object() && each.value("name", json()) == "default" && each.contains("template") &&
        each["template"].is_string()) {
      return each["template"].get<std::string>();
    }
  }
  return {};
}

void write_ends(const std::filesystem::path& folder, const FolderJson& config,
                const FolderJson& file, const std::optional<FolderJson>& settings,
                const Words& words, GgufWriter& out) {
  const auto generation = read_if_there(folder / "generation_config.json");
  const FolderJson* const generated = generation ? &*generation : nullptr;
  const auto set = [&](std::string_view key, std::optional<int32_t> id) {
    if (id) out.set_uint32(key, static_cast<uint32_t>(*id));
  };
  const auto named_or_numbered = [&](const char* name, const char* number) {
    auto id = named_token(settings, name, words);
    for (const FolderJson* from : {generated, &config}) {
      const std::vector<int32_t> ids = ids_in(from, number, words);
      if (!id && !ids.empty()) id = ids.front();
    }
    return id;
  };
  const auto bos = named_or_numbered("bos_token", "bos_token_id");
  const auto eos = named_or_numbered("eos_token", "eos_token_id");
  set("tokenizer.ggml.bos_token_id", bos);
  set("tokenizer.ggml.eos_token_id", eos);
  set("tokenizer.ggml.padding_token_id", named_or_numbered("pad_token", "pad_token_id"));
  // Further tokens that end an answer; GGUF has keys for two.
  std::vector<int32_t> further;
  for (const int32_t id : ids_in(generated, "eos_token_id", words)) {
    if (id != eos && std::ranges::find(further, id) == further.end()) further.push_back(id);
  }
  if (!further.empty()) set("tokenizer.ggml.eot_token_id", further[0]);
  if (further.size() > 1) set("tokenizer.ggml.eom_token_id", further[1]);
  const AddedEnds ends = read_ends(file, settings, words, bos, eos);
  out.set_boolean("tokenizer.ggml.add_bos_token", ends.bos);
  out.set_boolean("tokenizer.ggml.add_eos_token", ends.eos);
}

}  // namespace

void write_folder_tokenizer(const std::filesystem::path& folder, const FolderJson& config,
                            int vocab_size, GgufWriter& out) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder / "tokenizer.json", ignored)) {
    throw Error(ErrorCode::not_found,
                fmt::format("{} has no tokenizer.json, which this build reads the vocabulary from; "
                            "transformers' AutoTokenizer.from_pretrained(…).save_pretrained(…) "
                            "writes it",
                            folder.string()));
  }
  const FolderJson file = FolderJson::read(folder / "tokenizer.json", tokenizer_bytes_max);
  const Words words = write_words(file, vocab_size, out);
  const auto settings = read_if_there(folder / "tokenizer_config.json");
  write_ends(folder, config, file, settings, words, out);
  const std::string chat = read_chat_template(folder, settings);
  if (!chat.empty()) out.set_string("tokenizer.chat_template", chat);
}

}  // namespace ridge::format
