#include "format/pre_tokenizer_kinds.h"

#include <vector>

#include "format/tokenizer_json.h"

namespace ridge::format {

namespace {

using nlohmann::json;

// The expressions as tokenizer.json files write them.
constexpr std::string_view llama3_split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2_split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|)"
    R"(\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen35_split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| )"
    R"(?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view gpt4o_split =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|)"
    R"('ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view tekken_split =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
    R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view deepseek_v3_split =
    R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|)"
    R"( ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view deepseek_cjk = "[一-龥ࠀ-一가-퟿]+";
// Letters of cased scripts, one by one, as in DeepSeek LLM and DeepSeek-V2.
constexpr std::string_view deepseek_letters =
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-"
    "Ჿᴀ-"
    "ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕ"
    "ἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌῐ-\u1fd3ῖ-\u1fdbῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-ℭℯ-ℴℹℼ-"
    "ℿⅅ-ⅉ"
    "ⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-"
    "𐲲𐳀-"
    "𐳲𑢠-𑣟𞤀-𞥃]+";

struct PreTokenizerKind {
  std::string_view name;
  bool composes;  // Unicode NFC
  bool ignores_merges;
  std::vector<std::string>
      steps;  // "digits", "bytes", "bytes by words", or an expression to split by
};

// The steps before the last cut at expressions; the last spells bytes.
const std::vector<PreTokenizerKind>& all_kinds() {
  const auto split = [](std::string_view expression) { return std::string(expression); };
  static const std::vector<PreTokenizerKind> all = {
      {"gpt-2", false, false, {"bytes by words"}},
      {"llama-bpe", false, true, {split(llama3_split), "bytes"}},
      {"smaug-bpe", false, false, {split(llama3_split), "bytes"}},
      {"qwen2", true, false, {split(qwen2_split), "bytes"}},
      {"qwen35", true, false, {split(qwen35_split), "bytes"}},
      {"gpt-4o", false, true, {split(gpt4o_split), "bytes"}},
      {"tekken", false, true, {split(tekken_split), "bytes"}},
      {"smollm", false, false, {"digits", "bytes by words"}},
      {"deepseek-llm",
       false,
       false,
       {"[\r\n]", split(deepseek_letters), "\\s?[!-/:-~！-／：-～‘-‟　-。]+", "\\s+$",
        split(deepseek_cjk), "digits", "bytes"}},
      {"deepseek-coder",
       false,
       false,
       {"[\r\n]", "\\s?\\p{L}+", "\\s?\\p{P}+", split(deepseek_cjk), "digits", "bytes"}},
      {"deepseek-v3",
       false,
       false,
       {"\\p{N}{1,3}", "[一-龥\u3040-ゟ゠-ヿ]+", split(deepseek_v3_split), "bytes"}},
  };
  return all;
}

// nullopt where a step is none that any kind has.
std::optional<std::string> step_of(const json& step) {
  const std::string type = part_type(step);
  if (type == "Digits") {
    if (!part_flag(step, "individual_digits", false)) return std::nullopt;
    return "digits";
  }
  if (type == "ByteLevel") {
    if (part_flag(step, "add_prefix_space", true)) return std::nullopt;
    return part_flag(step, "use_regex", true) ? "bytes by words" : "bytes";
  }
  if (type != "Split" || part_flag(step, "invert", false)) return std::nullopt;
  const auto behavior = step.find("behavior");
  const auto pattern = step.find("pattern");
  if (behavior == step.end() || *behavior != "Isolated" || pattern == step.end() ||
      !pattern->is_object()) {
    return std::nullopt;
  }
  const auto expression = pattern->find("Regex");
  if (expression == pattern->end() || !expression->is_string()) return std::nullopt;
  return expression->get<std::string>();
}

}  // namespace

std::optional<std::string_view> pre_tokenizer_kind(const json& normalizer,
                                                   const json& pre_tokenizer, bool ignores_merges) {
  const auto normalizers = parts_in(normalizer, "normalizers");
  const bool composes = normalizers.size() == 1 && part_type(*normalizers[0]) == "NFC";
  if (!normalizers.empty() && !composes) return std::nullopt;
  std::vector<std::string> steps;
  for (const json* part : parts_in(pre_tokenizer, "pretokenizers")) {
    const auto step = step_of(*part);
    if (!step) return std::nullopt;
    steps.push_back(*step);
  }
  for (const PreTokenizerKind& kind : all_kinds()) {
    if (kind.composes == composes && kind.ignores_merges == ignores_merges && kind.steps == steps) {
      return kind.name;
    }
  }
  return std::nullopt;
}

}  // namespace ridge::format
