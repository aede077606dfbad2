#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/machine.h"
#include "format/gguf.h"
#include "format/model_folder.h"
#include "model/adapter_file.h"
#include "platform/resolve.h"

namespace ridge::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t max_text_bytes = 300;

std::string text_or_empty(const format::GgufMetadata& metadata, std::string_view key) {
  const auto text = metadata.optional_string(key);
  return text ? std::string(text->substr(0, max_text_bytes)) : std::string();
}

// Bytes of the tensors of each type, the largest share first in the text form.
std::map<std::string, uint64_t> bytes_by_type(const format::GgufFile& file) {
  std::map<std::string, uint64_t> bytes;
  for (const auto& tensor : file.tensors())
    bytes[std::string(name(tensor.view.dtype))] += tensor.view.bytes.size();
  for (const auto& tensor : file.unsupported_tensors()) bytes[tensor.type] += tensor.bytes;
  return bytes;
}

std::optional<uint64_t> number(const format::GgufMetadata& metadata, const std::string& key) {
  return metadata.optional_uint64(key);
}

// What the file itself says.
Json describe_file(const std::filesystem::path& path) {
  const format::GgufFile file = format::open_model(path);
  const format::GgufMetadata& metadata = file.metadata();
  const std::string architecture(file.architecture());
  Json body = {{"architecture", architecture},
               {"title", text_or_empty(metadata, "general.name")},
               {"parameters", file.parameters()}};
  for (const auto& [field, key] : std::initializer_list<std::pair<const char*, const char*>>{
           {"context_tokens", "context_length"},
           {"layers", "block_count"},
           {"hidden", "embedding_length"},
           {"heads", "attention.head_count"},
           {"kv_heads", "attention.head_count_kv"}}) {
    if (const auto value = number(metadata, architecture + "." + key)) body[field] = *value;
  }
  if (const auto* tokens = metadata.find("tokenizer.ggml.tokens"))
    body["vocabulary"] = tokens->count;
  body["tokenizer"] = text_or_empty(metadata, "tokenizer.ggml.model");
  body["chat_template"] = metadata.contains("tokenizer.chat_template");
  body["license"] = text_or_empty(metadata, "general.license");
  Json types = Json::object();
  for (const auto& [type, bytes] : bytes_by_type(file)) types[type] = bytes;
  body["tensor_bytes_by_type"] = types;
  if (const uint64_t bytes = file.expert_bytes()) body["expert_bytes"] = bytes;
  body["tensors"] = file.tensors().size() + file.unsupported_tensors().size();
  body["unsupported_tensors"] = file.unsupported_tensors().size();
  body["size_bytes"] = file.file_bytes();
  body["gguf_version"] = file.version();
  body["path"] = path.string();
  return body;
}

bool is_adapter(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    return std::filesystem::exists(path / "adapter_config.json");
  }
  return path.extension() == ".gguf" && std::filesystem::is_regular_file(path) &&
         format::GgufFile::open(path).metadata().optional_string("general.type") == "adapter";
}

// A LoRA adapter, which no store keeps.
Json describe_adapter(const std::filesystem::path& path) {
  const model::AdapterFile adapter = model::read_adapter(path);
  std::set<std::string> linears;
  int64_t most_rank = 0;
  int most_layer = 0;
  for (const model::AdapterPair& pair : adapter.pairs) {
    linears.emplace(model::name(pair.linear));
    most_rank = std::max(most_rank, pair.down.shape[0]);
    most_layer = std::max(most_layer, pair.layer);
  }
  return {{"adapter", fmt::format("LoRA, {}", adapter.format)},
          {"architecture", adapter.architecture},
          {"base_model", adapter.base_model.substr(0, max_text_bytes)},
          {"rank", most_rank},
          {"linears", linears},
          {"layers", most_layer + 1},
          {"size_bytes", adapter.bytes()},
          {"path", path.string()}};
}

// What the store adds.
void add_manifest(const platform::Manifest& manifest, Json& body) {
  body["name"] = manifest.name;
  body["title"] = manifest.title;
  body["quantization"] = manifest.quantization;
  if (!manifest.license.empty()) body["license"] = manifest.license;
  body["license_note"] = manifest.license_note;
  body["source"] = manifest.source;
  body["sha256"] = Json::array();
  for (const platform::StoredFile& file : manifest.files)
    body["sha256"].push_back(file.digest.to_string());
}

// A model that could be pulled: what the catalog says.
Json describe_choice(const platform::CatalogChoice& choice) {
  const platform::CatalogModel& model = *choice.model;
  Json body = {{"name", choice.name()},
               {"title", model.title},
               {"pulled", false},
               {"parameters", model.parameters},
               {"context_tokens", model.context_tokens},
               {"quantization", choice.quantization->name},
               {"size_bytes", choice.quantization->size_bytes},
               {"license", model.license},
               {"license_note", model.license_note},
               {"base_model", model.base_model}};
  body["sources"] = Json::array();
  for (const platform::CatalogSource& source : model.sources)
    body["sources"].push_back(source.to_string());
  if (choice.quantization->digest)
    body["sha256"] = Json::array({choice.quantization->digest->to_string()});
  return body;
}

