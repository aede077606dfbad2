#include "format/stored_scheme.h"

#include <fmt/format.h>

namespace ridge::format {

StoredScheme read_stored_scheme(const FolderJson& config) {
  const auto scheme = config.object("quantization_config");
  if (!scheme) return {};
  scheme->unsupported(fmt::format("'quant_method' is '{}', which this build does not read",
                                  scheme->text_or("quant_method", "").substr(0, 40)));
}

}  // namespace ridge::format