// Whether this machine has room for it, as `ridge doctor` and the console tell it.
void add_fit(Context& context, bool is_here, Json& body) {
  const platform::MachineRoom room = room_of(context, look_at_machine());
  const auto size_bytes = body["size_bytes"].get<int64_t>();
  const platform::ModelFit fit = platform::fit_of(size_bytes, is_here, room);
  const auto without_experts = size_bytes - body.value("expert_bytes", int64_t{0});
  if (is_here && fit.fit == platform::Fit::no && without_experts < size_bytes &&
      platform::fit_of(without_experts, is_here, room).fits_memory_now) {
    body["fits"] = fmt::format("with experts that stay in the file (--expert-memory-mib): {}", fit.why);
    return;
  }
  body["fits"] = fit.why.empty() ? std::string(platform::name(fit.fit))
                                 : fmt::format("{}: {}", platform::name(fit.fit), fit.why);
}

Json describe(Context& context, const std::string& text) {
  if (is_adapter(text)) return describe_adapter(text);
  const auto reference = platform::ModelReference::parse(text);
  if (reference.kind == platform::ReferenceKind::catalog && !context.store().find(reference.name)) {
    const platform::CatalogChoice choice = context.catalog().get(reference.name);
    if (!context.store().find(choice.name())) {
      Json body = describe_choice(choice);
      add_fit(context, /*is_here=*/false, body);
      return body;
    }
  }
  const platform::ResolvedModel model =
      platform::resolve(reference, context.catalog(), context.store());
  Json body = describe_file(model.path);
  add_fit(context, /*is_here=*/true, body);
  if (reference.kind != platform::ReferenceKind::path) {
    add_manifest(context.store().get(model.name), body);
    if (const auto choice = context.catalog().find(model.name)) {
      body["sources"] = describe_choice(*choice)["sources"];
    }
  }
  return body;
}

std::string as_text(const std::string& key, const Json& value) {
  if (key == "size_bytes" || key == "expert_bytes") return format_bytes(value.get<int64_t>());
  if (key == "parameters") {
    const auto count = value.get<double>();
    return count >= 1e9 ? fmt::format("{:.2f} billion", count / 1e9)
                        : fmt::format("{:.1f} million", count / 1e6);
  }
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_string()) return printable(value.get<std::string>());
  std::string text;
  if (key == "tensor_bytes_by_type") {
    double sum = 0;
    for (const auto& [type, bytes] : value.items()) sum += bytes.get<double>();
    for (const auto& [type, bytes] : value.items()) {
      text += fmt::format("{}{} {:.1f} %", text.empty() ? "" : ", ", printable(type),
                          100 * bytes.get<double>() / std::max(sum, 1.0));
    }
    return text;
  }
  if (value.is_array()) {
    for (const Json& each : value)
      text += (text.empty() ? "" : "\n") + printable(each.get<std::string>());
    return text;
  }
  return value.dump();
}

void print_text(const Context& context, const Json& body) {
  static const std::map<std::string, std::string> labels = {
      {"context_tokens", "context"},
      {"hidden", "hidden size"},
      {"kv_heads", "KV heads"},
      {"chat_template", "chat template"},
      {"quantization", "quantisation"},
      {"tensor_bytes_by_type", "mix"},
      {"expert_bytes", "experts"},
      {"license", "licence"},
      {"license_note", ""},
      {"size_bytes", "size"},
      {"sha256", "SHA-256"},
      {"base_model", "base model"},
      {"fits", "fits here"},
      {"gguf_version", "GGUF version"},
      {"unsupported_tensors", "not readable"}};
  for (const auto& [key, value] : body.items()) {
    const std::string text = as_text(key, value);
    if (text.empty() || (key == "unsupported_tensors" && value == 0)) continue;
    const auto label = labels.find(key);
    const Terminal& terminal = context.terminal();
    std::string shown = label == labels.end() ? key : label->second;
    for (size_t start = 0; start <= text.size();) {
      const size_t end = std::min(text.find('\n', start), text.size());
      fmt::print("{}  {}\n",
                 terminal.styled(Stream::output, Style::bold, fmt::format("{:<14}", shown)),
                 text.substr(start, end - start));
      shown.clear();
      start = end + 1;
    }
  }
}

}  // namespace

void add_show_command(CLI::App& app, Context& context) {
  CLI::App* command =
      app.add_subcommand("show", "Show what a model is: its size, licence and origin");
  command->group(model_group);
  command->footer("For a model that is not on this machine it shows what the catalog says.");
  auto name = std::make_shared<std::string>();
  command
      ->add_option("MODEL", *name,
                   "A catalog name, hf:... or a path to a GGUF file, a model folder or a LoRA adapter")
      ->required();
  command->callback([&context, name] {
    const Json body = describe(context, *name);
    if (context.json)
      return context.print(body.dump(2, ' ', false, Json::error_handler_t::replace));
    print_text(context, body);
  });
}

}  // namespace ridge::cli
